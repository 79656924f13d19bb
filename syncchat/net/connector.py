"""The client's way in: from a URL to an open WebSocket."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urlsplit

from ..errors import CannotConnect, InvalidURL
from .address import format_address
from .deadline import Deadline
from .flusher import Flusher
from .handshake import request_upgrade
from .stream import Stream
from .websocket import WebSocket

__all__ = ["Target", "connect", "parse_url"]

#: The port of ``ws:`` (RFC 6455, section 3).
_DEFAULT_PORT = 80

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class Target:
    """What a WebSocket URL names."""

    host: str
    port: int
    #: Path and query, percent-encoded.
    resource: str

    @property
    def host_header(self) -> str:
        """The ``Host`` header: without the port where it is the scheme's own."""
        if self.port != _DEFAULT_PORT:
            return format_address((self.host, self.port))
        return f"[{self.host}]" if ":" in self.host else self.host


def parse_url(url: str) -> Target:
    """What ``url`` names. Raises :class:`InvalidURL`, whose text says what is wrong."""
    if _FORBIDDEN.search(url):
        raise InvalidURL(f"{url!r} is no URL: it holds a blank or a control character")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise InvalidURL(f"{url!r} is no URL: {exc}") from exc
    _check_parts(url, parts)
    if not host:
        raise InvalidURL(f"{url!r} names no host")
    if port == 0:
        raise InvalidURL(f"{url!r} names port 0, at which nobody listens")
    try:
        # As the handshake will write it (RFC 6455, section 4.1).
        host.encode("idna")
    except UnicodeError as exc:
        raise InvalidURL(f"{url!r} names no host that could exist") from exc
    resource = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        resource += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return Target(host, port or _DEFAULT_PORT, resource)


def _check_parts(url: str, parts: SplitResult) -> None:
    if parts.scheme != "ws":
        raise InvalidURL(f"{url!r} does not begin with ws://")
    if parts.username is not None or parts.password is not None:
        raise InvalidURL(f"{url!r} holds a user name, which a WebSocket URL cannot")
    if parts.fragment:
        raise InvalidURL(f"{url!r} holds a fragment (#), which a WebSocket URL cannot")


def connect(
    url: str,
    *,
    subprotocols: Sequence[str] = (),
    headers: Sequence[tuple[str, str]] = (),
    max_message: int = 64 * 1024,
    max_backlog: int = 1024 * 1024,
    stall_timeout: float | None = None,
    open_timeout: float = 10.0,
    close_timeout: float = 10.0,
) -> WebSocket:
    """Connect to the WebSocket server at ``url``, ``ws://host[:port][/path][?query]``.

    ``open_timeout`` is for all of it, from the name's look-up to the end of
    the handshake; the other settings are as in :func:`serve`. ``headers`` are
    sent besides those of the handshake. Close what is returned, by ``close()``
    or ``with``, from any thread.

    Raises :class:`InvalidURL`, :class:`CannotConnect`, :class:`TimeoutError`,
    :class:`HandshakeRefused` and :class:`HandshakeFailed`.
    """
    target = parse_url(url)
    deadline = Deadline.after(open_timeout)
    flusher = Flusher(f"syncchat-flusher {format_address((target.host, target.port))}")
    with contextlib.ExitStack() as undo:
        sock = _connect_tcp(target, deadline)
        undo.callback(sock.close)
        undo.callback(flusher.stop)
        stream = Stream(sock, flusher, max_backlog=max_backlog, stall_timeout=stall_timeout)
        opening = request_upgrade(
            stream,
            deadline,
            host=target.host_header,
            target=target.resource,
            headers=headers,
            subprotocols=subprotocols,
        )
        websocket = WebSocket(
            stream,
            opening,
            flusher,
            is_client=True,
            max_message=max_message,
            close_timeout=close_timeout,
        )
        undo.pop_all()
    return websocket


def _connect_tcp(target: Target, deadline: Deadline) -> socket.socket:
    """A socket connected to the first of the host's addresses that answers."""
    place = format_address((target.host, target.port))
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as exc:
        raise CannotConnect(f"cannot connect to {place}: the name cannot be looked up") from exc
    failure = "no address"
    for family, kind, protocol, _, sockaddr in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(deadline.remaining() or 1e-3)
            sock.connect(sockaddr)
        except TimeoutError:
            sock.close()
            failure = "no answer in time"
        except OSError as exc:
            sock.close()
            failure = (exc.strerror or str(exc)).lower()
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise CannotConnect(f"cannot connect to {place}: {failure}")
