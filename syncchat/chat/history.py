"""The past that somebody who enters is given, in pieces that a connection can take."""

from __future__ import annotations

from dataclasses import dataclass

from ..engine import Engine, Position
from .events import History, message_of

__all__ = ["Past", "Piece", "found", "last_of", "next_piece", "recent"]

#: Messages of a piece; a backlog takes several.
_MESSAGES = 1000


@dataclass(frozen=True, slots=True)
class Past:
    """What of the past somebody who enters wants: all after a place, or the last so many."""

    after: Position | None = None
    last: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of what somebody missed."""

    history: History
    #: Where it ends, from which the next goes on.
    end: Position
    #: There is more.
    more: bool


def next_piece(engine: Engine, room: str, after: Position) -> Piece:
    """What follows ``after``, as much of it as one page takes.

    Where the log is another one by now, it is the last of that. Raises
    :class:`~syncchat.engine.EngineFailed`.
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
        # What there was has been dropped.
        complete = complete and after.offset == end.offset
        reached = end.offset
    history = History(tuple(map(message_of, entries)), complete)
    return Piece(history, Position(end.epoch, reached), reached < end.offset)


def recent(engine: Engine, room: str, limit: int) -> History:
    """The last ``limit`` messages for who enters; fewer where they are long.

    Raises :class:`~syncchat.engine.EngineFailed`.
    """
    page = engine.read_before(room, None, limit)
    return History(tuple(map(message_of, page.entries)), complete=True)


def last_of(engine: Engine, room: str, before: int | None, limit: int) -> History:
    """The answer to who asks for ``limit`` messages before an offset; fewer where they are long.

    Raises :class:`~syncchat.engine.EngineFailed`.
    """
    page = engine.read_before(room, before, limit)
    return History(tuple(map(message_of, page.entries)), page.complete, "history")


def found(engine: Engine, room: str, words: str, limit: int) -> History:
    """The answer to a search: the last matches, the oldest of them first.

    Raises :class:`~syncchat.engine.EngineFailed`.
    """
    entries = engine.search(room, words, limit)
    return History(tuple(map(message_of, reversed(entries))), len(entries) < limit, "search")
