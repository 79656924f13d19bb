"""A server: one thread per connection, and the orderly stop."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Self, Unpack

from .access_policy import AccessPolicy, Authorize
from .address import Address, format_address
from .connection_thread import ConnectionThread, Handler, ServerConfig
from .deadline import Deadline
from .forwarded import LOOPBACK, TrustedProxies
from .handshake import dismiss
from .heartbeat import start_heartbeat
from .http import Refusal, View
from .io_thread import IOThread
from .limits import Limits, ServerSettings
from .listener import Listener
from .origin import origin_of, parse_origin, parse_public_url
from .stats import Counters, Stats
from .stream import Stream
from .websocket import WebSocket

__all__ = ["Server", "serve"]

logger = logging.getLogger("syncchat.net")

#: Seconds in which, after all connections have been cut off, at least one thread
#: must end for a stop to go on waiting, and how long it waits in all. Thousands of
#: threads end one after another.
_GRACE = 1.0
_LONGEST_GRACE = 20.0

#: Clients above the cap that are told so with all ceremony, on threads of
#: their own; further ones get what a single write can say.
_CEREMONIES = 64


def serve(
    handler: Handler,
    host: str | None = "127.0.0.1",
    port: int = 0,
    *,
    ssl_context: ssl.SSLContext | None = None,
    subprotocols: Sequence[str] = (),
    response_headers: Sequence[tuple[str, str]] = (),
    origins: Sequence[str] = (),
    public_url: str | None = None,
    trusted_proxies: Sequence[str] | None = None,
    authorize: Authorize | None = None,
    on_refused: Callable[[Address, str], None] | None = None,
    on_slow: Callable[[WebSocket], None] | None = None,
    on_stop: Callable[[], None] | None = None,
    routes: Mapping[str, View] = MappingProxyType({}),
    **limits: Unpack[ServerSettings],
) -> Server:
    """A server that listens at ``host`` and ``port`` and runs ``handler`` for each client.

    ``host`` is an address or a name, of which every address is listened at;
    None or ``""`` is every address of the machine. ``port`` 0 lets the system
    choose. It listens when this returns; clients are served from
    :meth:`Server.start`, :meth:`Server.serve_forever` or ``with`` on.

    - ``ssl_context``: a server's context; with it the server speaks ``wss:``.
    - ``subprotocols``: those that are spoken here, the preferred first.
    - ``response_headers``: names and values, in ASCII, to send with every 101.
    - ``origins``: the pages, besides the server's own host's, that browsers may
      connect from: ``https://example.org``, with its port if that is not the usual one.
      A server on loopback goes by their hosts, too.
    - ``public_url``: where clients reach the server by way of a proxy, like
      ``https://example.org/chat/``. Its origin is one of ``origins``.
    - ``trusted_proxies``: IP addresses, and networks in CIDR notation. What they say
      of their clients in ``X-Forwarded-For``, ``-Proto`` and ``-Host``, or ``Forwarded``
      (RFC 7239), counts for ``remote_address``, ``max_connections_per_address`` and
      :class:`Request`; it does not from elsewhere. None: loopback with a ``public_url``,
      nobody without.
    - ``authorize``: called with each :class:`Request` that is in order; raises
      :class:`Refusal` to turn the client away. On that connection's thread.
    - ``on_refused``: called with the address and the reason of each client that
      got no WebSocket; on that connection's thread.
    - ``on_slow``: called once for each client that is closed as a slow
      consumer, on the thread that noticed; it must not block.
    - ``on_stop``: called when a stop begins, so that handlers can be told to
      come to an end; it must not block.
    - ``routes``: what plain HTTP is answered, by path, or by ``/beginning/*``: called
      with the :class:`Request`, on its connection's thread, a view returns a
      :class:`Response`. Every answer is the connection's last.
    - ``limits``: ``max_message``, ``max_backlog``, ``max_connections`` and the
      others of :class:`Limits`.

    Raises :class:`AddressInUse` or :class:`CannotListen`, both :class:`OSError`, and
    :class:`ValueError` for what is no origin, URL or network.
    """
    held_to = Limits(**limits)
    allowed = [parse_origin(origin) for origin in origins]
    if public_url is not None:
        allowed.append(origin_of(parse_public_url(public_url)))
        trusted_proxies = LOOPBACK if trusted_proxies is None else trusted_proxies
    proxies = TrustedProxies(trusted_proxies or ())
    listener = Listener(host, port)
    access_policy = AccessPolicy(
        host, listener.addresses, allowed, authorize, proxies, secure=ssl_context is not None
    )
    service = ServerConfig(
        handler,
        held_to,
        tuple(subprotocols),
        tuple(response_headers),
        dict(routes),
        access_policy,
        ssl_context,
        Counters(),
        on_refused,
        on_slow,
    )
    return Server(listener, service, on_stop)


class Server:
    """A listening server, made by :func:`serve`. It is started once and stopped once.

    Every method may be called from any thread, a handler's included.
    """

    def __init__(
        self, listener: Listener, service: ServerConfig, on_stop: Callable[[], None] | None
    ) -> None:
        self._listener = listener
        self._service = service
        self._on_stop = on_stop
        #: Host and port of each socket that is listened at.
        self.addresses: list[Address] = listener.addresses
        self._io_thread = IOThread(f"syncchat-io:{self.port}")
        #: Guards the fields below. Of all locks, only the tally's is taken under it.
        self._lock = threading.Lock()
        self._workers: set[ConnectionThread] = set()
        #: How many of them there are, and how many from each host, those that
        #: are refused left out.
        self._served = 0
        self._per_host: Counter[str] = Counter()
        #: Threads that are about to end, to be joined by the next who passes.
        self._ending: deque[threading.Thread] = deque()
        self._acceptor: threading.Thread | None = None
        #: The acceptor is a thread of the server's own, for stop() to join.
        self._in_background = False
        #: stop() was called.
        self._stopping = False
        #: The thread that is in stop().
        self._stopper: threading.Thread | None = None
        #: Nobody is in stop().
        self._stopped = threading.Event()

    def __repr__(self) -> str:
        places = ", ".join(format_address(address) for address in self.addresses)
        return f"<Server at {places}, {self.connections} connections>"

    @property
    def port(self) -> int:
        """The port that is listened at: the real one where 0 was asked for."""
        return self.addresses[0][1]

    @property
    def connections(self) -> int:
        """How many connections there are, those in the opening handshake included."""
        with self._lock:
            return len(self._workers)

    def stats(self) -> Stats:
        """What the server has done so far, in numbers."""
        with self._lock:
            # Under the lock, so that no connection is counted twice or not at all.
            live = ((worker.traffic, worker.stream.backlog_size) for worker in self._workers)
            return self._service.counters.stats(live)

    def call_at(self, deadline: Deadline, callback: Callable[[], None]) -> None:
        """Run ``callback`` at ``deadline``, on the flusher; it must not block. Not after a stop."""
        self._io_thread.call_at(deadline, callback)

    # Running.

    def start(self) -> Self:
        """Serve in the background, on an acceptor thread. Returns the server.

        Raises :class:`RuntimeError` for a server that was started or stopped,
        and :class:`OSError` or ``RuntimeError`` where the system has no
        descriptors or threads left.
        """
        thread = threading.Thread(
            target=self._listener.run,
            args=(self._take_in,),
            name=f"syncchat-acceptor:{self.port}",
            daemon=True,
        )
        self._claim(thread)
        try:
            thread.start()
        except RuntimeError:
            self._listener.over.set()
            raise
        self._in_background = True
        return self

    def serve_forever(self) -> None:
        """Serve on the calling thread until somebody stops the server; stopped on return.

        Of a server that was started in the background, waits for the end. An
        exception that comes out of the blue, as :class:`KeyboardInterrupt`
        does, stops the server before it goes on.
        """
        with self._lock:
            started = self._acceptor is not None or self._stopping
        try:
            if started:
                self._listener.over.wait()
            else:
                self._claim(threading.current_thread())
                self._listener.run(self._take_in)
        finally:
            self.stop()

    def request_stop(self) -> None:
        """Have ``serve_forever`` stop the server. From any thread, and from signal handlers."""
        self._listener.interrupt()

    def stop(self, timeout: float = 1.5) -> None:
        """Tell every client (close code 1001), end every thread, close every socket.

        Clients have ``timeout`` seconds to answer, then they are cut off. A
        handler that does not return even then is named in the log and left
        alone. A call while another stops the server waits for that; one after
        a stop that was interrupted finishes it. Called from a handler, it does
        not wait for that handler.
        """
        me = threading.current_thread()
        if self._stopper is me or (self._acceptor is me and not self._listener.over.is_set()):
            # A signal handler, on top of this very method or of the accept
            # loop, and of whatever lock they hold. They see to it themselves.
            self._listener.interrupt()
            return
        with self._lock:
            self._stopping = True
            first = self._stopper is None
            if first:
                self._stopper = me
                self._stopped.clear()
            serving = any(worker.thread is me for worker in self._workers)
        if not first:
            if not serving:
                self._stopped.wait()
            return
        try:
            self._stop(Deadline.after(timeout))
        finally:
            self._stopper = None
            self._stopped.set()

    def _stop(self, deadline: Deadline) -> None:
        """All that a stop takes. It may be done again."""
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
        self._end_workers(deadline)
        self._io_thread.stop()
        if acceptor is not None and self._in_background:
            acceptor.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    # Stopping.

    def _end_workers(self, deadline: Deadline) -> None:
        with self._lock:
            workers = list(self._workers)
        for worker in workers:
            worker.begin_close(deadline)
        for worker in self._other_workers():
            worker.thread.join(deadline.remaining())
        for worker in self._other_workers():
            worker.stream.abort()
        self._await_workers(Deadline.after(_LONGEST_GRACE))
        self._reap()
        for worker in self._other_workers():
            logger.warning("the handler of %r has not returned", worker.thread.name)

    def _await_workers(self, deadline: Deadline) -> None:
        """Wait for threads whose connections are cut off, for as long as some of them end."""
        left = self.connections
        for worker in self._other_workers():
            while worker.thread.is_alive():
                worker.thread.join(min(_GRACE, deadline.remaining() or 0.0))
                before, left = left, self.connections
                if worker.thread.is_alive() and (left == before or deadline.expired):
                    return

    def _other_workers(self) -> list[ConnectionThread]:
        with self._lock:
            me = threading.current_thread()
            return [worker for worker in self._workers if worker.thread is not me]

    def _reap(self) -> None:
        """Join the threads that have nothing left to do."""
        while True:
            with self._lock:
                if not self._ending:
                    return
                thread = self._ending.popleft()
            if thread is not threading.current_thread():
                thread.join()

    # Starting.

    def _claim(self, acceptor: threading.Thread) -> None:
        with self._lock:
            if self._acceptor is not None or self._stopping:
                raise RuntimeError("a server is started once")
            self._acceptor = acceptor
        try:
            self._io_thread.start()
        except BaseException:
            # There will be no accept loop for a stop to wait for.
            self._listener.over.set()
            raise
        limits = self._service.limits
        start_heartbeat(
            self._io_thread, self._websockets, limits.ping_interval, limits.ping_timeout
        )

    def _take_in(self, sock: socket.socket, address: Address) -> None:
        """Serve one more client, or tell it that there are too many. On the acceptor."""
        self._reap()
        limits = self._service.limits
        stream = Stream(
            sock,
            self._io_thread,
            address=address,
            max_backlog=limits.max_backlog,
            stall_timeout=limits.stall_timeout,
        )
        # A trusted proxy tells the client's host in the request.
        host = None if self._service.access_policy.proxies.trusts(address[0]) else address[0]
        with self._lock:
            refusal = self._refusal_locked(host)
            ceremonious = refusal is None or self._refused_locked() < _CEREMONIES
            worker = ConnectionThread(
                stream, self._io_thread, self._service, self._note_end, self._count_client, refusal
            )
            if ceremonious:
                self._workers.add(worker)
                if refusal is None:
                    self._served += 1
                    worker.served = True
                    self._count_locked(worker, host)
        if refusal is not None and not ceremonious:
            self._service.counters.note_refused("503")
            if self._service.ssl_context is None:
                dismiss(stream, refusal)
            else:
                stream.close()
            return
        try:
            worker.prepare()
            worker.start()
        except BaseException:
            # Whatever it is, and KeyboardInterrupt can be here on the main
            # thread: no stop must wait for a thread that never began.
            stream.close()
            self._forget(worker)
            raise

    def _count_client(self, worker: ConnectionThread, host: str) -> None:
        """Count a trusted proxy's client for its ``host``, once its request has told that.

        Raises :class:`Refusal` where there are too many from there; while the
        worker says so, it takes no other client's place.
        """
        with self._lock:
            if not worker.served:
                return
            refusal = self._address_refusal_locked(host)
            if refusal is None:
                self._count_locked(worker, host)
            elif self._refused_locked() < _CEREMONIES:
                worker.served = False
                self._served -= 1
        if refusal is not None:
            raise refusal

    def _count_locked(self, worker: ConnectionThread, host: str | None) -> None:
        worker.counted_for = host
        if host is not None:
            self._per_host[host] += 1

    def _refusal_locked(self, host: str | None) -> Refusal | None:
        """What to answer to a client from ``host``, None for a proxy's, if there are too many."""
        most = self._service.limits.max_connections
        if most is not None and self._served >= most:
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "There are too many clients.")
        return None if host is None else self._address_refusal_locked(host)

    def _address_refusal_locked(self, host: str) -> Refusal | None:
        most = self._service.limits.max_connections_per_address
        if most is not None and self._per_host[host] >= most:
            return Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, "There are too many clients from your address."
            )
        return None

    def _refused_locked(self) -> int:
        return len(self._workers) - self._served

    def _note_end(self, worker: ConnectionThread) -> None:
        """A worker's last call, on its thread."""
        self._forget(worker)
        with self._lock:
            self._ending.append(worker.thread)

    def _forget(self, worker: ConnectionThread) -> None:
        with self._lock:
            self._workers.discard(worker)
            self._service.counters.note_ended(worker.traffic)
            if worker.served:
                self._served -= 1
            host = worker.counted_for
            if host is not None:
                self._per_host[host] -= 1
                if not self._per_host[host]:
                    del self._per_host[host]

    def _websockets(self) -> list[WebSocket]:
        """Every connection whose handshake is done."""
        with self._lock:
            return [worker.websocket for worker in self._workers if worker.websocket is not None]
