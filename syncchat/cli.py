"""The two commands: flags, environment variables, exit codes.

Exit codes: 0 done, 1 it failed, 2 used wrongly (argparse's own).
"""

from __future__ import annotations

import argparse
import signal
import ssl
import sys
from collections.abc import Sequence
from types import FrameType

from ._version import __version__
from .chat.plain import LineFormat
from .chat.safetext import escape
from .client import Client
from .console import Console
from .errors import CannotConnect, CannotListen, HandshakeFailed, InvalidURL
from .flags import add_flag, add_switch, environment, host, port, positive, read_secret, seconds
from .net import Limits
from .net.connector import parse_url
from .net.tls import tls_reason
from .process import tune
from .server import DEFAULT_FORMAT, DEFAULT_GREETING, DEFAULT_PORT, ChatServer

__all__ = ["client_main", "main", "server_main"]


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
    parser = _server_parser(prog)
    options = parser.parse_args(argv)
    token = read_secret(parser, options.token, options.token_file)
    if options.tls_key and not options.tls_cert:
        parser.error("--tls-key needs --tls-cert")
    try:
        ssl_context = _server_context(options.tls_cert, options.tls_key)
    except OSError as exc:
        print(f"cannot use the certificate {options.tls_cert}: {_reason(exc)}", file=sys.stderr)
        return 1
    # Closed by who started us: then there is no log.
    console = None if options.quiet or sys.stdout is None else Console(sys.stdout.fileno())
    server = ChatServer(
        options.host,
        options.port,
        greeting=options.greeting,
        echo=options.echo,
        format=options.format,
        log=None if console is None else console.print,
        token=token,
        ssl_context=ssl_context,
        origins=[*options.origin, *(environment("ORIGIN", "") or "").split()],
        max_message=options.max_message,
        max_fragments=options.max_fragments,
        max_connections=options.max_connections,
        max_connections_per_address=options.max_connections_per_address,
        open_timeout=options.open_timeout,
        ping_interval=options.ping_interval,
        ping_timeout=options.ping_timeout,
        rate=options.rate,
        burst=options.burst,
    )

    def stop(signum: int, _frame: FrameType | None) -> None:
        # Whoever asks twice does not want to wait.
        signal.signal(signum, signal.SIG_DFL)
        server.request_stop()

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)
    tune()
    try:
        server.serve_forever()
    except CannotListen as exc:
        print(exc, file=sys.stderr)
        return 1
    finally:
        if console is not None:
            console.close()
    return 0


def _server_parser(prog: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="A chat server. Join it with scripts/client.py or any WebSocket client;"
        " each path of the URL is a room of its own.",
        epilog="Each flag can be set by an environment variable: --max-message by"
        " SYNCCHAT_MAX_MESSAGE, and so on.",
    )
    add_flag(
        parser,
        "host",
        "127.0.0.1",
        "address or name to listen at; 0.0.0.0 for the whole network (%(default)s)",
        host,
        "HOST",
    )
    add_flag(
        parser,
        "port",
        str(DEFAULT_PORT),
        "port to listen at; 0 for any that is free (%(default)s)",
        port,
    )
    add_flag(
        parser,
        "greeting",
        DEFAULT_GREETING,
        "what a new client is told first; empty for nothing (%(default)r)",
        _text,
        "TEXT",
    )
    add_switch(
        parser,
        "echo",
        "send a message to its sender too (the default)",
        argparse.BooleanOptionalAction,
        default=True,
    )
    add_flag(
        parser,
        "format",
        DEFAULT_FORMAT,
        "how a message is shown; {sender} and {text} stand for the two (%(default)r)",
        _format,
    )
    add_switch(parser, "quiet", "print no log", "store_true", default=False)
    parser.add_argument("--version", action="version", version=f"syncchat {__version__}")

    door = parser.add_argument_group("who may come in")
    add_flag(door, "token", None, "a secret that clients must know")
    add_flag(door, "token-file", None, "the file that it stands in", metavar="FILE")
    door.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="URL",
        help="a page that browsers may join from, besides the server's own host;"
        " give it several times for several",
    )
    add_flag(door, "tls-cert", None, "certificate, for wss://", metavar="FILE")
    add_flag(door, "tls-key", None, "its key, unless in the same file", metavar="FILE")

    limits = parser.add_argument_group("limits")
    add_flag(limits, "max-connections", None, "clients at a time (any number)", positive, "N")
    add_flag(
        limits,
        "max-connections-per-address",
        None,
        "clients at a time from one address (any number)",
        positive,
        "N",
    )
    add_flag(
        limits,
        "max-message",
        str(Limits().max_message),
        "of a message (%(default)s)",
        positive,
        "BYTES",
    )
    add_flag(
        limits,
        "max-fragments",
        str(Limits().max_fragments),
        "that a message may come in (%(default)s)",
        positive,
        "N",
    )
    add_flag(
        limits,
        "rate",
        "10",
        "messages a second that are read from one client; 0 for any number (%(default)s)",
        seconds,
        "N",
    )
    add_flag(
        limits,
        "burst",
        "20",
        "messages that it may send at once before that (%(default)s)",
        positive,
        "N",
    )
    add_flag(
        limits, "open-timeout", "10", "for TLS and the handshake (%(default)s)", seconds, "SECONDS"
    )
    add_flag(
        limits,
        "ping-interval",
        "20",
        "of silence, then a client is pinged; 0 for never (%(default)s)",
        seconds,
        "SECONDS",
    )
    add_flag(
        limits,
        "ping-timeout",
        "20",
        "of further silence, then it is gone (%(default)s)",
        seconds,
        "SECONDS",
    )
    return parser


