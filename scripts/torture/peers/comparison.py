"""Runs the same plan against several systems, and makes the table of what they lose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from ..figures import Figures, measure
from ..history import Begin, History, Record
from ..injector import Injector
from ..plan import FaultKind, Kind, Plan, make_plan, steps
from ..redis import RedisServers
from ..runner import Outcome, carry_out
from ..servers import Node
from ..shim import Shim
from .adapters import PEERS, Peer

__all__ = ["as_markdown", "compare", "plan_for"]

#: The faults that every system must expect. Not clock steps: nchan names messages by the time,
#: and sends nothing for as long as the clock has been set back.
_OF_SERVERS = (
    FaultKind.KILL,
    FaultKind.FREEZE,
    FaultKind.ROLLING_RESTART,
    FaultKind.RESET,
    FaultKind.CUT,
    FaultKind.HALF_OPEN,
    FaultKind.STALL,
    FaultKind.DRIP,
)

#: Those of a Redis besides.
_OF_REDIS = (
    FaultKind.REDIS_KILL,
    FaultKind.REDIS_PAUSE,
    FaultKind.REDIS_EMPTY,
    FaultKind.REDIS_FAILOVER,
    FaultKind.REDIS_LINK,
)

#: Clients that talk and listen, which every system has; plans of ours have others besides.
_KINDS = frozenset({Kind.OURS, Kind.JSON, Kind.PLAIN, Kind.PIPE})

#: Seconds to wait after each cycle, and for the last answers. Some systems need longer than that.
_PATIENCE = 10.0

_COLUMNS = (
    "system",
    "versions",
    "acknowledged",
    "lost",
    "of these silently",
    "gaps not told",
    "repeated",
    "out of order",
    "longest silence",
)


def plan_for(peer: Peer, seed: int, minutes: float) -> Plan:
    """The plan for a system: the same for all with so many nodes. Nobody moves or whispers."""
    only = (*_OF_SERVERS, *(_OF_REDIS if peer.nodes > 1 else ()))
    engine = "redis" if peer.nodes > 1 else "memory"
    plan = make_plan(seed, minutes, engine, peer.nodes, only=only)
    clients = tuple(
        replace(client, repeats=False) for client in plan.clients if client.kind in _KINDS
    )
    return replace(plan, clients=clients)


def compare(
    name: str, seed: int, minutes: float, folder: Path, progress: Callable[[Outcome], None]
) -> tuple[str, Figures, Sequence[Record]]:
    """Run a system. Returns its versions, its figures and its history. Raises :class:`Skipped`."""
    peer = PEERS[name]
    plan = plan_for(peer, seed, minutes)
    with History(None) as history, ExitStack() as stack:
        history.write(Begin, name, seed, "", peer.nodes, peer.keeps, "")
        files = folder / "files"
        files.mkdir()
        peer.prepare(folder, stack)
        shim = Shim.make(folder, files)
        if shim is not None:
            stack.callback(shim.close)
        environment = {} if shim is None else shim.environment
        redis = None
        if peer.nodes > 1:
            redis = RedisServers(files, peer.nodes, environment)
            stack.callback(redis.close)
        nodes = []
        for number in range(peer.nodes):
            port = None if redis is None else redis.links[number].port
            node = Node(number, peer.command(port), folder, environment)
            stack.callback(node.close)
            node.start()
            nodes.append(node)
        injector = Injector(nodes, history, keeps=peer.keeps, files=files, shim=shim, redis=redis)
        everybody = [client.name for client in plan.clients]
        actors = []
        for client in plan.clients:
            # Only what every system can do: say something.
            walk = (replace(step, what="say") for step in steps(seed, client, everybody))
            actors.append(peer.actor(client, walk, nodes, history))
        carry_out(plan, actors, injector, history, progress, patience=_PATIENCE)
        records = history.records()
        return peer.versions(), measure(records), records


def as_markdown(rows: Sequence[tuple[str, str, Figures]]) -> str:
    """The table: a system a row."""
    lines = [
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
    ]
    lines += [
        f"| `{name}` | {versions} | {each.acknowledged:,} | {each.lost:,} | {each.silently:,}"
        f" | {each.untold:,} | {each.repeated:,} | {each.out_of_order:,} | {each.silence:.1f} s |"
        for name, versions, each in rows
    ]
    return "\n".join(lines)
