"""The nicks that are claimed in Redis, and the leases of the nodes that hold them."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterable, Sequence
from itertools import islice

from ..errors import AppendUnknown, EngineFailed
from .interface import ClaimsChanged, Deliver, DeliverOwn, Live, Person, Revoked, new_epoch
from .redis_connection import Pipeline, Reply
from .redis_format import Keys
from .redis_scripts import CLAIM, ENTER, NOW, Script

__all__ = ["Callbacks", "Claims", "nicks_of"]

logger = logging.getLogger("syncchat.engine")

#: Seconds for which a lease lasts, between two renewals, and after its end until the members
#: of the node are told as having left: after a restart, most are back by then.
_LEASE_SECONDS, _RENEW_SECONDS, _GRACE_SECONDS = 12.0, 4.0, 10.0

#: Nicks tried at a time.
_NICKS = 8

#: KEYS: the room's prefix. ARGV: node, room, old nick casefolded, new nick casefolded, new nick.
#: Returns whether the new nick was free.
_RENAME = Script(
    NOW
    + CLAIM
    + """
local names = KEYS[1] .. 'names'
if ARGV[3] ~= ARGV[4] and not is_free(KEYS[1], ARGV[4]) then
  return 0
end
local owner, since = redis.call('HGET', names, ARGV[3]), now()
if owner and string.match(owner, '^%S+') == ARGV[1] then
  since = string.match(owner, '^%S+ (%S+)')
  redis.call('HDEL', names, ARGV[3])
end
redis.call('HSET', names, ARGV[4], ARGV[1] .. ' ' .. since .. ' ' .. ARGV[5])
local away = redis.call('HGET', KEYS[1] .. 'away', ARGV[3])
if away and ARGV[3] ~= ARGV[4] then
  redis.call('HDEL', KEYS[1] .. 'away', ARGV[3])
  redis.call('HSET', KEYS[1] .. 'away', ARGV[4], away)
end
redis.call('SADD', 'syncchat:node:' .. ARGV[1] .. ':rooms', ARGV[2])
return 1
"""
)

#: KEYS: the room's prefix. ARGV: node, and nicks, casefolded. Releases those that the node holds.
_RELEASE = Script(
    """
local names = KEYS[1] .. 'names'
for i = 2, #ARGV do
  local owner = redis.call('HGET', names, ARGV[i])
  if owner and string.match(owner, '^%S+') == ARGV[1] then
    redis.call('HDEL', names, ARGV[i])
    redis.call('HDEL', KEYS[1] .. 'away', ARGV[i])
  end
end
return 0
"""
)

#: KEYS: the room's prefix. ARGV: node, room, and nicks, casefolded and as they are spelled. Claims
#: those again that the node had. Returns those that another node has now.
_RECLAIM = Script(
    NOW
    + CLAIM
    + """