def _server_context(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    """The server's side of TLS. Raises OSError, of which ``ssl.SSLError`` is one."""
    if cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not in UTF-8") from None
    return text


def _format(text: str) -> str:
    _text(text)
    try:
        LineFormat(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    return text


# The client.


def client_main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """``scripts/client.py [URL]``: talk at the terminal or in a pipe. Returns the exit code."""
    parser = _client_parser(prog)
    options = parser.parse_args(argv)
    if sys.stdin is None or sys.stdout is None:
        print("standard input and output must be open", file=sys.stderr)
        return 1
    token = read_secret(parser, options.token, options.token_file)
    try:
        context = ssl.create_default_context(cafile=options.ca_file) if options.ca_file else None
    except OSError as exc:
        print(f"cannot use the certificates in {options.ca_file}: {_reason(exc)}", file=sys.stderr)
        return 1
    client = Client(options.url, token=token, ssl_context=context)
    failure = _failure_to_connect(client)
    if failure is not None:
        print(failure, file=sys.stderr)
        return 1
    try:
        # The server can do without what this imports, and start twice as fast.
        from .terminal import run_client  # noqa: PLC0415

        return run_client(client, options.prefix)
    except KeyboardInterrupt:
        # Between two steps, where nobody else waits for it: leave all the same.
        return 0
    finally:
        client.close(0)


def _failure_to_connect(client: Client) -> str | None:
    """Connect; what to tell the user where that failed."""
    # Without its query, in which there may be a token.
    shown = escape(client.url.partition("?")[0])
    try:
        client.connect()
    except TimeoutError as exc:
        return f"cannot connect to {shown}: {exc}"
    except CannotConnect as exc:
        return str(exc)
    except HandshakeFailed as exc:
        return f"cannot join the chat at {shown}: {escape(str(exc))}"
    except KeyboardInterrupt:
        return f"gave up connecting to {shown}"
    return None


def _client_parser(prog: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Join a chat. Ctrl+C, Ctrl+D or /quit leaves. In a pipe, each line of the"
        " input is sent, and each message is printed as a line.",
        epilog="Each setting can come from an environment variable: --prefix from"
        " SYNCCHAT_PREFIX, and so on; the URL from SYNCCHAT_URL, or only its port from"
        " SYNCCHAT_PORT.",
    )
    default_port = environment("PORT", str(DEFAULT_PORT))
    parser.add_argument(
        "url",
        metavar="URL",
        nargs="?",
        type=_url,
        default=environment("URL", f"ws://127.0.0.1:{default_port}/"),
        help="where the chat is; the path is the room (%(default)s)",
    )
    add_flag(parser, "prefix", "", "what to print before each message", metavar="TEXT")
    add_flag(parser, "token", None, "the secret that the server asks for")
    add_flag(parser, "token-file", None, "the file that it stands in", metavar="FILE")
    add_flag(
        parser,
        "ca-file",
        None,
        "certificates to trust instead of the system's, for wss://",
        metavar="FILE",
    )
    parser.add_argument("--version", action="version", version=f"syncchat {__version__}")
    return parser


def _url(text: str) -> str:
    try:
        parse_url(text)
    except InvalidURL as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    return text


def _reason(exc: OSError) -> str:
    """The system's words, or OpenSSL's, without their numbers."""
    if isinstance(exc, ssl.SSLError):
        return tls_reason(exc)
    return (exc.strerror or str(exc)).lower()
