"""The health check and the metrics of a server, for monitors only."""

from __future__ import annotations

import json
import mmap
import threading
import time
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import msgspec

from ._version import __version__
from .engine import Engine
from .errors import EngineFailed
from .net import Refusal, Request, Response, Stats, TokenCheck, View, is_loopback

__all__ = [
    "Board",
    "Counts",
    "Metrics",
    "Numbers",
    "Siblings",
    "Snapshot",
    "for_monitors",
    "health_view",
    "metrics_view",
    "reason_of",
]

#: Upper bounds of the histograms' buckets: messages per batch; seconds.
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)

#: Headers that a proxy adds. A request with one of them is not local, even if the
#: proxy runs on this machine.
_FORWARDED = frozenset(
    {
        "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
        "x-real-ip", "true-client-ip", "cf-connecting-ip",
    }
)  # fmt: skip

#: Bytes of the memory for a worker: which half is valid, and two halves. Characters of a failure
#: that fit.
_HALF = 16384
_PLACE = 8 + 2 * _HALF
_FAILURE = 1000

#: Seconds without a snapshot after which a worker counts as stuck.
_STUCK = 10.0

_NO_CACHE = [("Cache-Control", "no-store")]


def for_monitors(view: View, authorize: TokenCheck) -> View:
    """``view``, restricted to local requests and to those that ``authorize`` accepts.

    For other requests the returned view raises :class:`~syncchat.net.Refusal`.
    """

    def guarded(request: Request) -> Response:
        if not _is_local(request):
            if not authorize:
                raise Refusal(
                    HTTPStatus.FORBIDDEN, "This is available on the server's own machine only."
                )
            authorize(request)
        return view(request)

    return guarded


def _is_local(request: Request) -> bool:
    """Whether a program on this machine sends the request for itself.

    A request through a proxy is not local. Nor is a web page's request that reaches
    this machine by DNS rebinding: its ``Host`` is the page's name, which can be
    neither an IP address nor ``localhost``.
    """
    if not _FORWARDED.isdisjoint(request.headers):
        return False
    try:
        name = urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        return False
    address = request.remote_address[0].partition("%")[0]
    return is_loopback(address) and (name == "localhost" or is_loopback(name))


class Counts(msgspec.Struct, frozen=True):
    """A histogram: how many values there are up to each bound and in total, and their sum."""

    counts: list[int] = []
    total: float = 0.0

    def plus(self, other: Counts) -> Counts:
        """The histogram of the values of both, which have the same bounds, or are empty."""
        if not (self.counts and other.counts):
            return self if self.counts else other
        both = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        return Counts(both, self.total + other.total)


_NO_STATS = Stats(
    connections=0,
    connections_total=0,
    messages_in=0,
    messages_out=0,
    bytes_in=0,
    bytes_out=0,
    backlog=0,
    slow_consumers=0,
    refused={},
)


class Numbers(msgspec.Struct, frozen=True):
    """What ``/metrics`` tells."""

    stats: Stats = _NO_STATS
    batch: Counts = Counts()
    delivery: Counts = Counts()
    commit: Counts = Counts()

    def plus(self, other: Numbers) -> Numbers:
        """The numbers of both."""
        mine, theirs = self.stats, other.stats
        sums = {
            name: getattr(mine, name) + getattr(theirs, name)
            for name in Stats.__dataclass_fields__
            if name != "refused"
        }
        reasons = mine.refused | theirs.refused
        refused = {
            each: mine.refused.get(each, 0) + theirs.refused.get(each, 0) for each in reasons
        }
        return Numbers(
            Stats(**sums, refused=refused),
            self.batch.plus(other.batch),
            self.delivery.plus(other.delivery),
            self.commit.plus(other.commit),
        )

    def ended(self) -> Numbers:
        """The numbers when the server has ended: the counters stay, nobody is connected."""
        return msgspec.structs.replace(self, stats=replace(self.stats, connections=0, backlog=0))


class Snapshot(msgspec.Struct, frozen=True):
    """The health and the numbers of a server. ``failure``: why it fails; None if it works."""

    numbers: Numbers = Numbers()
    failure: str | None = None
    #: Seconds since the start.
    uptime: float = 0.0


#: Returns snapshots of the other servers on the same port.
Siblings: TypeAlias = Callable[[], Sequence[Snapshot]]


