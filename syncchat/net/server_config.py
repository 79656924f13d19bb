"""What all connections of a server share: its settings, and the reports about clients."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from math import ceil

from .access_policy import AccessPolicy, shown_tokens
from .address import Address, format_address
from .follower import Follower
from .http import Refusal, Request
from .http_answer import Routes
from .io_thread import IOThread
from .limits import Counters, HostBuckets, Limits
from .receiver import Conversation, Reader
from .websocket import WebSocket

__all__ = ["ServerConfig"]

logger = logging.getLogger("syncchat.net")


@dataclass(slots=True)
class ServerConfig:
    """The settings and the parts that the connections of a server share. From any thread.

    :meth:`Server.reconfigure` replaces ``access_policy`` and ``ssl_context``; the rest stays.
    """

    #: Makes the conversation of each client, after the opening handshake.
    converse: Callable[[WebSocket], Conversation]
    io_thread: IOThread
    reader: Reader | None
    limits: Limits
    subprotocols: Sequence[str]
    #: Lines that are sent with every 101 answer besides the headers of the handshake.
    response_headers: bytes
    #: The views for requests that are not handshakes, by path.
    routes: Routes
    access_policy: AccessPolicy
    ssl_context: ssl.SSLContext | None
    counters: Counters
    on_refused: Callable[[Address, str], None] | None
    on_slow: Callable[[WebSocket | Follower], None] | None
    #: The rate limits of new connections, and of wrong tokens.
    newcomers: HostBuckets
    wrong_tokens: HostBuckets

    def check_newcomer(self, host: str) -> None:
        """Raise :class:`Refusal` (429) for too many new connections from ``host``."""
        wait = self.newcomers.take(host)
        if wait:
            raise _too_many("Too many new connections from your address.", wait)

    def check_guesses(self, request: Request) -> None:
        """Raise :class:`Refusal` (429) for a token after too many wrong ones from its address.

        A right one, too: otherwise a client could go on guessing.
        """
        wait = self.wrong_tokens.wait(request.remote_address[0])
        if wait and shown_tokens(request):
            raise _too_many("Too many wrong tokens from your address.", wait)

    def check(self, request: Request) -> None:
        """Raise :class:`Refusal` if the access policy forbids this request."""
        try:
            self.access_policy.check(request)
        except Refusal:
            raise
        except Exception as exc:
            address = format_address(request.remote_address)
            logger.exception("authorize() failed for %s", address)
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error.") from exc

    def note_refused(self, address: Address, reason: str, text: str) -> None:
        """Count and report a client that is refused."""
        self.counters.note_refused(reason)
        if self.on_refused is not None:
            try:
                self.on_refused(address, text)
            except Exception:
                logger.exception("on_refused() failed for %s", format_address(address))

    def note_refusal(self, address: Address, refusal: Refusal) -> None:
        """Count and report the refusal of a client, and a wrong token against its address."""
        if any("invalid_token" in value for _, value in refusal.headers):
            self.wrong_tokens.take(address[0])
        self.note_refused(address, str(refusal.status.value), str(refusal))

    def note_slow(self, client: WebSocket | Follower) -> None:
        """Count and report a slow consumer."""
        self.counters.note_slow()
        if self.on_slow is not None:
            try:
                self.on_slow(client)
            except Exception:
                # The combiner and the I/O thread work for all clients, and must continue.
                address = format_address(client.remote_address)
                logger.exception("on_slow() failed for %s", address)


def _too_many(text: str, wait: float) -> Refusal:
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, text, [("Retry-After", str(ceil(wait)))])
