"""News of a room on its way to the members: messages, holes, new epochs, and live events."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ..engine import Delivery, Engine, Message, Position
from ..errors import EngineFailed
from .events import LiveFromServer
from .members import Members
from .presence_batch import PresenceBatch

__all__ = ["Feed"]


#: Messages that are read at once, at most.
_PIECE = 1000


class Feed:
    """Only the room's combiner may call the methods, except for :meth:`add`."""

    def __init__(
        self,
        room: str,
        engine: Engine,
        members: Members,
        presence: PresenceBatch,
        *,
        echo: bool,
    ) -> None:
        self._room = room
        self._engine = engine
        self._members = members
        self._presence = presence
        self._echo = echo
        #: The position up to which the members have got the log; None: it is not followed.
        self.position: Position | None = None
        #: What a shared engine has brought on a thread of its own, in its order.
        self._added: deque[Delivery | LiveFromServer] = deque()
        #: Messages that the members get with the next write.
        self._accepted: list[Message] = []

    def take(self, news: Delivery | LiveFromServer) -> None:
        """Send new messages to all members, or a live event to those that it concerns."""
        self._accept(news)
        self._tell_accepted()

    def add(self, news: Delivery | LiveFromServer) -> None:
        """Leave news for the next call of another method. From any thread."""
        self._added.append(news)

    def take_added(self) -> None:
        """Send what has been added, and own messages, with as few writes as possible."""
        self._accept_added()
        self._tell_accepted()

    def reach(self, epoch: str, offset: int) -> None:
        """Get the members up to this position, if another server has delivered that already.

        A client that has come from there must not get the same messages again. Raises
        :class:`~syncchat.errors.EngineFailed`.
        """
        while (now := self.position) is not None:
            if now.epoch != epoch or now.offset >= offset:
                return
            tail = self._engine.read_after(self._room, now, _PIECE)
            if tail.end.epoch != now.epoch:
                # The members are about to be told. Until then they may get messages of the old
                # log, some of which the client has.
                raise EngineFailed("the log of the room is about to begin anew")
            if not tail.messages:
                return  # It is no position of this log.
            end = Position(now.epoch, tail.messages[-1].offset)
            self.take(Delivery(end, tail.messages, tail.complete))

    def take_own(self, delivery: Delivery) -> bool:
        """Take what the room itself has appended, which :meth:`take_added` then sends.

        False: messages before it are missing. It will be delivered after them.
        """
        self._accept_added()
        if self.position != Position(delivery.position.epoch, delivery.messages[0].offset - 1):
            return False
        self._accept(delivery)
        return True

    def _accept_added(self) -> None:
        while self._added:
            self._accept(self._added.popleft())

    def _accept(self, news: Delivery | LiveFromServer) -> None:
        if isinstance(news, Delivery):
            self._accept_messages(news)
        else:
            self._tell_accepted()
            self._members.tell_live(news)

    def _accept_messages(self, delivery: Delivery) -> None:
        before, position, messages = self.position, delivery.position, delivery.messages
        if before is None or (position.epoch == before.epoch and position.offset <= before.offset):
            # It was on its way when the last member left, or it is what the room has appended.
            return
        known = before.offset + 1 - messages[0].offset if messages else 0
        follows = known > 0 or (known == 0 and delivery.complete)
        if position.epoch == before.epoch and follows:
            self.position = position
            self._accepted += messages[known:]
            self._members.note_news(position, messages[known:])
            return
        self._tell_accepted()
        self.position = position
        self._members.note_news(position, messages)
        self._introduce(messages)
        if position.epoch != before.epoch:
            self._members.tell_new_epoch(messages)
        else:
            self._members.tell_gap(messages)

    def _tell_accepted(self) -> None:
        if self._accepted:
            messages, self._accepted = self._accepted, []
            self._introduce(messages)
            if self._echo:
                self._members.tell(messages)
            else:
                assert self.position is not None
                self._members.tell_others(messages, self.position.epoch)

    def _introduce(self, messages: Sequence[Message]) -> None:
        """Announce a member before its first message."""
        unannounced = self._presence.changes
        if unannounced and any(message.nick in unannounced for message in messages):
            self._presence.tell()