def health_view(own: Callable[[], Snapshot], siblings: Siblings, kind: str) -> View:
    """A view that answers 200 if messages can be read and stored, else 503, as JSON.

    With 503 the JSON has the reason. It tells the worst of the server's ``own`` state and
    that of its siblings. ``kind`` is the scheme of the engine's name.
    """

    def view(_request: Request) -> Response:
        snapshots = [own(), *siblings()]
        reason = next((each.failure for each in snapshots if each.failure is not None), None)
        state: dict[str, Any] = {
            "status": "ok" if reason is None else "failing",
            "version": __version__,
            "engine": kind,
            "uptime": round(max(each.uptime for each in snapshots), 3),
        }
        if reason is not None:
            state["reason"] = reason
        status = HTTPStatus.OK if reason is None else HTTPStatus.SERVICE_UNAVAILABLE
        body = f"{json.dumps(state)}\n".encode()
        return Response(body, "application/json", status, _NO_CACHE)

    return view


def reason_of(engine: Engine | None) -> str | None:
    """Why the server fails; None if it works. ``engine`` is None while it starts or stops."""
    if engine is None:
        return "the server is starting or stopping"
    try:
        engine.check()
    except EngineFailed as exc:
        return str(exc)
    return None


class Board:
    """The last snapshot of each worker, in memory that the parent and all workers share.

    A worker writes to its own place. What a worker has counted stays when it ends, and counts
    for its successor, so that no counter ever goes back.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._memory = mmap.mmap(-1, count * _PLACE)
        #: Held by the threads of a worker while one takes and writes a snapshot: a later one must
        #: not be overwritten.
        self.lock = threading.Lock()

    def write(self, number: int, snapshot: Snapshot, earlier: Sequence[Snapshot] = ()) -> None:
        """Publish the snapshot of the worker ``number``, with the numbers of its predecessors."""
        numbers, failure = snapshot.numbers, snapshot.failure
        for each in earlier:
            numbers = numbers.plus(each.numbers)
        failure = failure if failure is None else failure[:_FAILURE]
        snapshot = Snapshot(numbers, failure, snapshot.uptime)
        data = msgspec.msgpack.encode((time.monotonic(), snapshot))
        # A process can be killed at any time: the valid half is not touched.
        assert len(data) <= _HALF - 8, "a snapshot has a bounded size"
        half = 1 - self._memory[number * _PLACE]
        at = number * _PLACE + 8 + half * _HALF
        self._memory[at : at + 8 + len(data)] = (
            len(data).to_bytes(4) + zlib.crc32(data).to_bytes(4) + data
        )
        self._memory[number * _PLACE] = half

    def read(self, number: int) -> tuple[float, Snapshot] | None:
        """When the worker published its last snapshot, and the snapshot. None: it has not yet."""
        while True:
            at = number * _PLACE + 8 + self._memory[number * _PLACE] * _HALF
            size = int.from_bytes(self._memory[at : at + 4])
            check = int.from_bytes(self._memory[at + 4 : at + 8])
            data = self._memory[at + 8 : at + 8 + size]
            if not size:
                return None
            if zlib.crc32(data) == check:
                # Otherwise it was written to twice in the meantime: read again.
                return msgspec.msgpack.decode(data, type=tuple[float, Snapshot])

    def note_end(self, number: int) -> None:
        """The worker has ended. Called by the parent, when nobody else writes to this place."""
        found = self.read(number)
        numbers = Snapshot().numbers if found is None else found[1].numbers.ended()
        self.write(number, Snapshot(numbers, f"worker {number + 1} is not running"))

    def others(self, own: int) -> Iterator[Snapshot]:
        """The snapshots of the other workers, as it is now."""
        for number in range(self._count):
            found = self.read(number)
            if number == own:
                continue
            if found is None:
                yield Snapshot(failure=f"worker {number + 1} is starting")
            elif time.monotonic() - found[0] > _STUCK and found[1].failure is None:
                yield msgspec.structs.replace(
                    found[1], failure=f"worker {number + 1} does not answer"
                )
            else:
                yield found[1]

    def close(self) -> None:
        """Free this process's view of the memory."""
        self._memory.close()


class Histogram:
    """Counts values by bucket, as Prometheus does. Usable from any thread."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        #: Guards both fields below; no other lock is taken under it.
        self._lock = threading.Lock()
        #: One count per bound, and one for the values above the last bound.
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, values: Iterable[float]) -> None:
        """Count ``values``."""
        with self._lock:
            for value in values:
                self._counts[bisect_left(self.bounds, value)] += 1
                self._sum += value

    def snapshot(self) -> Counts:
        """The values so far."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        for at in range(1, len(counts)):
            counts[at] += counts[at - 1]
        return Counts(counts, total)


