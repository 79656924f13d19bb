"""The commands: flags, environment variables, exit codes; export and import of the log; people.

Exit codes: 0 success, 1 failure, 2 wrong usage (from argparse).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .._version import __version__
from . import server
from .archive import archive_main, archive_parser
from .client import client_main
from .do import do_main, do_parser
from .maintenance import maintenance_main, maintenance_parser
from .people import people_main, people_parser

__all__ = ["COMMANDS", "client_main", "main", "server_main"]


class Command(NamedTuple):
    """A command of the server beside the server itself. Both take the command's whole name."""

    run: Callable[[Sequence[str], str], int]
    parser: Callable[[str], argparse.ArgumentParser]


#: The commands of the server, by their first word.
COMMANDS = {
    **{
        name: Command(partial(archive_main, name), partial(archive_parser, name))
        for name in ("export", "import")
    },
    **{
        name: Command(partial(maintenance_main, name), partial(maintenance_parser, name))
        for name in ("backup", "check", "prune", "stats")
    },
    "do": Command(do_main, do_parser),
    "people": Command(people_main, people_parser),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m syncchat server|client [flags]``. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="python -m syncchat", description="A chat server and its client."
    )
    parser.add_argument("--version", action="version", version=f"syncchat {__version__}")
    parser.add_argument("command", choices=["server", "client"], help="the command to run")
    chosen = parser.parse_args(arguments[:1])
    run = server_main if chosen.command == "server" else client_main
    return run(arguments[1:], prog=f"python -m syncchat {chosen.command}")


def server_main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """``scripts/server.py``: run a server, or one of its other commands, such as ``export``.

    Returns the exit code. Call it on the main thread only, since it sets signal handlers.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    program = prog or Path(sys.argv[0]).name
    command = COMMANDS.get(arguments[0]) if arguments else None
    if command is not None:
        return command.run(arguments[1:], f"{program} {arguments[0]}")
    return server.server_main(arguments, prog=prog)
