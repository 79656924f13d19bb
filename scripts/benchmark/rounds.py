"""Runs the rounds, each server in turn (A B A B), and collects the results."""

from __future__ import annotations

import datetime as dt
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import tqdm

from .registry import OURS, OURS_IN_GUNICORN
from .running import Server, Site, Skipped
from .workloads import FIGURES, WORKLOADS, Case, Figures, measure

__all__ = ["Measured", "Outcome", "Spread", "run"]


@dataclass(frozen=True)
class Spread:
    """The values of a figure over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass
class Measured:
    """The results of a case, by the servers' names."""

    case: Case
    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """The figure by which servers are compared."""
        return WORKLOADS[self.case.workload].headline

    @property
    def ours(self) -> str:
        """The server with which the others are compared."""
        return OURS_IN_GUNICORN if self.case.workload == "wsgi" else OURS

    def spread(self, server: str, figure: str) -> Spread:
        return Spread.of([figures[figure] for figures in self.rounds[server]])

    def ratio(self, server: str, other: str, figure: str) -> Spread | None:
        """Return how many times better ``server`` is than ``other``, round by round.

        None if a server has no figures, or a figure is 0 because the clock is too
        coarse.
        """
        pairs = [
            (mine[figure], theirs[figure])
            for mine, theirs in zip(
                self.rounds.get(server, ()), self.rounds.get(other, ()), strict=False
            )
        ]
        if not pairs or any(0 in pair for pair in pairs):
            return None
        better = FIGURES[figure].more_is_better
        return Spread.of([m / t if better else t / m for m, t in pairs])


@dataclass
class Outcome:
    """The results of a whole run: the date, the machine, the servers and their figures."""

    date: str
    machine: str
    rounds: int
    #: Each server's version; and the servers that are not available, with the reason.
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    cases: list[Measured] = field(default_factory=list)


def run(cases: Sequence[Case], servers: Sequence[Server], rounds: int, site: Site) -> Outcome:
    """Measure ``servers`` in every case, ``rounds`` times in turn."""
    today = dt.datetime.now(dt.UTC).date().isoformat()
    outcome = Outcome(today, _machine(), rounds)
    present = []
    for server in servers:
        try:
            outcome.versions[server.name] = server.version(site)
            present.append(server)
        except Skipped as exc:
            outcome.missing[server.name] = str(exc)
    with tqdm.tqdm(
        total=rounds * len(cases) * len(present), unit="run", leave=False, disable=None
    ) as progress:
        for case in cases:
            measured = Measured(case)
            outcome.cases.append(measured)
            for _ in range(rounds):
                for server in present:
                    progress.set_description(f"{case.name}, {server.name}")
                    _measure_once(server, measured, site)
                    progress.update()
    return outcome


def _measure_once(server: Server, measured: Measured, site: Site) -> None:
    """Run a server once, unless it has failed or was skipped in this case before."""
    name = server.name
    if name in measured.skipped or name in measured.failures:
        return
    try:
        figures = measure(server, measured.case, site)
    except Skipped as exc:
        measured.skipped[name] = str(exc)
    except (RuntimeError, OSError) as exc:
        measured.failures[name] = str(exc)
        measured.rounds.pop(name, None)
    else:
        measured.rounds.setdefault(name, []).append(figures)


def _machine() -> str:
    """Describe the machine in one line, without its name."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # Only Linux has this file.
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB,"
        f" {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )
