#!/usr/bin/env python3
"""Compares chat servers in one run on one machine.

Each server runs in its own process, one after the other, for several rounds. A server
sends each message uncompressed to every client in the sender's room, as ``address:
text``. In the workload ``chat``, the message is an event of ``syncchat.v1``; the peers
receive that event complete and relay it. ``python scripts/bench.py --help`` lists the
flags; ``pip install .[bench]`` installs the requirements.

The load runs in this process, on one core. If its own CPU use is near 100 %, the load
limited the result, not the server.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

try:
    from benchmark import chart, report
    from benchmark.load import SEQUENCE_DIGITS
    from benchmark.registry import SERVERS
    from benchmark.rounds import run
    from benchmark.running import Site
    from benchmark.servers import Ours
    from benchmark.workloads import WORKLOADS, Case
except ModuleNotFoundError as exc:
    sys.exit(f"The module {exc.name!r} is missing: install it with 'pip install .[bench]'")

#: File descriptors in addition to those of the clients.
_FILES = 64

#: The folder for the files of a run. ``/tmp`` may be in memory, where no log is kept.
_DISK = "/var/tmp"  # noqa: S108 - a folder with a random name in it

#: The fields of a case that a flag can change.
_OVERRIDES = ("connections", "senders", "in_flight", "size", "stalled", "seconds", "megabytes")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument(
        "--workload",
        action="append",
        choices=[*WORKLOADS, "all"],
        help="workload to measure; repeat the flag for several (fanout)",
    )
    parser.add_argument(
        "--server",
        action="append",
        choices=list(SERVERS),
        help="server to measure; repeat the flag for several (all that are installed)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs of each server (%(default)s)")
    own = parser.add_argument_group("overrides of the workload")
    own.add_argument("--connections", type=int, help="clients")
    own.add_argument("--senders", type=int, help="clients per room that send in turn; 0 for all")
    own.add_argument("--in-flight", type=int, help="messages in flight per room")
    own.add_argument("--size", type=int, help="bytes of a text")
    own.add_argument("--stalled", type=int, help="clients that never read")
    extent = own.add_mutually_exclusive_group()
    extent.add_argument("--seconds", type=float, help="length of a run in seconds")
    extent.add_argument(
        "--megabytes", type=float, help="length of a run in megabytes that all clients receive"
    )
    output = parser.add_argument_group("output, to a file or to standard output")
    for form, what in [
        ("json", "every figure of every run"),
        (
            "markdown",
            "the table of docs/benchmarks.md; replaces the table in a file that has one",
        ),
        ("svg", "a bar chart of the ratios"),
    ]:
        output.add_argument(f"--{form}", nargs="?", const="-", metavar="FILE", help=what)
    options = parser.parse_args(argv)
    options.cases = cases_of(parser, options)
    return options


def cases_of(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[Case]:
    """Return the cases of the chosen workloads, with the flags' changes."""
    names = list(dict.fromkeys(options.workload or ["fanout"]))
    if "all" in names:
        names = list(WORKLOADS)
    changes = {
        name: getattr(options, name) for name in _OVERRIDES if getattr(options, name) is not None
    }
    found: dict[Case, None] = {}
    for name in names:
        for case in WORKLOADS[name].cases:
            changed = replace(case, **changes)
            if case.rooms > 1:
                # Keep the size of a room, and change the number of rooms.
                rooms = changed.connections * case.rooms // case.connections
                changed = replace(changed, rooms=max(1, rooms))
            if changed.senders == 0 or (changed.senders > changed.readers and not options.senders):
                changed = replace(changed, senders=changed.readers)
            check(parser, changed)
            found[changed] = None
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return list(found)


def check(parser: argparse.ArgumentParser, case: Case) -> None:
    if case.size < SEQUENCE_DIGITS:
        parser.error(f"--size must be at least {SEQUENCE_DIGITS}")
    if (case.megabytes or case.seconds) <= 0:
        parser.error("--seconds and --megabytes must be greater than 0")
    if min(case.connections, case.in_flight) < 1 or case.senders < 0 or case.stalled < 0:
        parser.error("--connections and --in-flight must be at least 1")
    per_room = 2 if case.workload == "nodes" else 4
    has_rooms = case.workload == "rooms" or case.rooms > 1
    if has_rooms and case.connections != per_room * case.rooms:
        parser.error(
            f"--connections must be a multiple of {per_room}: a room has {per_room} clients"
        )
    if case.stalled and case.rooms > 1:
        parser.error("--stalled requires a workload with one room")
    if not case.senders <= case.readers:
        parser.error("--senders must not exceed the number of clients that read")


def allow_files(count: int) -> None:
    """Raise the limit for open files, which the servers inherit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def write(text: str, place: str | None) -> None:
    if place == "-":
        print(text)
    elif place is not None:
        Path(place).write_text(text, "utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    allow_files(max(case.connections for case in options.cases) + _FILES)
    gc.disable()
    with tempfile.TemporaryDirectory(dir=_DISK) as folder:
        outcome = run(
            options.cases,
            [SERVERS[name] for name in options.server or SERVERS],
            options.rounds,
            Site.make(Path(folder)),
        )
    if "-" not in (options.json, options.markdown, options.svg):
        print(report.as_text(outcome))
    command = " ".join(["python scripts/bench.py", *(sys.argv[1:] if argv is None else argv)])
    write(report.as_json(outcome), options.json)
    if options.markdown is not None:
        write(report.as_markdown(outcome, command, options.markdown), options.markdown)
    if options.svg is not None:
        write(chart.as_svg(outcome), options.svg)
    failed = {name for measured in outcome.cases for name in measured.failures}
    return 1 if any(isinstance(SERVERS[name], Ours) for name in failed) else 0


if __name__ == "__main__":
    sys.exit(main())
