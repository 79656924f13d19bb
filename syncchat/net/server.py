"""A server: its connections, and the orderly stop."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Self

from ..closecodes import returns
from .access_policy import parse_access
from .address import Address, format_address
from .connection_thread import ConnectionThread
from .follower import Follower
from .heartbeat import start_heartbeat, start_sweep
from .http import Refusal
from .http_answer import dismiss
from .io_thread import Deadline
from .limits import ClientCounts, Stats
from .listener import Listener
from .reception import Reception
from .server_config import ServerConfig
from .shedding import start_shedding
from .stream import Stream
from .websocket import WebSocket

__all__ = ["Server"]

logger = logging.getLogger("syncchat.net")

#: Seconds between two looks for a signal while the server runs in the background.
_SIGNAL_SECONDS = 0.5

#: Seconds. A stop that has aborted all connections goes on waiting as long as at
#: least one of them ends in each _GRACE, but no longer than _LONGEST_GRACE in total, and
#: _FOR_EACH longer for each connection.
_GRACE = 1.0
_LONGEST_GRACE = 20.0
_FOR_EACH = 0.001

#: How many refused clients at a time get a complete HTTP answer, each on its own
#: thread. Further clients get a single write; with TLS, only a closed connection.
_MAX_ANSWERED = 64


class Server:
    """A listening server, which :func:`~syncchat.net.serve` makes, to start and stop once.

    Every method may be called from any thread, a handler's too.
    """

    def __init__(
        self, listener: Listener, config: ServerConfig, on_stop: Callable[[], None] | None
    ) -> None:
        self._listener = listener
        self._config = config
        self._on_stop = on_stop
        #: Host and port of each listening socket.
        self.addresses: list[Address] = listener.addresses
        self._io_thread, self._reader = config.io_thread, config.reader
        #: Guards the fields below. Only the lock of Counters is taken under it.
        self._lock = threading.Lock()
        self._connections: set[ConnectionThread] = set()
        #: Notified when at most one connection is left.
        self._few = threading.Condition(self._lock)
        #: The connections without those that are being refused.
        self._counts = ClientCounts(config.limits)
        #: Threads that are about to end. The next call of _reap() joins them.
        self._ending: deque[threading.Thread] = deque()
        self._acceptor: threading.Thread | None = None
        #: The acceptor is a thread that start() created, and stop() joins it.
        self._in_background = False
        #: stop() was called; and on the acceptor, which must do it after its loop.
        self._stopping = self._stop_wanted = False
        #: The thread that runs stop(), if there is one.
        self._stopper: threading.Thread | None = None
        #: Whether the I/O thread has worked since the last call of :meth:`answers`.
        self._worked = True
        #: Set when a stop() has ended; cleared when one begins.
        self._stopped = threading.Event()

    def __repr__(self) -> str:
        places = ", ".join(format_address(address) for address in self.addresses)
        return f"<Server at {places}, {self.connections} connections>"

    @property
    def port(self) -> int:
        """The port at which the server listens; for port 0, the one that the system chose."""
        return self.addresses[0][1]

    @property
    def sockets(self) -> list[socket.socket]:
        """The listening sockets, which stay the server's."""
        return self._listener.sockets

    def answers(self) -> bool:
        """Whether clients are accepted, and the I/O thread has worked since the last call."""
        worked, self._worked = self._worked, False
        self._io_thread.call_at(Deadline.after(0), self._note_work)
        return worked and not self._listener.over.is_set()

    def _note_work(self) -> None:
        self._worked = True

    @property
    def connections(self) -> int:
        """The number of connections, including those in the opening handshake."""
        with self._lock:
            return len(self._connections)

    def stats(self) -> Stats:
        """The server's counters since its start."""
        with self._lock:
            # Under the lock, so that a connection that ends counts exactly once.
            live = (
                (connection.traffic, connection.stream.writer.backlog_size)
                for connection in self._connections
            )
            return self._config.counters.stats(live)

    def check_room_for(self, host: str) -> None:
        """Raise :class:`Refusal` if a further client from ``host`` would be one too many."""
        with self._lock:
            refusal = self._counts.refusal(host)
        if refusal is not None:
            raise refusal

    def reconfigure(
        self,
        *,
        ssl_context: ssl.SSLContext | None,
        origins: Sequence[str] = (),
        public_url: str | None = None,
        trusted_proxies: Sequence[str] | None = None,
    ) -> None:
        """Use these settings of :func:`~syncchat.net.serve` for new connections.

        Open ones stay as they are.

        Raises ``ValueError`` for a wrong one, and for a server that would begin or cease to speak
        TLS; then nothing is changed.
        """
        config = self._config
        if (ssl_context is None) is not (config.ssl_context is None):
            raise ValueError("a server that runs cannot begin or cease to speak TLS")
        allowed, proxies = parse_access(origins, public_url, trusted_proxies)
        config.access_policy = config.access_policy.changed(allowed, proxies)
        config.ssl_context = ssl_context

    def call_at(self, deadline: Deadline, callback: Callable[[], None]) -> None:
        """Run ``callback``, which must not block, on the I/O thread, unless the server stops."""
        self._io_thread.call_at(deadline, callback)

    # Running.

    def start(self) -> Self:
        """Start to serve in the background, on an acceptor thread. Returns the server.

        Raises :class:`RuntimeError` for a server that was started or stopped
        before, and :class:`OSError` or ``RuntimeError`` if the system has no
        descriptors or threads left.
        """
        name = f"syncchat-acceptor:{self.port}"
        thread = threading.Thread(target=self._accept, name=name, daemon=True)
        self._claim(thread, in_background=True)
        try:
            thread.start()
        except RuntimeError:
            self._listener.over.set()
            raise
        return self

    def _accept(self) -> None:
        self._listener.run(self._take_in)
        if self._stop_wanted:
            self.stop()

    def serve_forever(self) -> None:
        """Serve on the calling thread until the server is stopped.

        If the server runs in the background, wait for its end. An asynchronous
        exception such as :class:`KeyboardInterrupt` stops the server before this
        method raises it. The server is always stopped when the method ends.
        """
        with self._lock:
            started = self._acceptor is not None or self._stopping
        try:
            if started:
                # In steps: the system may give a signal to another thread, and the handler then
                # runs only when this thread wakes up.
                while not self._listener.over.wait(_SIGNAL_SECONDS):
                    pass
            else:
                self._claim(threading.current_thread(), in_background=False)
                self._listener.run(self._take_in)
        finally:
            self.stop()

    def request_stop(self) -> None:
        """Have ``serve_forever`` stop the server. From any thread, and from signal handlers."""
        self._listener.interrupt()

    def stop(self, timeout: float = 1.5) -> None:
        """Send every client close code 1001, end every thread, close every socket.

        Clients have ``timeout`` seconds to answer; then their connections are
        aborted. If a handler does not return even then, its thread's name is logged
        and the thread keeps running. If another thread is stopping the server,
        the call waits for that thread. A call after an interrupted stop finishes
        the stop. A call from a handler does not wait for that handler, nor for
        another thread that is stopping the server.
        """
        me = threading.current_thread()
        if self._stopper is me or (self._acceptor is me and not self._listener.over.is_set()):
            # A signal handler or a callback has interrupted this method or the accept loop,
            # which may hold a lock. Take none here: the interrupted method stops the server.
            self._stop_wanted = True
            self._listener.interrupt()
            return
        with self._lock:
            self._stopping = True
            first = self._stopper is None
            if first:
                self._stopper = me
                self._stopped.clear()
            serving = any(connection.thread is me for connection in self._connections)
        if not first:
            if not serving and (self._reader is None or self._reader.thread is not me):
                self._stopped.wait()
            return
        try:
            self._stop(Deadline.after(timeout))
        finally:
            self._stopper = None
            self._stopped.set()

    def _stop(self, deadline: Deadline) -> None:
        """Do all steps of a stop. Every step may be repeated."""
        acceptor = self._acceptor
        if acceptor is not None and acceptor is not threading.current_thread():
            self._listener.interrupt()
            self._listener.over.wait()
        self._listener.close()
        if self._on_stop is not None:
            try:
                self._on_stop()
            except Exception:
                logger.exception("on_stop() failed")
        self._end_connections(deadline)
        self._io_thread.stop()
        joined = acceptor if self._in_background and acceptor is not self._stopper else None
        if joined is not None and joined.ident is not None:
            joined.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    # Stopping.

    def _end_connections(self, deadline: Deadline) -> None:
        connections = self._all()
        for connection, seconds in zip(connections, returns(len(connections)), strict=True):
            connection.begin_close(deadline, seconds)
        with self._lock:
            self._few.wait_for(lambda: not self._others_locked(), deadline.remaining())
            connections = self._others_locked()
        for connection in connections:
            connection.stream.writer.abort()
        self._await_others()
        if self._reader is not None:
            # If the reader is blocked in a callback of the program, the others end without it.
            self._reader.close()
        for connection in self._await_others():
            logger.warning("the handler of %r has not returned", connection.name)
        if self._reader is not None and not self._reader.join(_GRACE):
            logger.warning("a callback on %r has not returned", self._reader.thread.name)
        self._reap()

    def _await_others(self) -> list[ConnectionThread]:
        """Wait for the end of aborted connections, as long as some end. Returns the others."""
        with self._lock:
            deadline = Deadline.after(_LONGEST_GRACE + len(self._connections) * _FOR_EACH)
            before = -1
            while self._others_locked() and len(self._connections) != before:
                before = len(self._connections)
                grace = _GRACE + before * _FOR_EACH
                self._few.wait(min(grace, deadline.remaining() or 0.0))
            return self._others_locked()

    def _others_locked(self) -> list[ConnectionThread]:
        """The connections that the calling thread does not serve."""
        assert self._lock.locked()
        me = threading.current_thread()
        return [connection for connection in self._connections if connection.thread is not me]

    def _reap(self) -> None:
        """Join the threads that have ended or are about to end."""
        while self._ending:
            with self._lock:
                if not self._ending:
                    return
                thread = self._ending.popleft()
            if thread is not threading.current_thread():
                thread.join()

    # Starting.

    def _claim(self, acceptor: threading.Thread, *, in_background: bool) -> None:
        with self._lock:
            if self._acceptor is not None or self._stopping:
                raise RuntimeError("a server can be started only once")
            self._acceptor, self._in_background = acceptor, in_background
        try:
            self._io_thread.start()
            if self._reader is not None:
                self._reader.start()
        except BaseException:
            # The accept loop never runs, so a stop must not wait for it.
            self._listener.over.set()
            raise
        limits = self._config.limits
        start_heartbeat(self._io_thread, self._clients, limits.ping_interval, limits.ping_timeout)
        start_shedding(self._io_thread, self._clients, limits.max_memory)
        limit = min(limits.open_timeout, limits.close_timeout)
        start_sweep(self._io_thread, self._all, ConnectionThread.look, limit)

    def _take_in(self, sock: socket.socket, address: Address) -> None:
        """Serve a new client, or refuse it if there are too many. On the acceptor thread."""
        self._reap()
        limits = self._config.limits
        stream = Stream(
            sock,
            self._io_thread,
            address=address,
            max_backlog=limits.max_backlog,
            stall_timeout=limits.stall_timeout,
        )
        # A trusted proxy names the client's host in the request, which comes later.
        host = None if self._config.access_policy.proxies.trusts(address[0]) else address[0]
        if host is not None:
            try:
                self._config.check_newcomer(host)
            except Refusal as exc:
                self._dismiss(stream, exc)
                return
        with self._lock:
            refusal = self._counts.refusal(host)
            answered = refusal is None or self._refused_locked() < _MAX_ANSWERED
            connection = ConnectionThread(
                stream,
                self._config,
                self._note_end,
                self._ending.append,
                self._count_client,
                refusal,
            )
            if answered:
                self._connections.add(connection)
                if refusal is None:
                    connection.served = True
                    connection.counted_for = host
                    self._counts.enter(host)
        if refusal is not None and not answered:
            self._dismiss(stream, refusal)
            return
        try:
            connection.begin()
        except BaseException:
            # After any exception, also KeyboardInterrupt on the main thread: a
            # stop must not wait for a connection that nothing serves.
            connection.abandon()
            self._forget(connection)
            raise

    def _dismiss(self, stream: Stream, refusal: Refusal) -> None:
        """Refuse a client with as little work as possible."""
        self._config.counters.note_refused(str(refusal.status.value))
        if self._config.ssl_context is None:
            dismiss(stream, refusal)
        else:
            stream.writer.close()

    def _count_client(self, connection: Reception, host: str) -> None:
        """Count the client of a trusted proxy for ``host``, which its request names.

        Raises :class:`Refusal` if there are too many clients from that host. While
        the connection thread sends the refusal, the connection does not count for
        ``max_connections``, unless _MAX_ANSWERED clients are being refused already.
        """
        self._config.check_newcomer(host)
        with self._lock:
            if not connection.served:
                return
            if connection.counted_for is not None:
                # The proxy uses its connection for several clients.
                self._counts.leave_host(connection.counted_for)
                connection.counted_for = None
            refusal = self._counts.refusal_of_host(host)
            if refusal is None:
                connection.counted_for = host
                self._counts.count_host(host)
            elif self._refused_locked() < _MAX_ANSWERED:
                connection.served = False
                self._counts.leave(None)
        if refusal is not None:
            raise refusal

    def _refused_locked(self) -> int:
        """How many clients are being refused."""
        assert self._lock.locked()
        return len(self._connections) - self._counts.total

    def _note_end(self, connection: ConnectionThread) -> None:
        """Forget a connection. Its thread, if it has one, makes this call as its last one."""
        if connection.thread is not None:
            with self._lock:
                self._ending.append(connection.thread)
        self._forget(connection)

    def _forget(self, connection: ConnectionThread) -> None:
        with self._lock:
            self._connections.discard(connection)
            self._config.counters.note_ended(connection.traffic)
            if connection.served:
                self._counts.leave(connection.counted_for)
            if len(self._connections) <= 1:
                self._few.notify_all()

    def _all(self) -> list[ConnectionThread]:
        with self._lock:
            return list(self._connections)

    def _clients(self) -> list[WebSocket | Follower]:
        """The clients whose handshakes or requests are answered."""
        return [each for connection in self._all() if (each := connection.client) is not None]
