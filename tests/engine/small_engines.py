"""A chat server on an engine of a test's own, and small engines that behave like shared ones."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from syncchat.chat.dialects import LineFormat, dialects
from syncchat.chat.directory import Directory
from syncchat.chat.events import SUBPROTOCOL, ClientLimits, Welcome
from syncchat.chat.hooks import ReadOnly
from syncchat.chat.moderation import Moderation
from syncchat.chat.room_settings import RoomSettings
from syncchat.chat.rooms import RoomRegistry
from syncchat.chat.session import Session
from syncchat.chat.watching import Watches
from syncchat.engine import (
    Appended,
    Candidate,
    ClaimsChanged,
    Deliver,
    DeliverOwn,
    Delivery,
    Draft,
    Engine,
    Entered,
    Live,
    MemoryEngine,
    Message,
    Page,
    Person,
    Position,
    Retention,
    Tail,
)
from syncchat.errors import AppendUnknown, EngineFailed
from syncchat.net import WebSocket, serve
from tests.peer import PATIENCE


@contextmanager
def serving(engine: Engine, *, notices: bool = False, most: int = 100) -> Iterator[str]:
    """Serve a chat on ``engine``. Yields the URL, up to the path."""
    ready = threading.Event()
    rooms: RoomRegistry
    template = "{sender}: {text}"
    by_subprotocol = dialects(LineFormat(template))

    def converse(websocket: WebSocket) -> Session:
        assert ready.wait(PATIENCE)
        dialect = by_subprotocol[websocket.subprotocol]
        moderation = Moderation(rooms, lambda _deed: None)
        nothing = lambda: None  # noqa: E731
        return Session(websocket, dialect, rooms, moderation, None, nothing, nothing)

    with serve(None, converse=converse, subprotocols=[SUBPROTOCOL]) as server:
        limits = ClientLimits(65536, 32, 0, 0)
        welcome = Welcome("", "", "", 0, [], "test", limits, template, "", notices)
        directory = Directory(engine.records)
        settings = RoomSettings(
            directory,
            robot_rate=0.0,
            welcome=welcome,
            echo=True,
            on_batch=lambda _waits: None,
            call_at=server.call_at,
            watches=Watches(server.call_at, directory),
            read_only=ReadOnly([], lambda _request: True),
        )
        rooms = RoomRegistry(engine, settings, most)
        ready.set()
        yield f"ws://127.0.0.1:{server.port}"
    engine.close()


class Around(Engine):
    """An engine on top of another one; a test changes what it needs."""

    def __init__(self) -> None:
        self.log = MemoryEngine(Retention(messages=100_000))
        self.presence = self.log
        self.records = self.log.records
        self.deliver: Deliver
        self.live: Live
        self.claims_changed: ClaimsChanged | None
        self.deliver_own: DeliverOwn | None

    def attach(
        self,
        deliver: Deliver,
        live: Live,
        claims_changed: ClaimsChanged | None = None,
        deliver_own: DeliverOwn | None = None,
    ) -> None:
        self.deliver, self.live, self.claims_changed = deliver, live, claims_changed
        self.deliver_own = deliver_own
        self.log.attach(self.on_delivery, self.on_live)

    def on_delivery(self, room: str, delivery: Delivery) -> None:
        self.deliver(room, delivery)

    def on_live(self, room: str, event: Any) -> None:
        self.live(room, event)

    def follow(self, room: str) -> Position:
        return self.log.follow(room)

    def unfollow(self, room: str) -> None:
        self.log.unfollow(room)

    def append(self, room: str, drafts: Sequence[Draft]) -> list[Appended]:
        return self.log.append(room, drafts)

    def read_after(self, room: str, position: Position, limit: int) -> Tail:
        return self.log.read_after(room, position, limit)

    def read_before(self, room: str, offset: int | None, limit: int) -> Page:
        return self.log.read_before(room, offset, limit)

    def search(self, room: str, words: str, limit: int) -> list[Message]:
        return self.log.search(room, words, limit)

    def keeps(self, room: str) -> bool:
        return self.log.keeps(room)

    def rooms(self) -> list[str]:
        return self.log.rooms()

    def enter(
        self,
        room: str,
        nicks: Iterable[Candidate],
        after: Position | None,
        limit: int,
        *,
        with_names: bool,
    ) -> Entered:
        return self.log.enter(room, nicks, after, limit, with_names=with_names)

    def claim(self, room: str, nicks: Iterable[Candidate]) -> str:
        return self.presence.claim(room, nicks)

    def rename(self, room: str, old: str, new: Candidate) -> bool:
        return self.presence.rename(room, old, new)

    def release(self, room: str, nick: str) -> bool:
        return self.presence.release(room, nick)

    def names(self, room: str) -> list[str]:
        return self.presence.names(room)

    def find(self, room: str, nick: str, look: str = "") -> Person | None:
        return self.presence.find(room, nick, look)

    def set_away(self, room: str, nick: str, reason: str | None) -> None:
        self.presence.set_away(room, nick, reason)

    def away_nicks(self, room: str) -> list[str]:
        return self.presence.away_nicks(room)

    def where(self, nick: str) -> list[str]:
        return self.presence.where(nick)

    def elsewhere(self, rooms: Sequence[str]) -> list[int]:
        return self.presence.elsewhere(rooms)

    def publish(self, room: str, event: Any) -> None:
        self.presence.publish(room, event)

    def check(self) -> None:
        self.log.check()

    def interrupt(self) -> None:
        self.log.interrupt()

    def close(self) -> None:
        self.log.close()


class LosesAnswers(Around):
    """Loses what it is asked to lose, as a network may: ``loses`` gets the number of a call."""

    def __init__(self, loses: Callable[[int], str]) -> None:
        super().__init__()
        self._loses = loses
        self._calls = 0
        self._silent = False

    def on_delivery(self, room: str, delivery: Delivery) -> None:
        if not self._silent:
            super().on_delivery(room, delivery)

    def append(self, room: str, drafts: Sequence[Draft]) -> list[Appended]:
        lost = self._loses(self._calls)
        self._calls += 1
        if lost == "request":
            raise AppendUnknown("no answer")
        self._silent = lost == "delivery"
        answers = super().append(room, drafts)
        if lost:
            raise AppendUnknown("no answer")
        return answers


class LosesMessages(Around):
    """Loses messages that others say, or its whole log."""

    def __init__(self) -> None:
        super().__init__()
        self._lost = False
        self.loses_next = False

    def on_delivery(self, room: str, delivery: Delivery) -> None:
        if self.loses_next:
            self.loses_next, self._lost = False, True
            return
        position, messages = delivery.position, delivery.messages
        complete, self._lost = not self._lost, False
        super().on_delivery(room, Delivery(position, messages, complete))

    def begin_anew(self, room: str) -> None:
        """Lose the log, and tell the room."""
        self.log = MemoryEngine(Retention())
        self.log.attach(self.on_delivery, self.on_live)
        self.deliver(room, Delivery(self.log.follow(room), (), complete=False))


class FollowsOnAThread(Around):
    """Delivers on a thread of its own, a while after ``append``, as a shared engine does."""

    def __init__(self) -> None:
        super().__init__()
        self._queue: queue.SimpleQueue[tuple[Callable[..., None], str, Any] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._follow, name="follower")
        self._thread.start()

    def on_delivery(self, room: str, delivery: Delivery) -> None:
        self._queue.put((self.deliver, room, delivery))

    def on_live(self, room: str, event: Any) -> None:
        self._queue.put((self.live, room, event))

    def _follow(self) -> None:
        while (item := self._queue.get()) is not None:
            callback, room, event = item
            callback(room, event)

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()
        super().close()


class DeliversOwn(FollowsOnAThread):
    """Delivers most of what it appends in ``append``, and later all of it on its thread.

    There, it comes with the messages before it.
    """

    def __init__(self) -> None:
        self._said: list[Message] = []
        self._later = threading.Event()
        super().__init__()

    def on_delivery(self, room: str, delivery: Delivery) -> None:
        assert self.deliver_own is not None
        self._said += delivery.messages
        if self._said[-1].offset % 5:
            self.deliver_own(room, delivery)
        super().on_delivery(room, Delivery(delivery.position, self._said[-20:]))
        if len(self._said) > 20:
            self._later.set()

    def _follow(self) -> None:
        self._later.wait(PATIENCE)
        super()._follow()

    def close(self) -> None:
        self._later.set()
        super().close()


class IsSlow(Around):
    """Does not say which rooms it keeps messages for, from ``slow`` on until ``go_on``."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.asked = threading.Event()
        self.go_on = threading.Event()

    def keeps(self, room: str) -> bool:
        self._wait()
        return super().keeps(room)

    def rooms(self) -> list[str]:
        self._wait()
        return super().rooms()

    def _wait(self) -> None:
        if self.slow:
            self.asked.set()
            assert self.go_on.wait(PATIENCE)


class FollowsAndIsSlow(IsSlow, FollowsOnAThread):
    """Both: the thread that delivers to all rooms must not wait for the slow one."""


class IsAway(Around):
    """Cannot be reached while ``away``."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False

    def append(self, room: str, drafts: Sequence[Draft]) -> list[Appended]:
        self._reach()
        return super().append(room, drafts)

    def rename(self, room: str, old: str, new: Candidate) -> bool:
        self._reach()
        return super().rename(room, old, new)

    def release(self, room: str, nick: str) -> bool:
        self._reach()
        return super().release(room, nick)

    def names(self, room: str) -> list[str]:
        self._reach()
        return super().names(room)

    def publish(self, room: str, event: Any) -> None:
        self._reach()
        super().publish(room, event)

    def _reach(self) -> None:
        if self.away:
            raise EngineFailed("the storage is away")
