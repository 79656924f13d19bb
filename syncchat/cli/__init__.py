"""The two commands: flags, environment variables, exit codes.

Exit codes: 0 success, 1 failure, 2 wrong usage (from argparse).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .._version import __version__
from .client import client_main
from .server import server_main

__all__ = ["client_main", "main", "server_main"]


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
