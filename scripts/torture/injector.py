"""Does what the plan says: begins and ends faults, one after the other, on one thread."""

from __future__ import annotations

import contextlib
import heapq
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import assert_never

from .history import Audit, Fault, FaultEnd, History
from .plan import FaultKind, PlannedFault
from .proxy import Mode, Proxy
from .redis import ForeignRedis, RedisServers
from .servers import Node, NotStarted
from .shim import Shim, cut_power, drop_torn
from .visitors import flood, leave_in_mid_frame, read_nothing, storm

__all__ = ["Injector"]

#: The most seconds by which a clock steps, and those that a write to a slow disk takes.
_STEP_SECONDS, _SLOW_SECONDS = 3600.0, 0.08

_MODES = {
    FaultKind.HALF_OPEN: Mode.SWALLOW,
    FaultKind.STALL: Mode.STALL,
    FaultKind.DRIP: Mode.DRIP,
}


#: Without these, a server may not be able to start.
_HINDER = frozenset(
    {
        FaultKind.DISK_FULL,
        FaultKind.REDIS_KILL,
        FaultKind.REDIS_PAUSE,
        FaultKind.REDIS_LINK,
        FaultKind.REDIS_FAILOVER,
    }
)


class _Skipped(Exception):
    """A fault cannot be done now, for this reason."""


