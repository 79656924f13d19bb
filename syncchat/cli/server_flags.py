"""The flags of the server command, with what converts and checks their values."""

from __future__ import annotations

import re

from ..chat.dialects import LineFormat
from ..chat.room_names import check_room
from ..engine import Retention, check_engine
from ..net import Limits, parse_network, parse_origin, parse_public_url
from ..server import DEFAULT_FORMAT, DEFAULT_GREETING, DEFAULT_PORT, DEFAULT_ROOMS
from .settings import Setting, non_negative_number, one_of, port, positive_int, secret_in, switch

__all__ = ["SETTINGS"]

_KEEP = re.compile(r"([0-9]{1,9})([smhdw]?)")
#: The parent waits with select(), which takes 1,024 descriptors.
_MAX_WORKERS = 100
_SIZE = re.compile(r"([1-9][0-9]{0,8})([KMG]?)")
_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30}
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


def _size(text: str) -> int:
    """A number of bytes: ``1000``, or ``500K``, ``200M``, ``2G``."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(
            f"must be a number of bytes, such as 1000000, 500K, 200M or 2G, not {text!r}"
        )
    return int(found[1]) << _SHIFTS[found[2]]


def _workers(text: str) -> int:
    if positive_int(text) <= _MAX_WORKERS:
        return int(text)
    raise ValueError(f"must be at most {_MAX_WORKERS}, not {text!r}")


_DEFAULTS = Limits()

#: The settings, by their heading in ``--help``.
SETTINGS: dict[str, list[Setting]] = {
    "": [
        Setting("config", "file with settings in TOML, under the flags' names", metavar="FILE"),
        switch("check", "check the settings, and end", default=False, negatable=False),
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
        switch(
            "take-over",
            "take the port over from a server of this user that runs there, so that a restart"
            " refuses nobody",
            default=False,
            negatable=False,
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
    ],
    "log": [
        switch("quiet", "write no log", default=False, negatable=False),
        Setting(
            "log-file",
            "file for the log, instead of standard output; SIGUSR1 opens it anew",
            metavar="FILE",
        ),
        Setting(
            "log-level",
            "lowest level that is logged: debug, info, warning or error (%(default)s)",
            "info",
            one_of("debug", "info", "warning", "error"),
            "LEVEL",
        ),
        switch(
            "log-json", "write the log as JSON, one object per line", default=False, negatable=False
        ),
        switch(
            "log-messages", "log what people say (the default at a terminal only)", default=None
        ),
        switch(
            "mask-addresses",
            "log the networks of clients (/24, /48) instead of their addresses",
            default=False,
            negatable=False,
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
            "connect-rate",
            "new connections per second from one address; 0 for no limit (20; none if the server"
            " listens on loopback only)",
            convert=non_negative_number,
            metavar="N",
        ),
        Setting(
            "connect-burst",
            "new connections from one address at once before --connect-rate applies (%(default)s)",
            str(_DEFAULTS.connect_burst),
            positive_int,
            "N",
        ),
        Setting(
            "max-memory",
            "maximum size of what waits for slow clients, all together, such as 200M; the slowest"
            " are disconnected (no limit)",
            convert=_size,
            metavar="BYTES",
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
