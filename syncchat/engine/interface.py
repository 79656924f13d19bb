"""The interface of engines.

Each room has a log. Its messages are numbered by ``offset``: 1, 2, 3, ... with
no hole. The log has an ``epoch``, a random name that changes when the log begins
anew. Reconnect with the last epoch and offset to receive exactly the missed messages,
or to be told that there is a gap (the semantics of Centrifugo's recovery).

An engine is a :class:`Log` and the :class:`Presence` of people in the rooms. A local engine
serves one server. A shared engine serves several servers, across a network.
"""

from __future__ import annotations

import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from ..errors import EngineFailed
from .presence import Candidate, ClaimsChanged, Live, Presence
from .records import Records

__all__ = [
    "PAGE_BYTES",
    "Appended",
    "Deliver",
    "DeliverOwn",
    "Delivery",
    "Draft",
    "Engine",
    "Entered",
    "Kind",
    "Log",
    "Message",
    "Page",
    "Position",
    "Retention",
    "Tail",
    "fingerprint",
    "new_epoch",
]

#: Bytes of the texts on a page, at most; a longer page is cut short.
PAGE_BYTES = 256 * 1024

#: ``message`` is something said, ``action`` something done (``/me``).
#: ``redaction`` hides an earlier message: its text is the offset of that message. ``redacted`` is
#: what readers get in place of a hidden message: its text is empty.
Kind = Literal["message", "action", "redaction", "redacted"]


# The garbage collector does not track these (gc=False): there may be a million of
# them, and none can be part of a cycle.


class Draft(msgspec.Struct, gc=False):
    """A message on its way into a room's log.

    ``nonce`` is the random id that its sender gave it. The same text with the same
    nonce is stored once. The room sets ``nick`` when it gives the draft to the engine: a
    rename of the sender may be queued before.
    """

    nick: str
    text: str
    kind: Kind = "message"
    nonce: str | None = None


class Message(
    msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="message", omit_defaults=True
):
    """A message of the room's log. ``time`` is in seconds since 1970, by the engine's clock.

    It is also the event ``message`` of ``syncchat.v1``.
    """

    offset: int
    time: float
    nick: str
    text: str
    kind: Kind
    nonce: str | None = None


class Appended(msgspec.Struct, frozen=True, gc=False):
    """The answer for a draft: its position, and whether it is stored now or was known before."""

    epoch: str
    offset: int
    new: bool


class Position(msgspec.Struct, frozen=True):
    """A position in a log. ``offset`` is that of the last message seen, 0 for none."""

    epoch: str
    offset: int


class Delivery(msgspec.Struct, frozen=True):
    """New messages of a room's log, the oldest first, and the position after them.

    ``complete``: the first message follows the position before it. False: messages between
    them are lost. If ``position`` has another epoch than the one before, the log has
    begun anew. Then there can be no messages; and if all between the positions are lost.
    """

    position: Position
    messages: Sequence[Message]
    complete: bool = True


class Page(msgspec.Struct, frozen=True):
    """Consecutive messages of a log, the oldest first. ``complete``: there are no older ones."""

    messages: tuple[Message, ...]
    complete: bool


class Tail(msgspec.Struct, frozen=True):
    """The messages after a position, the oldest first; as many as fit on one page.

    ``complete``: none is missing between the position and the first one (or the end).
    ``reached``: the offset up to which they go. ``end``: the end of the log.
    """

    messages: tuple[Message, ...]
    complete: bool
    reached: int
    end: Position


class Entered(msgspec.Struct, frozen=True):
    """The claimed nick, all claimed nicks in the room, and the tail of its log.

    ``first``: nobody had claimed the nick before, as another device of the same person may.
    """

    nick: str
    names: list[str]
    tail: Tail
    first: bool = True


@dataclass(frozen=True, slots=True)
class Retention:
    """The most messages of a room, and their greatest age in seconds. None is no limit."""

    messages: int | None = None
    seconds: float | None = None


#: Called with a room's name and its new messages, in the order of their offsets, each once.
Deliver = Callable[[str, Delivery], None]

#: Called in an append with a room's name and what it has stored. False: messages before it are
#: still to be delivered, and it comes again in :data:`Deliver`, after them.
DeliverOwn = Callable[[str, Delivery], bool]


