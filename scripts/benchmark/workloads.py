"""The workloads by name: what a server has to do, and what is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from .clients import hang_up, open_clients, roll_call
from .dialects import Dialect, Lines
from .door import echo_rate, follow, publish_rate
from .load import Load
from .registry import OURS
from .running import Running, Server, Site, Skipped

__all__ = ["FIGURES", "WORKLOADS", "Case", "Figure", "Figures", "measure", "why_not"]

#: The room in which the peers relay messages unchanged.
RELAY = "/relay"

#: Seconds of load before a measurement begins.
_WARM_UP = 0.5

#: The results of one run, by the names in ``FIGURES``.
Figures = dict[str, float]


@dataclass(frozen=True)
class Figure:
    """A figure's title and number format, and whether more is better."""

    title: str
    form: str
    more_is_better: bool = False


FIGURES: dict[str, Figure] = {
    "deliveries": Figure("deliveries/s", "{:,.0f}", more_is_better=True),
    "connects": Figure("connects/s", "{:,.0f}", more_is_better=True),
    "cpu": Figure("CPU us/delivery", "{:.2f}"),
    "cpu_connect": Figure("CPU us/connect", "{:.0f}"),
    "p50": Figure("p50 ms", "{:.2f}"),
    "p99": Figure("p99 ms", "{:.2f}"),
    "p999": Figure("p99.9 ms", "{:.2f}"),
    "p50_near": Figure("p50 ms near", "{:.2f}"),
    "p50_far": Figure("p50 ms far", "{:.2f}"),
    "p99_alone": Figure("p99 ms without", "{:.2f}"),
    "p99_ratio": Figure("p99 / without", "{:.2f}"),
    "memory": Figure("KB/connection", "{:.1f}"),
    "threads": Figure("threads", "{:,.0f}"),
    "broadcast": Figure("broadcast ms", "{:.0f}"),
    "load": Figure("load CPU %", "{:.0f}"),
    "posts": Figure("posts/s", "{:,.0f}", more_is_better=True),
    "echo": Figure("echoes/s", "{:,.0f}", more_is_better=True),
    "websockets": Figure("WebSocket deliveries/s", "{:,.0f}", more_is_better=True),
    "http_ratio": Figure("HTTP / WebSocket", "{:.2f}", more_is_better=True),
}


