"""The history for a client that enters a room, in pieces of limited size."""

from __future__ import annotations

from dataclasses import dataclass

from ..engine import Engine, Position
from .events import History, message_of

__all__ = ["Past", "Piece", "found", "last_of", "next_piece", "recent"]

#: Messages of a piece, at most. The backlog of a connection can hold several pieces.
_MESSAGES = 1000


@dataclass(frozen=True, slots=True)
class Past:
    """The history that an entering client wants.

    All messages after the position ``after``, or without it the ``last`` messages.
    """

    after: Position | None = None
    last: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the messages that a client missed."""

    history: History
    #: Where it ends, and the next piece begins.
    end: Position
    #: Whether more pieces follow.
    more: bool


def next_piece(engine: Engine, room: str, after: Position) -> Piece:
    """The messages after ``after``, as many as fit on one page.

    If the log has another epoch by now, or ends before ``after``: its last messages, not
    ``complete``. Raises :class:`~syncchat.errors.EngineFailed`.
    """
    end = engine.position(room)
    if after.offset == 0:
        # The client has seen no message of any log. Nothing is missing if it
        # receives this log from its first message on.
        after = Position(end.epoch, 0)
    complete = after.epoch == end.epoch and after.offset <= end.offset
    if not complete:
        after = Position(end.epoch, max(0, end.offset - _MESSAGES))
    entries = engine.read_after(room, after, _MESSAGES).entries
    if entries:
        complete = complete and entries[0].offset == after.offset + 1
        reached = entries[-1].offset
    else:
        # Retention has dropped everything after ``after``, or there was nothing.
        complete = complete and after.offset == end.offset
        reached = end.offset
    history = History(tuple(map(message_of, entries)), complete)
    return Piece(history, Position(end.epoch, reached), reached < end.offset)


def recent(engine: Engine, room: str, limit: int) -> History:
    """The last ``limit`` messages, for a client that enters; fewer if they are long.

    Raises :class:`~syncchat.errors.EngineFailed`.
    """
    page = engine.read_before(room, None, limit)
    return History(tuple(map(message_of, page.entries)), complete=True)


def last_of(engine: Engine, room: str, before: int | None, limit: int) -> History:
    """The answer to a request for ``limit`` messages before an offset; fewer if they are long.

    ``before`` None: the last messages.

    Raises :class:`~syncchat.errors.EngineFailed`.
    """
    page = engine.read_before(room, before, limit)
    return History(tuple(map(message_of, page.entries)), page.complete, "history")


def found(engine: Engine, room: str, words: str, limit: int) -> History:
    """The answer to a search: the last ``limit`` matches, the oldest first.

    Raises :class:`~syncchat.errors.EngineFailed`.
    """
    entries = engine.search(room, words, limit)
    return History(tuple(map(message_of, reversed(entries))), len(entries) < limit, "search")
