"""Opens a WebSocket from a URL, on the client side."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import selectors
import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack
from urllib.parse import SplitResult, quote, urlsplit

from ..errors import CannotConnect, InvalidURL
from .address import Address, address_of, format_address
from .handshake import request_upgrade
from .heartbeat import start_heartbeat
from .io_thread import Deadline, IOThread, StoppableDeadline, wait_ready
from .limits import ConnectionSettings, Limits
from .stream import Stream
from .tls import NotTLS, tls_reason
from .websocket import WebSocket

__all__ = ["Target", "connect", "parse_url"]

#: The ports of the schemes (RFC 6455, section 3).
_PORTS = {"ws": 80, "wss": 443}

_TRY_WS = "try ws:// instead of wss://"

#: The errors of connect() that mean that the connection is in progress.
_UNDER_WAY = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK})

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a WebSocket URL."""

    host: str
    port: int
    #: Path and query, percent-encoded.
    resource: str
    #: Whether the scheme is ``wss:``.
    secure: bool

    @property
    def host_header(self) -> str:
        """The ``Host`` header, without the scheme's default port."""
        if self.port != _PORTS["wss" if self.secure else "ws"]:
            return format_address((self.host, self.port))
        return f"[{self.host}]" if ":" in self.host else self.host


def parse_url(url: str) -> Target:
    """Parse ``url``. Raises :class:`InvalidURL`, whose text says what is wrong."""
    if _FORBIDDEN.search(url):
        raise InvalidURL(f"{url!r} is not a URL: it contains a blank or a control character")
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as exc:
        raise InvalidURL(f"{url!r} is not a URL: {exc}") from exc
    try:
        port = parts.port
    except ValueError as exc:
        raise InvalidURL(
            f"{url!r} has an invalid port: it must be a number from 1 to 65535"
        ) from exc
    _check_parts(url, parts)
    if not host:
        raise InvalidURL(f"{url!r} has no host")
    if port == 0:
        raise InvalidURL(f"{url!r} has an invalid port: it must be a number from 1 to 65535")
    try:
        # The handshake sends the host in this encoding (RFC 6455, section 4.1).
        host.encode("idna")
    except UnicodeError as exc:
        raise InvalidURL(f"{url!r} has an invalid host") from exc
    resource = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        resource += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return Target(host, port or _PORTS[parts.scheme], resource, parts.scheme == "wss")


def _check_parts(url: str, parts: SplitResult) -> None:
    if parts.scheme not in _PORTS:
        raise InvalidURL(f"{url!r} must begin with ws:// or wss://")
    if parts.username is not None or parts.password is not None:
        raise InvalidURL(f"{url!r} must not contain a user name")
    if parts.fragment:
        raise InvalidURL(f"{url!r} must not contain a fragment (#)")


def connect(
    url: str,
    *,
    ssl_context: ssl.SSLContext | None = None,
    subprotocols: Sequence[str] = (),
    headers: Sequence[tuple[str, str]] = (),
    stop: threading.Event | None = None,
    **limits: Unpack[ConnectionSettings],
) -> WebSocket:
    """Connect to the WebSocket server at ``url``, ``ws://host[:port][/path][?query]`` or ``wss:``.

    - ``ssl_context``: for ``wss:``; by default the system's certificates are trusted.
    - ``subprotocols``: the subprotocols from which the server may choose.
    - ``headers``: headers in addition to those of the handshake.
    - ``stop``: when another thread sets it, the attempt ends within a tenth of a
      second with :class:`TimeoutError` or :class:`CannotConnect`. It does not end
      the look-up of a name.
    - ``limits``: ``max_message`` and the others of :class:`Limits`. ``open_timeout``
      is for the whole attempt, from the name's look-up to the end of the handshake.
      ``stall_timeout`` is None by default.

    Close the returned WebSocket by ``close()`` or ``with``, from any thread.

    Raises :class:`InvalidURL`, :class:`CannotConnect`, :class:`TimeoutError`,
    :class:`HandshakeRefused` and :class:`HandshakeFailed`.
    """
    target = parse_url(url)
    held_to = Limits(**({"stall_timeout": None} | limits))
    deadline = Deadline.after(held_to.open_timeout)
    if stop is not None:
        deadline = StoppableDeadline(deadline.at, stop)
    place = format_address((target.host, target.port))
    io_thread = IOThread(f"syncchat-io {place}")
    with contextlib.ExitStack() as undo:
        sock, address = _connect_tcp(target, deadline)
        undo.callback(sock.close)
        undo.callback(io_thread.stop)
        stream = Stream(
            sock,
            io_thread,
            address=address,
            max_backlog=held_to.max_backlog,
            stall_timeout=held_to.stall_timeout,
        )
        if target.secure:
            context = ssl_context or ssl.create_default_context()
            try:
                stream.start_tls(context, deadline, server_side=False, server_hostname=target.host)
            except TimeoutError:
                raise TimeoutError(
                    f"the server did not answer the TLS handshake in time{_no_tls_hint(stream)}"
                ) from None
            except NotTLS as exc:
                raise CannotConnect(f"cannot connect to {place}: {exc}: {_TRY_WS}") from exc
            except (ssl.SSLError, ConnectionError) as exc:
                why = f"{tls_reason(exc)}{_no_tls_hint(stream)}"
                raise CannotConnect(f"cannot connect to {place}: {why}") from exc
        handshake = request_upgrade(
            stream,
            deadline,
            held_to,
            host=target.host_header,
            target=target.resource,
            headers=headers,
            subprotocols=subprotocols,
            secure=target.secure,
        )
        websocket = WebSocket(stream, handshake, io_thread, is_client=True, limits=held_to)
        start_heartbeat(io_thread, lambda: [websocket], held_to.ping_interval, held_to.ping_timeout)
        undo.pop_all()
    return websocket


def _no_tls_hint(stream: Stream) -> str:
    """A hint for the error message, if the server sent nothing in the TLS handshake."""
    return "" if stream.bytes_in else f"; if the server does not speak TLS, {_TRY_WS}"


def _connect_tcp(target: Target, deadline: Deadline) -> tuple[socket.socket, Address]:
    """Connect to the host's first address that answers. Returns the socket and the address."""
    place = format_address((target.host, target.port))
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as exc:
        raise CannotConnect(f"cannot connect to {place}: the host name cannot be resolved") from exc
    failure = "the host name has no address"
    for family, kind, protocol, _, sockaddr in found:
        sock = socket.socket(family, kind, protocol)
        try:
            _connect_socket(sock, sockaddr, deadline)
        except TimeoutError:
            sock.close()
            failure = "the server did not answer in time"
        except OSError as exc:
            sock.close()
            failure = (exc.strerror or str(exc)).lower()
        except BaseException:
            sock.close()
            raise
        else:
            return sock, address_of(sockaddr)
    raise CannotConnect(f"cannot connect to {place}: {failure}")


def _connect_socket(sock: socket.socket, sockaddr: tuple[object, ...], deadline: Deadline) -> None:
    """Connect. Raises :class:`OSError`, and :class:`TimeoutError` at the deadline."""
    sock.setblocking(False)
    error = sock.connect_ex(sockaddr)
    if error in _UNDER_WAY:
        if not wait_ready(sock, selectors.EVENT_WRITE, deadline):
            raise TimeoutError
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
