"""What a room asks of an engine, whichever it is.

Each room has a log. Its messages are numbered by ``offset``: 1, 2, 3, ... with
no hole. The log has an ``epoch``, random per life of the log. Who comes back
says the last pair it saw, and gets exactly what it missed or is told that
there is a gap (the semantics of Centrifugo's recovery).
"""

from __future__ import annotations

import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from ..errors import SyncchatError

__all__ = [
    "PAGE_BYTES",
    "Deliver",
    "Draft",
    "Engine",
    "EngineFailed",
    "EngineUnusable",
    "Entry",
    "Keep",
    "Kind",
    "Live",
    "Page",
    "Position",
    "fingerprint",
    "fitting",
    "new_epoch",
]

#: Bytes of the texts on a page, which is cut short where there would be more.
PAGE_BYTES = 256 * 1024

#: ``message`` is something said, ``action`` something done (``/me``).
Kind = Literal["message", "action"]


class EngineFailed(SyncchatError, OSError):
    """The engine could not do it now: a full disk, mostly. Nothing was kept of the batch."""


class EngineUnusable(SyncchatError, OSError):
    """What the engine was to be opened from is not what it can work with."""


# No garbage collector looks through these: there may be a million of them, and
# none can be part of a cycle.


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A message on its way into a room's log.

    ``nonce`` is its sender's random name for it: the same text sent again with
    that is kept once.
    """

    nick: str
    text: str
    kind: Kind = "message"
    nonce: str | None = None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A message in a room's log. ``time`` is in seconds since 1970, by the engine's clock."""

    offset: int
    time: float
    nick: str
    text: str
    kind: Kind = "message"
    nonce: str | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a log: the last message seen, 0 for none."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class Page:
    """A run of a log, the oldest first.

    ``complete``: nothing is missing of what was asked for. It is not where
    messages have been dropped by now, or the log is another one.
    """

    entries: tuple[Entry, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Keep:
    """How much of each room is kept: so many messages, and none older than so many seconds.

    None is no limit.
    """

    messages: int | None = None
    seconds: float | None = None


#: What takes a room's new entries, in the order of their offsets and each once.
Deliver = Callable[[str, Sequence[Entry]], None]

#: What takes a room's live events, which carry no offset and are not kept.
Live = Callable[[str, str], None]


class Engine(ABC):
    """The rooms' logs, and who sits in them. Every method may be called from any thread.

    What is new in a room comes back through the two callbacks of ``attach``:
    from a local engine on the thread that appends, before ``append`` returns;
    from a shared one on its follower's. To a room that is the same.

    Raises :class:`EngineFailed` for what does not work now and may work later.
    """

    @abstractmethod
    def attach(self, deliver: Deliver, live: Live) -> None:
        """Say what takes new entries and live events. Once, before anything else."""

    @abstractmethod
    def check(self) -> None:
        """Raise :class:`EngineFailed` where nothing can be read, or the last batch was not kept."""

    # The log.

    @abstractmethod
    def append(self, room: str, drafts: Sequence[Draft]) -> list[Entry]:
        """Number the drafts and keep them, all or none; durable when it returns.

        A draft whose nonce and text the room knows is not kept again: its old
        offset stands in its place, and it is not delivered. It is known for longer
        than a client takes to come back, whether it is kept as long or not. On
        one thread at a time for each room.
        """

    @abstractmethod
    def position(self, room: str) -> Position:
        """The end of the room's log, which begins its life with this if there is none."""

    @abstractmethod
    def read_after(self, room: str, position: Position, limit: int) -> Page:
        """What came after ``position``, the first ``limit`` of it, or a page.

        Complete only if the epoch is the log's, nothing behind ``position``
        has been dropped, and nothing was left out at the end.
        """

    @abstractmethod
    def read_before(self, room: str, offset: int | None, limit: int) -> Page:
        """The last ``limit`` messages before ``offset``, or of all; or a page.

        Complete if there is none before them: nobody need ask again.
        """

    @abstractmethod
    def search(self, room: str, words: str, limit: int) -> list[Entry]:
        """The last ``limit`` messages that contain each word of ``words``, or a page of them.

        The newest first. Nobody waits for it but who asks.

        Words are compared without regard to case, from their beginning on:
        ``break`` finds ``Breakfast``.
        """

    @abstractmethod
    def keeps(self, room: str) -> bool:
        """Whether there is anything in the room's log that is to outlive its last member."""

    @abstractmethod
    def forget(self, room: str) -> None:
        """The room is empty: let go of what need not be kept for it. Never waits for a disk."""

    @abstractmethod
    def rooms(self) -> list[str]:
        """Every room that :meth:`keeps` is true of, in the order of the alphabet."""

    # What is not kept.

    @abstractmethod
    def publish(self, room: str, event: str) -> None:
        """Have a live event taken wherever the room has members."""

    @abstractmethod
    def claim(self, room: str, nick: str, instead_of: str | None = None) -> bool:
        """Take a name in the room. False: somebody has it, however it is written.

        In the same step a name that was claimed before, ``instead_of``, is
        given back, which may be the same in other letters.
        """

    @abstractmethod
    def release(self, room: str, nick: str) -> None:
        """Give a claimed name back."""

    @abstractmethod
    def names(self, room: str) -> list[str]:
        """Every name that is taken in the room, in the order of the alphabet."""

    @abstractmethod
    def interrupt(self) -> None:
        """It is about to be closed: who waits, or searches, gives up with :class:`EngineFailed`.

        What needs no waiting still works.
        """

    @abstractmethod
    def close(self) -> None:
        """Give everything back. What is called after it raises :class:`EngineFailed`."""


def new_epoch() -> str:
    """A random name for a log's life."""
    return secrets.token_hex(8)


def fingerprint(draft: Draft) -> str | None:
    """What a draft is known again by; None: it has no nonce.

    With its text: senders may happen to count ``1, 2, 3`` alike.
    """
    if draft.nonce is None:
        return None
    text = f"{draft.kind} {draft.text}".encode()
    return f"{draft.nonce} {hashlib.blake2b(text, digest_size=8).hexdigest()}"


def fitting(entries: Iterable[Entry], limit: int) -> tuple[list[Entry], bool]:
    """The first entries, ``limit`` or a page of them, one at least; whether that is all."""
    taken: list[Entry] = []
    size = 0
    for entry in entries:
        size += len(entry.text.encode())
        if len(taken) == limit or (taken and size > PAGE_BYTES):
            return taken, False
        taken.append(entry)
    return taken, True
