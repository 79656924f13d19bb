"""The command ``people``: who has a token, and with it a name that nobody else can take."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from ..chat.directory import PERIOD
from ..chat.people import add_person, read_people, remove_person, renew_token
from ..engine import Records, open_records
from ..errors import BadNick, EngineFailed, EngineUnusable

__all__ = ["people_main", "people_parser"]


def people_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Give people tokens of their own. Whoever shows the token of a person has its"
        " name, which nobody else can take. A running server heeds every change at once.",
        epilog="The engine, or for memory: the file, is that of the server. Each flag can be set"
        " by an environment variable, as for the server.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add = _command(commands, "add", "print a new token for NAME; it is not shown again")
    add.add_argument(
        "--operator", action="store_true", help="let the person keep order in all rooms"
    )
    add.add_argument(
        "--robot", action="store_true", help="hold it to --robot-rate instead of --rate"
    )
    _command(commands, "list", "print the names, one a line")
    _command(commands, "remove", "free the name, and disconnect whoever shows its token")
    _command(commands, "renew", "print another token; the old one is not valid any more")
    return parser


def people_main(argv: Sequence[str], prog: str) -> int:
    """``syncchat-server people add|list|remove|renew``. Returns the exit code.

    It may be used while a server runs, which heeds it at once.
    """
    parser = people_parser(prog)
    options = parser.parse_args(argv)
    engine = options.engine or os.environ.get("SYNCCHAT_ENGINE") or "memory:"
    file = options.people or os.environ.get("SYNCCHAT_PEOPLE") or None
    if file is None:
        path = engine.removeprefix("sqlite:") if engine.startswith("sqlite:") else None
    else:
        path = file if engine == "memory:" else None
    if path and options.command != "add" and not Path(path).exists():
        # It would be made, and be empty.
        return _fail(f"cannot use {path}: it does not exist")
    try:
        records = open_records(engine, file)
    except ValueError as exc:
        parser.error(str(exc))
    except EngineUnusable as exc:
        return _fail(str(exc))
    with closing(records):
        try:
            _ACTIONS[options.command](records, options)
            if options.command != "list":
                # A running server looks for changes that often. What comes next in a script finds
                # them in force.
                time.sleep(2 * PERIOD)
        except (BadNick, EngineFailed) as exc:
            return _fail(str(exc))
    return 0


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    if name != "list":
        parser.add_argument("name", metavar="NAME", help="the name, which has the form of a nick")
    parser.add_argument("--engine", help="sqlite:PATH, or the URL of a Redis")
    parser.add_argument("--people", metavar="FILE", help="the file of a server with memory:")
    return parser


def _add(records: Records, options: argparse.Namespace) -> None:
    operator, robot = options.operator, options.robot
    print(add_person(records, options.name, operator=operator, robot=robot))


def _list(records: Records, _options: argparse.Namespace) -> None:
    for person in sorted(read_people(records), key=lambda person: person.name.casefold()):
        marks = [" operator"] * person.operator + [" robot"] * person.robot
        print(f"{person.name}{''.join(marks)}")


def _remove(records: Records, options: argparse.Namespace) -> None:
    person = remove_person(records, options.name)
    print(f"removed {person.name}", file=sys.stderr)


def _renew(records: Records, options: argparse.Namespace) -> None:
    print(renew_token(records, options.name))


_ACTIONS: dict[str, Callable[[Records, argparse.Namespace], None]] = {
    "add": _add,
    "list": _list,
    "remove": _remove,
    "renew": _renew,
}


def _fail(text: str) -> int:
    print(" ".join(text.split()), file=sys.stderr)
    return 1
