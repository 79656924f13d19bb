"""The history of a room: for a client that enters it, and for one that asks."""

from __future__ import annotations

from dataclasses import dataclass

from ..engine import Log, Position, Tail
from .events import History

__all__ = ["PIECE", "Past", "cut", "found", "last_of"]

#: Messages of a piece of the history, at most. The backlog of a connection can hold several.
PIECE = 1000


@dataclass(frozen=True, slots=True)
class Past:
    """The history that an entering client wants.

    All messages after the position ``after``, or without it the ``last`` messages.
    """

    after: Position | None = None
    last: int = 0


def cut(tail: Tail, delivered: Position) -> Tail:
    """``tail`` without the messages that the room has still to deliver.

    A shared engine may read messages of other servers before it delivers them.
    """
    if tail.end == delivered:
        return tail
    if tail.end.epoch != delivered.epoch:
        # The log has begun anew, and the room is about to be told.
        return Tail((), complete=False, reached=delivered.offset, end=delivered)
    messages = tuple(each for each in tail.messages if each.offset <= delivered.offset)
    return Tail(messages, tail.complete, min(tail.reached, delivered.offset), delivered)


def last_of(log: Log, room: str, before: int | None, limit: int) -> History:
    """The answer to a request for ``limit`` messages before an offset; fewer if they are long.

    ``before`` None: the last messages.

    Raises :class:`~syncchat.errors.EngineFailed`.
    """
    page = log.read_before(room, before, limit)
    return History(page.messages, page.complete, "history")


def found(log: Log, room: str, words: str, limit: int) -> History:
    """The answer to a search: the last ``limit`` matches, the oldest first.

    Raises :class:`~syncchat.errors.EngineFailed`.
    """
    messages = log.search(room, words, limit)
    return History(tuple(reversed(messages)), len(messages) < limit, "search")
