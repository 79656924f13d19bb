"""One connected socket as bytes, TCP or TLS: reads may block, writes never do."""

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
#: that size, so it waits with a small one; while reads are full it asks for much
#: at a time, but does not wait.
_SMALL_READ = 1024
_LARGE_READ = 131072

# A selector that costs no descriptor, to wait for one socket with a time limit.
OneSelector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)


class Stream(Outlet):
    """One end of a TCP connection, owned by whoever reads from it.

    What it adds to writing is for the owner, one thread at a time, but
    ``has_input``.
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
        #: What came behind the TLS handshake, or was read before it was wanted.
        self._early = b""
        #: Bytes read, and when the last of them came, on the monotonic clock.
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
        """Do the TLS handshake; from here on everything is encrypted.

        Before anything was written. Raises :class:`ssl.SSLError`, an
        :class:`ssl.SSLCertVerificationError` among them, :class:`TimeoutError`,
        and :class:`ConnectionError` where the peer went away. One of these is
        :class:`~syncchat.net.tls.NotTLS`, after which the stream works without TLS.
        """
        tls = TLS(context, server_side=server_side, server_hostname=server_hostname)
        received = b""
        while True:
            try:
                done = tls.handshake(received)
            finally:
                # An alert for the peer, too, where it failed.
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
        """The next bytes; ``b""`` at the end of the stream, a broken one included.

        Raises :class:`TimeoutError` at the deadline.
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
                # Records without content can come for ever.
                raise TimeoutError("no data arrived in time")

    def fetch(self) -> bytes:
        """What has come by now, which the next ``read`` returns; never waits. Before TLS."""
        # The end, or an error, is for that read to meet.
        with contextlib.suppress(OSError):
            self._early = self._sock.recv(_SMALL_READ, DONTWAIT)
            self.bytes_in += len(self._early)
        return self._early

    def has_input(self) -> bool:
        """Whether bytes have come that nobody has read yet. From any thread."""
        with self._lock:
            if self._broken or self._closed:
                return False
            try:
                return bool(self._sock.recv(1, socket.MSG_PEEK | DONTWAIT))
            except OSError:
                return False

    def drain_input(self, deadline: Deadline, limit: int) -> None:
        """Send FIN, then read and drop until the peer's FIN, the deadline or ``limit`` bytes.

        A socket closed with input unread sends RST, which can destroy what
        was written last on its way to the peer (RFC 1122, section 4.2.2.13).
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
        """Bytes as they are on the wire."""
        while True:
            if self._broken:
                # What the kernel still holds is of no interest after an abort.
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
        """What ``received`` says, and whether it is the end."""
        with self._lock:
            try:
                data, over = tls.decrypt(received)
            except ssl.SSLError as exc:
                self._break_locked(exc)
                return b"", True
            # TLS may want to answer: new keys, for one.
            watch = self._begin_raw_locked(tls.outgoing())
        if watch:
            self._have_it_flushed()
        return data, over

    def _wait_readable(self, deadline: Deadline | None) -> None:
        # A socket whose own side closed it is at its end, not an error.
        if self._sock.fileno() < 0:
            return
        with OneSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            while True:
                if selector.select(None if deadline is None else deadline.for_poll()):
                    return
                if deadline is not None and deadline.expired:
                    raise TimeoutError("no data arrived in time")
