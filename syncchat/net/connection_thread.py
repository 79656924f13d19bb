"""One connection, from the accepted socket to the last byte, and its thread.

A thread costs more than all other work of a connection. So it starts when it is needed: the
acceptor makes the handshake of a client whose request has arrived, and the reader takes simple
messages and the end of the connection. Everything that can block happens on the thread.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable
from http import HTTPStatus

from ..closecodes import GOING_AWAY, INTERNAL_ERROR, NORMAL, with_retry
from ..errors import ConnectionClosed
from .address import format_address
from .follower import Follower
from .handshake import HandshakeResult
from .http import Refusal, Request
from .http_answer import answer, encode, refusal_of
from .http_head import is_whole
from .io_thread import Deadline
from .limits import Traffic
from .receiver import Conversation, Later
from .reception import REFUSAL_TIME, Reception
from .server_config import ServerConfig
from .stream import Stream
from .tls import NotTLS, tls_reason
from .websocket import LINGER_BYTES, WebSocket

__all__ = ["ConnectionThread"]

logger = logging.getLogger("syncchat.net")

#: Bytes of stack of a connection's thread. The size is below the 2 MiB of a huge page, which
#: would be resident at the first touch, and is enough for the interpreter's recursion limit.
_STACK_SIZE = 2 * 1024 * 1024 - 64 * 1024
#: For a read that does not wait.
_AT_ONCE = Deadline.after(0)

#: The answer to a client that does not speak TLS; most of these send an HTTP request.
_TLS_ONLY = Refusal(HTTPStatus.BAD_REQUEST, "This port requires TLS: use wss:// or https://.")

#: Guards the interpreter's stack size, which is global: it applies to every new thread.
_stack_lock = threading.Lock()


class ConnectionThread(Reception):
    """One connection, and the methods that other threads call.

    ``on_end`` is called last, ``on_thread_end`` by a thread that ends before the connection. The
    rest is as in :class:`Reception`.
    """

    __slots__ = (
        "_conversation",
        "_deadline",
        "_drop_until",
        "_failure",
        "_finished",
        "_idle_at",
        "_lingers",
        "_on_end",
        "_on_thread_end",
        "_plain",
        "_unanswered",
        "websocket",
    )

    def __init__(
        self,
        stream: Stream,
        config: ServerConfig,
        on_end: Callable[[ConnectionThread], None],
        on_thread_end: Callable[[threading.Thread], None],
        count_client: Callable[[Reception, str], None],
        refusal: Refusal | None,
    ) -> None:
        super().__init__(stream, config, count_client, refusal)
        self._on_end = on_end
        self._on_thread_end = on_thread_end
        #: Set once the handshake is answered: nothing may be sent before.
        self.websocket: WebSocket | None = None
        # The fields below are for one thread at a time: the acceptor, the reader, the thread.
        #: For TLS and the opening handshake together; later for the client's FIN.
        self._deadline = Deadline.after(config.limits.open_timeout)
        #: The WebSocket, and the answer to the handshake until it is sent.
        self._unanswered: tuple[WebSocket, bytes] | None = None
        self._conversation: Conversation | None = None
        #: A request that the thread must answer; an exception that it must handle.
        self._plain: Request | None = None
        self._failure: BaseException | None = None
        #: The bytes that had come when a request was answered, and another one may come.
        self._idle_at: int | None = None
        #: The closing handshake is done, and the client's FIN is expected.
        self._lingers = False
        #: How many bytes may be read and dropped, those of the whole connection included.
        self._drop_until = 0
        #: The connection has ended without a thread.
        self._finished = False

    def begin(self) -> None:
        """Serve the client without a thread if possible; otherwise start the thread.

        On the acceptor thread. Raises :class:`RuntimeError` if there are no threads left.
        """
        config, reader = self._config, self._config.reader
        blocks = config.ssl_context is not None or config.access_policy.asks or self.refusal
        if reader is None or blocks or not self._open_early():
            self._start()
            return
        reader.register(self.stream.writer.fileno(), self._read, self._wake)

    def abandon(self) -> None:
        """Release a connection that could not begin. On the acceptor thread."""
        self.stream.writer.close()
        if self._conversation is not None:
            self._conversation.end()

    def begin_close(self, deadline: Deadline, seconds: float | None) -> None:
        """Tell the client that the server stops. If it cannot be told, abort instead.

        ``seconds``: when it is asked to come back; None: it is not asked.
        """
        reason = "the server is stopping"
        client = self.client
        if client is None:
            self.stream.writer.abort()
        else:
            reason = reason if seconds is None else with_retry(reason, seconds)
            client.begin_close(GOING_AWAY, reason, deadline)

    @property
    def client(self) -> WebSocket | Follower | None:
        """The client, once its handshake or its request is answered."""
        return self.websocket or self.follower

    @property
    def traffic(self) -> Traffic:
        """The traffic of the connection so far."""
        websocket, stream, writer = self.websocket, self.stream, self.stream.writer
        messages_in = self.bodies_in + (0 if websocket is None else websocket.messages_in)
        return Traffic(messages_in, writer.messages_out, stream.bytes_in, writer.bytes_out)

    # Without the thread, on the acceptor or the reader.

    def _open_early(self) -> bool:
        """Do the opening handshake if the request has arrived. False: the thread is needed."""
        received = self.stream.fetch()
        if received is None:
            return True
        if not is_whole(received):
            return False
        try:
            result = self._accept(_AT_ONCE)
            if isinstance(result, HandshakeResult):
                websocket = self._upgrade(result)
                self._conversation = conversation = self._config.converse(websocket)
                if conversation.blocks():
                    return False
                # The client gets its answer when its conversation has begun. Messages
                # after the request are parsed on the thread.
                self._answer()
                try:
                    return conversation.begin() and not result.rest
                finally:
                    self.stream.writer.send_held()
            self._plain = result
        except Exception as exc:  # noqa: BLE001 - raised in _open() or _handle()
            self._failure = exc
        return False

    def _read(self, later: Later) -> bool:
        """Read what has arrived. False: the thread is needed, or the connection has ended."""
        try:
            if self.follower is not None:
                return self._drop()
            if self.websocket is None or self._conversation is None:
                return self._open_early()
            if self._lingers:
                return self._linger()
            return self._receive(self.websocket, self._conversation, later)
        except BaseException as exc:  # noqa: BLE001 - raised in _handle()
            self._failure = exc
            return False

    def _receive(self, websocket: WebSocket, conversation: Conversation, later: Later) -> bool:
        if websocket.read_for(conversation.take, later):
            return True
        if not websocket.is_over:
            return False
        conversation.end()
        self._deadline = Deadline.after(self._config.limits.close_timeout)
        self._lingers = True
        if websocket.backlog_size:
            return False
        self._drop_until = self.stream.bytes_in + LINGER_BYTES
        self.stream.writer.shutdown_write()
        # In a stop, all clients end at the same time, and the reader would be back late.
        return self._linger()

    def _linger(self) -> bool:
        """Drop input after the end, as :meth:`Stream.drain_input`. False: the FIN has arrived."""
        dropped = self.stream.drop_input()
        self._finished = dropped == 0 or self.stream.bytes_in > self._drop_until
        return not self._finished

    def _drop(self) -> bool:
        """Drop what a follower sends. False: it is gone."""
        try:
            data = self.stream.read(_AT_ONCE)
        except TimeoutError:
            return True
        if data and self.stream.bytes_in <= self._drop_until:
            return True
        self._finished = self._following is None or not self._following.blocks
        return False

    def _wake(self) -> None:
        """Start the thread, or end the connection if no thread is needed."""
        if self._finished:
            self._end()
            return
        try:
            self._start()
        except (RuntimeError, MemoryError) as exc:
            logger.warning("cannot serve %s: %s", format_address(self.stream.address), exc)
            # Nothing blocks on an aborted connection, if the conversation does not go on.
            self.stream.writer.abort()
            self._failure = exc
            (self._run if self.follower is None else self._end)()

    def look(self) -> None:
        """End what takes too long, except on the thread. On the I/O thread, from time to time."""
        if not self._deadline.expired or self.follower is not None:
            return
        if self._idle_at == self.stream.bytes_in:
            # The client sends no further request. Its thread ends.
            self.stream.writer.abort()
        reader = self._config.reader
        if reader is None or self.thread is not None:
            return
        if self._lingers:
            self.stream.writer.abort()
        elif self.websocket is None:
            # The thread refuses the client.
            reader.dismiss(self.stream.writer.fileno())

    def _start(self) -> None:
        """Start the thread. Raises :class:`RuntimeError` if the system has no threads left."""
        # Without a thread, a follower is gone.
        target = self._run if self.follower is None else self._end
        thread = threading.Thread(target=target, name=self.name, daemon=True)
        with _stack_lock:
            usual = threading.stack_size(_STACK_SIZE)
            try:
                self.thread = thread
                thread.start()
            except BaseException:
                self.thread = None
                raise
            finally:
                threading.stack_size(usual)

    def _end(self) -> None:
        following, self._following = self._following, None
        if following is not None:
            try:
                following.end()
            except Exception:
                logger.exception("the end of %s failed", self.name)
        self.stream.writer.close()
        self._on_end(self)

    # On the thread.

    def _run(self) -> None:
        goes_on = False
        try:
            try:
                if self.websocket is None:
                    self._open()
            except Refusal as refusal:
                self._config.note_refusal(self.stream.address, refusal)
                answer(self.stream, encode(refusal_of(refusal)), Deadline.after(REFUSAL_TIME))
            if self.websocket is not None:
                self._handle(self.websocket)
            elif self.follower is not None:
                goes_on = self._hand_over()
        except Exception:
            logger.exception("%s failed", self.name)
        finally:
            if not goes_on:
                self._end()

    def _hand_over(self) -> bool:
        """Let the reader wait for the end of a follower. False: it has ended."""
        self._drop_until = self.stream.bytes_in + LINGER_BYTES
        reader = self._config.reader
        if reader is None:
            while self.stream.read() and self.stream.bytes_in <= self._drop_until:
                pass
            return False
        thread, self.thread = self.thread, None
        if thread is not None:
            self._on_thread_end(thread)
        reader.register(self.stream.writer.fileno(), self._read, self._wake)
        return True

    def _open(self) -> None:
        """TLS and the opening handshake, with one deadline for both."""
        config = self._config
        if config.ssl_context is not None:
            try:
                self.stream.start_tls(config.ssl_context, self._deadline, server_side=True)
            except (ssl.SSLError, TimeoutError, ConnectionError) as exc:
                config.note_refused(self.stream.address, "TLS", f"TLS: {tls_reason(exc)}")
                if isinstance(exc, NotTLS):
                    answer(self.stream, encode(refusal_of(_TLS_ONLY)), Deadline.after(REFUSAL_TIME))
                return
        if self.refusal is not None:
            request = self._plain_request()
            if request is None:
                raise self.refusal
            self._serve_plain(request)
            return
        if self._unanswered is not None:
            self._answer()
            self.stream.writer.send_held()
            return
        if self._failure is not None:
            raise self._failure
        received = self._plain or self._accept(self._deadline)
        if received is None:
            config.counters.note_refused("gone")
        while isinstance(received, Request):
            if not self._serve_plain(received):
                return
            self._deadline = Deadline.after(config.limits.open_timeout)
            self._idle_at = self.stream.bytes_in
            received = self._accept(None)
            self._idle_at = None
        if received is not None:
            self._upgrade(received)
            self._answer()
            self.stream.writer.send_held()

    def _upgrade(self, result: HandshakeResult) -> WebSocket:
        """Make the WebSocket. The handshake must still be answered."""
        config = self._config
        websocket = WebSocket(
            self.stream,
            result,
            config.io_thread,
            is_client=False,
            limits=config.limits,
            on_slow=config.note_slow,
            reader=config.reader,
        )
        self._unanswered = (websocket, result.answer)
        return websocket

    def _answer(self) -> None:
        """Answer the handshake. The answer is held: ``send_held`` of the writer sends it.

        A stop at this moment must find the WebSocket of a client that may have the answer.
        """
        assert self._unanswered is not None
        websocket, answered = self._unanswered
        self._unanswered = None
        self.stream.writer.hold(answered)
        self._config.counters.note_opened()
        self.websocket = websocket

    def _handle(self, websocket: WebSocket) -> None:
        code = NORMAL
        conversation = self._conversation
        try:
            if self._failure is not None:
                raise self._failure
            if conversation is None:
                conversation = self._config.converse(websocket)
            if not self._lingers:
                conversation.run()
        except ConnectionClosed:
            pass  # The client is gone: the usual end of a conversation.
        except Exception:
            code = INTERNAL_ERROR
            logger.exception("the handler of %r failed", self.name)
        finally:
            if conversation is not None:
                conversation.end()
        websocket.close(code)
