"""A server: one thread per connection, and the orderly stop."""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from ..closecodes import GOING_AWAY, INTERNAL_ERROR, NORMAL
from ..errors import ConnectionClosed
from .address import Address, format_address
from .deadline import Deadline
from .flusher import Flusher
from .handshake import Refusal, accept, refuse
from .listener import Listener
from .stream import Stream
from .websocket import WebSocket

__all__ = ["Handler", "Server", "serve"]

logger = logging.getLogger("syncchat.net")

#: What serves one connection, on a thread of its own, from the open handshake
#: to its return. :class:`ConnectionClosed` may leave it.
Handler = Callable[[WebSocket], None]

#: Bytes of stack of a connection's thread. Only what is touched is resident;
#: below the 2 MiB of a huge page, which would be resident at the first touch.
_STACK_SIZE = 1024 * 1024
#: Guards the interpreter's stack size, which is one for all threads to come.
_stack_lock = threading.Lock()

#: Seconds that threads get to end after they have been cut off.
_GRACE = 1.0


@dataclass(frozen=True, slots=True)
class _Limits:
    """What every connection of a server is held to."""

    max_message: int
    max_backlog: int
    stall_timeout: float
    open_timeout: float
    close_timeout: float


class _Worker:
    """A connection's thread, and what can be done to it from outside."""

    __slots__ = ("stream", "thread", "websocket")

    def __init__(self, stream: Stream, run: Callable[[_Worker], None]) -> None:
        self.stream = stream
        #: Set once the handshake is done.
        self.websocket: WebSocket | None = None
        self.thread = threading.Thread(
            target=run,
            args=(self,),
            name=f"syncchat {format_address(stream.address)}",
            daemon=True,
        )

    def begin_close(self, deadline: Deadline) -> None:
        """Tell the client that the server goes; one in the handshake is cut off."""
        if self.websocket is None:
            self.stream.abort()
        else:
            self.websocket.begin_close(GOING_AWAY, "the server is stopping", deadline)


def serve(
    handler: Handler,
    host: str | None = "127.0.0.1",
    port: int = 0,
    *,
    subprotocols: Sequence[str] = (),
    max_message: int = 64 * 1024,
    max_backlog: int = 1024 * 1024,
    stall_timeout: float = 10.0,
    open_timeout: float = 10.0,
    close_timeout: float = 10.0,
    on_refused: Callable[[Address, str], None] | None = None,
    on_slow: Callable[[WebSocket], None] | None = None,
) -> Server:
    """A server that listens at ``host`` and ``port`` and runs ``handler`` for each client.

    ``host`` is an address or a name, of which every address is listened at;
    None or ``""`` is every address of the machine. ``port`` 0 lets the system
    choose. It listens when this returns; clients are served from
    :meth:`Server.start`, :meth:`Server.serve_forever` or ``with`` on.

    - ``subprotocols``: those that are spoken here, the preferred first.
    - ``max_message``: bytes of a message from a client (close code 1009 above).
    - ``max_backlog``: bytes that may wait for one client, and ``stall_timeout``,
      the seconds that they may wait without a move (1013, or cut off).
    - ``open_timeout``, ``close_timeout``: seconds for the handshakes.
    - ``on_refused``: called with the address and the reason of each client that
      got no WebSocket; on that connection's thread.
    - ``on_slow``: called once for each client that is closed as a slow
      consumer, on the thread that noticed; it must not block.

    Raises :class:`AddressInUse` or :class:`CannotListen`, both :class:`OSError`.
    """
    limits = _Limits(max_message, max_backlog, stall_timeout, open_timeout, close_timeout)
    return Server(handler, host, port, tuple(subprotocols), limits, on_refused, on_slow)


