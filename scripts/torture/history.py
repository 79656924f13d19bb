"""The history of a run: JSON lines of all that was sent, acknowledged, seen and told.

Every record has ``at``, the seconds since the run began on one monotonic clock. A record of
something sent is written before it is sent, a record of something received after it has
arrived: so whatever the records order was ordered in the same way.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self, TypeAlias

import msgspec

__all__ = [
    "Acked",
    "Audit",
    "Begin",
    "Entered",
    "Fault",
    "FaultEnd",
    "Gap",
    "Healed",
    "History",
    "Left",
    "Line",
    "LogEnd",
    "Logged",
    "Page",
    "Private",
    "PrivateSeen",
    "Record",
    "Refused",
    "Seen",
    "Sent",
    "encode",
    "load",
    "save",
    "short",
]

#: Texts up to this length are in the history as they are.
_WHOLE = 32


def short(text: str) -> str:
    """``text`` for the history: a long one as its beginning and a checksum of the rest."""
    if len(text) <= _WHOLE:
        return text
    return f"{text[:_WHOLE]}~{len(text)}:{zlib.crc32(text.encode()):08x}"


class _Record(msgspec.Struct, frozen=True, tag_field="type", tag=str.lower, omit_defaults=True):
    at: float


class Begin(_Record, frozen=True):
    """The run begins. ``keeps``: messages survive the death of every server."""

    system: str
    seed: int
    engine: str
    nodes: int
    keeps: bool
    command: str


class Fault(_Record, frozen=True):
    """A fault begins. ``forgets``: acknowledged messages may be lost by it, as documented."""

    number: int
    name: str
    target: str
    forgets: bool = False


class FaultEnd(_Record, frozen=True):
    """The fault of this number is over, or could not be done for the reason ``skipped``."""

    number: int
    skipped: str = ""


class Healed(_Record, frozen=True):
    """All faults are over. From now on the ``clients`` are served; ``senders`` send, too."""

    clients: tuple[str, ...]
    senders: tuple[str, ...]


class Sent(_Record, frozen=True):
    """A message is about to be sent, or sent again. Its text occurs once in a run."""

    client: str
    room: str
    text: str
    again: bool = False


class Acked(_Record, frozen=True):
    """The sender has learned that its message is stored at this position."""

    client: str
    room: str
    text: str
    epoch: str
    offset: int


class Refused(_Record, frozen=True):
    """The sender has learned that its message is not stored."""

    client: str
    room: str
    text: str


class Entered(_Record, frozen=True):
    """A client is in a room, whose log is at this position.

    ``resumed``: it goes on after the last message that it has seen.
    """

    client: str
    room: str
    epoch: str = ""
    offset: int = 0
    resumed: bool = False


class Page(_Record, frozen=True):
    """A client has got a page of history: the offsets ``first`` to ``last`` (0: it is empty).

    ``after`` is the position that it asked for, as ``EPOCH:OFFSET``; empty: the last messages.
    """

    client: str
    room: str
    epoch: str
    after: str
    complete: bool
    first: int
    last: int


class Seen(_Record, frozen=True):
    """A client has seen a message. ``stamp`` has what else belongs to its content."""

    client: str
    room: str
    epoch: str
    offset: int
    text: str
    stamp: str


class Line(_Record, frozen=True):
    """A client of plain lines, which have no position, has seen a message."""

    client: str
    room: str
    text: str


class Gap(_Record, frozen=True):
    """A client was told that messages are missing."""

    client: str
    room: str


class Left(_Record, frozen=True):
    """A client has left its room, or its connection has ended and it forgets its position."""

    client: str


class Private(_Record, frozen=True):
    """A private message is about to be sent."""

    client: str
    to: str
    text: str


class PrivateSeen(_Record, frozen=True):
    """A client has got a private message."""

    client: str
    text: str


class Logged(_Record, frozen=True):
    """A message of the log, as a node tells it after the run."""

    node: int
    room: str
    epoch: str
    offset: int
    text: str
    stamp: str


class LogEnd(_Record, frozen=True):
    """A log was read at a node, from its end to ``first``; ``complete``: that is its first one."""

    node: int
    room: str
    epoch: str
    first: int
    last: int
    complete: bool


class Audit(_Record, frozen=True):
    """Something was counted after the run: at most ``allowed`` may be left over."""

    node: int
    what: str
    allowed: int
    found: int
    detail: str = ""


Record: TypeAlias = (
    Begin
    | Fault
    | FaultEnd
    | Healed
    | Sent
    | Acked
    | Refused
    | Entered
    | Page
    | Seen
    | Line
    | Gap
    | Left
    | Private
    | PrivateSeen
    | Logged
    | LogEnd
    | Audit
)

_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)

#: The record as one line of JSON.
encode: Callable[[Record], bytes] = msgspec.json.Encoder().encode


def load(path: Path) -> list[Record]:
    """Read a history from a file. Raises :class:`msgspec.DecodeError`."""
    with path.open("rb") as file:
        return [_decoder.decode(line) for line in file]


def save(path: Path, records: Iterable[Record]) -> None:
    """Write a history to a file."""
    with path.open("wb") as file:
        file.writelines(encode(record) + b"\n" for record in records)


class History:
    """The history while it is made; every method may be called from any thread.

    The records are kept in memory for the checker and, if ``path`` is given, written to a file.
    """

    def __init__(self, path: Path | None) -> None:
        #: Guards everything below. No other lock is taken under it.
        self._lock = threading.Lock()
        #: Notified when a client is served.
        self._changed = threading.Condition(self._lock)
        self._file = None if path is None else path.open("wb")
        self._records: list[Record] = []
        self._began = time.monotonic()
        #: The texts that were sent since the last :class:`Healed`; None: there was none.
        self._fresh: set[str] | None = None
        #: When a client saw, or its sender was acknowledged, a fresh message for the first time.
        self._served: dict[tuple[str, str], float] = {}
        self.messages = self.deliveries = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def records(self) -> Sequence[Record]:
        """All records so far."""
        with self._lock:
            return tuple(self._records)

    def write(self, kind: Callable[..., Record], *values: object, **fields: object) -> None:
        """Write a record of this kind, at the present moment."""
        with self._lock:
            # Under the lock, so that the file has the records in the order of their times.
            record = kind(round(self.now, 6), *values, **fields)
            self._records.append(record)
            if self._file is not None:
                self._file.write(encode(record) + b"\n")
            self._note_locked(record)

    def wait_served(
        self, clients: Iterable[str], senders: Iterable[str], timeout: float
    ) -> set[str]:
        """Wait until everybody has been served since the last :class:`Healed`.

        Returns the clients that have not been, within ``timeout`` seconds.
        """
        wanted = {("saw", name) for name in clients} | {("acked", name) for name in senders}
        with self._changed:
            self._changed.wait_for(lambda: wanted <= self._served.keys(), timeout)
            return {name for _, name in wanted - self._served.keys()}

    def _note_locked(self, record: Record) -> None:
        """Update the figures of progress."""
        assert self._lock.locked()
        match record:
            case Healed():
                self._fresh = set()
                self._served.clear()
            case Sent():
                self.messages += not record.again
                if self._fresh is not None and not record.again:
                    self._fresh.add(record.text)
            case Seen() | Line():
                self.deliveries += 1
                if self._fresh is not None and record.text in self._fresh:
                    self._serve_locked("saw", record.client, record.at)
            case Acked() if self._fresh is not None and record.text in self._fresh:
                self._serve_locked("acked", record.client, record.at)

    def _serve_locked(self, how: str, client: str, at: float) -> None:
        assert self._lock.locked()
        if (how, client) not in self._served:
            self._served[how, client] = at
            self._changed.notify_all()
