"""The nicks that are claimed in Redis, and the leases of the nodes that hold them."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from itertools import islice

from ..errors import AppendUnknown, EngineFailed
from .interface import Deliver, DeliverOwn, new_epoch
from .local import RoomClaims
from .presence import Candidate, ClaimsChanged, Live, Person, Revoked
from .redis_claim_scripts import AWAY, BURY, CLEAN, DISCARD, ENTER, LEASE, RECLAIM, RELEASE, RENAME
from .redis_connection import Pipeline, Reply
from .redis_format import Keys

__all__ = ["Callbacks", "Claims", "nicks_of"]

logger = logging.getLogger("syncchat.engine")

#: Seconds for which a lease lasts, between two renewals, and without a renewal until the members
#: of the node are told as having left: after a restart, most are back by then.
_LEASE_SECONDS, _RENEW_SECONDS, _DEAD_SECONDS = 12.0, 4.0, 16.0

#: Nicks tried at a time.
_NICKS = 8


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
        #: Guards the three fields below. No other lock is taken under it.
        self._lock = threading.Lock()
        #: The claims of this node in each room. Redis knows a shared one once for all members.
        self._names: dict[str, RoomClaims] = {}
        #: Claims whose answers have not been noted in ``_names`` yet, as room and casefolded
        #: nick: Redis may have the nick already.
        self._claiming: Counter[tuple[str, str]] = Counter()
        #: Rooms in which Redis may have more or fewer nicks of this node than ``_names``.
        self._doubtful: set[str] = set()
        # The fields below are the keeper's own.
        #: Connections when the claims were last repeated.
        self._reclaimed_at = 0
        #: When the lease was last renewed, on the monotonic clock; None: never.
        self._renewed_at: float | None = None
        #: When each node's lease ends, as Redis tells it, and since when it has told that, on the
        #: monotonic clock.
        self._leases: dict[str, tuple[str, float]] = {}
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
            rooms = self._doubtful.union(self._names)
            self._names.clear()
        try:
            self._repair(rooms)
            self._pipeline.run(BURY, [], self.node, "")
        except EngineFailed as exc:
            logger.warning("the nicks of this server stay claimed until its lease ends: %s", exc)

    def enter(
        self, room: str, nicks: Iterable[Candidate], rest: Sequence[str | int]
    ) -> tuple[str, Reply]:
        """Claim the first free one of ``nicks`` in a step with what ``rest`` asks of ENTER.

        Returns the nick, and the script's reply.
        """
        with_names, *position_and_limit = rest
        left = iter(nicks)
        while some := list(islice(left, _NICKS)):
            texts = [text for candidate in some for text in _arguments(candidate)]
            with self._claim(room, some) as claimed:
                reply = self._pipeline.run(
                    ENTER,
                    [self._keys.prefix(room)],
                    self._keys.channel(room),
                    new_epoch(),
                    self.node,
                    room,
                    with_names,
                    *position_and_limit,
                    *texts,
                )
                if reply[0]:
                    claimed.append(some[reply[0] - 1])
            if claimed:
                return claimed[0].nick, reply
        raise ValueError("no nick is free")

    def rename(self, room: str, old: str, new: Candidate) -> bool:
        """As :meth:`Presence.rename`."""
        old_key = old.casefold()
        with self._lock:
            claims = self._names.get(room, RoomClaims())
            held = claims.nicks.get(old_key)
            keeps = claims.count(old_key) > 1
        look = "" if held is None else held.look
        with self._claim(room, [new], old_key) as claimed:
            if self._pipeline.run(
                RENAME,
                [self._keys.prefix(room)],
                self.node,
                room,
                old_key,
                look,
                int(keeps),
                *_arguments(new),
            ):
                claimed.append(new)
        return bool(claimed)

    def release(self, room: str, nick: str) -> bool:
        """As :meth:`Presence.release`."""
        key = nick.casefold()
        with self._lock:
            claims = self._names.get(room, RoomClaims())
            held = claims.nicks.get(key)
            if not claims.release(key):
                return False
            if not claims.nicks:
                self._names.pop(room, None)
        look = "" if held is None else held.look
        try:
            freed = self._pipeline.run(RELEASE, [self._keys.prefix(room)], self.node, key, look)
        except EngineFailed:
            # The member has left, whatever becomes of Redis: the keeper releases the nick.
            with self._lock:
                self._doubtful.add(room)
            return True
        return bool(freed)

    def names(self, room: str) -> list[str]:
        """As :meth:`Presence.names`."""
        (names,) = self._pipeline.ask([("HVALS", f"{self._keys.prefix(room)}names")])
        return nicks_of(names)

    def find(self, room: str, nick: str, look: str = "") -> Person | None:
        """As :meth:`Presence.find`, without when the person spoke."""
        prefix, key = self._keys.prefix(room), nick.casefold()
        owner, alike = self._pipeline.ask(
            [("HGET", f"{prefix}names", key), ("HGET", f"{prefix}looks", look)]
        )
        if owner is None and alike is not None:
            key = alike.decode()
            (owner,) = self._pipeline.ask([("HGET", f"{prefix}names", key)])
        if owner is None:
            return None
        (away,) = self._pipeline.ask([("HGET", f"{prefix}away", key)])
        _, since, spelled = owner.decode().split(" ", 2)
        return Person(spelled, float(since), None, None if away is None else away.decode())

    def set_away(self, room: str, nick: str, reason: str | None) -> None:
        """As :meth:`Presence.set_away`."""
        prefix, key = self._keys.prefix(room), nick.casefold()
        if reason is None:
            self._pipeline.ask([("HDEL", f"{prefix}away", key)])
        else:
            self._pipeline.run(AWAY, [prefix], self.node, key, reason)

    def away_nicks(self, room: str) -> list[str]:
        """As :meth:`Presence.away_nicks`."""
        prefix = self._keys.prefix(room)
        (keys,) = self._pipeline.ask([("HKEYS", f"{prefix}away")])
        if not keys:
            return []
        (owners,) = self._pipeline.ask([("HMGET", f"{prefix}names", *keys)])
        return nicks_of([owner for owner in owners if owner is not None])

    def where(self, nick: str) -> list[str]:
        """As :meth:`Presence.where`."""
        (nodes,) = self._pipeline.ask([("ZRANGE", "syncchat:nodes", 0, -1)])
        asked = [("SMEMBERS", f"syncchat:node:{node.decode()}:rooms") for node in nodes]
        replies = self._pipeline.ask(asked) if asked else []
        rooms = sorted({room.decode() for reply in replies for room in reply})
        key = nick.casefold()
        held = [("HEXISTS", f"{self._keys.prefix(room)}names", key) for room in rooms]
        found = self._pipeline.ask(held) if held else []
        return [room for room, has in zip(rooms, found, strict=True) if has]

    def elsewhere(self, rooms: Sequence[str]) -> list[int]:
        """As :meth:`Presence.elsewhere`."""
        if not rooms:
            return []
        counts = self._pipeline.ask([("HLEN", f"{self._keys.prefix(room)}names") for room in rooms])
        with self._lock:
            own = [len(self._names.get(room, RoomClaims()).nicks) for room in rooms]
        return [max(0, count - mine) for count, mine in zip(counts, own, strict=True)]

    @contextmanager
    def _claim(
        self, room: str, nicks: list[Candidate], old_key: str = ""
    ) -> Iterator[list[Candidate]]:
        """Claim one of ``nicks``: append it to the list if Redis has given it to this node.

        It replaces the nick with the key ``old_key``. If the answer of Redis is lost, the
        keeper finds out whether a nick is claimed, and releases it.
        """
        pairs = [(room, candidate.nick.casefold()) for candidate in nicks]
        claimed: list[Candidate] = []
        with self._lock:
            self._claiming.update(pairs)
        doubtful = False
        try:
            yield claimed
        except AppendUnknown:
            doubtful = True
            raise
        finally:
            # In one step, or the keeper would look at the room while the claim is still going on.
            with self._lock:
                for pair in pairs:
                    self._claiming[pair] -= 1
                    if not self._claiming[pair]:
                        del self._claiming[pair]
                if doubtful:
                    self._doubtful.add(room)
                for candidate in claimed:
                    claims = self._names.setdefault(room, RoomClaims())
                    if old_key:
                        claims.release(old_key)
                    claims.take(candidate)

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
        connections, asked_at = self._pipeline.connections, time.monotonic()
        alive, at, leases = self._pipeline.run(LEASE, [], self.node, int(_LEASE_SECONDS * 1000))
        dead = self._dead_nodes(
            {
                node.decode(): ends.decode()
                for node, ends in zip(leases[::2], leases[1::2], strict=True)
            },
            float(at),
            asked_at,
        )
        again = not alive or connections != self._reclaimed_at
        with self._lock:
            rooms, self._doubtful = self._doubtful, set()
        try:
            if again:
                # Redis may have forgotten claims, given them away, or gone back to a state
                # with nicks that have been released since.
                connections = self._pipeline.connections
                (known,) = self._pipeline.ask([("SMEMBERS", f"syncchat:node:{self.node}:rooms")])
                rooms.update(room.decode() for room in known)
                with self._lock:
                    rooms.update(self._names)
            self._repair(rooms)
        except EngineFailed:
            with self._lock:
                self._doubtful |= rooms
            raise
        self._reclaimed_at = connections
        for node, ends in dead:
            self._bury(node, ends)

    def _dead_nodes(
        self, leases: Mapping[str, str], at: float, asked_at: float
    ) -> list[tuple[str, str]]:
        """The nodes that have ended without a word, and when their leases end.

        ``leases`` are those of all nodes, ``at`` is the time of Redis. Its clock may step, so that
        only the leases that this node finds at its start are compared with it.
        """
        renewed_at, self._renewed_at = self._renewed_at, time.monotonic()
        # If this node was cut off from Redis, perhaps all nodes were.
        cut_off = renewed_at is not None and asked_at > renewed_at + 2 * _RENEW_SECONDS
        known = {} if cut_off else self._leases
        self._leases = {
            node: known[node]
            if node in known and known[node][0] == ends
            else (ends, self._renewed_at)
            for node, ends in leases.items()
            if node != self.node
        }
        return [
            (node, ends)
            for node, (ends, since) in self._leases.items()
            if asked_at > since + _DEAD_SECONDS
            or (renewed_at is None and float(ends) + _DEAD_SECONDS < at + _LEASE_SECONDS)
        ]

    def _repair(self, rooms: AbstractSet[str]) -> None:
        """Make the nicks of this node in Redis those of ``_names``."""
        with self._lock:
            held = {room: dict(self._names.get(room, RoomClaims()).nicks) for room in rooms}
        if not held:
            return
        calls = [
            (
                [self._keys.prefix(room)],
                [self.node, room, *(text for each in names.values() for text in _arguments(each))],
            )
            for room, names in held.items()
        ]
        replies = self._pipeline.run_all(RECLAIM, calls)
        discarded = []
        for (room, names), (lost, surplus) in zip(held.items(), replies, strict=True):
            given_away = [nick.decode() for nick in lost]
            with self._lock:
                claims = self._names.get(room, RoomClaims())
                for nick in given_away:
                    claims.drop(nick.casefold())
                now = claims.nicks
                if not now.keys() >= names.keys() - {nick.casefold() for nick in given_away}:
                    # A nick that was released meanwhile may be claimed again by mistake.
                    self._doubtful.add(room)
                unused = [
                    text
                    for key, value in zip(surplus[::2], surplus[1::2], strict=True)
                    if (room, key.decode()) not in self._claiming and key.decode() not in now
                    for text in (key, value)
                ]
            if unused:
                discarded.append(([self._keys.prefix(room)], [self.node, *unused]))
            if given_away:
                self._callbacks.claims_changed(room, Revoked(given_away))
        if discarded:
            self._pipeline.run_all(DISCARD, discarded)

    def _bury(self, node: str, ends: str) -> None:
        """Free what a dead node holds, and have its members told as having left.

        ``ends`` is when its lease ends. A node that has renewed its lease since keeps everything.
        """
        (rooms,) = self._pipeline.ask([("SMEMBERS", f"syncchat:node:{node}:rooms")])
        calls = [
            ([self._keys.prefix(room)], [self._keys.channel(room), node, ends])
            for room in (each.decode() for each in rooms)
        ]
        if calls:
            self._pipeline.run_all(CLEAN, calls)
        self._pipeline.run(BURY, [], node, ends)


def _arguments(candidate: Candidate) -> tuple[str, str, str, str]:
    """A nick to claim, as the scripts take it."""
    return candidate.nick.casefold(), candidate.look, candidate.owner, candidate.nick


def nicks_of(owners: Sequence[bytes]) -> list[str]:
    """The nicks of the names in Redis, sorted without regard to case."""
    return sorted((each.decode().split(" ", 2)[2] for each in owners), key=str.casefold)


def _ignore(_room: str, _what: object) -> None:
    """The callback before :meth:`Engine.attach`."""


def _leave(_room: str, _what: object) -> bool:
    """The callback that has every message delivered as those of other servers."""
    return False
