"""The opening handshake of both sides (RFC 6455, section 4), with one total deadline.

The server side answers every request that is not a valid WebSocket handshake as
an HTTP server does: with a status and a sentence, and closes the connection.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import h11
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import AcceptConnection, RejectConnection, RejectData
from wsproto.events import Request as UpgradeRequest
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError, generate_accept_token

from ..errors import HandshakeFailed, HandshakeRefused
from .address import Address
from .deadline import Deadline
from .http import MAX_HEAD, Refusal, Request, encode, parse
from .stream import Stream
from .tls import is_record

__all__ = [
    "HandshakeResult",
    "accept",
    "answer",
    "dismiss",
    "is_whole",
    "request_upgrade",
]

_CLIENT, _SERVER = ConnectionType.CLIENT, ConnectionType.SERVER

#: Bytes and seconds for which the server still reads from a refused client before it
#: closes the connection, so that the refusal can reach the client.
_LINGER_BYTES = 4 * 1024 * 1024
_LINGER_SECONDS = 2.0

_UPGRADE = re.compile(rb"(?im)^upgrade:")
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_FIRST_BYTE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")
_REQUEST_LINE = re.compile(rb"\A([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/(\d\.\d)\r?\n")

_TRY_WSS = "try wss:// instead of ws://"

#: How many characters of a refusal's body the client keeps.
_MAX_BODY = 1024


@dataclass(frozen=True, slots=True)
class HandshakeResult:
    """The result of a successful opening handshake."""

    #: Bytes that arrived after the handshake.
    rest: bytes
    #: The server's answer, which must still be sent.
    answer: bytes
    request: Request
    #: The negotiated subprotocol, if there is one.
    subprotocol: str | None
    #: On the client's side, the answer's headers besides those of the handshake
    #: itself, by lower-case names.
    response_headers: Mapping[str, str] = field(default_factory=dict)


# The server side.


def is_whole(received: bytes) -> bool:
    """Whether ``received`` contains the complete head of a request."""
    return _END_OF_HEAD.search(received) is not None


def accept(
    stream: Stream,
    deadline: Deadline,
    subprotocols: Sequence[str],
    check: Callable[[Request], Request],
    *,
    plain: bool,
    identify: Callable[[Request], Request],
    headers: Sequence[tuple[str, str]] = (),
) -> HandshakeResult | Request | None:
    """Read and check the client's request, and make the answer, 101.

    ``subprotocols`` are the server's, the preferred one first. ``check`` is called
    last; the result holds the request that it returns. With ``plain``, a request
    without an upgrade, or not by GET, is returned without a call of ``check``.
    ``identify`` is called with a request that is refused before ``check``.
    ``headers`` are sent with the answer.
    Returns None for a client that left before it sent a request. Raises
    :class:`Refusal`, which the caller sends with :func:`answer`.
    """
    received = _read_head(stream, deadline)
    if received is None:
        return None
    head, rest = received
    if plain and not (head.startswith(b"GET ") and _UPGRADE.search(head)):
        return parse(head, stream.address)
    try:
        upgrade = _parse_request(head)
        key = _check_request(upgrade)
    except Refusal:
        # The log names the client of a trusted proxy, unless the head is no HTTP at all.
        with contextlib.suppress(Refusal):
            identify(parse(head, stream.address))
        raise
    request = check(_request_of(upgrade, stream.address))
    chosen = next((name for name in subprotocols if name in upgrade.subprotocols), None)
    if chosen is not None:
        headers = [("Sec-WebSocket-Protocol", chosen), *headers]
    # wsproto would drop the bytes that arrived in one packet with the request.
    return HandshakeResult(rest, _acceptance(key, headers), request, chosen)


def _acceptance(key: bytes, headers: Sequence[tuple[str, str]]) -> bytes:
    """The answer to a valid handshake request (RFC 6455, section 4.2.2).

    wsproto would make the same answer with h11, but take eight times as long, which
    is a tenth of the total cost of a connection.
    """
    further = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n"
    ) % (generate_accept_token(key), further.encode("ascii"))


def answer(stream: Stream, response: bytes, deadline: Deadline) -> None:
    """Send an HTTP answer, and wait until ``deadline`` for the network to accept it.

    Then reads on for a short time, so that the answer can arrive. Does not close.
    """
    stream.writer.seal(response)
    stream.writer.wait_flushed(deadline)
    stream.drain_input(Deadline.after(_LINGER_SECONDS), _LINGER_BYTES)


def dismiss(stream: Stream, refusal: Refusal) -> None:
    """Send ``refusal`` with a single write, and close. Never blocks.

    The client may lose the answer if its request is still unread.
    """
    stream.writer.seal(encode(refusal.response))
    stream.writer.shutdown_write()
    stream.writer.close()


def _read_head(stream: Stream, deadline: Deadline) -> tuple[bytes, bytes] | None:
    """The request's head with its empty line, and the bytes after it.

    None if the client left before it sent a request.
    """
    buffer = bytearray()
    while True:
        try:
            data = stream.read(deadline)
        except TimeoutError:
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "The request took too long.") from None
        if not data:
            if not buffer or stream.writer.error:
                return None
            raise Refusal(HTTPStatus.BAD_REQUEST, "The request is incomplete.")
        # The empty line may be split between two reads.
        searched = max(0, len(buffer) - 3)
        buffer += data
        if not _FIRST_BYTE.match(buffer):
            # This is not HTTP, mostly TLS, so do not wait for an empty line.
            raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid HTTP request.")
        end = _END_OF_HEAD.search(buffer, searched)
        if end is not None and end.end() <= MAX_HEAD:
            return bytes(buffer[: end.end()]), bytes(buffer[end.end() :])
        if len(buffer) > MAX_HEAD:
            raise Refusal(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"The head of the request exceeds {MAX_HEAD} bytes.",
            )


def _parse_request(head: bytes) -> UpgradeRequest:
    """Parse the request with wsproto. Raises :class:`Refusal` for an invalid request."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid HTTP request.")
    if line[1] != b"GET":
        raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET is supported.", [("Allow", "GET")])
    if line[3] != b"1.1":
        raise Refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "Only HTTP/1.1 is supported.")
    handshake = H11Handshake(_SERVER)
    try:
        handshake.receive_data(head)
        for event in handshake.events():
            if isinstance(event, UpgradeRequest):
                return event
    except RemoteProtocolError as exc:
        raise _refusal_of(exc, head) from exc
    except UnicodeError as exc:
        raise Refusal(HTTPStatus.BAD_REQUEST, "A header is not ASCII.") from exc
    raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid HTTP request.")


