"""A byte stream over one connected socket, TCP or TLS: reads may block, writes never do."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import time

from .address import Address
from .deadline import Deadline
from .io_thread import IOThread
from .outlet import DONTWAIT, Outlet
from .tls import TLS

__all__ = ["OneSelector", "Stream"]

#: Bytes that a read asks for. A thread that waits in recv() holds a buffer of
#: that size, so it waits with the small one. After a full read it asks for the
#: large one without waiting.
_SMALL_READ = 1024
_LARGE_READ = 131072

# A selector that uses no descriptor, for waiting on one socket with a time limit.
OneSelector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)


class Stream(Outlet):
    """One end of a TCP connection. Its owner is the thread that reads from it.

    Only the owner may call the methods of this class, one thread at a time. The
    exception is ``has_input``, which any thread may call.
    """

    __slots__ = ("_early", "_more_waits", "bytes_in", "heard_at")

    def __init__(
        self,
        sock: socket.socket,
        io_thread: IOThread,
        *,
        address: Address,
        max_backlog: int,
        stall_timeout: float | None,
    ) -> None:
        super().__init__(
            sock,
            io_thread,
            address=address,
            max_backlog=max_backlog,
            stall_timeout=stall_timeout,
        )
        #: The last read was full.
        self._more_waits = False
        #: Bytes that arrived with the end of the TLS handshake, or that fetch() has read.
        self._early = b""
        #: The number of bytes read, and the time of the last read, on the monotonic clock.
        self.bytes_in = 0
        self.heard_at = time.monotonic()

    def start_tls(
        self,
        context: ssl.SSLContext,
        deadline: Deadline,
        *,
        server_side: bool,
        server_hostname: str | None = None,
    ) -> None:
        """Do the TLS handshake; afterwards all data is encrypted.

        Call it before anything is written. Raises :class:`ssl.SSLError` (for a bad
        certificate its subclass :class:`ssl.SSLCertVerificationError`),
        :class:`TimeoutError`, and :class:`ConnectionError` if the peer closes the
        connection. After :class:`~syncchat.net.tls.NotTLS`, a ``ConnectionError``,
        the stream works without TLS.
        """
        tls = TLS(context, server_side=server_side, server_hostname=server_hostname)
        received = b""
        while True:
            try:
                done = tls.handshake(received)
            finally:
                # After a failure, this is the alert for the peer.
                self.write(tls.outgoing())
            if done:
                break
            received = self.read(deadline)
            if not received:
                raise ConnectionError("the connection was closed during the TLS handshake")
        self._early, _ = tls.decrypt(b"")
        with self._lock:
            self._tls = tls

    def read(self, deadline: Deadline | None = None) -> bytes:
        """Return the next bytes; ``b""`` at the end of the stream, also of a broken one.

        Blocks until there are some. Raises :class:`TimeoutError` at the deadline.
        """
        while True:
            if self._early:
                data, self._early = self._early, b""
                return data
            data = self._receive(deadline)
            if not data or self._tls is None:
                return data
            data, over = self._decrypt(self._tls, data)
            if data or over:
                return data
            if deadline is not None and deadline.expired:
                # A peer may send records without content for ever.
                raise TimeoutError("no data arrived in time")

    def fetch(self) -> bytes:
        """Return the bytes that have arrived; the next ``read`` returns them again.

        Never waits. Only for a stream without TLS.
        """
        # The next read reports the end of the stream, or the error.
        with contextlib.suppress(OSError):
            self._early = self._sock.recv(_SMALL_READ, DONTWAIT)
            self.bytes_in += len(self._early)
        return self._early

    def has_input(self) -> bool:
        """Whether bytes have arrived that are not read yet. From any thread."""
        with self._lock:
            if self._broken or self._closed:
                return False
            try:
                return bool(self._sock.recv(1, socket.MSG_PEEK | DONTWAIT))
            except OSError:
                return False

    def drain_input(self, deadline: Deadline, limit: int) -> None:
        """Send FIN, then read and drop data until the peer's FIN, the deadline or ``limit`` bytes.

        A socket that is closed with unread input sends RST, which can destroy the
        last written data on its way to the peer (RFC 1122, section 4.2.2.13).
        """
        self.wait_flushed(deadline)
        self.shutdown_write()
        with contextlib.suppress(TimeoutError):
            while limit > 0 and not deadline.expired:
                data = self.read(deadline)
                if not data:
                    return
                limit -= len(data)

    def _receive(self, deadline: Deadline | None) -> bytes:
        """Read bytes from the socket, still encrypted if the stream has TLS."""
        while True:
            if self._broken:
                # After an abort, data that the kernel still holds is ignored.
                return b""
            try:
                if self._more_waits:
                    data = self._sock.recv(_LARGE_READ, DONTWAIT)
                elif deadline is None:
                    data = self._sock.recv(_SMALL_READ)
                else:
                    data = self._sock.recv(_SMALL_READ, DONTWAIT)
                break
            except BlockingIOError:
                self._more_waits = False
                if deadline is not None or not DONTWAIT:
                    self._wait_readable(deadline)
            except OSError as exc:
                with self._lock:
                    self._break_locked(exc)
                return b""
        self.heard_at = time.monotonic()
        self.bytes_in += len(data)
        self._more_waits = len(data) >= _SMALL_READ
        return data

    def _decrypt(self, tls: TLS, received: bytes) -> tuple[bytes, bool]:
        """The decrypted data of ``received``, and whether the stream ends after it."""
        with self._lock:
            try:
                data, over = tls.decrypt(received)
            except ssl.SSLError as exc:
                self._break_locked(exc)
                return b"", True
            # TLS may have to answer, for example to a key update.
            watch = self._begin_raw_locked(tls.outgoing())
        if watch:
            self._have_it_flushed()
        return data, over

    def _wait_readable(self, deadline: Deadline | None) -> None:
        # A socket that this side has closed is at its end; this is no error.
        if self._sock.fileno() < 0:
            return
        with OneSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            while True:
                if selector.select(None if deadline is None else deadline.for_poll()):
                    return
                if deadline is not None and deadline.expired:
                    raise TimeoutError("no data arrived in time")
