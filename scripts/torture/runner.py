"""A whole run: servers, clients, cycles of faults, and what is checked at the end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from .audit import (
    audit_names,
    audit_nodes,
    audit_present,
    baseline,
    read_logs,
    used_rooms,
)
from .checker import HEAL_SECONDS, check
from .clients import Actor, OurClient, PipeClient
from .foreign import JsonClient, PlainClient
from .history import Audit, Begin, Healed, History
from .injector import Injector
from .plan import Kind, Plan, steps
from .redis import ForeignRedis, RedisServers
from .servers import Node, NotStarted, server_command
from .shim import Shim
from .web import EventSourceFollower, LinesFollower, Publisher

__all__ = ["ACTORS", "NotFresh", "Outcome", "Settings", "carry_out", "run"]

#: The classes of the clients that stay.
ACTORS: dict[Kind, type[Actor]] = {
    Kind.OURS: OurClient,
    Kind.JSON: JsonClient,
    Kind.PLAIN: PlainClient,
    Kind.PIPE: PipeClient,
    Kind.POST: Publisher,
    Kind.EVENT_SOURCE: EventSourceFollower,
    Kind.LINES: LinesFollower,
}

#: Seconds in which the last messages must reach everybody.
_QUIET_SECONDS = 2.0


@dataclass(frozen=True)
class Settings:
    """What a run is asked to do. ``engine`` is the flag of the server, or ``redis:``."""

    engine: str
    nodes: int
    plant: str | None
    command: str
    #: The folder of logs, databases and libraries.
    folder: Path

    @property
    def scheme(self) -> str:
        """The kind of the engine."""
        return self.engine.partition(":")[0].partition("+")[0].replace("rediss", "redis")

    @property
    def faults(self) -> str:
        """What a plan calls the engine."""
        is_foreign = self.scheme == "redis" and self.engine != "redis:"
        return "foreign redis" if is_foreign else self.scheme

    @property
    def keeps(self) -> bool:
        """Whether messages outlive a server."""
        return self.scheme != "memory"


class NotFresh(Exception):
    """The engine has messages of an earlier run."""


@dataclass
class Outcome:
    """The figures of a run besides its history."""

    faults: dict[str, int] = field(default_factory=dict)
    messages: int = 0
    deliveries: int = 0
    #: Seconds from each healing until everybody was served again.
    recoveries: list[float] = field(default_factory=list)
    #: A planted bug was found before the end, or a node could not start.
    is_cut_short: bool = False


def run(
    plan: Plan, settings: Settings, history: History, progress: Callable[[Outcome], None]
) -> Outcome:
    """Carry out the plan. The history has then all that the checker needs.

    Raises :class:`NotFresh`.
    """
    history.write(
        Begin,
        "syncchat",
        plan.seed,
        settings.engine,
        settings.nodes,
        settings.keeps,
        settings.command,
    )
    with ExitStack() as stack:
        stack.enter_context(_own_failures(history))
        nodes, injector = _started(settings, history, stack)
        before = baseline(nodes)
        if used := used_rooms(nodes[0]):
            raise NotFresh(f"{settings.engine} has messages already, in {', '.join(used)}")
        everybody = [client.name for client in plan.clients]
        actors = [
            ACTORS[client.kind](client, steps(plan.seed, client, everybody), nodes, history)
            for client in plan.clients
        ]
        outcome = carry_out(
            plan,
            actors,
            injector,
            history,
            progress,
            at_the_end=lambda: read_logs(nodes, history),
            # A planted bug need only be found.
            has_failed=lambda: settings.plant is not None and _is_found(actors, nodes, history),
        )
        if not outcome.is_cut_short:
            audit_names(nodes, history, leases=settings.scheme == "redis")
            audit_nodes(nodes, before, history)
    return outcome


def carry_out(
    plan: Plan,
    actors: Sequence[Actor],
    injector: Injector,
    history: History,
    progress: Callable[[Outcome], None],
    at_the_end: Callable[[], None] = lambda: None,
    has_failed: Callable[[], bool] = lambda: False,
    patience: float = HEAL_SECONDS,
) -> Outcome:
    """Have the actors talk during all cycles; ``at_the_end`` is called when they are silent.

    The run is cut short after a cycle when ``has_failed()``, and when a node cannot start.
    ``patience``: the most seconds to wait after each cycle until everybody is served.
    """
    outcome = Outcome()
    with _talking(actors):
        for cycle in plan.cycles:
            try:
                with _told(outcome, injector, history, progress):
                    injector.run(cycle.faults)
                    injector.heal()
                    _wait_served(actors, history, outcome, patience)
            except NotStarted:
                # For example, its file is damaged: the history says so.
                outcome.is_cut_short = True
                break
            if has_failed():
                outcome.is_cut_short = True
                break
        else:
            _fall_silent(actors, history, patience)
            at_the_end()
    _count(outcome, injector, history)
    return outcome


def _started(settings: Settings, history: History, stack: ExitStack) -> tuple[list[Node], Injector]:
    """Start everything but the clients; ``stack`` ends it."""
    files = settings.folder / "files"
    files.mkdir()
    shim = Shim.make(settings.folder, files)
    environment = {}
    if shim is not None:
        stack.callback(shim.close)
        environment = shim.environment
    engines = [settings.engine] * settings.nodes
    redis: ForeignRedis | None = None
    if settings.engine == "redis:":
        redis = RedisServers(files, settings.nodes, environment)
    elif settings.engine.startswith("redis://"):
        redis = ForeignRedis(settings.engine, settings.nodes)
    elif settings.engine == "sqlite:":
        engines = [f"sqlite:{files / 'chat.db'}"]
    if redis is not None:
        stack.callback(redis.close)
        engines = [redis.url(number) for number in range(settings.nodes)]
    nodes = []
    for number, engine in enumerate(engines):
        command = server_command(engine, settings.plant)
        node = Node(number, command, settings.folder, environment)
        stack.callback(node.close)
        node.start()
        nodes.append(node)
    database = settings.engine.partition(":")[2] if settings.scheme == "sqlite" else ""
    injector = Injector(
        nodes,
        history,
        keeps=settings.keeps,
        files=Path(database).parent if database else files,
        shim=shim,
        redis=redis,
    )
    return nodes, injector


def _is_found(actors: Sequence[Actor], nodes: Sequence[Node], history: History) -> bool:
    """Whether a planted bug can be seen already, also by names that were left over."""
    audit_present(nodes, [actor.name for actor in actors if actor.is_member], history)
    return bool(check(history.records()))


@contextlib.contextmanager
def _own_failures(history: History) -> Iterator[None]:
    """Note exceptions that end a thread of this program: without them, a run proves nothing."""
    original = threading.excepthook

    def note(args: threading.ExceptHookArgs) -> None:
        detail = f"{args.thread and args.thread.name}: {args.exc_type.__name__}: {args.exc_value}"
        history.write(Audit, -1, "failures of the torture test itself", 0, 1, detail)
        original(args)

    threading.excepthook = note
    try:
        yield
    finally:
        threading.excepthook = original


@contextlib.contextmanager
def _talking(actors: Sequence[Actor]) -> Iterator[None]:
    """Clients that talk during the block."""
    begun: list[Actor] = []
    try:
        for actor in actors:
            actor.start()
            begun.append(actor)
        yield
    finally:
        for actor in begun:
            actor.be_silent()
        for actor in begun:
            actor.close()


@contextlib.contextmanager
def _told(
    outcome: Outcome, injector: Injector, history: History, progress: Callable[[Outcome], None]
) -> Iterator[None]:
    """Call ``progress`` once a second, on a thread, during the block."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(1.0):
            _count(outcome, injector, history)
            progress(outcome)

    thread = threading.Thread(target=tell, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _count(outcome: Outcome, injector: Injector, history: History) -> None:
    outcome.faults = {kind.value: count for kind, count in tuple(injector.done.items())}
    outcome.messages, outcome.deliveries = history.messages, history.deliveries


def _wait_served(
    actors: Sequence[Actor], history: History, outcome: Outcome, patience: float
) -> None:
    """Wait until everybody is served again after a cycle of faults."""
    names = tuple(actor.name for actor in actors if actor.sees)
    senders = tuple(actor.name for actor in actors if actor.is_acknowledged)
    history.write(Healed, names, senders)
    begin = time.monotonic()
    history.wait_served(names, senders, patience)
    outcome.recoveries.append(time.monotonic() - begin)


def _fall_silent(actors: Sequence[Actor], history: History, patience: float) -> None:
    """Let everybody fall silent, and wait for the last answers and messages."""
    for actor in actors:
        actor.be_silent()
    for actor in actors:
        unanswered = not actor.wait_acknowledged(patience)
        history.write(Audit, actor.plan.node, "unanswered messages", 0, int(unanswered), actor.name)
    # The last messages of others may be on their way.
    time.sleep(_QUIET_SECONDS)
