"""A byte stream over one connected socket, TCP or TLS: reads may block, writes never do."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import time

from .address import Address, format_address
from .backlog import DONTWAIT, Writer
from .io_thread import Deadline, IOThread, wait_ready
from .tls import TLS

__all__ = ["Stream"]

#: Bytes that a read asks for. A thread that waits in recv() holds a buffer of
#: that size, so it waits with the small one. After a full read it asks for the
#: large one without waiting.
_SMALL_READ = 1024
_LARGE_READ = 131072


class Stream:
    """One end of a TCP connection.

    Only its owner, the thread that reads, may call the methods. Any thread may use
    the ``writer``, whose parameters are ``max_backlog`` and ``stall_timeout``.
    """

    __slots__ = (
        "_early",
        "_more_waits",
        "_sock",
        "_tls",
        "address",
        "bytes_in",
        "heard_at",
        "peer",
        "writer",
    )

    def __init__(
        self,
        sock: socket.socket,
        io_thread: IOThread,
        *,
        address: Address,
        max_backlog: int,
        stall_timeout: float | None,
    ) -> None:
        self._sock = sock
        self.writer = Writer(sock, io_thread, max_backlog=max_backlog, stall_timeout=stall_timeout)
        #: The peer's host and port; for a trusted proxy, those of its client, once known.
        self.address = address
        #: The host and port of the other end of the connection, also if that is a proxy.
        self.peer = address
        #: The last read was full.
        self._more_waits = False
        #: Bytes that arrived with the end of the TLS handshake, or that were read too early.
        self._early = b""
        #: The stream is encrypted.
        self._tls = False
        #: The number of bytes read, and the time of the last read, on the monotonic clock.
        self.bytes_in = 0
        self.heard_at = time.monotonic()
        timeout = None if DONTWAIT else 0.0
        if sock.gettimeout() != timeout:
            sock.settimeout(timeout)
        # This fails if the peer is gone. The first read notices that.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __repr__(self) -> str:
        return f"<Stream {format_address(self.address)}, {self.writer!r}>"

    def start_tls(
        self,
        context: ssl.SSLContext,
        deadline: Deadline,
        *,
        server_side: bool,
        server_hostname: str | None = None,
    ) -> None:
        """Do the TLS handshake; afterwards all data is encrypted.

        Call it before anything is written. Raises :class:`ssl.SSLError`
        (for a bad certificate its subclass :class:`ssl.SSLCertVerificationError`),
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
                self.writer.write(tls.outgoing())
            if done:
                break
            received = self.read(deadline)
            if not received:
                raise ConnectionError("the connection was closed during the TLS handshake")
        self._early, _ = tls.decrypt(b"")
        self.writer.use_tls(tls)
        self._tls = True

    def read(self, deadline: Deadline | None = None) -> bytes:
        """Return the next bytes; ``b""`` at the end of the stream, also of a broken one.

        Blocks until there are some. Raises :class:`TimeoutError` at the deadline.
        """
        if self._early:
            data, self._early = self._early, b""
            return data
        while True:
            if self.writer.broken:
                # After an abort, data that the kernel still holds is ignored.
                return b""
            try:
                if self._more_waits:
                    data = self._sock.recv(_LARGE_READ, DONTWAIT)
                else:
                    data = self._sock.recv(_SMALL_READ, 0 if deadline is None else DONTWAIT)
            except BlockingIOError:
                self._wait_readable(deadline)
                continue
            except OSError as exc:
                self.writer.abort(exc)
                return b""
            self.heard_at = time.monotonic()
            self.bytes_in += len(data)
            self._more_waits = len(data) >= _SMALL_READ
            if not data or not self._tls:
                return data
            decrypted = self.writer.decrypt(data)
            if decrypted is not None:
                return decrypted
            if deadline is not None and deadline.expired:
                # A peer may send records without content for ever.
                raise TimeoutError("no data arrived in time")

    def fetch(self) -> bytes | None:
        """Return the bytes that have arrived; the next ``read`` returns them again.

        ``b""`` at the end of the stream; None: nothing has arrived. Never waits. Only
        for a stream without TLS.
        """
        try:
            self._early = self._sock.recv(_SMALL_READ, DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return b""  # The next read reports the error.
        self.bytes_in += len(self._early)
        return self._early

    def limit_silence(self, seconds: float) -> None:
        """Break the connection if the peer's system acknowledges no data for so long (Linux)."""
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        # Fails on a connection that has ended.
        with contextlib.suppress(OSError):
            if option is not None:
                self._sock.setsockopt(socket.IPPROTO_TCP, option, round(seconds * 1000))

    def unread(self, data: bytes) -> None:
        """Have the next ``read`` return ``data``, which was read too early."""
        self._early = data + self._early

    def take_early(self) -> bytes:
        """What was read too early; ``b""`` if there is nothing."""
        data, self._early = self._early, b""
        return data

    def drop_input(self) -> int | None:
        """Read and drop what has arrived, without waiting.

        Returns the number of bytes, 0 at the end of the stream; None: nothing has arrived.
        """
        try:
            dropped = len(self._sock.recv(_LARGE_READ, DONTWAIT))
        except BlockingIOError:
            return None
        except OSError:
            return 0
        self.bytes_in += dropped
        return dropped

    def drain_input(self, deadline: Deadline, limit: int) -> None:
        """Send FIN, then read and drop data until the peer's FIN, the deadline or ``limit`` bytes.

        A socket that is closed with unread input sends RST, which can destroy the
        last written data on its way to the peer (RFC 1122, section 4.2.2.13).
        """
        self.writer.wait_flushed(deadline)
        self.writer.shutdown_write()
        with contextlib.suppress(TimeoutError):
            while limit > 0 and not deadline.expired:
                data = self.read(deadline)
                if not data:
                    return
                limit -= len(data)

    def _wait_readable(self, deadline: Deadline | None) -> None:
        self._more_waits = False
        if deadline is None and DONTWAIT:
            # The next recv() waits.
            return
        # A socket that this side has closed is at its end; this is no error.
        if self._sock.fileno() >= 0 and not wait_ready(self._sock, selectors.EVENT_READ, deadline):
            raise TimeoutError("no data arrived in time")
