"""The listening sockets of a server, and its accept loop."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import AddressInUse, CannotListen
from .address import Address, address_of, format_address

__all__ = ["Listener", "OnClient", "listen", "listen_for_each", "share_sockets"]

#: Called with the socket and the address of each accepted client.
OnClient = Callable[[socket.socket, Address], None]

logger = logging.getLogger("syncchat.net")

#: Seconds without accepting after the system ran out of a resource.
_BACK_OFF = 0.1

#: Connections that the kernel may queue until the server accepts them.
_ACCEPT_QUEUE = 4096

_MAX_PORT = 65535

#: How many ports are tried for port 0. A new one is needed if the port that the first
#: address got is in use at the second address.
_DRAWS = 16

#: Errors for an address that the resolver returns but that this machine does not have.
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

#: An address of the socket module: two items for IPv4, four for IPv6.
_SockAddr = tuple[Any, ...]


class Listener:
    """Listening sockets, and the loop that accepts clients from them.

    The sockets listen when the object is created: ``given`` ones, which stay the caller's, or
    those of :func:`listen`. The constructor raises as that function does.
    """

    def __init__(
        self, host: str | None, port: int, given: Sequence[socket.socket] | None = None
    ) -> None:
        # Create everything here, so that the caller gets an error for lack of descriptors.
        with contextlib.ExitStack() as undo:
            own = listen(host, port) if given is None else [sock.dup() for sock in given]
            self.sockets = [undo.enter_context(sock) for sock in own]
            for sock in self.sockets:
                sock.setblocking(False)
            self._receiver, self._waker = map(undo.enter_context, socket.socketpair())
            self._receiver.setblocking(False)
            self._waker.setblocking(False)
            self._selector = undo.enter_context(selectors.DefaultSelector())
            for sock in [*self.sockets, self._receiver]:
                self._selector.register(sock, selectors.EVENT_READ)
            #: Closes all of the above.
            self._resources = undo.pop_all()
        #: Host and port of each socket, in the order of binding.
        self.addresses: list[Address] = [address_of(sock.getsockname()) for sock in self.sockets]
        #: Written by interrupt() without a lock, see there.
        self._interrupted = False
        #: Set when the loop has ended, or never runs: no client will be accepted.
        self.over = threading.Event()

    def run(self, on_client: OnClient) -> None:
        """Accept clients on the calling thread, until :meth:`interrupt`.

        ``on_client`` is called with each connected socket and its peer's address. It
        owns the socket unless it raises: :class:`OSError` for a client that is
        already gone, :class:`RuntimeError` if there are no threads left.
        """
        try:
            while not self._interrupted:
                ready = {key.fileobj for key, _ in self._selector.select()}
                for sock in self.sockets:
                    if sock in ready and not self._accept(sock, on_client):
                        self._back_off()
        finally:
            self.over.set()

    def interrupt(self) -> None:
        """Make :meth:`run` return soon. From any thread, and from signal handlers.

        Takes no lock: a signal handler interrupts the main thread, which may hold
        the lock.
        """
        self._interrupted = True
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def close(self) -> None:
        """Close the sockets. Call it only after :meth:`run`, or instead of it."""
        self._resources.close()
        self.over.set()

    def _accept(self, listening: socket.socket, on_client: OnClient) -> bool:
        """Accept all waiting clients. False: the system has run out of a resource."""
        while not self._interrupted:
            try:
                sock, sockaddr = listening.accept()
            except BlockingIOError:
                return True
            except ConnectionAbortedError:
                # The client left before it was accepted.
                continue
            except OSError as exc:
                # Mostly a lack of descriptors or memory. The loop continues anyway.
                logger.warning("cannot accept: %s", exc.strerror)
                return False
            address = address_of(sockaddr)
            try:
                on_client(sock, address)
            except OSError:
                sock.close()
            except (RuntimeError, MemoryError) as exc:
                sock.close()
                logger.warning("cannot serve %s: %s", format_address(address), exc)
                return False
        return True

    def _back_off(self) -> None:
        """Pause so that the system can recover; an interruption ends the pause."""
        # Use the existing selector: there may be no descriptor left for another one.
        for sock in self.sockets:
            self._selector.unregister(sock)
        self._selector.select(_BACK_OFF)
        for sock in self.sockets:
            self._selector.register(sock, selectors.EVENT_READ)


def listen_for_each(count: int, host: str | None, port: int) -> list[list[socket.socket]]:
    """The sockets of :func:`listen`, for each of ``count`` processes that serve the same port.

    On Linux, each process gets sockets of its own (``SO_REUSEPORT``), among which the kernel
    spreads the clients evenly. Elsewhere, the option does not spread them, and all processes
    get the same sockets.

    Raises as :func:`listen` does.
    """
    if sys.platform != "linux":
        return [listen(host, port)] * count
    # First without the option: with it, another program of this user may have the port. These
    # sockets do not listen, so that closing them resets no client.
    first = listen(host, port, backlog=None)
    port = address_of(first[0].getsockname())[1]
    for sock in first:
        sock.close()
    with contextlib.ExitStack() as undo:
        every = []
        for _ in range(count):
            every.append(listen(host, port, reuse_port=True))
            for sock in every[-1]:
                undo.enter_context(sock)
        undo.pop_all()
        return every


def share_sockets(sockets: Sequence[socket.socket], count: int) -> list[list[socket.socket]]:
    """Share sockets that listen among ``count`` processes, as :func:`listen_for_each` does.

    If an address has fewer sockets than there are processes, all processes get all.
    """
    places: dict[Address, list[socket.socket]] = {}
    for sock in sockets:
        places.setdefault(address_of(sock.getsockname()), []).append(sock)
    if any(len(each) < count for each in places.values()):
        return [list(sockets)] * count
    return [[sock for each in places.values() for sock in each[n::count]] for n in range(count)]


def listen(
    host: str | None,
    port: int,
    *,
    reuse_port: bool = False,
    backlog: int | None = _ACCEPT_QUEUE,
) -> list[socket.socket]:
    """Non-blocking sockets that listen at every address of ``host``, all at one port.

    None and ``""`` mean every address of the machine. With ``reuse_port``, other sockets of this
    user that have the option may listen at the same port. ``backlog`` is how many connections may
    wait; None: the sockets do not listen yet. Raises :class:`AddressInUse` and
    :class:`CannotListen`, both ``OSError``.
    """
    if host is not None and host.startswith("[") and host.endswith("]"):
        # The host is written as in a URL.
        host = host[1:-1]
    place = format_address((host or "*", port))
    if not 0 <= port <= _MAX_PORT:
        # getaddrinfo would accept it, modulo 65536.
        raise CannotListen(
            f"cannot listen on {place}: the port must be a number from 0 to {_MAX_PORT}"
        )
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as exc:
        raise CannotListen(f"cannot listen on {place}: {_reason(exc)}") from exc
    # A resolver may return an address twice. IPv4 comes first, because the port of
    # the first socket is the server's port.
    wanted = sorted({(info[0], info[4]) for info in found}, key=lambda item: item[0])
    for draw in range(_DRAWS):
        try:
            return _bind_all(wanted, reuse_port=reuse_port, backlog=backlog)
        except OSError as exc:
            in_use = exc.errno == errno.EADDRINUSE
            if in_use and port == 0 and draw < _DRAWS - 1:
                continue
            kind = AddressInUse if in_use else CannotListen
            raise kind(f"cannot listen on {place}: {_reason(exc)}") from exc
    raise AssertionError("unreachable")  # pragma: no cover


def _bind_all(
    wanted: Sequence[tuple[socket.AddressFamily, _SockAddr]],
    *,
    reuse_port: bool,
    backlog: int | None,
) -> list[socket.socket]:
    """One socket per address. Addresses that the machine does not have are left out."""
    bound: list[socket.socket] = []
    absent: OSError | None = None
    with contextlib.ExitStack() as undo:
        for family, (host, port, *rest) in wanted:
            # For port 0, all sockets use the port that the first one got.
            shared = address_of(bound[0].getsockname())[1] if bound else port
            try:
                sock = _bind(family, (host, shared, *rest), reuse_port=reuse_port, backlog=backlog)
            except OSError as exc:
                if exc.errno not in _NOT_HERE:
                    raise
                absent = exc
                continue
            undo.enter_context(sock)
            bound.append(sock)
        if not bound and absent is not None:
            raise absent
        undo.pop_all()
    return bound


def _bind(
    family: socket.AddressFamily,
    sockaddr: _SockAddr,
    *,
    reuse_port: bool,
    backlog: int | None,
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix" and sys.platform != "cygwin":
            # A restarted server can use its port again at once. On Windows the
            # option would let two servers share the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # There is a socket for each family. An IPv6 socket that also accepts
            # IPv4 would collide with the IPv4 socket.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
        if backlog is not None:
            sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _reason(exc: OSError | UnicodeError) -> str:
    """The operating system's error text without the number."""
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror[:1].lower() + exc.strerror[1:]
    return "the host name cannot be resolved"
