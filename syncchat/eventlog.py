"""The server's event log: its events as lines for people or as JSON, and their output.

The log tells the URL at which people reach the server.

The lines have the format of the tokio chat exercise from which this project grew.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import re
import select
import socket
import threading
import time
from collections.abc import Sequence
from typing import ClassVar, Self

import msgspec

from .chat.dialects import duration
from .chat.sanitize import escape
from .net import Address, format_address, is_wildcard, route_to

__all__ = [
    "ClientConnected",
    "ClientDisconnected",
    "Listening",
    "LogEvent",
    "LogWriter",
    "Moderated",
    "Received",
    "Refused",
    "Reloaded",
    "Slow",
    "Stored",
    "Warned",
    "as_json",
    "as_lines",
    "masked",
    "people_url",
]

#: Addresses outside of this network, reserved for documentation (RFC 5737, RFC 3849).
_ELSEWHERE = {4: ("192.0.2.1", 9), 6: ("2001:db8::1", 9)}

#: An IPv4 address, or an IPv6 address in brackets or without, as in a ban.
_ADDRESS = re.compile(
    r"(?<![0-9.])([0-9]{1,3}(?:\.[0-9]{1,3}){3})(?![0-9.])|\[([0-9A-Fa-f:.]+(?:%\w+)?)\]"
    r"|(?<![\w:.])((?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4})(?![\w:.])"
)

_SHORT = re.compile(r"ws://([^/]+:[0-9]+)/")

#: Bytes of log lines that may be queued. Further lines are dropped and counted.
_MAX_QUEUED = 1024 * 1024


class LogEvent(msgspec.Struct, frozen=True, tag_field="event", tag=str.lower):
    """An event to log. ``str(event)`` is its text for people, safe to print on a terminal."""

    #: As in :mod:`logging`.
    level: ClassVar[int] = logging.INFO


class Listening(LogEvent, frozen=True):
    """The server accepts clients from now on.

    ``url`` is the URL of the page, or without a page the WebSocket URL for clients.
    """

    port: int
    url: str

    def __str__(self) -> str:
        # The first line has the format of the exercise.
        is_page = self.url.startswith("http")
        begin = f"Open {self.url} in a browser, or join" if is_page else "Join"
        return f"listening on port {self.port}\n{begin} with: {_join_command(self.url)}"


class Warned(LogEvent, frozen=True, tag="warning"):
    """A warning to the operator about the server's settings."""

    level = logging.WARNING

    text: str

    @classmethod
    def of_open_port(cls, port: int, *, guarded: bool, secure: bool) -> Self:
        """The warning that a server on more than loopback lacks a token, TLS, or both."""
        everyone = f"everyone who can reach port {port} of this machine can read and write here"
        if guarded:
            text = "what people say and their tokens are not encrypted. Set --tls-cert"
        elif secure:
            text = f"{everyone}. Set --token-file or --guests no"
        else:
            text = f"{everyone}, and nothing is encrypted. Set --token-file and --tls-cert"
        return cls(f"{text}, or --host 127.0.0.1.")

    def __str__(self) -> str:
        return f"Warning: {self.text}"


class Reloaded(LogEvent, frozen=True):
    """The settings were read again. ``text`` tells what has changed, and what needs a restart."""

    text: str

    def __str__(self) -> str:
        return escape(f"Reloaded: {self.text}")


class Stored(LogEvent, frozen=True, tag="storage"):
    """The engine, and what it promises."""

    text: str

    def __str__(self) -> str:
        return f"Storage: {self.text}"


class ClientConnected(LogEvent, frozen=True, tag="connected"):
    """A client has connected, and its opening handshake is done."""

    client: str

    def __str__(self) -> str:
        return f"New connection from {self.client}"


class Received(LogEvent, frozen=True):
    """A client has sent a message to its room."""

    client: str
    nick: str
    room: str
    #: None: the log is to contain no texts.
    text: str | None

    def __str__(self) -> str:
        if self.text is None:
            return f"Received a message from {self.client}"
        return f"Received from {self.client}: {escape(self.text)}"


class ClientDisconnected(LogEvent, frozen=True, tag="disconnected"):
    """The connection of a client has ended, for any reason."""

    client: str

    def __str__(self) -> str:
        return f"Client {self.client} disconnected"


class Refused(LogEvent, frozen=True):
    """The server refused to open a WebSocket for a client."""

    client: str
    reason: str

    def __str__(self) -> str:
        return f"Refused {self.client}: {escape(self.reason)}"


class Moderated(LogEvent, frozen=True):
    """An operator has done something. ``client`` is its address; empty for the server's console.

    ``action`` is the type of the request, ``target`` what or whom it is about.
    """

    by: str
    client: str
    action: str
    target: str
    room: str
    reason: str = ""
    seconds: float | None = None

    def __str__(self) -> str:
        who = f"{self.by} ({self.client})" if self.client else self.by
        lasts = "" if self.seconds is None else f" for {duration(self.seconds)}"
        reason = f": {self.reason}" if self.reason else ""
        return escape(f"{who} in {self.room}: {self.action} {self.target}{lasts}{reason}")


