"""The thread of one connection, from the accepted socket to the last byte."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from ..closecodes import GOING_AWAY, INTERNAL_ERROR, NORMAL
from ..errors import ConnectionClosed
from .access_policy import AccessPolicy
from .address import Address, format_address
from .handshake import HandshakeResult, accept, wants_upgrade
from .http import (
    Refusal,
    Request,
    Response,
    View,
    answer,
    check_method,
    encode,
    is_whole,
    parse,
    read_head,
    view_for,
)
from .io_thread import Deadline, IOThread
from .limits import Counters, Limits, Traffic
from .receiver import Followers
from .stream import Stream
from .tls import NotTLS, tls_reason
from .websocket import WebSocket

__all__ = ["ConnectionThread", "Handler", "ServerConfig"]

logger = logging.getLogger("syncchat.net")

#: Serves one connection on the connection's thread, after the opening handshake.
#: When it returns, the connection is closed. It may raise :class:`ConnectionClosed`.
Handler = Callable[[WebSocket], None]

#: Bytes of stack of a connection's thread. Only touched pages are resident. The
#: size is below the 2 MiB of a huge page, which would be resident at the first
#: touch, and is enough for the interpreter's recursion limit through calls from C.
_STACK_SIZE = 2 * 1024 * 1024 - 64 * 1024
#: Seconds that a refused client has to send its request or to take the refusal.
_REFUSAL_TIME = 2.0

#: The answer to a client that does not speak TLS; most of these send an HTTP request.
_TLS_ONLY = Refusal(HTTPStatus.BAD_REQUEST, "This port requires TLS: use wss:// or https://.")

#: Guards the interpreter's stack size, which is global: it applies to every new thread.
_stack_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The settings that a server applies to each connection."""

    handler: Handler
    limits: Limits
    subprotocols: Sequence[str]
    #: Sent with every 101 answer besides the headers of the handshake.
    response_headers: Sequence[tuple[str, str]]
    #: The views for requests that are not handshakes, by path.
    routes: Mapping[str, View]
    access_policy: AccessPolicy
    ssl_context: ssl.SSLContext | None
    counters: Counters
    on_refused: Callable[[Address, str], None] | None
    on_slow: Callable[[WebSocket], None] | None