def _refusal_of(exc: RemoteProtocolError, head: bytes) -> Refusal:
    """The answer to a request that wsproto rejects."""
    hint = exc.event_hint
    if isinstance(hint, RejectConnection) and hint.status_code == HTTPStatus.UPGRADE_REQUIRED:
        return Refusal(
            HTTPStatus.UPGRADE_REQUIRED,
            "Only version 13 of the WebSocket protocol is supported.",
            [("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket")],
        )
    malformed = isinstance(exc.__context__, h11.RemoteProtocolError)
    if not malformed and not _UPGRADE.search(head):
        return Refusal(
            HTTPStatus.UPGRADE_REQUIRED,
            "This is a WebSocket server: connect with a WebSocket client.",
            [("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket")],
        )
    return Refusal(HTTPStatus.BAD_REQUEST, f"Invalid WebSocket handshake: {exc}.")


def _check_request(upgrade: UpgradeRequest) -> bytes:
    """Check what wsproto does not check: body, key and target. Returns the client's key."""
    keys = []
    for name, value in upgrade.extra_headers:
        if name == b"sec-websocket-key":
            keys.append(value)
        elif name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            raise Refusal(HTTPStatus.BAD_REQUEST, "A WebSocket handshake must not have a body.")
    try:
        valid = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
    except binascii.Error:
        valid = False
    if not valid:
        # RFC 6455, section 4.2.1: 16 bytes in base64.
        raise Refusal(HTTPStatus.BAD_REQUEST, "Sec-WebSocket-Key is not 16 bytes in base64.")
    if not upgrade.target.startswith("/"):
        raise Refusal(HTTPStatus.BAD_REQUEST, "The request's target is not a path.")
    return keys[0]