class Log(ABC):
    """The logs of all rooms.

    For each room, call :meth:`follow`, :meth:`unfollow` and :meth:`append` on one thread at a
    time. Call the other methods from any thread.
    """

    @abstractmethod
    def follow(self, room: str) -> Position:
        """Deliver the room's new messages from now on. A room without a log gets an empty one.

        Returns the position that counts as delivered: the callback gets everything after it,
        and nothing up to it. May be called again; then it tells where the deliveries are.
        """

    @abstractmethod
    def unfollow(self, room: str) -> None:
        """Deliver no more of the room, and free what need not be kept for it.

        Never waits for a disk or a network, and raises nothing. Has no effect on a room that
        is not followed.
        """

    @abstractmethod
    def append(self, room: str, drafts: Sequence[Draft]) -> list[Appended]:
        """Number and store the drafts, all or none. They are durable when it returns.

        Only one thread at a time may append to a room; any number may append to several.

        Returns an answer for each draft. A draft whose nonce and text the room knows is
        not stored or delivered again. Nonces are known for longer than a client takes to
        reconnect, even if the message is dropped earlier.

        Raises :class:`~syncchat.errors.EngineFailed` if nothing is stored, and
        :class:`~syncchat.errors.AppendUnknown` if it is not known whether the drafts are
        stored; they may still be delivered.
        """

    def known(self, room: str, drafts: Sequence[Draft]) -> Sequence[Appended | None]:
        """The answers for the drafts that are stored, by their nonces, after a failed ``append``.

        None: it is not stored, as far as the engine can tell. Raises nothing.
        """
        del room
        return [None] * len(drafts)

    def append_all(
        self, batches: Sequence[tuple[str, Sequence[Draft]]]
    ) -> list[list[Appended] | EngineFailed]:
        """Append drafts to several rooms, each as :meth:`append` does; each room once.

        Returns for each room the answers, or the exception.
        """
        return [self._outcome(room, drafts) for room, drafts in batches]

    def _outcome(self, room: str, drafts: Sequence[Draft]) -> list[Appended] | EngineFailed:
        try:
            return self.append(room, drafts)
        except EngineFailed as exc:
            return exc

    @abstractmethod
    def read_after(self, room: str, position: Position, limit: int) -> Tail:
        """The first messages after ``position``, ``limit`` or one page at most.

        After offset 0, the epoch does not matter: a reader that has seen no message of any
        log misses nothing if it gets this one from its first message on. If the position
        is not one of this log, the result is not complete, and begins ``limit`` messages
        before the end.
        """

    @abstractmethod
    def read_before(self, room: str, offset: int | None, limit: int) -> Page:
        """The last messages before ``offset``, ``limit`` or one page at most.

        None: the last messages of the log.
        """

    @abstractmethod
    def search(self, room: str, words: str, limit: int) -> list[Message]:
        """The last messages that contain every word of ``words``, ``limit`` or one page at most.

        The newest first. Only the calling thread waits for a search.

        A word finds every word that begins with it, in upper or lower case:
        ``break`` finds ``Breakfast``.
        """

    @abstractmethod
    def keeps(self, room: str) -> bool:
        """Whether the room's log has messages, which are kept when the last member leaves."""

    @abstractmethod
    def rooms(self) -> list[str]:
        """Every room for which :meth:`keeps` is true, sorted by name."""


class Engine(Log, Presence):
    """The logs of all rooms, and the presence in them.

    New messages and live events reach the rooms through the two callbacks of :meth:`attach`.
    A local engine calls them on the thread that appends or publishes, before ``append``
    or ``publish`` returns. A shared engine calls them on a thread of its own, and must not
    need that thread to finish an ``append``: a callback may wait until the room's queue has
    space. Live events are objects; an engine that sends them to other processes gets a
    :class:`LiveCodec`.

    Methods raise :class:`~syncchat.errors.EngineFailed` if something fails now and may work
    later.
    """

    #: The records that all servers of the engine share.
    records: Records

    #: Whether a call may wait for a disk or a network.
    blocks = True
    #: Whether the appends of several rooms cost little more than one: see ``append_all``.
    appends_together = False
    #: The engine, and what it promises of stored messages, in a line for the log.
    promise = ""

    @abstractmethod
    def attach(
        self,
        deliver: Deliver,
        live: Live,
        claims_changed: ClaimsChanged | None = None,
        deliver_own: DeliverOwn | None = None,
    ) -> None:
        """Set the callbacks for new messages and live events. Call it once, and first.

        ``claims_changed`` is for an engine whose claims can end without :meth:`release`, and
        ``deliver_own`` for one that calls ``deliver`` on a thread of its own.
        """

    @abstractmethod
    def enter(
        self,
        room: str,
        nicks: Iterable[Candidate],
        after: Position | None,
        limit: int,
        *,
        with_names: bool,
    ) -> Entered:
        """Do all that a client needs to enter the room, in one step.

        Claims a nick, as :meth:`claim`. The tail is that of :meth:`read_after` the position
        ``after``; without it, the last ``limit`` messages. ``with_names``: whether the
        result has the names. If this raises an exception, no nick is claimed.
        """

    @abstractmethod
    def check(self) -> None:
        """Raise an exception if reading fails or the last write failed.

        The exception is :class:`~syncchat.errors.EngineFailed`.
        """

    @abstractmethod
    def interrupt(self) -> None:
        """Make threads that wait or search raise an exception, before :meth:`close`.

        The exception is :class:`~syncchat.errors.EngineFailed`. Calls that need not wait
        still work.
        """

    @abstractmethod
    def close(self) -> None:
        """Free all resources.

        Calls after it may raise :class:`~syncchat.errors.EngineFailed`.
        """


# For implementations.


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
