"""The interface of engines.

Each room has a log. Its messages are numbered by ``offset``: 1, 2, 3, ... with
no hole. The log has an ``epoch``, a random name that changes when the log begins
anew. Reconnect with the last epoch and offset to receive exactly the missed messages,
or to be told that there is a gap (the semantics of Centrifugo's recovery).
"""

from __future__ import annotations

import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

__all__ = [
    "PAGE_BYTES",
    "Deliver",
    "Draft",
    "Engine",
    "Entry",
    "Kind",
    "Live",
    "Page",
    "Position",
    "Retention",
    "fingerprint",
    "fitting",
    "new_epoch",
]

#: Bytes of the texts on a page, at most; a longer page is cut short.
PAGE_BYTES = 256 * 1024

#: ``message`` is something said, ``action`` something done (``/me``).
Kind = Literal["message", "action"]


# The garbage collector does not track these (gc=False): there may be a million of
# them, and none can be part of a cycle.


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A message on its way into a room's log.

    ``nonce`` is the random id that its sender gave it. The same text with the same
    nonce is stored once.
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
    """A position in a log. ``offset`` is that of the last message seen, 0 for none."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive messages of a log, the oldest first.

    ``complete``: nothing of the requested messages is missing. False if messages have been
    dropped or left out, or if the log has another epoch.
    """

    entries: tuple[Entry, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Retention:
    """The retention of a room: at most so many messages, and none older than so many seconds.

    None is no limit.
    """

    messages: int | None = None
    seconds: float | None = None


#: Called with a room's name and its new entries, in the order of their offsets, each once.
Deliver = Callable[[str, Sequence[Entry]], None]

#: Called with a room's name and a live event, which has no offset and is not kept.
Live = Callable[[str, str], None]


class Engine(ABC):
    """The logs of all rooms, and the names taken in them. Call any method from any thread.

    New entries and live events reach the rooms through the two callbacks of ``attach``.
    A local engine calls them on the thread that appends or publishes, before ``append``
    or ``publish`` returns. A shared engine calls them on its follower thread. Rooms work
    with both.

    Methods raise :class:`~syncchat.errors.EngineFailed` if something fails now and may work later.
    """

    @abstractmethod
    def attach(self, deliver: Deliver, live: Live) -> None:
        """Set the callbacks for new entries and live events. Call it once, and first."""

    @abstractmethod
    def check(self) -> None:
        """Raise :class:`EngineFailed` if reading fails, or the last write failed."""

    # The log.

    @abstractmethod
    def append(self, room: str, drafts: Sequence[Draft]) -> list[Entry]:
        """Number and store the drafts, all or none. They are durable when it returns.

        Returns an entry for each draft. A draft whose nonce and text the room knows is
        not stored or delivered again: its entry has the old offset. Nonces are known for
        longer than a client takes to reconnect, even if the message is dropped earlier.
        For each room, call it on one thread at a time.
        """

    @abstractmethod
    def position(self, room: str) -> Position:
        """The end of the room's log. A room without a log gets an empty one."""

    @abstractmethod
    def read_after(self, room: str, position: Position, limit: int) -> Page:
        """The first messages after ``position``, ``limit`` or one page at most.

        Complete only if the epoch is the log's, nothing after ``position``
        has been dropped, and nothing was left out at the end.
        """

    @abstractmethod
    def read_before(self, room: str, offset: int | None, limit: int) -> Page:
        """The last messages before ``offset``, ``limit`` or one page at most.

        None: the last messages of the log. Complete if there are no older ones.
        """

    @abstractmethod
    def search(self, room: str, words: str, limit: int) -> list[Entry]:
        """The last messages that contain every word of ``words``, ``limit`` or one page at most.

        The newest first. Only the calling thread waits for a search.

        A word finds every word that begins with it, in upper or lower case:
        ``break`` finds ``Breakfast``.
        """

    @abstractmethod
    def keeps(self, room: str) -> bool:
        """Whether the room's log has messages, which are kept when the last member leaves."""

    @abstractmethod
    def forget(self, room: str) -> None:
        """Free what need not be kept for a room without members. Never waits for a disk."""

    @abstractmethod
    def rooms(self) -> list[str]:
        """Every room for which :meth:`keeps` is true, sorted by name."""

    # Presence and live events, which are not kept.

    @abstractmethod
    def publish(self, room: str, event: str) -> None:
        """Deliver a live event on every server where the room has members."""

    @abstractmethod
    def claim(self, room: str, nick: str, instead_of: str | None = None) -> bool:
        """Claim a name in the room. False: it is taken; names are compared by casefold.

        On success, releases the claimed name ``instead_of`` in the same step. That may be
        the same name in another case.
        """

    @abstractmethod
    def release(self, room: str, nick: str) -> None:
        """Release a claimed name."""

    @abstractmethod
    def names(self, room: str) -> list[str]:
        """Every claimed name in the room, sorted without regard to case."""

    @abstractmethod
    def interrupt(self) -> None:
        """Make threads that wait or search raise :class:`EngineFailed`, before :meth:`close`.

        Calls that need not wait still work.
        """

    @abstractmethod
    def close(self) -> None:
        """Free all resources. Calls after it may raise :class:`EngineFailed`."""


def new_epoch() -> str:
    """A random epoch for a new log."""
    return secrets.token_hex(8)


def fingerprint(draft: Draft) -> str | None:
    """The key that identifies a repeated draft; None: it has no nonce.

    It includes the text, since two senders may both use nonces such as ``1, 2, 3``.
    """
    if draft.nonce is None:
        return None
    text = f"{draft.kind} {draft.text}".encode()
    return f"{draft.nonce} {hashlib.blake2b(text, digest_size=8).hexdigest()}"


def fitting(entries: Iterable[Entry], limit: int) -> tuple[list[Entry], bool]:
    """The first entries, ``limit`` or one page at most, one at least; and whether that is all."""
    taken: list[Entry] = []
    size = 0
    for entry in entries:
        size += len(entry.text.encode())
        if len(taken) == limit or (taken and size > PAGE_BYTES):
            return taken, False
        taken.append(entry)
    return taken, True
