"""The server command: its settings, signals and process tuning."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import ssl
import sys
from collections.abc import Sequence
from functools import partial
from types import FrameType
from typing import Unpack

from ..chat.dialects import LineFormat
from ..chat.room_names import check_room
from ..engine import Retention, check_engine, check_people
from ..errors import CannotListen, EngineUnusable
from ..eventlog import LogWriter
from ..net import Limits, listen_for_each, parse_network, parse_origin, parse_public_url
from ..server import (
    DEFAULT_FORMAT,
    DEFAULT_GREETING,
    DEFAULT_PORT,
    DEFAULT_ROOMS,
    ChatServer,
)
from ..server_settings import ChatServerSettings
from .do import console_of
from .input import StdinSpeaker
from .settings import (
    Setting,
    Settings,
    certificate_complaint,
    lacks_only_the_key,
    non_negative_number,
    one_of,
    port,
    positive_int,
    secret_in,
    server_context,
    switch,
)
from .tuning import tune
from .workers import run_workers

__all__ = ["SETTINGS", "server_main", "server_parser"]

_KEEP = re.compile(r"([0-9]{1,9})([smhdw]?)")
#: The parent waits with select(), which takes 1,024 descriptors.
_MAX_WORKERS = 100
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def _host(text: str) -> str:
    # An empty one would mean all interfaces.
    if text:
        return text
    raise ValueError("must not be empty; 0.0.0.0 means all interfaces")


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"must be UTF-8, not {text!r}") from None
    return text


def _format(text: str) -> str:
    LineFormat(_utf8(text))
    return text


def _engine(text: str) -> str:
    check_engine(text)
    return text


def _keep(text: str) -> Retention:
    """A retention: a number of messages, ``1000``, or a time, ``30d``."""
    found = _KEEP.fullmatch(text)
    if found is None:
        raise ValueError(
            "must be a number of messages, such as 1000, or a time, such as 90s, 12h or 30d,"
            f" not {text!r}"
        )
    number, unit = int(found[1]), found[2]
    return Retention(seconds=number * _UNITS[unit]) if unit else Retention(messages=number)


def _workers(text: str) -> int:
    if positive_int(text) <= _MAX_WORKERS:
        return int(text)
    raise ValueError(f"must be at most {_MAX_WORKERS}, not {text!r}")


_DEFAULTS = Limits()

#: The settings, by their heading in ``--help``.
SETTINGS: dict[str, list[Setting]] = {
    "": [
        Setting(
            "host",
            "address or name to listen on; 0.0.0.0 for all interfaces (%(default)s)",
            "127.0.0.1",
            _host,
            "HOST",
        ),
        Setting(
            "port", "port to listen on; 0 for any free port (%(default)s)", str(DEFAULT_PORT), port
        ),
        Setting(
            "workers",
            "processes that serve the port; more than 1 need a redis engine (%(default)s)",
            "1",
            _workers,
            "N",
        ),
        Setting(
            "greeting",
            "first message to a new client; empty for none (%(default)r)",
            DEFAULT_GREETING,
            _utf8,
            "TEXT",
            may_be_empty=True,
        ),
        switch("echo", "send a message to its sender, too (the default)", default=True),
        Setting(
            "format",
            "how clients show a message; contains {text}, and may contain {sender} (%(default)r)",
            DEFAULT_FORMAT,
            _format,
        ),
        switch(
            "notices",
            "tell a room who joins, leaves, or changes the nick (the default)",
            default=True,
        ),
        Setting(
            "stdin",
            "say the lines of the standard input in this room, as server",
            convert=check_room,
            metavar="ROOM",
        ),
        switch("web", "serve the chat to browsers as a page (the default)", default=True),
        switch(
            "http", "let programs post and follow over plain HTTP, too (the default)", default=True
        ),
        switch("quiet", "print no log", default=False, negatable=False),
        switch(
            "log-json", "print the log as JSON, one object per line", default=False, negatable=False
        ),
    ],
    "storage": [
        Setting(
            "engine",
            "where to store messages: memory: until the server stops, sqlite:PATH,"
            " or redis://HOST:PORT/DB, which several servers can share (%(default)s)",
            "memory:",
            _engine,
        ),
        Setting(
            "keep",
            "how much of each room to keep: a number of messages, such as 1000, or a time,"
            " such as 12h or 30d (memory: 1000; sqlite: all; redis: 10000)",
            convert=_keep,
            metavar="N|TIME",
        ),
        Setting(
            "redis-replicas",
            "replicas of Redis that must have a message before its sender is told that it is"
            " stored (none)",
            convert=positive_int,
            metavar="N",
        ),
    ],
    "access": [
        Setting("token", "secret that clients must send, unless they have a token of their own"),
        Setting("token-file", "file that contains the token", metavar="FILE"),
        Setting(
            "guests",
            "whether people without a token of their own come in: yes, no, or read, which lets"
            " them read only (%(default)s)",
            "yes",
            one_of("yes", "no", "read"),
            "yes|no|read",
        ),
        Setting(
            "people",
            "SQLite file for people and bans with the engine memory:; other engines keep them",
            metavar="FILE",
        ),
        Setting(
            "read-only",
            "room in which only the server speaks, and clients with the speaker token;"
            " separate several by commas, or repeat the flag",
            convert=check_room,
            metavar="ROOM",
            kind="list",
        ),
        Setting(
            "speaker-token-file",
            "file that contains the token of clients that may speak in --read-only rooms",
            convert=secret_in,
            metavar="FILE",
        ),
        Setting(
            "origin",
            "origin of web pages that may connect, besides the server's own host;"
            " separate several by commas, or repeat the flag",
            convert=parse_origin,
            metavar="URL",
            kind="list",
        ),
        Setting(
            "public-url",
            "URL of the chat behind a proxy, such as https://example.org/chat/",
            convert=parse_public_url,
            metavar="URL",
        ),
        Setting(
            "trusted-proxy",
            "address or network of a proxy whose X-Forwarded-For or Forwarded header names the"
            " client's address (none; the loopback addresses with --public-url)",
            convert=lambda text: str(parse_network(text)),
            metavar="ADDRESS",
            kind="list",
        ),
        Setting("tls-cert", "certificate, for wss://", metavar="FILE"),
        Setting("tls-key", "private key, unless it is in the certificate's file", metavar="FILE"),
    ],
    "limits": [
        Setting(
            "max-connections",
            "maximum number of clients (no limit)",
            convert=positive_int,
            metavar="N",
        ),
        Setting(
            "max-connections-per-address",
            "maximum number of clients from one address (no limit)",
            convert=positive_int,
            metavar="N",
        ),
        Setting(
            "max-rooms",
            "maximum number of rooms, including empty rooms with messages (%(default)s)",
            str(DEFAULT_ROOMS),
            positive_int,
            "N",
        ),
        Setting(
            "max-message",
            "maximum size of a message (%(default)s)",
            str(_DEFAULTS.max_message),
            positive_int,
            "BYTES",
        ),
        Setting(
            "max-fragments",
            "maximum number of fragments of a message (%(default)s)",
            str(_DEFAULTS.max_fragments),
            positive_int,
            "N",
        ),
        Setting(
            "rate",
            "messages per second that are read from one client; 0 for no limit (%(default)s)",
            "10",
            non_negative_number,
            "N",
        ),
        Setting(
            "burst",
            "messages that a client may send at once before --rate applies (%(default)s)",
            "20",
            positive_int,
            "N",
        ),
        Setting(
            "robot-rate",
            "messages per second that are read from a robot of people add --robot; 0 for no"
            " limit (%(default)s)",
            "100",
            non_negative_number,
            "N",
        ),
        Setting(
            "open-timeout",
            "time for the TLS and WebSocket handshakes (%(default)s)",
            "10",
            non_negative_number,
            "SECONDS",
        ),
        Setting(
            "ping-interval",
            "silence after which a client is pinged; 0 for never (%(default)s)",
            "20",
            non_negative_number,
            "SECONDS",
        ),
        Setting(
            "ping-timeout",
            "further silence after which a client is disconnected (%(default)s)",
            "20",
            non_negative_number,
            "SECONDS",
        ),
    ],
}


def server_parser(prog: str | None) -> argparse.ArgumentParser:
    """The parser of the command, without its settings."""
    return argparse.ArgumentParser(
        prog=prog,
        description="A chat server. Join it with scripts/client.py or any WebSocket client."
        " Each path of the URL is a room of its own.",
        epilog="Each flag can be set by an environment variable: --max-message by"
        " SYNCCHAT_MAX_MESSAGE, and so on. The commands export FILE and import FILE copy the log"
        " of an engine; backup FILE, check, prune and stats look after it, while a server runs,"
        " too; people add NAME gives a person a token, and people --help tells more."
        " The command do COMMAND has a server that runs here carry out a command of operators:"
        " do kick NAME.",
    )


def server_main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """``scripts/server.py``: run a chat server until Ctrl+C, SIGTERM or SIGHUP.

    Returns the exit code. Call it on the main thread only, since it sets signal handlers.
    """
    parser = server_parser(prog)
    options = Settings(parser, SETTINGS).parse(argv)
    if options.tls_key and not options.tls_cert:
        parser.error("--tls-key requires --tls-cert")
    try:
        ssl_context = server_context(options.tls_cert, options.tls_key)
    except OSError as exc:
        cert, key = options.tls_cert, options.tls_key
        if key is None and lacks_only_the_key(cert):
            parser.error(f"--tls-cert {cert} contains no private key: set --tls-key")
        why = certificate_complaint(cert, key, exc)
        print(f"cannot use the certificate {cert}: {why}", file=sys.stderr)
        return 1
    try:
        check_people(options.engine, options.people)
    except ValueError as exc:
        parser.error(f"argument --people: {exc}")
    if options.workers > 1 and options.stdin is not None:
        parser.error("--stdin needs a server of one process, without --workers")
    if options.workers > 1 and not hasattr(os, "fork"):
        parser.exit(2, f"{parser.prog}: error: --workers needs a system that can fork processes\n")
    if options.workers > 1 and options.engine.partition(":")[0] in ("memory", "sqlite"):
        hint = "--workers needs an engine that processes can share: --engine redis://HOST:PORT/DB"
        parser.exit(2, f"{parser.prog}: error: {hint}\n")
    # Before the log's thread starts, which inherits the scheduling policy.
    tune()
    # If the parent process closed standard output, there is no log.
    output = None if options.quiet or sys.stdout is None else sys.stdout.fileno()
    if options.workers == 1:
        return _run_server(options, ssl_context, output)
    listen = partial(listen_for_each, options.workers, options.host, options.port)
    make = partial(_make_server, options, ssl_context)
    return run_workers(options.workers, listen, make, _stopping_signals(), output)


def _make_server(
    options: argparse.Namespace,
    context: ssl.SSLContext | None,
    **more: Unpack[ChatServerSettings],
) -> ChatServer:
    settings = ChatServerSettings(
        greeting=options.greeting,
        read_only=options.read_only,
        echo=options.echo,
        format=options.format,
        notices=options.notices,
        web=options.web,
        http=options.http,
        engine=options.engine,
        keep=options.keep,
        redis_replicas=options.redis_replicas or 0,
        max_rooms=options.max_rooms,
        log_json=options.log_json,
        ssl_context=context,
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
        guests=options.guests,
        people=options.people,
        robot_rate=options.robot_rate,
        rate=options.rate,
        burst=options.burst,
    )
    settings.update(more)
    return ChatServer(
        options.host,
        options.port,
        token=options.token,
        speaker_token=options.speaker_token_file,
        **settings,
    )


def _run_server(
    options: argparse.Namespace, ssl_context: ssl.SSLContext | None, output: int | None
) -> int:
    """Run a server in this process, with its log on the descriptor ``output``."""
    log_writer = None if output is None else LogWriter(output)
    log = None if log_writer is None else log_writer.print
    server = _make_server(options, ssl_context, log=log)

    def stop(signum: int, _frame: FrameType | None) -> None:
        # A second signal ends the process at once.
        signal.signal(signum, signal.SIG_DFL)
        server.request_stop()

    for signum in _stopping_signals():
        signal.signal(signum, stop)
    try:
        with contextlib.ExitStack() as stack:
            server.start()
            stack.enter_context(console_of(server))
            if options.stdin is not None:
                # Ends after the server, which the input may keep waiting.
                stack.enter_context(StdinSpeaker(server, options.stdin))
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