class Metrics:
    """The histograms of a chat server, from its start to its stop."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        #: Messages that the engine stored in one batch.
        self.batch = Histogram(_BATCH)
        #: Seconds from a message's arrival until it is written or queued for every member.
        self.delivery = Histogram(_SECONDS)
        #: Seconds per transaction, for an engine with transactions.
        self.commit = Histogram(_SECONDS)

    def note_batch(self, waits: Sequence[float]) -> None:
        """Count a batch; ``waits`` has the seconds to the delivery of each of its messages."""
        self.batch.observe([len(waits)])
        self.delivery.observe(waits)

    def numbers(self, stats: Stats) -> Numbers:
        """The histograms, and ``stats``."""
        return Numbers(
            stats, self.batch.snapshot(), self.delivery.snapshot(), self.commit.snapshot()
        )

    def snapshot(self, stats: Stats, failure: str | None) -> Snapshot:
        """All that there is to tell of the server."""
        return Snapshot(self.numbers(stats), failure, time.monotonic() - self._started)


def metrics_view(own: Callable[[], Numbers], siblings: Siblings) -> View:
    """A view of the metrics in Prometheus' text format: the server's ``own`` and its siblings'.

    Without the package prometheus-client, the view answers 404.
    """
    try:
        from prometheus_client import exposition  # noqa: PLC0415 - an extra
        from prometheus_client.registry import CollectorRegistry  # noqa: PLC0415
    except ModuleNotFoundError:
        return _no_metrics
    registry = CollectorRegistry()
    registry.register(_Collector(own, siblings))

    def view(request: Request) -> Response:
        try:
            encode, content_type = exposition.choose_encoder(request.headers.get("accept", ""))
        except (TypeError, ValueError):
            # The Accept header names an unknown version of the format.
            encode, content_type = exposition.choose_encoder("")
        return Response(encode(registry), content_type, headers=_NO_CACHE)

    return view


def _no_metrics(_request: Request) -> Response:
    hint = "Metrics are not available. Install them with: pip install 'syncchat[metrics]'"
    raise Refusal(HTTPStatus.NOT_FOUND, hint)


class _Collector:
    """The collector that prometheus-client calls at each scrape. It stores no numbers."""

    def __init__(self, own: Callable[[], Numbers], siblings: Siblings) -> None:
        self._own = own
        self._siblings = siblings

    def collect(self) -> Iterator[Any]:
        """The current value of every metric."""
        from prometheus_client import core  # noqa: PLC0415 - an extra

        numbers = self._own()
        for each in self._siblings():
            numbers = numbers.plus(each.numbers)
        stats = numbers.stats
        info = core.InfoMetricFamily("syncchat", "The version of the server.")
        info.add_metric([], {"version": __version__})
        yield info
        yield core.GaugeMetricFamily(
            "syncchat_connections", "Connected clients.", stats.connections
        )
        yield core.GaugeMetricFamily(
            "syncchat_backlog_bytes", "Bytes queued for clients.", stats.backlog
        )
        for name, help_text, value in [
            ("connections", "Connections opened.", stats.connections_total),
            ("messages_in", "Messages received.", stats.messages_in),
            ("messages_out", "Messages sent.", stats.messages_out),
            ("bytes_in", "Bytes received.", stats.bytes_in),
            ("bytes_out", "Bytes sent.", stats.bytes_out),
            ("slow_consumers", "Clients closed as slow consumers.", stats.slow_consumers),
        ]:
            yield core.CounterMetricFamily(f"syncchat_{name}", help_text, value)
        refused = core.CounterMetricFamily(
            "syncchat_refused", "Refused clients.", labels=["reason"]
        )
        for reason, count in sorted(stats.refused.items()):
            refused.add_metric([reason], count)
        yield refused
        for name, help_text, values, limits in [
            ("batch_messages", "Messages per batch.", numbers.batch, _BATCH),
            (
                "delivery_seconds",
                "Seconds from the arrival of a message to its delivery.",
                numbers.delivery,
                _SECONDS,
            ),
            ("commit_seconds", "Seconds per transaction of the engine.", numbers.commit, _SECONDS),
        ]:
            family = core.HistogramMetricFamily(f"syncchat_{name}", help_text)
            bounds = [*(str(float(limit)) for limit in limits), "+Inf"]
            family.add_metric([], list(zip(bounds, values.counts, strict=True)), values.total)
            yield family
