"""The two commands: flags, environment variables, exit codes.

Exit codes: 0 done, 1 it failed, 2 used wrongly (argparse's own).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from ._version import __version__
from .chat.plain import LineFormat
from .chat.safetext import escape
from .client import Client
from .console import Console
from .errors import CannotConnect, CannotListen, HandshakeFailed, InvalidURL
from .server import DEFAULT_FORMAT, DEFAULT_GREETING, DEFAULT_PORT, ChatServer
from .terminal import run_client

__all__ = ["client_main", "main", "server_main"]

_MAX_PORT = 65535


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m syncchat server|client [flags]``. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="python -m syncchat", description="A chat room: its server, and a client for it."
    )
    parser.add_argument("--version", action="version", version=f"syncchat {__version__}")
    parser.add_argument("command", choices=["server", "client"], help="which of the two to run")
    chosen = parser.parse_args(arguments[:1])
    run = server_main if chosen.command == "server" else client_main
    return run(arguments[1:], prog=f"python -m syncchat {chosen.command}")


# The server.


def server_main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """``scripts/server.py``: run a chat server until Ctrl+C or SIGTERM. Returns the exit code.

    On the main thread only, since it sets the handlers of both signals.
    """
    options = _server_parser(prog).parse_args(argv)
    sys.stdout.flush()
    console = Console(sys.stdout.fileno())
    server = ChatServer(
        options.host,
        options.port,
        greeting=options.greeting,
        echo=options.echo,
        format=options.format,
        log=None if options.quiet else console.print,
    )

    def stop(_signum: int, _frame: FrameType | None) -> None:
        server.request_stop()

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)
    try:
        if options.quiet:
            server.serve_forever()
        else:
            server.serve_forever()
    except CannotListen as exc:
        print(exc, file=sys.stderr)
        return 1
    finally:
        console.close()
    return 0


def _server_parser(prog: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="A chat server. Join it with scripts/client.py or any WebSocket client;"
        " each path of the URL is a room of its own.",
        epilog="Each flag can be set by an environment variable: SYNCCHAT_HOST, SYNCCHAT_PORT,"
        " SYNCCHAT_GREETING, SYNCCHAT_ECHO, SYNCCHAT_FORMAT, SYNCCHAT_QUIET.",
    )
    parser.add_argument(
        "--host",
        default=_environment("HOST", "127.0.0.1"),
        help="address or name to listen at; 0.0.0.0 for the whole network (%(default)s)",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=_environment("PORT", str(DEFAULT_PORT)),
        help="port to listen at; 0 for any that is free (%(default)s)",
    )
    parser.add_argument(
        "--greeting",
        metavar="TEXT",
        default=_environment("GREETING", DEFAULT_GREETING),
        help="what a new client is told first; empty for nothing (%(default)r)",
    )
    parser.add_argument(
        "--echo",
        action=argparse.BooleanOptionalAction,
        default=_switch(parser, "ECHO", default=True),
        help="send a message to its sender too (the default)",
    )
    parser.add_argument(
        "--format",
        type=_format,
        default=_environment("FORMAT", DEFAULT_FORMAT),
        help="how a message is shown; {sender} and {text} stand for the two (%(default)r)",
    )
    parser.add_argument(
        "--quiet",
        action="store_true",
        default=_switch(parser, "QUIET", default=False),
        help="print no log",
    )
    parser.add_argument("--version", action="version", version=f"syncchat {__version__}")
    return parser


# The client.


def client_main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """``scripts/client.py [URL]``: talk at the terminal or in a pipe. Returns the exit code."""
    options = _client_parser(prog).parse_args(argv)
    client: Client = options.url
    try:
        client.connect()
    except TimeoutError as exc:
        print(f"cannot connect to {client.url}: {exc}", file=sys.stderr)
        return 1
    except CannotConnect as exc:
        print(exc, file=sys.stderr)
        return 1
    except HandshakeFailed as exc:
        print(escape(f"{client.url} is no chat that can be joined: {exc}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    return run_client(client, options.prefix)


def _client_parser(prog: str | None) -> argparse.ArgumentParser:
    port = _environment("PORT", str(DEFAULT_PORT))
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Join a chat. Ctrl+C, Ctrl+D or /quit leaves. In a pipe, each line of the"
        " input is sent, and each message is printed as a line.",
        epilog="Each setting can come from an environment variable: SYNCCHAT_URL, or"
        " SYNCCHAT_PORT for the default URL, and SYNCCHAT_PREFIX.",
    )
    parser.add_argument(
        "url",
        metavar="URL",
        nargs="?",
        type=_client,
        default=_environment("URL", f"ws://127.0.0.1:{port}/"),
        help="where the chat is; the path is the room (%(default)s)",
    )
    parser.add_argument(
        "--prefix",
        metavar="TEXT",
        default=_environment("PREFIX", ""),
        help="what to print before each message",
    )
    parser.add_argument("--version", action="version", version=f"syncchat {__version__}")
    return parser


# What the flags mean, and the environment that stands for them.


def _environment(name: str, default: str) -> str:
    """The setting as the environment has it; argparse converts it as it does a flag."""
    return os.environ.get(f"SYNCCHAT_{name}", default)


def _switch(parser: argparse.ArgumentParser, name: str, *, default: bool) -> bool:
    """A switch as the environment has it; a usage error where it is neither on nor off."""
    word = _environment(name, "").strip().lower()
    if word in ("1", "yes", "true", "on"):
        return True
    if word in ("0", "no", "false", "off"):
        return False
    if word:
        parser.error(f"SYNCCHAT_{name}: {word!r} is neither yes nor no")
    return default


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= _MAX_PORT:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port: it is a number from 0 to {_MAX_PORT}")


def _format(text: str) -> str:
    try:
        LineFormat(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    return text


def _client(url: str) -> Client:
    try:
        return Client(url)
    except InvalidURL as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