class Server:
    """A listening server, made by :func:`serve`. It is started once and stopped once.

    Every method may be called from any thread, a handler's included.
    """

    def __init__(
        self,
        handler: Handler,
        host: str | None,
        port: int,
        subprotocols: tuple[str, ...],
        limits: _Limits,
        on_refused: Callable[[Address, str], None] | None,
        on_slow: Callable[[WebSocket], None] | None,
    ) -> None:
        self._handler = handler
        self._subprotocols = subprotocols
        self._limits = limits
        self._on_refused = on_refused
        self._on_slow = on_slow
        self._listener = Listener(host, port, self._start_worker)
        #: Host and port of each socket that is listened at.
        self.addresses: list[Address] = self._listener.addresses
        self._flusher = Flusher(f"syncchat-flusher:{self.port}")
        #: Guards the fields below. Taken under no other lock of ours.
        self._lock = threading.Lock()
        self._workers: set[_Worker] = set()
        #: Threads that are about to end, to be joined by the next who passes.
        self._ending: deque[threading.Thread] = deque()
        self._acceptor: threading.Thread | None = None
        #: The acceptor is a thread of the server's own, for stop() to join.
        self._in_background = False
        self._slow_consumers = 0
        #: stop() was called.
        self._stopping = False
        #: stop() is over.
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

    @property
    def slow_consumers(self) -> int:
        """How many clients have been closed because they were too slow."""
        with self._lock:
            return self._slow_consumers

    # Running.

    def start(self) -> Self:
        """Serve in the background, on an acceptor thread. Returns the server.

        Raises :class:`RuntimeError` for a server that was started or stopped.
        """
        thread = threading.Thread(
            target=self._listener.run, name=f"syncchat-acceptor:{self.port}", daemon=True
        )
        self._claim(thread)
        self._in_background = True
        thread.start()
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
                self._stopped.wait()
            else:
                self._claim(threading.current_thread())
                self._listener.run()
        finally:
            self.stop()

    def request_stop(self) -> None:
        """Have ``serve_forever`` stop the server. From any thread, and from signal handlers."""
        self._listener.interrupt()

    def stop(self, timeout: float = 5.0) -> None:
        """Tell every client (close code 1001), end every thread, close every socket.

        Clients have ``timeout`` seconds to answer, then they are cut off. A
        handler that does not return even then is named in the log and left
        alone. A later call waits for the first. Called from a handler, it does
        not wait for that handler.
        """
        me = threading.current_thread()
        if self._acceptor is me and not self._listener.over.is_set():
            # A signal handler, on top of the accept loop and of whatever lock
            # that holds. serve_forever() comes back here after the loop.
            self._listener.interrupt()
            return
        with self._lock:
            first = not self._stopping
            self._stopping = True
            acceptor = self._acceptor
            serving = any(worker.thread is me for worker in self._workers)
        if not first:
            if not serving:
                self._stopped.wait()
            return
        deadline = Deadline.after(timeout)
        if acceptor is not None and acceptor is not me:
            self._listener.interrupt()
            self._listener.over.wait()
        self._listener.close()
        self._end_workers(deadline)
        self._flusher.stop()
        if acceptor is not None and self._in_background:
            acceptor.join()
        self._stopped.set()

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
        deadline = Deadline.after(_GRACE)
        for worker in self._other_workers():
            worker.thread.join(deadline.remaining())
        self._reap()
        for worker in self._other_workers():
            logger.warning("the handler of %r has not returned", worker.thread.name)

    def _other_workers(self) -> list[_Worker]:
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
        self._flusher.start()

    def _start_worker(self, sock: socket.socket, address: Address) -> None:
        """Serve one more client. On the acceptor."""
        self._reap()
        stream = Stream(
            sock,
            self._flusher,
            address=address,
            max_backlog=self._limits.max_backlog,
            stall_timeout=self._limits.stall_timeout,
        )
        worker = _Worker(stream, self._run)
        with self._lock:
            self._workers.add(worker)
        try:
            with _stack_lock:
                usual = threading.stack_size(_STACK_SIZE)
                try:
                    worker.thread.start()
                finally:
                    threading.stack_size(usual)
        except RuntimeError:
            with self._lock:
                self._workers.discard(worker)
            raise

    # On a connection's own thread.

    def _run(self, worker: _Worker) -> None:
        try:
            websocket = self._open(worker.stream)
            if websocket is not None:
                worker.websocket = websocket
                self._handle(websocket)
        except Exception:
            logger.exception("%s failed", worker.thread.name)
        finally:
            worker.stream.close()
            with self._lock:
                self._workers.discard(worker)
                self._ending.append(worker.thread)

    def _open(self, stream: Stream) -> WebSocket | None:
        deadline = Deadline.after(self._limits.open_timeout)
        try:
            opening = accept(stream, deadline, self._subprotocols)
        except Refusal as refusal:
            if self._on_refused is not None:
                self._on_refused(stream.address, str(refusal))
            refuse(stream, refusal)
            return None
        if opening is None:
            return None
        return WebSocket(
            stream,
            opening,
            self._flusher,
            is_client=False,
            max_message=self._limits.max_message,
            close_timeout=self._limits.close_timeout,
            on_slow=self._count_slow,
        )

    def _handle(self, websocket: WebSocket) -> None:
        code = NORMAL
        try:
            self._handler(websocket)
        except ConnectionClosed:
            pass  # The usual way to hear that the client is gone.
        except Exception:
            code = INTERNAL_ERROR
            logger.exception("the handler of %r failed", threading.current_thread().name)
        websocket.close(code)

    def _count_slow(self, websocket: WebSocket) -> None:
        with self._lock:
            self._slow_consumers += 1
        if self._on_slow is not None:
            self._on_slow(websocket)