class Injector:
    """Faults of the ``nodes``, of their proxies and disks, and of ``redis``, if there is one.

    ``keeps``: the messages outlive a server. ``files`` is the folder of the database. Only one
    thread calls the methods.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        history: History,
        *,
        keeps: bool,
        files: Path,
        shim: Shim | None,
        redis: ForeignRedis | None,
    ) -> None:
        self._nodes = nodes
        self._history = history
        self._keeps = keeps
        self._files = files
        self._shim = shim
        self._redis = redis
        #: How many faults of each kind were done.
        self.done: dict[FaultKind, int] = {}
        self._number = 0
        #: Nodes that have to start when the disk has room, or Redis is back.
        self._held_up: list[Node] = []
        #: The numbers and kinds of the faults that last.
        self._lasting: dict[int, FaultKind] = {}
        self._visits: list[threading.Thread] = []

    def run(self, faults: Sequence[PlannedFault]) -> None:
        """Begin and end the faults of a cycle at their times."""
        begin = time.monotonic()
        ends: list[tuple[float, int, int, Callable[[], None]]] = []
        waiting = list(faults)
        while waiting or ends:
            if ends and (not waiting or ends[0][0] <= waiting[0].at):
                at, _, number, end = heapq.heappop(ends)
                self._wait(begin + at)
                end()
                kind = self._lasting.pop(number)
                self._history.write(FaultEnd, number)
                if kind in _HINDER:
                    self._start_held_up()
                continue
            fault = waiting.pop(0)
            self._wait(begin + fault.at)
            self._number += 1
            number = self._number
            forgets = self._forgets(fault.kind)
            self._history.write(
                Fault, number, fault.kind.value, self._target(fault), forgets=forgets
            )
            self._lasting[number] = fault.kind
            try:
                undo = self._begin(fault)
            except _Skipped as exc:
                del self._lasting[number]
                self._history.write(FaultEnd, number, skipped=str(exc))
                continue
            self.done[fault.kind] = self.done.get(fault.kind, 0) + 1
            heapq.heappush(ends, (fault.at + fault.lasts, len(self.done), number, undo))

    def heal(self) -> None:
        """Join the visitors, and make sure that every node runs."""
        for thread in self._visits:
            thread.join()
        self._visits.clear()
        self._held_up.clear()
        for node in self._nodes:
            if node.has_died():
                self._history.write(Audit, node.number, "ends by itself", 0, 1)
                node.kill()
            self._start(node)

    def _start(self, node: Node) -> None:
        """Start a node that is down. Without its disk or Redis it says so and ends: then later.

        Raises :class:`NotStarted`, which is in the history then, for a node that has both.
        """
        if node.is_up:
            return
        try:
            node.start()
        except NotStarted as exc:
            if _HINDER.isdisjoint(self._lasting.values()):
                self._history.write(Audit, node.number, "does not start", 0, 1, str(exc))
                raise
            self._held_up.append(node)

    def _start_held_up(self) -> None:
        waiting, self._held_up = self._held_up, []
        for node in waiting:
            self._start(node)

    def _wait(self, moment: float) -> None:
        time.sleep(max(0.0, moment - time.monotonic()))

    def _target(self, fault: PlannedFault) -> str:
        if fault.kind.name.startswith("REDIS"):
            return "redis"
        return str(self._nodes[fault.node])

    def _forgets(self, kind: FaultKind) -> bool:
        """Whether acknowledged messages may be lost by it, as documented."""
        match kind:
            case FaultKind.KILL | FaultKind.ROLLING_RESTART:
                return not self._keeps
            case FaultKind.REDIS_EMPTY | FaultKind.REDIS_FAILOVER:
                return True
            case _:
                return False

    def _begin(self, fault: PlannedFault) -> Callable[[], None]:
        """Begin a fault. Returns what ends it. Raises :class:`_Skipped`."""
        node, chance, kind = self._nodes[fault.node], random.Random(fault.seed), fault.kind
        match kind:
            case FaultKind.KILL | FaultKind.POWER_CUT | FaultKind.FREEZE:
                return self._hurt(node, kind)
            case FaultKind.ROLLING_RESTART:
                self._restart_all()
            case FaultKind.RESET:
                node.proxy.reset(fault.amount, chance)
            case FaultKind.CUT:
                node.proxy.cut(fault.amount, chance)
            case FaultKind.HALF_OPEN | FaultKind.STALL | FaultKind.DRIP:
                mode = _MODES[kind]
                if mode is Mode.SWALLOW and chance.random() < 0.5:
                    mode = Mode.SWALLOW_ANSWERS
                node.proxy.change(mode, fault.amount, chance)
                return lambda: node.proxy.heal(mode)
            case FaultKind.DISK_FULL | FaultKind.DISK_SLOW | FaultKind.CLOCK_STEP:
                return self._preloaded(kind, fault.amount, chance)
            case FaultKind.STORM | FaultKind.FLOOD | FaultKind.MID_FRAME | FaultKind.NO_READING:
                return self._visit(node, fault, chance)
            case (
                FaultKind.REDIS_KILL
                | FaultKind.REDIS_PAUSE
                | FaultKind.REDIS_EMPTY
                | FaultKind.REDIS_FAILOVER
                | FaultKind.REDIS_LINK
            ):
                return self._hurt_redis(fault, chance)
            case _:
                assert_never(kind)
        return lambda: None

    def _hurt(self, node: Node, kind: FaultKind) -> Callable[[], None]:
        if not node.is_up or node.has_died():
            raise _Skipped("the node is down")
        if kind is FaultKind.FREEZE:
            node.signal(signal.SIGSTOP)
            return lambda: node.signal(signal.SIGCONT)
        if kind is FaultKind.POWER_CUT and self._shim is None:
            raise _Skipped("there is no gcc for the library that is preloaded")
        node.kill()
        if kind is FaultKind.POWER_CUT:
            cut_power(self._files)
        else:
            drop_torn(self._files)
        return lambda: self._start(node)

    def _restart_all(self) -> None:
        for node in self._nodes:
            if not node.is_up:
                continue
            # A frozen process gets the signal when it goes on.
            node.signal(signal.SIGCONT)
            pid = node.pid
            code = node.stop()
            # SQLite has to empty its write-ahead log, page by page. A supervisor kills it then.
            is_slow = code is None and FaultKind.DISK_SLOW in self._lasting.values()
            if code != 0 and not is_slow:
                detail = "it had to be killed" if code is None else f"exit code {code}"
                self._history.write(Audit, node.number, "does not stop in order", 0, 1, detail)
            if strays := node.strays(pid):
                self._history.write(Audit, node.number, "processes", 0, len(strays), f"{strays}")
            self._start(node)

    def _preloaded(
        self, kind: FaultKind, amount: float, chance: random.Random
    ) -> Callable[[], None]:
        shim = self._shim
        if shim is None:
            raise _Skipped("there is no gcc for the library that is preloaded")
        if kind is FaultKind.DISK_FULL:
            shim.set(full=True)
            return lambda: self._make_room(shim)
        if kind is FaultKind.DISK_SLOW:
            shim.set(slow=_SLOW_SECONDS * amount)
            return lambda: shim.set(slow=0.0)
        shim.set(clock=_STEP_SECONDS * amount * chance.choice([-1, 1]))
        return lambda: shim.set(clock=0.0)

    def _make_room(self, shim: Shim) -> None:
        shim.set(full=False)
        if isinstance(self._redis, RedisServers):
            # It ends if it cannot write what it has to.
            self._redis.restart()

    def _visit(self, node: Node, fault: PlannedFault, chance: random.Random) -> Callable[[], None]:
        over = threading.Event()
        # As the texts of a run begin: letters and digits.
        name = f"v{self._number}"
        history = self._history
        visits: dict[FaultKind, Callable[[], None]] = {
            FaultKind.STORM: lambda: storm(node, fault.amount, chance, name, history),
            FaultKind.FLOOD: lambda: flood(node, name, fault.lasts, history),
            FaultKind.MID_FRAME: lambda: leave_in_mid_frame(node, name, chance),
            FaultKind.NO_READING: lambda: read_nothing(node, name, over),
        }
        thread = threading.Thread(target=visits[fault.kind], name=f"{name} visits", daemon=True)
        thread.start()
        self._visits.append(thread)
        return over.set

    def _hurt_redis(self, fault: PlannedFault, chance: random.Random) -> Callable[[], None]:
        redis = self._redis
        if redis is None:
            raise _Skipped("there is no proxy for this Redis")
        if fault.kind is FaultKind.REDIS_LINK:
            return _hurt_link(redis.links[fault.node], chance)
        if not isinstance(redis, RedisServers):
            raise _Skipped("this Redis is not the run's own")
        is_full = FaultKind.DISK_FULL in self._lasting.values()
        match fault.kind:
            case FaultKind.REDIS_KILL:
                redis.kill(power_cut=self._shim is not None)
                return lambda: self._restart_redis(redis)
            case FaultKind.REDIS_PAUSE:
                redis.pause()
                return redis.resume
            case FaultKind.REDIS_EMPTY:
                with contextlib.suppress(OSError):
                    redis.empty()
            case _ if is_full:
                raise _Skipped("Redis cannot start on a full disk")
            case _:
                redis.fail_over()
        return lambda: None

    def _restart_redis(self, redis: RedisServers) -> None:
        # On a full disk it cannot start: then when the disk has room.
        if FaultKind.DISK_FULL not in self._lasting.values():
            redis.restart()


def _hurt_link(link: Proxy, chance: random.Random) -> Callable[[], None]:
    """Begin a fault of the network between a node and Redis."""
    mode = chance.choice([Mode.SWALLOW, Mode.SWALLOW_ANSWERS, Mode.STALL, Mode.DRIP])
    if chance.random() < 0.3:
        link.reset(1.0, chance)
        return lambda: None
    link.change(mode, 1.0, chance)
    return lambda: link.heal(mode)