class ConnectionThread:
    """The thread of one connection, and the methods that other threads call.

    The thread calls ``on_end`` last. A ``refusal`` is the answer to a request for
    a WebSocket. ``count_client`` is called with this object and the client's
    host when the client of a trusted proxy requests a WebSocket; it may
    raise :class:`Refusal`.
    """

    __slots__ = (
        "_config",
        "_count_client",
        "_followers",
        "_io_thread",
        "_on_end",
        "_prepared",
        "counted_for",
        "refusal",
        "served",
        "stream",
        "thread",
        "websocket",
    )

    def __init__(
        self,
        stream: Stream,
        io_thread: IOThread,
        followers: Followers | None,
        config: ServerConfig,
        on_end: Callable[[ConnectionThread], None],
        count_client: Callable[[ConnectionThread, str], None],
        refusal: Refusal | None,
    ) -> None:
        self._io_thread = io_thread
        self._followers = followers
        self._config = config
        self._on_end = on_end
        self._count_client = count_client
        self.refusal = refusal
        #: Written by the server under its lock: whether this connection counts for
        #: ``max_connections``, and the host for which it counts, if that is known.
        self.served = False
        self.counted_for: str | None = None
        #: The result of prepare(), if there is one.
        self._prepared: HandshakeResult | Request | Exception | None = None
        self.stream = stream
        #: Set once the handshake is done.
        self.websocket: WebSocket | None = None
        self.thread = threading.Thread(
            target=self._run, name=f"syncchat {format_address(stream.address)}", daemon=True
        )

    def prepare(self) -> None:
        """Read the request if it has arrived, and make the answer.

        Runs on the acceptor thread; never waits. Most requests have arrived when
        their client is accepted. To handle them here, one after the other, costs
        half as much as on new threads, which are cold and wait for each other.
        """
        config = self._config
        if config.ssl_context is not None or config.access_policy.asks or self.refusal is not None:
            return
        if is_whole(self.stream.fetch()):
            try:
                self._prepared = self._accept(Deadline.after(0))
            except Exception as exc:  # noqa: BLE001 - raised in _open()
                # It is about this client only. To send a refusal takes time.
                self._prepared = exc

    def start(self) -> None:
        """Start the thread. Raises :class:`RuntimeError` if the system has no threads left."""
        with _stack_lock:
            usual = threading.stack_size(_STACK_SIZE)
            try:
                self.thread.start()
            finally:
                threading.stack_size(usual)

    def begin_close(self, deadline: Deadline) -> None:
        """Tell the client that the server stops. During the opening handshake, abort instead."""
        if self.websocket is None:
            self.stream.writer.abort()
        else:
            self.websocket.begin_close(GOING_AWAY, "the server is stopping", deadline)

    @property
    def traffic(self) -> Traffic:
        """The traffic of the connection so far."""
        websocket, stream = self.websocket, self.stream
        if websocket is None:
            return Traffic(0, 0, stream.bytes_in, stream.writer.bytes_out)
        return Traffic(
            websocket.messages_in, websocket.messages_out, stream.bytes_in, stream.writer.bytes_out
        )

    # On the thread.

    def _run(self) -> None:
        try:
            try:
                self._open()
            except Refusal as refusal:
                self._note_refused(str(refusal.status.value), str(refusal))
                answer(self.stream, encode(refusal.response), Deadline.after(_REFUSAL_TIME))
            if self.websocket is not None:
                self._handle(self.websocket)
        except Exception:
            logger.exception("%s failed", self.thread.name)
        finally:
            self.stream.writer.close()
            self._on_end(self)

    def _open(self) -> None:
        """TLS and the opening handshake, with one deadline for both."""
        config = self._config
        deadline = Deadline.after(config.limits.open_timeout)
        if config.ssl_context is not None:
            try:
                self.stream.start_tls(config.ssl_context, deadline, server_side=True)
            except (ssl.SSLError, TimeoutError, ConnectionError) as exc:
                self._note_refused("TLS", f"TLS: {tls_reason(exc)}")
                if isinstance(exc, NotTLS):
                    answer(self.stream, encode(_TLS_ONLY.response), Deadline.after(_REFUSAL_TIME))
                return
        if self.refusal is not None:
            request = self._plain_request()
            if request is None:
                raise self.refusal
            self._serve_plain(request)
            return
        result = self._prepared or self._accept(deadline)
        self._prepared = None
        if isinstance(result, Exception):
            raise result
        if result is None:
            config.counters.note_refused("gone")
            return
        if isinstance(result, Request):
            self._serve_plain(result)
            return
        self.stream.writer.write(result.answer)
        config.counters.note_opened()
        self.websocket = WebSocket(
            self.stream,
            result,
            self._io_thread,
            is_client=False,
            limits=config.limits,
            on_slow=self._note_slow,
            followers=self._followers,
        )

    def _accept(self, deadline: Deadline) -> HandshakeResult | Request | None:
        """The opened WebSocket, or the request for a view; None for a client that has left."""
        received = self._read_request(deadline)
        if received is None:
            return None
        request, rest = received
        config = self._config
        if config.routes and not wants_upgrade(request):
            return request
        request = self._identify(request)
        result = accept(request, rest, config.subprotocols, config.limits, config.response_headers)
        self._check(result.request)
        return result

    def _read_request(self, deadline: Deadline) -> tuple[Request, bytes] | None:
        """The request, and the bytes after it; None for a client that has left."""
        received = read_head(self.stream, deadline)
        if received is None:
            return None
        head, rest = received
        return parse(head, self.stream.address), rest

    def _plain_request(self) -> Request | None:
        """The request of a refused client, if it is not a handshake; else None.

        Plain HTTP is answered even if the server is full, so that a monitor does
        not take a full server for a broken one.
        """
        if not self._config.routes:
            return None
        try:
            received = self._read_request(Deadline.after(_REFUSAL_TIME))
        except Refusal:
            return None
        return received[0] if received and not wants_upgrade(received[0]) else None

    def _serve_plain(self, request: Request) -> None:
        """Answer a request that is not a handshake."""
        config = self._config
        head_only = request.method == "HEAD"
        try:
            data = encode(self._view(request), head_only=head_only)
        except Refusal as refusal:
            self._note_refused(str(refusal.status.value), str(refusal))
            data = encode(refusal.response, head_only=head_only)
        except Exception:
            logger.exception("the view of %s failed", request.path)
            failed = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error.")
            data = encode(failed.response, head_only=head_only)
        answer(self.stream, data, Deadline.after(config.limits.open_timeout))

    def _view(self, request: Request) -> Response:
        config = self._config
        request = self._identify(request)
        config.access_policy.check_host(request)
        view = view_for(config.routes, request.path)
        if view is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "Not found.")
        check_method(request)
        response: object = view(request)
        if not isinstance(response, Response):
            kind = type(response).__name__
            logger.error("the view of %s returned %s instead of a Response", request.path, kind)
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error.")
        return response

    def _check(self, request: Request) -> None:
        """Raise :class:`Refusal` if the caps or the access policy forbid this handshake."""
        if self.counted_for is None:
            self._count_client(self, request.remote_address[0])
        try:
            self._config.access_policy.check(request)
        except Refusal:
            raise
        except Exception as exc:
            logger.exception("authorize() failed for %s", self.thread.name)
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error.") from exc

    def _identify(self, request: Request) -> Request:
        """The request with its client's address, which becomes this connection's address."""
        access_policy = self._config.access_policy
        identified = access_policy.identify(request)
        if identified.remote_address != self.stream.address:
            self.stream.address = identified.remote_address
            self.thread.name = f"syncchat {format_address(identified.remote_address)}"
        if identified.host != request.host:
            # By DNS rebinding, a web page can send any X-Forwarded-Host, so check
            # the forwarded name, too.
            access_policy.check_host(request)
        return identified

    def _handle(self, websocket: WebSocket) -> None:
        code = NORMAL
        try:
            self._config.handler(websocket)
        except ConnectionClosed:
            pass  # The client is gone: the usual end of a handler.
        except Exception:
            code = INTERNAL_ERROR
            logger.exception("the handler of %r failed", self.thread.name)
        websocket.close(code)

    def _note_refused(self, reason: str, text: str) -> None:
        self._config.counters.note_refused(reason)
        if self._config.on_refused is not None:
            try:
                self._config.on_refused(self.stream.address, text)
            except Exception:
                logger.exception("on_refused() failed for %s", self.thread.name)

    def _note_slow(self, websocket: WebSocket) -> None:
        self._config.counters.note_slow()
        if self._config.on_slow is not None:
            try:
                self._config.on_slow(websocket)
            except Exception:
                # This runs on the combiner's thread or the I/O thread, which work
                # for all clients and must continue.
                logger.exception("on_slow() failed for %s", self.thread.name)