def _request_of(upgrade: UpgradeRequest, address: Address) -> Request:
    ours = (b"upgrade", b"connection", b"sec-websocket-key", b"sec-websocket-version")
    return Request(
        target=upgrade.target,
        raw_headers=tuple(
            (bytes(name), bytes(value)) for name, value in upgrade.extra_headers if name not in ours
        ),
        host=upgrade.host,
        remote_address=address,
    )


# The client side.


def request_upgrade(
    stream: Stream,
    deadline: Deadline,
    *,
    host: str,
    target: str,
    headers: Sequence[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
    secure: bool = False,
) -> HandshakeResult:
    """Request a WebSocket from the server, and read its answer.

    ``secure`` says that the stream has TLS. Raises :class:`HandshakeRefused` for an
    ordinary HTTP answer, :class:`HandshakeFailed` for any other wrong answer, and
    :class:`TimeoutError`.
    """
    upgrade = UpgradeRequest(
        host=host,
        target=target,
        subprotocols=list(subprotocols),
        extra_headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in headers],
    )
    handshake = H11Handshake(_CLIENT)
    stream.writer.write(handshake.send(upgrade))
    refused: RejectConnection | None = None
    body = bytearray()
    received = b""
    while True:
        try:
            data = stream.read(deadline)
        except TimeoutError:
            raise TimeoutError("the server did not answer the handshake in time") from None
        if not data and refused is None:
            raise HandshakeFailed(_closed_text(received, secure=secure))
        received += b"" if refused else data
        _check_answer(received, secure=secure)
        try:
            handshake.receive_data(data)
        except (RemoteProtocolError, UnicodeError) as exc:
            raise HandshakeFailed(
                f"the server's answer is not a valid WebSocket handshake: {exc}"
            ) from exc
        for event in handshake.events():
            if isinstance(event, AcceptConnection):
                rest = _END_OF_HEAD.split(received, 1)[1]
                return HandshakeResult(
                    rest,
                    b"",
                    _request_of(upgrade, stream.address),
                    event.subprotocol,
                    {
                        bytes(name).decode("ascii"): bytes(value).decode("latin-1")
                        for name, value in event.extra_headers
                    },
                )
            if isinstance(event, RejectConnection):
                refused = event
            elif isinstance(event, RejectData):
                body += event.data
        if refused is not None and (
            not data or handshake.state is ConnectionState.CLOSED or len(body) > _MAX_BODY
        ):
            text = body.decode("utf-8", "replace")[:_MAX_BODY]
            raise HandshakeRefused(refused.status_code, text)


def _closed_text(received: bytes, *, secure: bool) -> str:
    """The error text if the server closed the connection before it answered."""
    # A server with OpenSSL does not answer a request without TLS.
    hint = "" if secure or received else f"; if it speaks TLS, {_TRY_WSS}"
    return f"the server closed the connection during the handshake{hint}"


def _check_answer(received: bytes, *, secure: bool) -> None:
    """Raise :class:`HandshakeFailed` for unexpected TLS, and for a head that is too long."""
    if not secure and is_record(received):
        raise HandshakeFailed(f"the server speaks TLS: {_TRY_WSS}")
    end = _END_OF_HEAD.search(received)
    if (end.end() if end else len(received)) > MAX_HEAD:
        raise HandshakeFailed(f"the head of the server's answer is longer than {MAX_HEAD} bytes")