local names, lost = KEYS[1] .. 'names', {}
for i = 3, #ARGV, 2 do
  local owner = redis.call('HGET', names, ARGV[i])
  if is_free(KEYS[1], ARGV[i]) or string.match(owner, '^%S+') == ARGV[1] then
    local since = owner and string.match(owner, '^%S+ (%S+)') or now()
    redis.call('HSET', names, ARGV[i], ARGV[1] .. ' ' .. since .. ' ' .. ARGV[i + 1])
  else
    lost[#lost + 1] = ARGV[i + 1]
  end
end
redis.call('SADD', 'syncchat:node:' .. ARGV[1] .. ':rooms', ARGV[2])
return lost
"""
)

#: ARGV: node, milliseconds of the lease, seconds of grace. Renews the lease. Returns whether it
#: had not ended, and the nodes whose leases ended before the grace.
_LEASE = Script(
    NOW
    + """
local lease = 'syncchat:node:' .. ARGV[1]
local alive = redis.call('EXISTS', lease)
local at = tonumber(now())
redis.call('SET', lease, '1', 'PX', ARGV[2])
redis.call('ZADD', 'syncchat:nodes', at + tonumber(ARGV[2]) / 1000, ARGV[1])
local ended = redis.call('ZRANGEBYSCORE', 'syncchat:nodes', '-inf', at - tonumber(ARGV[3]))
return {alive, ended}
"""
)

#: KEYS: the room's prefix. ARGV: channel, and a node whose lease has ended. Releases the nicks of
#: the node, and tells the nodes so.
_CLEAN = Script(
    """
if redis.call('EXISTS', 'syncchat:node:' .. ARGV[2]) == 1 then
  return 0
end
local names, departed = KEYS[1] .. 'names', {}
local held = redis.call('HGETALL', names)
for i = 1, #held, 2 do
  local owner, nick = string.match(held[i + 1], '^(%S+) %S+ (.*)$')
  if owner == ARGV[2] then
    redis.call('HDEL', names, held[i])
    redis.call('HDEL', KEYS[1] .. 'away', held[i])
    departed[#departed + 1] = nick
  end
end
if #departed > 0 then
  redis.call('PUBLISH', ARGV[1], 'D' .. cjson.encode(departed))
end
return #departed
"""
)

#: ARGV: a node. Forgets it, unless its lease has not ended and ``ARGV[2]`` is not 1.
_BURY = Script(
    """
local lease = 'syncchat:node:' .. ARGV[1]
if ARGV[2] ~= '1' and redis.call('EXISTS', lease) == 1 then
  return 0
end
redis.call('DEL', lease, lease .. ':rooms')
redis.call('ZREM', 'syncchat:nodes', ARGV[1])
return 1
"""
)

#: KEYS: the room's prefix. ARGV: node, nick casefolded, and the reason of its owner to be away.
_AWAY = Script(
    """
local owner = redis.call('HGET', KEYS[1] .. 'names', ARGV[2])
if owner and string.match(owner, '^%S+') == ARGV[1] then
  redis.call('HSET', KEYS[1] .. 'away', ARGV[2], ARGV[3])
end
return 0
"""
)


class Callbacks:
    """The callbacks of an engine, as :meth:`Engine.attach` sets them."""

    def __init__(self) -> None:
        self.deliver: Deliver = _ignore
        self.live: Live = _ignore
        self.claims_changed: ClaimsChanged = _ignore
        self.deliver_own: DeliverOwn = _leave


class Claims:
    """The nicks claimed for this node, and the thread ``syncchat-lease``, which keeps them."""

    def __init__(self, pipeline: Pipeline, keys: Keys, callbacks: Callbacks) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._callbacks = callbacks
        #: The random name of this node.
        self.node = secrets.token_hex(8)
        self._stopping = threading.Event()
        #: Guards the two fields below. No other lock is taken under it.
        self._lock = threading.Lock()
        #: The nicks claimed for this node in each room, by their casefolded form.
        self._names: dict[str, dict[str, str]] = {}
        #: Nicks in Redis that this node has released, or was about to claim, as room and
        #: casefolded nick.
        self._strays: set[tuple[str, str]] = set()
        #: Connections when the claims were last repeated. The keeper's own.
        self._reclaimed_at = 0
        self._thread = threading.Thread(target=self._keep, name="syncchat-lease", daemon=True)

    def start(self) -> None:
        """Renew the lease from now on. Raises :class:`EngineFailed`."""
        self.renew()
        self._thread.start()

    def stop(self) -> None:
        """End the thread soon. From any thread."""
        self._stopping.set()

    def close(self) -> None:
        """End the thread and the lease, and release all nicks of this node."""
        self.stop()
        self._thread.join()
        with self._lock:
            held = {room: list(names) for room, names in self._names.items()}
            for room, key in self._strays:
                held.setdefault(room, []).append(key)
        calls = [([self._keys.prefix(room)], [self.node, *keys]) for room, keys in held.items()]
        try:
            if calls:
                self._pipeline.run_all(_RELEASE, calls)
            self._pipeline.run(_BURY, [], self.node, 1)
        except EngineFailed as exc:
            logger.warning("the nicks of this server stay claimed until its lease ends: %s", exc)

    def enter(
        self, room: str, nicks: Iterable[str], rest: Sequence[str | int]
    ) -> tuple[str, Reply]:
        """Claim the first free one of ``nicks`` in a step with what ``rest`` asks of ENTER.

        Returns it, and the script's reply.
        """
        with_names, *position_and_limit = rest
        left = iter(nicks)
        while some := list(islice(left, _NICKS)):
            pairs = [text for nick in some for text in (nick.casefold(), nick)]
            try:
                reply = self._pipeline.run(
                    ENTER,
                    [self._keys.prefix(room)],
                    self._keys.channel(room),
                    new_epoch(),
                    self.node,
                    room,
                    with_names,
                    *position_and_limit,
                    *pairs,
                )
            except AppendUnknown:
                for nick in some:
                    self._note_stray(room, nick.casefold())
                raise
            if reply[0]:
                nick = some[reply[0] - 1]
                with self._lock:
                    self._names.setdefault(room, {})[nick.casefold()] = nick
                return nick, reply
        raise ValueError("no nick is free")

    def rename(self, room: str, old: str, new: str) -> bool:
        """As :meth:`Presence.rename`."""
        keys = [self._keys.prefix(room)]
        key, old_key = new.casefold(), old.casefold()
        try:
            renamed = self._pipeline.run(_RENAME, keys, self.node, room, old_key, key, new)
        except AppendUnknown:
            # The old nick is claimed again after the reconnect, the new one released.
            self._note_stray(room, key)
            raise
        if not renamed:
            return False
        with self._lock:
            names = self._names.setdefault(room, {})
            names.pop(old_key, None)
            names[key] = new
        return True

    def release(self, room: str, nick: str) -> None:
        """As :meth:`Presence.release`."""
        key = nick.casefold()
        with self._lock:
            names = self._names.get(room, {})
            names.pop(key, None)
            if not names:
                self._names.pop(room, None)
        try:
            self._pipeline.run(_RELEASE, [self._keys.prefix(room)], self.node, key)
        except EngineFailed:
            # The member has left, whatever becomes of Redis: the keeper releases it.
            self._note_stray(room, key)

    def names(self, room: str) -> list[str]:
        """As :meth:`Presence.names`."""
        (names,) = self._pipeline.ask([("HVALS", f"{self._keys.prefix(room)}names")])
        return nicks_of(names)

    def find(self, room: str, nick: str) -> Person | None:
        """As :meth:`Presence.find`, without when the person spoke."""
        prefix, key = self._keys.prefix(room), nick.casefold()
        owner, away = self._pipeline.ask(
            [("HGET", f"{prefix}names", key), ("HGET", f"{prefix}away", key)]
        )
        if owner is None:
            return None
        _, since, spelled = owner.decode().split(" ", 2)
        return Person(spelled, float(since), None, None if away is None else away.decode())

    def set_away(self, room: str, nick: str, reason: str | None) -> None:
        """As :meth:`Presence.set_away`."""
        prefix, key = self._keys.prefix(room), nick.casefold()
        if reason is None:
            self._pipeline.ask([("HDEL", f"{prefix}away", key)])
        else:
            self._pipeline.run(_AWAY, [prefix], self.node, key, reason)

    def away_nicks(self, room: str) -> list[str]:
        """As :meth:`Presence.away_nicks`."""
        prefix = self._keys.prefix(room)
        (keys,) = self._pipeline.ask([("HKEYS", f"{prefix}away")])
        if not keys:
            return []
        (owners,) = self._pipeline.ask([("HMGET", f"{prefix}names", *keys)])
        return nicks_of([owner for owner in owners if owner is not None])

    def elsewhere(self, rooms: Sequence[str]) -> list[int]:
        """As :meth:`Presence.elsewhere`."""
        if not rooms:
            return []
        counts = self._pipeline.ask([("HLEN", f"{self._keys.prefix(room)}names") for room in rooms])
        with self._lock:
            own = [len(self._names.get(room, {})) for room in rooms]
        return [max(0, count - mine) for count, mine in zip(counts, own, strict=True)]

    def _note_stray(self, room: str, key: str) -> None:
        with self._lock:
            self._strays.add((room, key))

    # The lease, on the keeper's thread.

    def _keep(self) -> None:
        while not self._stopping.wait(_RENEW_SECONDS):
            try:
                self.renew()
            except EngineFailed:
                # Logged where it failed. The next renewal comes.
                continue
            except Exception:
                logger.exception("the lease could not be renewed")

    def renew(self) -> None:
        """Renew the lease, repair this node's claims, and clean up after dead nodes."""
        connections = self._pipeline.connections
        alive, ended = self._pipeline.run(
            _LEASE, [], self.node, int(_LEASE_SECONDS * 1000), _GRACE_SECONDS
        )
        if not alive or connections != self._reclaimed_at:
            # Redis may have forgotten claims, or given them away.
            connections = self._pipeline.connections
            self._reclaim()
            self._reclaimed_at = connections
        self._release_strays()
        for node in ended:
            self._bury(node.decode())

    def _reclaim(self) -> None:
        with self._lock:
            held = {room: dict(names) for room, names in self._names.items()}
        calls = [
            (
                [self._keys.prefix(room)],
                [self.node, room, *(text for pair in names.items() for text in pair)],
            )
            for room, names in held.items()
        ]
        if not calls:
            return
        for (room, names), lost in zip(
            held.items(), self._pipeline.run_all(_RECLAIM, calls), strict=True
        ):
            given_away = [nick.decode() for nick in lost]
            with self._lock:
                for nick in given_away:
                    self._names.get(room, {}).pop(nick.casefold(), None)
                # Released meanwhile: claimed again by mistake.
                now = self._names.get(room, {})
                self._strays.update((room, key) for key in names if key not in now)
            if given_away:
                self._callbacks.claims_changed(room, Revoked(given_away))

    def _release_strays(self) -> None:
        with self._lock:
            strays = [each for each in self._strays if each[1] not in self._names.get(each[0], {})]
            self._strays.clear()
        if not strays:
            return
        try:
            calls = [([self._keys.prefix(room)], [self.node, key]) for room, key in strays]
            self._pipeline.run_all(_RELEASE, calls)
        except EngineFailed:
            with self._lock:
                self._strays.update(strays)
            raise

    def _bury(self, node: str) -> None:
        """Free what a dead node holds, and have its members told as having left."""
        (rooms,) = self._pipeline.ask([("SMEMBERS", f"syncchat:node:{node}:rooms")])
        calls = [
            ([self._keys.prefix(room)], [self._keys.channel(room), node])
            for room in (each.decode() for each in rooms)
        ]
        if calls:
            self._pipeline.run_all(_CLEAN, calls)
        self._pipeline.run(_BURY, [], node, 0)


def nicks_of(owners: Sequence[bytes]) -> list[str]:
    """The nicks of the names in Redis, sorted without regard to case."""
    return sorted((each.decode().split(" ", 2)[2] for each in owners), key=str.casefold)


def _ignore(_room: str, _what: object) -> None:
    """The callback before :meth:`Engine.attach`."""


def _leave(_room: str, _what: object) -> bool:
    """The callback that has every message delivered as those of other servers."""
    return False
