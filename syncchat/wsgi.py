"""WebSockets inside WSGI servers with threads: gunicorn (gthread), Werkzeug's, waitress.

A view of Flask, Django or Bottle calls :func:`accept` with its WSGI environment, and talks to the
client on its own thread, as a handler of :func:`syncchat.net.serve` does. The server's socket is
replaced by a dead one, so that the server's own answer goes nowhere.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Unpack
from urllib.parse import quote
from wsgiref.util import is_hop_by_hop

from .closecodes import GOING_AWAY
from .errors import ConnectionClosed
from .net import Deadline, Limits, Refusal, Request, WebSocket
from .net.access_policy import AccessPolicy, parse_access
from .net.handshake import accept as accept_handshake
from .net.heartbeat import start_heartbeat, start_sweep
from .net.io_thread import IOThread
from .net.limits import ConnectionSettings
from .net.stream import Stream

__all__ = ["accept", "close_all"]

#: Where the servers put their socket into the environment.
_SOCKETS = ("gunicorn.socket", "werkzeug.socket")

_WAITRESS = "waitress.client_disconnected"

_NO_SOCKET = (
    "this WSGI server ({}) hands out no socket, so it cannot serve WebSockets: use gunicorn with"
    " --worker-class gthread, waitress, Werkzeug's server, or syncchat.net.serve(handler, wsgi=app)"
)
_NO_THREADS = (
    "this WSGI server has one thread, which the first WebSocket would take: run gunicorn with"
    " --worker-class gthread --threads N, or Werkzeug's server with threaded=True"
)
_NOT_PLAIN = (
    "the socket of this WSGI server is a {}, which cannot be taken over: end TLS in a proxy in"
    " front of it, and use a worker with threads"
)

#: Seconds between two looks at whether gunicorn stops, and that a stop waits for the clients.
_LOOK = 0.25
_STOP = 1.5


class _Accepted(WebSocket):
    """A WebSocket of a view.

    The end of its connection ends the ``with`` block without an exception: that the client is gone
    is no failure of the view, which frameworks would log.
    """

    def __exit__(
        self, kind: object, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        is_over = isinstance(exc, ConnectionClosed) and self.close_code is not None
        super().__exit__(kind, exc, traceback)
        return is_over


def accept(
    environ: Mapping[str, Any],
    *,
    subprotocols: Sequence[str] = (),
    response_headers: Sequence[tuple[str, str]] = (),
    origins: Sequence[str] = (),
    on_slow: Callable[[WebSocket], None] | None = None,
    **limits: Unpack[ConnectionSettings],
) -> WebSocket:
    """Take over the socket of a WSGI request, and return it as a WebSocket::

        everybody = Group()

        @app.get("/live")
        def live():
            with accept(request.environ) as websocket:
                everybody.add(websocket)
                for message in websocket:
                    everybody.send(message)
            return ""  # Goes nowhere.

    Read on the view's thread until the end, and close the WebSocket there, which a ``with`` block
    does: with 1011 after an exception, and without one when the client is gone. The view may return
    anything. ``Group.add`` and ``send`` work as everywhere. When gunicorn stops, and at the end
    of the process, the clients are closed with 1001.

    - ``subprotocols``, ``response_headers``, ``on_slow``: as in :func:`syncchat.net.serve`.
    - ``origins``: web pages that browsers may connect from besides those of the request's own
      host. The host is the one in ``environ``: a middleware such as Werkzeug's ProxyFix may set
      it.
    - ``limits``: those of :class:`~syncchat.net.Limits`.

    Raises :class:`~syncchat.net.Refusal`, with the status for the view's own answer, for a
    request that is no WebSocket handshake or comes from a foreign page; and
    :class:`RuntimeError` if the server hands out no socket, or has one thread only.
    """
    held_to = Limits(**limits)
    allowed, _ = parse_access(origins, None, None)
    request = _request_of(environ)
    # The host is the framework's to check: it knows the names of the site.
    policy = AccessPolicy(None, [("any", 0)], allowed, None)
    lines = "".join(f"{name}: {value}\r\n" for name, value in response_headers).encode("ascii")
    try:
        handshake = accept_handshake(request, b"", subprotocols, held_to, lines)
        policy.check(request)
    except Refusal as refusal:
        # An application must not send Upgrade (PEP 3333); servers refuse it.
        refusal.headers = [each for each in refusal.headers if not is_hop_by_hop(each[0])]
        raise
    sock = _socket_of(environ)
    connections = _connections_of(held_to)
    stream = Stream(
        _taken_over(sock),
        connections.io_thread,
        address=request.remote_address,
        max_backlog=held_to.max_backlog,
        stall_timeout=held_to.stall_timeout,
    )
    websocket = _Accepted(
        stream, handshake, connections.io_thread, is_client=False, limits=held_to, on_slow=on_slow
    )
    stream.writer.write(handshake.answer)
    connections.add(websocket)
    return websocket


def close_all(timeout: float = _STOP) -> None:
    """Close the WebSockets of this process with 1001. Cuts off those that are open at the end.

    Takes ``timeout`` seconds at most. For a hook of a server that stops; it is called at the end
    of the process anyway. From any thread that serves no WebSocket.
    """
    deadline = Deadline.after(timeout)
    with _lock:
        # Not those of a parent, which a fork has left here.
        ours = [key for key in _by_heartbeat if key[0] == os.getpid()]
        all_connections = [_by_heartbeat.pop(key) for key in ours]
    for connections in all_connections:
        connections.begin_close(deadline)
    for connections in all_connections:
        connections.finish(deadline)


def _request_of(environ: Mapping[str, Any]) -> Request:
    """The request of a WSGI environment (PEP 3333)."""
    headers = tuple(
        (name[5:].replace("_", "-").lower().encode("latin-1"), str(value).encode("latin-1"))
        for name, value in environ.items()
        if name.startswith("HTTP_") and name != "HTTP_HOST"
    )
    if length := str(environ.get("CONTENT_LENGTH") or ""):
        # A handshake has no body.
        headers += ((b"content-length", length.encode("latin-1")),)
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    query = environ.get("QUERY_STRING", "")
    port = str(environ.get("REMOTE_PORT", ""))
    return Request(
        quote(path.encode("latin-1"), safe="/%:@!$&'()*+,;=~") + (f"?{query}" if query else ""),
        headers,
        environ.get("HTTP_HOST") or environ.get("SERVER_NAME", ""),
        environ["REQUEST_METHOD"],
        (environ.get("REMOTE_ADDR", ""), int(port) if port.isascii() and port.isdigit() else 0),
        environ.get("wsgi.url_scheme", "http"),
        environ.get("SERVER_PROTOCOL", "HTTP/1.1").removeprefix("HTTP/"),
    )


def _socket_of(environ: Mapping[str, Any]) -> socket.socket:
    """The socket that the server puts into the environment. Raises :class:`RuntimeError`."""
    sock = next((environ[name] for name in _SOCKETS if environ.get(name) is not None), None)
    if sock is None:
        # Waitress gives a method of its channel, which has the socket. Its main loop does not
        # read from the socket while the view runs.
        sock = getattr(getattr(environ.get(_WAITRESS), "__self__", None), "socket", None)
    if sock is None:
        raise RuntimeError(_NO_SOCKET.format(environ.get("SERVER_SOFTWARE", "unknown")))
    if type(sock) is not socket.socket:
        raise RuntimeError(_NOT_PLAIN.format(f"{type(sock).__module__}.{type(sock).__name__}"))
    if not environ.get("wsgi.multithread"):
        raise RuntimeError(_NO_THREADS)
    return sock


def _taken_over(sock: socket.socket) -> socket.socket:
    """The connection of ``sock`` as another socket; ``sock`` becomes a dead one.

    What the server still writes to it fails with EPIPE, as if the client were gone: every server
    takes that silently. What it reads is the end.
    """
    ours = socket.socket(fileno=os.dup(sock.fileno()))
    dead, other = socket.socketpair()
    other.close()
    with dead:
        # Atomic: the number is never free for another thread.
        os.dup2(dead.fileno(), sock.fileno(), inheritable=False)
    return ours


class _Connections:
    """The WebSockets of this process with the same heartbeat, and their I/O thread."""

    def __init__(self, limits: Limits) -> None:
        self.io_thread = IOThread("syncchat-io:wsgi")
        #: Guards the field below. No other lock is taken under it.
        self._lock = threading.Lock()
        self._open: set[WebSocket] = set()
        start_heartbeat(self.io_thread, self._all, limits.ping_interval, limits.ping_timeout)
        #: Told of the stop of the server.
        self._is_stopping = False
        start_sweep(self.io_thread, lambda: [self], _Connections._look, 8 * _LOOK)

    def add(self, websocket: WebSocket) -> None:
        with self._lock:
            self._open.add(websocket)
        if self._is_stopping:
            self.begin_close(Deadline.after(_STOP))

    def begin_close(self, deadline: Deadline) -> None:
        """Tell all clients that the server stops. Cuts them off at ``deadline``."""
        self._is_stopping = True
        for websocket in self._all():
            websocket.begin_close(GOING_AWAY, "the server is stopping", deadline)

    def finish(self, deadline: Deadline) -> None:
        """Wait until all connections are closed, cut them off at the deadline, end the thread."""
        while self._all() and not deadline.expired:
            time.sleep(0.01)
        for websocket in self._all():
            websocket.abort()
        self.io_thread.stop()

    def _all(self) -> list[WebSocket]:
        with self._lock:
            self._open = {each for each in self._open if each.close_code is None}
            return list(self._open)

    def _look(self) -> None:
        """Close the connections if gunicorn stops: it waits for its threads. On the I/O thread."""
        # Forgets closed ones, also if there is no heartbeat.
        self._all()
        if not self._is_stopping and _is_gunicorn_stopping():
            self.begin_close(Deadline.after(_STOP))


def _is_gunicorn_stopping() -> bool:
    """Whether this process is a worker of gunicorn that has been told to stop.

    Gunicorn has no hook for it, but its handler of SIGTERM is a method of the worker.
    """
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(worker, "alive", True) is False


#: Guards the dictionary. No other lock is taken under it, except that of a new I/O thread.
_lock = threading.Lock()
#: By process, interval and timeout of the heartbeat. A server forks before the first request.
_by_heartbeat: dict[tuple[int, float | None, float], _Connections] = {}


def _connections_of(limits: Limits) -> _Connections:
    key = (os.getpid(), limits.ping_interval, limits.ping_timeout)
    with _lock:
        found = _by_heartbeat.get(key)
        if found is None:
            if not _by_heartbeat:
                # Once: a repeated call has nothing to do.
                atexit.unregister(close_all)
                atexit.register(close_all)
            found = _by_heartbeat[key] = _Connections(limits)
        return found
