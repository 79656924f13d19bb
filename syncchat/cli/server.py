"""The server command."""

from __future__ import annotations

import argparse
import re
import signal
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from .._version import __version__
from ..chat.lines import LineFormat
from ..errors import CannotListen, EngineUnusable
from ..eventlog import LogWriter
from ..net import Limits
from ..server import DEFAULT_FORMAT, DEFAULT_GREETING, DEFAULT_PORT, DEFAULT_ROOMS, ChatServer
from .flags import (
    add_flag,
    add_list,
    add_switch,
    engine,
    host,
    keep,
    network,
    origin,
    port,
    positive,
    public_url,
    read_secret,
    reason,
    seconds,
)
from .process_tuning import tune

__all__ = ["server_main"]


def server_main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """``scripts/server.py``: run a chat server until Ctrl+C, SIGTERM or SIGHUP.

    Returns the exit code. Call it on the main thread only, since it sets signal handlers.
    """
    parser = _server_parser(prog)
    options = parser.parse_args(argv)
    token = read_secret(parser, options.token, options.token_file)
    if options.tls_key and not options.tls_cert:
        parser.error("--tls-key needs --tls-cert")
    try:
        ssl_context = _server_context(options.tls_cert, options.tls_key)
    except OSError as exc:
        cert, key = options.tls_cert, options.tls_key
        if key is None and _lacks_only_the_key(cert):
            parser.error(f"--tls-cert {cert} holds no private key: name its file by --tls-key")
        why = _certificate_complaint(cert, key, exc)
        print(f"cannot use the certificate {cert}: {why}", file=sys.stderr)
        return 1
    # Before the log's thread starts, which inherits the scheduling policy.
    tune()
    # If the parent process closed standard output, there is no log.
    log_writer = None if options.quiet or sys.stdout is None else LogWriter(sys.stdout.fileno())
    server = ChatServer(
        options.host,
        options.port,
        greeting=options.greeting,
        echo=options.echo,
        format=options.format,
        notices=options.notices,
        web=options.web,
        engine=options.engine,
        keep=options.keep,
        max_rooms=options.max_rooms,
        log=None if log_writer is None else log_writer.print,
        log_json=options.log_json,
        token=token,
        ssl_context=ssl_context,
        origins=options.origin,
        public_url=options.public_url,
        trusted_proxies=options.trusted_proxy or None,
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
        # A second signal ends the process at once.
        signal.signal(signum, signal.SIG_DFL)
        server.request_stop()

    for signum in _stopping_signals():
        signal.signal(signum, stop)
    try:
        server.serve_forever()
    except (CannotListen, EngineUnusable) as exc:
        print(exc, file=sys.stderr)
        return 1
    finally:
        if log_writer is not None:
            log_writer.close()
    return 0


def _stopping_signals() -> list[signal.Signals]:
    """The signals that stop the server in an orderly way."""
    signals = [signal.SIGINT, signal.SIGTERM]
    # Windows has no SIGHUP, and nohup makes the process ignore it.
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        signals.append(hangup)
    return signals


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
    add_switch(
        parser,
        "notices",
        "tell a room who comes, goes, or is called otherwise (the default)",
        argparse.BooleanOptionalAction,
        default=True,
    )
    add_switch(
        parser,
        "web",
        "show the chat to browsers as a page (the default)",
        argparse.BooleanOptionalAction,
        default=True,
    )
    add_switch(parser, "quiet", "print no log", "store_true", default=False)
    add_switch(
        parser, "log-json", "print the log as JSON, for machines", "store_true", default=False
    )
    parser.add_argument("--version", action="version", version=f"syncchat {__version__}")

    history = parser.add_argument_group("what is kept")
    add_flag(
        history,
        "engine",
        "memory:",
        "where messages are kept: memory: until the server ends, or sqlite:PATH (%(default)s)",
        engine,
    )
    add_flag(
        history,
        "keep",
        None,
        "messages of each room, like 1000, or for how long, like 12h or 30d"
        " (memory: 1000; sqlite: all)",
        keep,
        "N|TIME",
    )

    door = parser.add_argument_group("who may come in")
    add_flag(door, "token", None, "a secret that clients must know")
    add_flag(door, "token-file", None, "the file that it stands in", metavar="FILE")
    add_list(
        parser,
        door,
        "origin",
        "a site whose pages browsers may join from, besides the server's own host;"
        " several are separated by commas, or each has a flag of its own",
        origin,
        "URL",
    )
    add_flag(
        door,
        "public-url",
        None,
        "where people find the chat behind a proxy, like https://example.org/chat/",
        public_url,
        "URL",
    )
    add_list(
        parser,
        door,
        "trusted-proxy",
        "an address or a network whose X-Forwarded-For or Forwarded tells the client's address"
        " (none; this machine's own with --public-url)",
        network,
        "ADDRESS",
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
        "max-rooms",
        str(DEFAULT_ROOMS),
        "at a time, those included for which only messages are kept (%(default)s)",
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
    """The TLS context of the server; None: no TLS. Raises OSError (``ssl.SSLError`` is one)."""
    if cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context


def _lacks_only_the_key(cert: str) -> bool:
    """Whether the file contains a certificate but no private key."""
    try:
        return _holds(cert, "CERTIFICATE") and not _holds(cert, "PRIVATE KEY")
    except OSError:
        return False


def _certificate_complaint(cert: str, key: str | None, failure: OSError) -> str:
    """Why the certificate and its key cannot be used; OpenSSL's own errors rarely say it."""
    if isinstance(failure, ssl.SSLError) and failure.reason == "KEY_VALUES_MISMATCH":
        return f"the key in {key or cert} belongs to another certificate"
    try:
        if not _holds(cert, "CERTIFICATE"):
            return "it holds no certificate in PEM"
    except OSError as exc:
        return reason(exc)
    try:
        if not _holds(key or cert, "PRIVATE KEY"):
            return f"{key or cert} holds no private key in PEM"
    except OSError as exc:
        return f"{key}: {reason(exc)}"
    return "OpenSSL cannot read what it or its key holds"


def _holds(file: str, what: str) -> bool:
    """Whether a file has a PEM section whose label ends in ``what`` (RFC 7468). Raises OSError."""
    return (
        re.search(rf"-----BEGIN [A-Z0-9 ]*{what}-----".encode(), Path(file).read_bytes())
        is not None
    )


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
