"""The accept loop: every client that comes, until it is told to stop."""

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

#: What takes a client over: its socket and its address.
OnClient = Callable[[socket.socket, Address], None]

logger = logging.getLogger("syncchat.net")

#: Seconds without accepting after the system ran out of something.
_BACK_OFF = 0.1


class Listener:
    """Sockets that listen, and the loop that accepts from them.

    Listens from the beginning; raises as :func:`~syncchat.net.binding.listen`
    does.
    """

    def __init__(self, host: str | None, port: int) -> None:
        # All of it here, where running out of descriptors is the caller's to hear.
        with contextlib.ExitStack() as undo:
            self._sockets = [undo.enter_context(sock) for sock in listen(host, port)]
            self._receiver, self._waker = map(undo.enter_context, socket.socketpair())
            self._receiver.setblocking(False)
            self._waker.setblocking(False)
            self._selector = undo.enter_context(selectors.DefaultSelector())
            for sock in [*self._sockets, self._receiver]:
                self._selector.register(sock, selectors.EVENT_READ)
            #: Gives back all of the above.
            self._resources = undo.pop_all()
        #: Host and port of each socket, in the order of binding.
        self.addresses: list[Address] = [address_of(sock.getsockname()) for sock in self._sockets]
        #: Written by interrupt() without a lock, see there.
        self._interrupted = False
        #: The loop is over, and no further client will be handed on.
        self.over = threading.Event()

    def run(self, on_client: OnClient) -> None:
        """Accept until :meth:`interrupt`, on the calling thread.

        ``on_client`` gets each connected socket with its peer's address, and
        owns it unless it raises: :class:`OSError` for a client that is gone
        already, :class:`RuntimeError` where there can be no thread for it.
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
        """Have :meth:`run` return soon. From any thread, and from signal handlers.

        Takes no lock, because a signal handler runs on top of whatever the
        main thread was doing, and that may hold it.
        """
        self._interrupted = True
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def close(self) -> None:
        """Give the sockets back. Only after :meth:`run`, or instead of it."""
        self._resources.close()
        self.over.set()

    def _accept(self, listening: socket.socket, on_client: OnClient) -> bool:
        """Hand on each client that waits. False: the system is out of something."""
        while not self._interrupted:
            try:
                sock, sockaddr = listening.accept()
            except BlockingIOError:
                return True
            except ConnectionAbortedError:
                # The client was gone before it was accepted.
                continue
            except OSError as exc:
                # Mostly descriptors or memory. Whatever it is, the loop goes on.
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
        """Wait for nothing but an interruption, until the system had time to recover."""
        # With the selector that there is: another might be a descriptor too many.
        for sock in self._sockets:
            self._selector.unregister(sock)
        self._selector.select(_BACK_OFF)
        for sock in self._sockets:
            self._selector.register(sock, selectors.EVENT_READ)