@dataclass(frozen=True)
class Case:
    """The parameters of one run."""

    workload: str
    #: The name of the case, if its workload has several that differ in more than their clients.
    variant: str = ""
    connections: int = 100
    senders: int = 1
    in_flight: int = 8
    rate: float | None = None
    size: int = 64
    stalled: int = 0
    rooms: int = 1
    tls: bool = False
    events: bool = False
    seconds: float = 2.0
    megabytes: float | None = None

    @property
    def name(self) -> str:
        """The name in the report: ``fanout 1,000``."""
        if self.variant:
            return f"{self.workload} {self.variant}"
        several = len(WORKLOADS[self.workload].cases) > 1
        return f"{self.workload} {self.connections:,}" if several else self.workload

    @property
    def readers(self) -> int:
        """The number of clients in a room that read."""
        return (self.connections - self.stalled) // self.rooms

    def describe(self) -> str:
        parts = [f"{self.connections:,} clients" if self.connections > 1 else "1 client"]
        if self.rooms > 1:
            parts.append(f"{self.rooms:,} rooms")
        if self.stalled:
            parts.append(f"{self.stalled} of them never reading, against none")
        if self.workload in ("storm", "idle"):
            return ", ".join(parts)
        parts.append(f"{self.senders:,} sending")
        parts.append(
            f"{self.in_flight} in flight" if self.rate is None else f"{self.rate:g} messages/s"
        )
        parts.append(f"{self.size:,} bytes")
        if self.tls:
            parts.append("TLS")
        if self.events:
            parts.append("JSON events")
        extent = f"{self.megabytes:g} MB" if self.megabytes else f"{self.seconds:g} s"
        return ", ".join([*parts, extent])

    def places(self, ports: Sequence[int]) -> list[tuple[int, str]]:
        """Return the port and path of each client, those of a room on all ports in turn.

        Clients that read come before those that do not.
        """
        numbers = range(self.connections)
        paths = [RELAY if self.events else f"/room{number % self.rooms}" for number in numbers]
        return [(ports[number // self.rooms % len(ports)], paths[number]) for number in numbers]

    def dialect(self, server: Server) -> type[Dialect] | None:
        """Return the dialect for ``server``; None if it has none for this case."""
        return server.events if self.events else server.lines


@dataclass(frozen=True)
class Workload:
    """What to measure, in which cases, and the figure by which servers are compared."""

    measure: Callable[[Server, Case, Site], Figures]
    headline: str
    cases: tuple[Case, ...]


def why_not(server: Server, case: Case) -> str | None:
    """Return why ``server`` takes no part in ``case``; None if it does."""
    for workload, its_own in (("nodes", server.is_cluster), ("wsgi", server.under_wsgi)):
        if its_own and case.workload != workload:
            return f"it runs the workload {workload} only"
    if case.workload == "wsgi" and not server.under_wsgi:
        return "it is not in gunicorn"
    if case.workload == "nodes" and not server.is_cluster and server.name != OURS:
        return "it is a single node"
    if case.workload in ("post", "followers") and server.name != OURS:
        return "it has no rooms over plain HTTP"
    lacks = None
    if case.rooms > 1 and not server.rooms:
        lacks = "it does not support rooms"
    elif case.tls and not server.tls:
        lacks = "it does not speak TLS here"
    elif case.dialect(server) is None:
        lacks = "it only relays lines" if case.events else "it runs the workload chat only"
    return lacks


def measure(server: Server, case: Case, site: Site) -> Figures:
    """Run ``server`` once. Raises :class:`RuntimeError` and :class:`OSError` for a failure."""
    reason = why_not(server, case)
    if reason is not None:
        raise Skipped(reason)
    return WORKLOADS[case.workload].measure(server, case, site)


@contextmanager
def _loaded(server: Server, case: Case, site: Site) -> Iterator[tuple[Running, Load]]:
    """Run the server with its clients, all of them in their rooms and warmed up."""
    spoken = case.dialect(server)
    assert spoken is not None
    dialect = spoken()
    certificate = site.certificate if case.tls else None
    with server.running(site, certificate) as running:
        trust = certificate.trust if certificate else None
        places = case.places(running.ports)
        clients = open_clients(places, dialect, trust=trust, stalled=case.stalled)
        try:
            reading = clients[: case.connections - case.stalled]
            rooms = [reading[number :: case.rooms] for number in range(case.rooms)]
            # The first client of a room sends, those of the rooms on all nodes in turn.
            rooms = [
                room[at % len(room) :] + room[: at % len(room)] for at, room in enumerate(rooms)
            ]
            roll_call(rooms, dialect)
            load = Load(
                rooms,
                dialect,
                senders=case.senders,
                in_flight=case.in_flight,
                rate=case.rate,
                size=case.size,
                # From the first client, which sends if only one does.
                far=[
                    sock
                    for sock, (port, _) in zip(clients, places, strict=True)
                    if port != places[0][0]
                ],
            )
            try:
                load.run_for(_WARM_UP)
                load.latencies.clear()
                load.far_latencies.clear()
                yield running, load
            finally:
                load.close()
        finally:
            hang_up(clients)


def _traffic(server: Server, case: Case, site: Site) -> Figures:
    """Measure messages to everybody: the throughput, the latency and the CPU cost."""
    with _loaded(server, case, site) as (running, load):
        delivered = load.deliveries
        cpu, own = _cpu(running), time.process_time()
        if case.megabytes is None:
            took = load.run_for(case.seconds)
        else:
            took = load.run_through(case.megabytes)
        cpu, own = _cpu(running) - cpu, time.process_time() - own
        delivered = load.deliveries - delivered
        load.settle()
        near, far = sorted(load.latencies), sorted(load.far_latencies)
        latencies = sorted([*near, *far]) or [0.0]
    return {
        "deliveries": delivered / took,
        "cpu": cpu / delivered * 1e6,
        "p50": _quantile(latencies, 0.5),
        "p99": _quantile(latencies, 0.99),
        "p999": _quantile(latencies, 0.999),
        "load": own / took * 100,
        **({"p50_near": _quantile(near, 0.5), "p50_far": _quantile(far, 0.5)} if far else {}),
    }


def _stalled(server: Server, case: Case, site: Site) -> Figures:
    """Measure the same with clients that never read, and without them."""
    alone = _traffic(server, replace(case, stalled=0), site)
    figures = _traffic(server, case, site)
    figures["p99_alone"] = alone["p99"]
    figures["p99_ratio"] = figures["p99"] / alone["p99"]
    return figures


def _wsgi(server: Server, case: Case, site: Site) -> Figures:
    return (_stalled if case.stalled else _traffic)(server, case, site)


def _storm(server: Server, case: Case, site: Site) -> Figures:
    """Measure many clients that connect at once."""
    with server.running(site, None) as running:
        cpu, own = _cpu(running), time.process_time()
        begin = time.monotonic()
        clients = open_clients(case.places(running.ports), Lines())
        took = time.monotonic() - begin
        cpu, own = _cpu(running) - cpu, time.process_time() - own
        hang_up(clients)
    return {
        "connects": case.connections / took,
        "cpu_connect": cpu / case.connections * 1e6,
        "load": own / took * 100,
    }


def _idle(server: Server, case: Case, site: Site) -> Figures:
    """Measure the memory of idle clients, and a broadcast that reaches all of them."""
    with server.running(site, None) as running:
        (process,) = running.processes
        memory = process.memory_info().rss
        begin = time.monotonic()
        clients = open_clients(case.places(running.ports), Lines())
        took = time.monotonic() - begin
        try:
            threads = process.num_threads()
            memory = process.memory_info().rss - memory
            roll_call([clients], Lines())
            load = Load([clients], Lines(), senders=1, in_flight=1, rate=None, size=case.size)
            try:
                begin = time.monotonic()
                load.send_one()
                load.settle()
                broadcast = time.monotonic() - begin
            finally:
                load.close()
        finally:
            hang_up(clients)
    return {
        "memory": memory / case.connections / 1024,
        "threads": threads,
        "connects": case.connections / took,
        "broadcast": broadcast * 1e3,
    }


def _post(server: Server, case: Case, site: Site) -> Figures:
    """Measure one client that posts over HTTP, against one whose WebSocket messages come back."""
    with server.running(site, None) as running:
        (port,) = running.ports
        echo = echo_rate(port, "/echo", case.size, case.seconds)
        posts = publish_rate(port, "/posts", case.size, case.seconds)
    return {"posts": posts, "echo": echo, "http_ratio": posts / echo}


def _followers(server: Server, case: Case, site: Site) -> Figures:
    """Measure deliveries to followers over HTTP, against those to clients with WebSockets."""
    rates = [
        _deliveries_to(server, case, site, over_http=over_http)
        for over_http in (False, True, True, False)
    ]
    with_websockets, over_http = (rates[0] + rates[3]) / 2, (rates[1] + rates[2]) / 2
    return {
        "deliveries": over_http,
        "websockets": with_websockets,
        "http_ratio": over_http / with_websockets,
    }


def _deliveries_to(server: Server, case: Case, site: Site, *, over_http: bool) -> float:
    with server.running(site, None) as running:
        (port,) = running.ports
        return follow(
            port,
            "/room",
            case.connections,
            case.size,
            case.in_flight,
            case.seconds,
            over_http=over_http,
        )


def _cpu(running: Running) -> float:
    """Return the CPU time of all processes so far, in seconds."""
    times = [process.cpu_times() for process in running.processes]
    return float(sum(each.user + each.system for each in times))


def _quantile(ordered: list[float], part: float) -> float:
    """Return a quantile in milliseconds; ``ordered`` is in seconds."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1e3


def _sized(case: Case, *counts: int) -> tuple[Case, ...]:
    return tuple(replace(case, connections=count) for count in counts)


WORKLOADS: dict[str, Workload] = {
    "fanout": Workload(_traffic, "deliveries", _sized(Case("fanout"), 100, 1000)),
    "lone": Workload(_traffic, "cpu", (Case("lone", in_flight=1),)),
    "crowd": Workload(
        _traffic,
        "deliveries",
        tuple(Case("crowd", connections=n, senders=n, in_flight=50) for n in (100, 1000)),
    ),
    "paced": Workload(_traffic, "p99", (Case("paced", rate=200.0),)),
    "echo": Workload(_traffic, "deliveries", (Case("echo", connections=1, in_flight=1),)),
    "stalled": Workload(_stalled, "p99_ratio", (Case("stalled", stalled=1),)),
    "storm": Workload(_storm, "connects", (Case("storm", connections=3000),)),
    "idle": Workload(_idle, "memory", _sized(Case("idle"), 100, 1000, 10000)),
    "rooms": Workload(
        _traffic,
        "deliveries",
        (Case("rooms", connections=4000, rooms=1000),),
    ),
    "large": Workload(_traffic, "deliveries", (Case("large", senders=100, size=65536),)),
    "tls": Workload(_traffic, "deliveries", (Case("tls", tls=True),)),
    "chat": Workload(_traffic, "deliveries", (Case("chat", events=True),)),
    "post": Workload(_post, "http_ratio", (Case("post", connections=1, in_flight=1),)),
    "followers": Workload(_followers, "http_ratio", (Case("followers", connections=1000),)),
    "wsgi": Workload(
        _wsgi, "deliveries", (Case("wsgi", "fanout"), Case("wsgi", "stalled", stalled=1))
    ),
    "nodes": Workload(
        _traffic,
        "deliveries",
        (
            Case("nodes", "fanout"),
            Case("nodes", "crowd", senders=100, in_flight=50),
            Case("nodes", "rooms", connections=2000, rooms=1000, in_flight=1),
            Case("nodes", "paced", rate=200.0),
        ),
    ),
}
