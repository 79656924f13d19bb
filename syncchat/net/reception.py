"""The requests of one connection: who sends them, whether they are accepted, and the answers.

A handshake is answered by the connection's thread, or without one; everything else here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..errors import ConnectionClosed
from .address import format_address
from .follower import Follower, Following
from .handshake import HandshakeResult, accept, wants_upgrade
from .http import Refusal, Request
from .http_answer import refusal_of, respond, run_view
from .http_head import read_request
from .io_thread import Deadline
from .server_config import ServerConfig
from .stream import Stream

__all__ = ["REFUSAL_TIME", "Reception"]

#: Seconds that a refused client has to send its request or to take the refusal.
REFUSAL_TIME = 2.0


class Reception:
    """A connection and its requests. Its methods are for one thread at a time.

    A ``refusal`` is the answer to a handshake. ``count_client`` is called with the host of a
    trusted proxy's client; it may raise :class:`Refusal`.
    """

    __slots__ = (
        "_config",
        "_count_client",
        "_following",
        "bodies_in",
        "counted_for",
        "follower",
        "refusal",
        "served",
        "stream",
        "thread",
    )

    def __init__(
        self,
        stream: Stream,
        config: ServerConfig,
        count_client: Callable[[Reception, str], None],
        refusal: Refusal | None,
    ) -> None:
        self._config = config
        self._count_client = count_client
        self.refusal = refusal
        #: Written by the server under its lock: whether this connection counts for
        #: ``max_connections``, and the host for which it counts, if that is known.
        self.served = False
        self.counted_for: str | None = None
        #: The requests with a body that a view has answered.
        self.bodies_in = 0
        self.stream = stream
        #: The connection's thread, while there is one.
        self.thread: threading.Thread | None = None
        #: Set once an answer that does not end has begun.
        self.follower: Follower | None = None
        self._following: Following | None = None

    @property
    def name(self) -> str:
        """The name of the thread."""
        return f"syncchat {format_address(self.stream.address)}"

    def _accept(self, deadline: Deadline | None) -> HandshakeResult | Request | None:
        """The opened WebSocket, or the request for a view; None for a client that has left."""
        config = self._config
        request = read_request(self.stream, deadline, config.limits.open_timeout)
        if request is None or (config.routes and not wants_upgrade(request)):
            return request
        request = self._identify(request)
        rest = self.stream.take_early()
        result = accept(request, rest, config.subprotocols, config.limits, config.response_headers)
        self._check(result.request)
        return result

    def _plain_request(self) -> Request | None:
        """The request of a refused client, if it is not a handshake; else None."""
        # Plain HTTP is answered, so that a monitor does not take a full server for a broken one.
        if not self._config.routes:
            return None
        try:
            request = read_request(self.stream, Deadline.after(REFUSAL_TIME), REFUSAL_TIME)
        except Refusal:
            return None
        return None if request is None or wants_upgrade(request) else request

    def _serve_plain(self, request: Request) -> bool:
        """Answer a request that is not a handshake. Returns whether another one may follow."""
        config = self._config
        route = config.routes.find(request.path)
        guarded = route is not None and route.guarded(request)
        try:
            request = self._identify(request)
            if guarded:
                if self.refusal is not None:
                    raise self.refusal
                self._check(request)
            else:
                config.access_policy.check_host(request)
                config.check_guesses(request)
            response = run_view(route, request)
            self.bodies_in += request.body is not None
            if isinstance(response, Following) and request.method != "HEAD":
                self._follow(request, response)
                return False
        except Refusal as refusal:
            config.note_refusal(self.stream.address, refusal)
            refusal.as_json = guarded
            response = refusal_of(refusal)
        return respond(self.stream, request, response, config.limits.open_timeout)

    def _follow(self, request: Request, following: Following) -> None:
        """Begin an answer that does not end. Raises :class:`Refusal`."""
        config = self._config
        follower = Follower(
            self.stream, request, following, config.io_thread, config.limits, config.note_slow
        )
        try:
            following.begin(follower)
        except BaseException as exc:
            following.end()
            if follower.has_begun:
                # The client sees that the answer breaks off.
                self.stream.writer.abort()
            if isinstance(exc, ConnectionClosed):
                return
            raise
        self._following, self.follower = following, follower
        config.counters.note_opened()

    def _check(self, request: Request) -> None:
        """Raise :class:`Refusal` if the caps or the access policy forbid this request."""
        if self.counted_for != request.remote_address[0]:
            self._count_client(self, request.remote_address[0])
        self._config.check_guesses(request)
        self._config.check(request)

    def _identify(self, request: Request) -> Request:
        """The request with its client's address, which becomes this connection's."""
        access_policy = self._config.access_policy
        identified = access_policy.identify(request)
        if identified.remote_address != self.stream.address:
            self.stream.address = identified.remote_address
            if self.thread is not None:
                self.thread.name = self.name
        if identified.host != request.host:
            # By DNS rebinding, a web page can send any X-Forwarded-Host: check it, too.
            access_policy.check_host(request)
        return identified
