"""The commands ``backup``, ``check``, ``prune`` and ``stats``: maintenance of what is stored."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ..chat.directory import faults_of_records
from ..engine import Maintenance, Retention, RoomFigures, open_maintenance
from .archive import ENGINE, KEEP, fail, replaced, value_of
from .settings import reason

__all__ = ["maintenance_main", "maintenance_parser"]

_ABOUT = {
    "backup": "Copy all that is stored to a file. From SQLite it is a database, with which a server"
    " can be started; from a Redis, a file for import.",
    "check": "Check that the messages, the search index and the nonces fit together. Prints a line"
    " for each fault; the exit code is 1 if there is one. Changes nothing.",
    "prune": "Delete old messages from a SQLite file. While a server uses it, the file keeps its"
    " size, and new messages take the free place.",
    "stats": "Print how many messages of each room are stored, their size, and their times.",
}


def maintenance_parser(command: str, prog: str) -> argparse.ArgumentParser:
    """The parser of one of the commands."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=_ABOUT[command],
        epilog="Servers may use the engine meanwhile."
        " Each flag can be set by an environment variable, as for the server.",
    )
    if command == "backup":
        parser.add_argument("file", metavar="FILE", help="the copy; replaced when it is complete")
    parser.add_argument("--engine", help="sqlite:PATH, or the URL of a Redis")
    if command == "prune":
        parser.add_argument(
            "--keep", metavar="N|TIME", help="how much of each room to keep: 1000, or 30d"
        )
    if command == "stats":
        parser.add_argument("--json", action="store_true", help="print a JSON object")
    return parser


def maintenance_main(command: str, argv: Sequence[str], prog: str) -> int:
    """Carry out one of the commands. Returns the exit code."""
    parser = maintenance_parser(command, prog)
    options = parser.parse_args(argv)
    name = value_of(parser, ENGINE, options.engine)
    keep = value_of(parser, KEEP, options.keep) if command == "prune" else Retention()
    if keep is None:
        parser.error("--keep is needed: how much of each room to keep")
    try:
        with contextlib.closing(_open(parser, name)) as maintenance:
            match command:
                case "backup":
                    return _backup(maintenance, name, options.file)
                case "check":
                    return _check(maintenance)
                case "prune":
                    return _prune(maintenance, keep)
                case _:
                    return _stats(maintenance, as_json=options.json)
    except KeyboardInterrupt:
        return fail("interrupted")
    except OSError as exc:
        return fail(str(exc) if exc.errno is None else f"{exc.filename or '-'}: {reason(exc)}")


def _open(parser: argparse.ArgumentParser, name: str) -> Maintenance:
    try:
        return open_maintenance(name)
    except ValueError as exc:
        parser.error(f"argument --engine: {exc}")


def _backup(maintenance: Maintenance, name: str, file: str) -> int:
    path = Path(os.path.realpath(file))
    if path.exists() and not path.is_file():
        return fail(f"{file} is not a file")
    if path == Path(os.path.realpath(name.removeprefix("sqlite:"))):
        return fail(f"{file} is the file of the engine itself")
    with replaced(path) as part:
        maintenance.backup(part)
    print(f"copied {name} to {file}" if name.startswith("sqlite:") else f"exported to {file}")
    return 0


def _check(maintenance: Maintenance) -> int:
    count = 0
    for fault in maintenance.faults(faults_of_records):
        count += 1
        print(fault)
    if not count:
        print("no fault found")
    return 1 if count else 0


def _prune(maintenance: Maintenance, keep: Retention) -> int:
    count, is_smaller = maintenance.prune(keep)
    print(f"deleted {count} messages")
    if not is_smaller:
        print("a server uses the file, which keeps its size", file=sys.stderr)
    return 0


def _stats(maintenance: Maintenance, *, as_json: bool) -> int:
    rooms, sizes = maintenance.rooms(), maintenance.sizes()
    if as_json:
        print(json.dumps({"sizes": sizes, "rooms": msgspec.to_builtins(rooms)}))
        return 0
    total = sum(room.messages for room in rooms)
    print(
        f"{len(rooms)} rooms, {total} messages, {sum(room.bytes for room in rooms)} bytes of text"
    )
    for what, size in sizes.items():
        print(f"{what}: {size} bytes")
    for room in rooms:
        print(_line_of(room))
    return 0


def _line_of(room: RoomFigures) -> str:
    text = f"{room.name}: {room.messages} messages up to offset {room.last}, {room.bytes} bytes"
    if room.oldest is None or room.newest is None:
        return text
    return f"{text}, from {_moment(room.oldest)} to {_moment(room.newest)}"


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        # In a damaged file: check tells more.
        return "an invalid time"
