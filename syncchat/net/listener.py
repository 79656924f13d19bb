"""The accept loop of a server."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
from collections.abc import Callable

from .address import Address, address_of, format_address
from .binding import listen

__all__ = ["Listener", "OnClient"]

#: Called with the socket and the address of each accepted client.
OnClient = Callable[[socket.socket, Address], None]

logger = logging.getLogger("syncchat.net")

#: Seconds without accepting after the system ran out of a resource.
_BACK_OFF = 0.1


class Listener:
    """Listening sockets, and the loop that accepts clients from them.

    The sockets listen when the object is created. The constructor raises as
    :func:`~syncchat.net.binding.listen` does.
    """

    def __init__(self, host: str | None, port: int) -> None:
        # Create everything here, so that the caller gets an error for lack of descriptors.
        with contextlib.ExitStack() as undo:
            self._sockets = [undo.enter_context(sock) for sock in listen(host, port)]
            self._receiver, self._waker = map(undo.enter_context, socket.socketpair())
            self._receiver.setblocking(False)
            self._waker.setblocking(False)
            self._selector = undo.enter_context(selectors.DefaultSelector())
            for sock in [*self._sockets, self._receiver]:
                self._selector.register(sock, selectors.EVENT_READ)
            #: Closes all of the above.
            self._resources = undo.pop_all()
        #: Host and port of each socket, in the order of binding.
        self.addresses: list[Address] = [address_of(sock.getsockname()) for sock in self._sockets]
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
                for sock in self._sockets:
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
        for sock in self._sockets:
            self._selector.unregister(sock)
        self._selector.select(_BACK_OFF)
        for sock in self._sockets:
            self._selector.register(sock, selectors.EVENT_READ)