class Slow(LogEvent, frozen=True):
    """A slow consumer is closed: the client does not read what it is sent."""

    level = logging.WARNING

    client: str
    reason: str

    def __str__(self) -> str:
        return f"Client {self.client} is {escape(self.reason)}"


def as_lines(event: LogEvent) -> list[str]:
    """The event as lines for people."""
    return str(event).split("\n")


def as_json(event: LogEvent) -> list[str]:
    """The event as one line of JSON, with its ``time`` in seconds since 1970.

    Only printable ASCII, so that the line is safe to print on a terminal.
    """
    members = msgspec.to_builtins(event)
    return [json.dumps({"time": time.time(), **members}).replace("\x7f", "\\u007f")]


def masked(text: str) -> str:
    """``text`` with the network instead of each address: /24 of IPv4, /48 of IPv6."""
    return _ADDRESS.sub(_network_of, text)


def _network_of(found: re.Match[str]) -> str:
    text = found[1] or found[2] or found[3]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return found[0]
    network = ipaddress.ip_network((address, 24 if address.version == 4 else 48), strict=False)
    shown = str(network.network_address)
    return f"[{shown}]" if found[2] else shown


def people_url(
    host: str | None,
    addresses: Sequence[Address],
    *,
    secure: bool,
    web: bool,
    public_url: str | None,
) -> str:
    """The URL of the chat's web page; without ``web``, the URL for clients.

    ``host`` is the configured host, ``addresses`` are those at which the server
    listens; ``secure``: the server speaks TLS. A wildcard host is replaced by an
    address or name at which other machines can reach this one. ``public_url`` is a
    result of :func:`syncchat.net.parse_public_url`.
    """
    url = public_url
    if url is None:
        own, port = addresses[0]
        name = _own_name(own, secure=secure) if is_wildcard(own) else (host or own).strip("[]")
        url = f"{'https' if secure else 'http'}://{format_address((name, port))}/"
    return url if web else _for_clients(url)


def _join_command(url: str) -> str:
    """The command that joins the chat at ``url``, a result of :func:`people_url`."""
    url = _for_clients(url)
    short = _SHORT.fullmatch(url)
    return f"syncchat {url if short is None else short[1]}"


def _for_clients(url: str) -> str:
    """``url`` with ``ws:`` instead of ``http:``, or ``wss:`` instead of ``https:``."""
    return re.sub("^http", "ws", url)


def _own_name(wildcard: str, *, secure: bool) -> str:
    """An address of this machine; its host name if ``secure``, or without a route."""
    # Most certificates are for host names, not for addresses.
    if not secure:
        address = route_to(_ELSEWHERE[ipaddress.ip_address(wildcard).version])
        if address is not None:
            return address
    return socket.gethostname()


class LogWriter:
    """Writes log lines to a file descriptor on a thread of its own.

    A terminal that is stopped with Ctrl+S, or a pipe whose reader sleeps, blocks that
    thread only. Any thread may call ``print``. The owner calls ``close`` once.
    """

    def __init__(self, descriptor: int) -> None:
        """``descriptor`` stays open as long as the process runs: its owner is the caller."""
        self._descriptor = descriptor
        #: Guards the fields below.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._queue = bytearray()
        #: Lines that were dropped since the last line in the queue.
        self._dropped = 0
        #: Nothing more is queued: ``close`` was called, or the descriptor cannot be written to.
        self._closed = False
        # A daemon: a stopped terminal can block it for ever.
        self._thread = threading.Thread(target=self._run, name="syncchat-log", daemon=True)
        self._thread.start()

    def print(self, line: str) -> None:
        """Queue ``line`` and a newline; drop them if the queue is full. Never blocks."""
        data = f"{line}\n".encode("utf-8", "backslashreplace")
        with self._lock:
            if self._closed:
                return
            was_empty = not self._queue
            if len(self._queue) + len(data) > _MAX_QUEUED:
                self._dropped += 1
            else:
                self._count_dropped_locked()
                self._queue += data
            # Also for a dropped line: the thread may wait, and writes the count at once.
            if was_empty:
                self._changed.notify()

    def close(self, timeout: float = 1.0) -> None:
        """Wait up to ``timeout`` seconds until all queued lines are written, and end the thread.

        If the reader takes no lines, the thread stays blocked in its write, as nothing can
        interrupt it, and ends with the process.
        """
        with self._lock:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while data := self._take():
                self._write(data)
        except OSError:
            # The terminal is closed, the pipe has no reader, or the disk is full. The
            # server continues without its log.
            with self._lock:
                self._closed = True
                self._queue.clear()

    def _take(self) -> bytearray:
        """Wait for lines, and return all that are queued; empty: the log is closed."""
        with self._lock:
            self._changed.wait_for(lambda: self._queue or self._dropped or self._closed)
            self._count_dropped_locked()
            data, self._queue = self._queue, bytearray()
            return data

    def _count_dropped_locked(self) -> None:
        assert self._lock.locked()
        if self._dropped:
            noun = b"line" if self._dropped == 1 else b"lines"
            self._queue += b"(%d %s dropped)\n" % (self._dropped, noun)
            self._dropped = 0

    def _write(self, data: bytearray) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                # Another process that shares the descriptor has made it non-blocking.
                select.select([], [self._descriptor], [])
