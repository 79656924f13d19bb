"""``syncchat-server do``: an operator's command to the server that runs on this machine."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence

from ..chat.room_names import LOBBY
from ..console import RELOAD, Console, Request, ask, parse_request, take_over
from ..errors import CannotListen
from ..server import DEFAULT_PORT, ChatServer
from .settings import port, reason

__all__ = ["console_of", "do_main", "do_parser", "taken_over"]

logger = logging.getLogger("syncchat.chat")


def do_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Carry out a command of operators on the server of this user that runs here:"
        " kick, ban, unban, bans, mute, unmute, topic, motd, redact, read-only, op, deop. The"
        " command reload has it read its settings, certificate and tokens again.",
        epilog="For example: do ban 192.0.2.0/24 2h spam",
    )
    default = os.environ.get("SYNCCHAT_PORT") or str(DEFAULT_PORT)
    parser.add_argument("--port", help=f"the server's port ({default})", default=default)
    parser.add_argument("--room", help="the room (%(default)s)", default=LOBBY)
    parser.add_argument("command", metavar="COMMAND", help="the command, without a slash")
    parser.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER)
    return parser


def do_main(argv: Sequence[str], prog: str) -> int:
    """Carry out one command. Returns the exit code."""
    parser = do_parser(prog)
    options = parser.parse_args(argv)
    request = Request(options.room, " ".join([options.command, *options.arguments]).lstrip("/"))
    try:
        number = port(options.port)
        if request.line != RELOAD:
            parse_request(request)
    except ValueError as exc:
        parser.error(str(exc))
    try:
        answer = ask(number, request)
    except (FileNotFoundError, ConnectionRefusedError):
        text = f"no server of this user runs on port {number}: start one, or set --port"
        print(text, file=sys.stderr)
        return 1
    except OSError as exc:
        print(f"the server on port {number} cannot be asked: {reason(exc)}", file=sys.stderr)
        return 1
    print(answer.text, file=sys.stdout if answer.is_done else sys.stderr)
    return 0 if answer.is_done else 1


@contextlib.contextmanager
def console_of(
    server: ChatServer,
    reload: Callable[[], str],
    hand_over: Callable[[], Sequence[socket.socket]],
) -> Iterator[None]:
    """Let ``do`` and a successor reach a server that runs, while the block lasts.

    Without it, a server serves. The functions are those of :class:`Console`.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(Console(server.port, server.moderate, reload, hand_over))
        except OSError as exc:
            logger.warning("syncchat-server do cannot reach this server: %s", reason(exc))
        yield


def taken_over(port: int) -> list[socket.socket] | None:
    """The sockets of the server that runs on ``port``. Raises :class:`CannotListen`."""
    try:
        return take_over(port)
    except OSError as exc:
        raise CannotListen(f"cannot take port {port} over: {reason(exc)}") from None
