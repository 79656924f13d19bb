"""The command ``scripts/torture.py``."""

from __future__ import annotations

import argparse
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .checker import Violation, check, excerpt
from .history import History, load, save
from .peers.adapters import PEERS, Skipped
from .peers.comparison import as_markdown, compare
from .plan import make_plan
from .plants import PLANTS
from .report import Report, as_text, write_report
from .runner import NotFresh, Outcome, Settings, run

__all__ = ["main"]

#: The folder for the files of a run. ``/tmp`` may be in memory, where no disk is slow.
_DISK = "/var/tmp"  # noqa: S108 - a folder with a random name in it


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="torture.py",
        description="Start servers, clients and faults, and check that nothing is lost. The same"
        " seed makes the same plan. See docs/torture.md.",
    )
    parser.add_argument("--seed", type=int, help="the plan (a random one)")
    parser.add_argument("--minutes", type=float, default=2.0, help="about so long (%(default)s)")
    parser.add_argument(
        "--engine",
        default="memory:",
        help="memory:, sqlite: or sqlite:PATH of a new file, redis: for a Redis of the run's own,"
        " with all its faults, or redis://... for another one, with those of the network"
        " (%(default)s)",
    )
    parser.add_argument("--nodes", type=int, default=1, help="servers (%(default)s)")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="a bug that is to be found")
    parser.add_argument("--history", type=Path, metavar="FILE", help="write the history there")
    parser.add_argument("--check", type=Path, metavar="FILE", help="only check this history")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="write a report in Markdown, and beside it a timeline as SVG",
    )
    parser.add_argument(
        "--peer",
        action="append",
        choices=[*PEERS, "all"],
        help="run this system under the faults that all have, and print a table; repeat the flag",
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    options = parser.parse_args(argv)
    scheme, _, rest = options.engine.partition(":")
    if scheme not in {"memory", "sqlite"} and not scheme.startswith("redis"):
        parser.error(f"unknown engine {options.engine}")
    if options.nodes > 1 and not scheme.startswith("redis"):
        parser.error("--nodes requires a Redis")
    if options.nodes < 1 or options.minutes <= 0:
        parser.error("--nodes and --minutes must be greater than 0")
    if scheme == "sqlite" and rest and Path(rest).exists():
        parser.error(f"{rest} exists: the run needs a file of its own")
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    return options


def _replay(options: argparse.Namespace) -> str:
    """The command that repeats the run."""
    words = ["python", "scripts/torture.py", "--seed", str(options.seed)]
    words += ["--minutes", f"{options.minutes:g}", "--engine", options.engine]
    if options.nodes > 1:
        words += ["--nodes", str(options.nodes)]
    if options.plant is not None:
        words += ["--plant", options.plant]
    return shlex.join(words)


def _chosen(violations: Sequence[Violation]) -> list[Violation]:
    """The violations to print: the one with the shortest excerpt of each rule."""
    shortest: dict[int, Violation] = {}
    for violation in violations:
        known = shortest.setdefault(violation.rule, violation)
        if len(violation.places) < len(known.places):
            shortest[violation.rule] = violation
    return list(shortest.values())


class _Progress:
    """The line that is shown meanwhile: at a terminal in place, otherwise every ten seconds."""

    def __init__(self) -> None:
        self._in_place = sys.stderr.isatty()
        self._began = self._told_at = time.monotonic()

    def __call__(self, outcome: Outcome) -> None:
        now = time.monotonic()
        if not self._in_place and now < self._told_at + 10:
            return
        self._told_at = now
        worst = max(outcome.recoveries, default=0.0)
        line = (
            f"{now - self._began:4.0f} s: {sum(outcome.faults.values())} faults,"
            f" {outcome.messages} messages, {outcome.deliveries} deliveries,"
            f" worst recovery {worst:.1f} s"
        )
        end = "" if self._in_place else "\n"
        print(("\r" if self._in_place else "") + line, end=end, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run, or check a history. Returns 0 if there is no violation, and 1 if there is one."""
    options = _parse(argv)
    # As Ctrl+C does: end everything that was started.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    if options.check is not None:
        records = load(options.check)
        violations = check(records)
        for violation in _chosen(violations):
            print(f"Rule {violation.rule}: {violation.text}\n{excerpt(records, violation)}\n")
        print(f"{len(violations)} violations in {len(records)} records")
        return 1 if violations else 0
    print(f"seed {options.seed}", file=sys.stderr)
    if options.peer:
        return _compare(options)
    folder = Path(tempfile.mkdtemp(prefix="torture", dir=_DISK))
    try:
        report = _run(options, folder)
    except NotFresh as exc:
        print(f"{exc}: the run needs an engine of its own", file=sys.stderr)
        return 2
    finally:
        if options.keep:
            print(f"the logs are in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
    print(as_text(report))
    if options.report is not None:
        write_report(report, options.report)
    for violation in _chosen(report.violations):
        print(f"\nRule {violation.rule}: {violation.text}")
        print(excerpt(report.records, violation))
    if report.violations:
        print(f"\n{len(report.violations)} violations. Seed: {options.seed}. To replay:")
        print(f"  {_replay(options)}")
        return 1
    return 0


def _compare(options: argparse.Namespace) -> int:
    """Run other systems one after the other."""
    rows = []
    for name in PEERS if "all" in options.peer else dict.fromkeys(options.peer):
        print(name, file=sys.stderr)
        folder = Path(tempfile.mkdtemp(prefix="torture", dir=_DISK))
        try:
            versions, figures, records = compare(
                name, options.seed, options.minutes, folder, _Progress()
            )
        except Skipped as exc:
            print(f"{name} is skipped: {exc}", file=sys.stderr)
            continue
        finally:
            if not options.keep:
                shutil.rmtree(folder)
        if options.history is not None:
            save(options.history.with_suffix(f".{name}.jsonl"), records)
        rows.append((name, versions, figures))
    print(as_markdown(rows))
    return 0


def _run(options: argparse.Namespace, folder: Path) -> Report:
    settings = Settings(options.engine, options.nodes, options.plant, _replay(options), folder)
    plan = make_plan(options.seed, options.minutes, settings.faults, options.nodes)
    with History(options.history) as history:
        outcome = run(plan, settings, history, _Progress())
        records = history.records()
    return Report(settings.command, records, check(records), outcome)
