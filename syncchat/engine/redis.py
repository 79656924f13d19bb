"""The engine that keeps messages in Redis, for any number of servers (nodes).

Redis numbers the messages: a batch is one script. What any node appends comes back to all
nodes through their followers. A nick is claimed for a node, whose lease is renewed; when the
lease of a node has ended, others may claim its nicks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from redis.exceptions import RedisError, ResponseError

from ..errors import EngineFailed, EngineUnusable
from .interface import (
    Appended,
    Deliver,
    DeliverOwn,
    Draft,
    Engine,
    Entered,
    Message,
    Page,
    Position,
    Retention,
    Tail,
    new_epoch,
)
from .presence import Candidate, ClaimsChanged, Live, LiveCodec, LiveEvent, Person
from .reading import SearchThrottle, first_page, matching, patterns, tail_of
from .redis_append import Appender
from .redis_claims import Callbacks, Claims, nicks_of
from .redis_connection import Pipeline, Reply
from .redis_follower import LogFollower
from .redis_format import Keys, end_of, messages_of
from .redis_reads import SharedReads
from .redis_records import RedisRecords
from .redis_scripts import BEFORE, ROOMS, TAIL
from .redis_server import RedisServer

__all__ = ["RedisEngine"]

logger = logging.getLogger("syncchat.engine")

#: Messages kept per room by default: they are in Redis' memory.
_DEFAULT_MESSAGES = 10_000

#: Messages that a search reads at a time.
_SCAN = 500


class RedisEngine(Engine):
    """Logs and nicks in the Redis at ``url``.

    ``codec`` is for live events; ``replicas`` as in :class:`Appender`. Raises
    :class:`EngineUnusable`, whose text is a line for people, if Redis cannot be reached or
    refuses.
    """

    appends_together = True

    def __init__(
        self, url: str, retention: Retention, codec: LiveCodec, *, replicas: int = 0
    ) -> None:
        if retention == Retention():
            retention = Retention(messages=_DEFAULT_MESSAGES)
        self._retention = retention
        self._codec = codec
        self._server = RedisServer(url)
        self._keys = Keys(self._server.database)
        #: For everything but appends: reading pages must not delay these.
        self._others = Pipeline(self._server)
        self.records = RedisRecords(self._others)
        self._throttle = SearchThrottle()
        self._callbacks = Callbacks()
        self._claims = Claims(self._others, self._keys, self._callbacks)
        self._appends = Appender(
            self._server, self._retention, self._claims.node, replicas=replicas
        )
        try:
            self.promise = f"{self._server.name}: {self._promise()}"
            self._claims.start()
        except (EngineFailed, RedisError, OSError) as exc:
            self._others.close()
            raise EngineUnusable(f"cannot use {self._server.name}: {exc}") from exc
        self._server.logs = True
        reads = SharedReads(self._others, self._keys)
        self._follower = LogFollower(self._server, reads, self._keys, codec, self._callbacks)

    def attach(
        self,
        deliver: Deliver,
        live: Live,
        claims_changed: ClaimsChanged | None = None,
        deliver_own: DeliverOwn | None = None,
    ) -> None:
        self._callbacks.deliver = deliver
        self._callbacks.live = live
        if claims_changed is not None:
            self._callbacks.claims_changed = claims_changed
        if deliver_own is not None:
            self._callbacks.deliver_own = deliver_own

    # The log.

    def follow(self, room: str) -> Position:
        return self._follower.follow(room)

    def unfollow(self, room: str) -> None:
        self._follower.unfollow(room)

    def append(self, room: str, drafts: Sequence[Draft]) -> list[Appended]:
        stored = self._appends.append(room, drafts, self._follower.fence(room))
        self._follower.take_stored(room, drafts, stored)
        return stored.answers

    def append_all(
        self, batches: Sequence[tuple[str, Sequence[Draft]]]
    ) -> list[list[Appended] | EngineFailed]:
        outcomes = self._appends.append_all(
            [(room, drafts, self._follower.fence(room)) for room, drafts in batches]
        )
        found: list[list[Appended] | EngineFailed] = []
        for (room, drafts), outcome in zip(batches, outcomes, strict=True):
            if isinstance(outcome, EngineFailed):
                found.append(outcome)
            else:
                self._follower.take_stored(room, drafts, outcome)
                found.append(outcome.answers)
        return found

    def read_after(self, room: str, position: Position, limit: int) -> Tail:
        reply = self._others.run(
            TAIL,
            [self._keys.prefix(room)],
            self._keys.channel(room),
            new_epoch(),
            position.epoch,
            position.offset,
            limit,
        )
        return self._tail(reply, limit)

    def read_before(self, room: str, offset: int | None, limit: int) -> Page:
        messages, whole = self._newest(room, offset, limit)
        return Page(tuple(messages), whole)

    def search(self, room: str, words: str, limit: int) -> list[Message]:
        wanted = patterns(words)
        if not wanted:
            return []
        with self._throttle.take() as deadline:
            return first_page(matching(self._backwards(room), wanted, deadline), limit)[0]

    def keeps(self, room: str) -> bool:
        return bool(self._newest(room, None, 1)[0])

    def rooms(self) -> list[str]:
        if self._retention.messages == 0:
            return []
        time_, found = self._others.run(ROOMS, [])
        seconds = self._retention.seconds
        oldest = 0.0 if seconds is None else float(time_) - seconds
        ends = zip(found[::2], map(end_of, found[1::2]), strict=True)
        return sorted(room.decode() for room, (_, at) in ends if at >= oldest)

    # Presence.

    def enter(
        self,
        room: str,
        nicks: Iterable[Candidate],
        after: Position | None,
        limit: int,
        *,
        with_names: bool,
    ) -> Entered:
        shared = None if after is None else self._follower.tails.find(room, after, limit)
        if after is None or shared is not None:
            place, wanted = Position("", -1), 0 if shared is not None else limit
        else:
            place, wanted = after, limit
        nick, (_, first, names, reply) = self._claims.enter(
            room, nicks, [int(with_names), place.epoch, place.offset, wanted]
        )
        epoch, last, _, time_, _, _, _, entries = reply
        if after is None:
            messages = self._kept(messages_of(last - len(entries) + 1, entries[::-1]), float(time_))
            taken, _ = first_page(reversed(messages), limit)
            end = Position(epoch.decode(), last)
            tail = Tail(tuple(reversed(taken)), True, end.offset, end)
        elif shared is None:
            tail = self._tail(reply, limit)
            self._follower.tails.note(room, tail)
        elif shared.end.epoch == epoch.decode() and shared.end.offset <= last:
            tail = shared
        else:
            # Redis has gone back.
            tail = self._read_for(room, nick, after, limit)
        return Entered(nick, nicks_of(names), tail, bool(first))

    def _read_for(self, room: str, nick: str, after: Position, limit: int) -> Tail:
        """The messages after a position, for a client that has claimed ``nick``."""
        try:
            return self.read_after(room, after, limit)
        except EngineFailed:
            self.release(room, nick)
            raise

    def claim(self, room: str, nicks: Iterable[Candidate]) -> str:
        return self._claims.enter(room, nicks, [0, "", -1, 0])[0]

    def rename(self, room: str, old: str, new: Candidate) -> bool:
        return self._claims.rename(room, old, new)

    def release(self, room: str, nick: str) -> bool:
        return self._claims.release(room, nick)

    def names(self, room: str) -> list[str]:
        return self._claims.names(room)

    def find(self, room: str, nick: str, look: str = "") -> Person | None:
        person = self._claims.find(room, nick, look)
        if person is None:
            return None
        said = (
            m.time for m in reversed(self._newest(room, None, _SCAN)[0]) if m.nick == person.nick
        )
        spoke = next((time for time in said if time >= person.since), None)
        return Person(person.nick, person.since, spoke, person.away)

    def set_away(self, room: str, nick: str, reason: str | None) -> None:
        self._claims.set_away(room, nick, reason)

    def away_nicks(self, room: str) -> list[str]:
        return self._claims.away_nicks(room)

    def where(self, nick: str) -> list[str]:
        return self._claims.where(nick)

    def elsewhere(self, rooms: Sequence[str]) -> list[int]:
        return self._claims.elsewhere(rooms)

    def publish(self, room: str, event: LiveEvent) -> None:
        payload = self._codec.encode(event)
        with self._follower.publishing(room, payload):
            self._others.ask([("PUBLISH", self._keys.channel(room), payload)])

    # The engine.

    def check(self) -> None:
        if self._server.failure is not None:
            raise EngineFailed(f"Redis cannot be reached: {self._server.failure}")
        self._others.ask([("PING",)])

    @property
    def node(self) -> str:
        """The random name of this node."""
        return self._claims.node

    @property
    def round_trips(self) -> int:
        """Round trips for appends so far."""
        return self._appends.round_trips

    def interrupt(self) -> None:
        self._throttle.close()
        self._follower.stop()
        self._claims.stop()
        self._appends.interrupt()
        self._others.interrupt()

    def close(self) -> None:
        self.interrupt()
        self._throttle.join()
        self._follower.close()
        self._claims.close()
        self._appends.close()
        self._others.close()

    # Reading.

    def _tail(self, reply: Reply, limit: int) -> Tail:
        epoch, last, _, time_, start, known, first, entries = reply
        messages = self._kept(messages_of(first, entries), float(time_))
        end = Position(epoch.decode(), last)
        return tail_of(first_page(messages, limit)[0], start, end, known=bool(known))

    def _newest(self, room: str, offset: int | None, limit: int) -> tuple[list[Message], bool]:
        """The last messages before ``offset``, and whether there are no older ones."""
        if offset is not None and offset <= 1:
            return [], True
        time_, newest, full, entries = self._others.run(
            BEFORE, [self._keys.prefix(room)], offset or 0, limit + 1
        )
        found = messages_of(newest - len(entries) + 1, entries[::-1])
        messages = self._kept(found, float(time_))
        taken, whole = first_page(reversed(messages), limit)
        return taken[::-1], whole and not (full and len(messages) == len(found))

    def _backwards(self, room: str) -> Iterable[Message]:
        """Every message of the room's log, the newest first."""
        offset: int | None = None
        while True:
            messages, whole = self._newest(room, offset, _SCAN)
            yield from reversed(messages)
            if whole or not messages:
                return
            offset = messages[0].offset

    def _kept(self, messages: Sequence[Message], now: float) -> list[Message]:
        """Those of the messages that are not too old, by Redis' clock."""
        if self._retention.seconds is None:
            return list(messages)
        oldest = now - self._retention.seconds
        return [message for message in messages if message.time >= oldest]

    # What Redis promises.

    def _promise(self) -> str:
        """What is promised with Redis' configuration, in a line."""
        settings: dict[str, str] = {}
        for name in ("appendonly", "appendfsync", "maxmemory-policy"):
            (reply,) = self._others.exchange([("CONFIG", "GET", name)])
            if isinstance(reply, ResponseError):
                promise = "CONFIG GET is refused: it is unknown whether messages are durable"
                logger.warning("%s: %s", self._server.name, promise)
                return promise
            settings[name] = reply[1].decode() if len(reply) == 2 else "unknown"
        shown = ", ".join(f"{name} {value}" for name, value in settings.items())
        if settings["maxmemory-policy"] != "noeviction":
            logger.warning(
                "%s: maxmemory-policy is %s: Redis may evict rooms when its memory is full;"
                " set noeviction",
                self._server.name,
                settings["maxmemory-policy"],
            )
        if settings["appendonly"] != "yes":
            promise = "messages since its last snapshot are lost when it ends; set appendonly yes"
        elif settings["appendfsync"] == "always":
            return f"a message is on Redis' disk before anybody gets it ({shown})"
        elif settings["appendfsync"] == "everysec":
            promise = "about a second of messages may be lost when its machine crashes"
        else:
            promise = "the messages that its system has not written are lost when it crashes"
        logger.warning("%s: %s (%s)", self._server.name, promise, shown)
        return promise
