"""The opening handshake of both sides (RFC 6455, section 4)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote

from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import AcceptConnection, RejectConnection, RejectData
from wsproto.events import Request as UpgradeRequest
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError, generate_accept_token

from ..errors import HandshakeFailed, HandshakeRefused
from .http import Refusal, Request
from .http_head import END_OF_HEAD, MAX_HEAD
from .io_thread import Deadline
from .limits import Limits
from .protocol import Protocol
from .stream import Stream
from .tls import is_record

__all__ = ["HandshakeResult", "accept", "request_upgrade", "wants_upgrade"]

#: The headers of the handshake itself, which a program does not see.
_HANDSHAKE_HEADERS = (
    b"upgrade",
    b"connection",
    b"sec-websocket-version",
    b"sec-websocket-key",
    b"sec-websocket-protocol",
    b"sec-websocket-extensions",
)

#: How the entries of the subprotocols begin with which a browser shows a secret, which follows
#: percent-encoded: it can set no header, and a URL is often logged. Such an entry is never chosen,
#: and so never sent back. With the header that it stands for, and what comes before the secret.
_ENTRIES = (
    ("syncchat.token.", b"authorization", b"Bearer "),
    ("syncchat.browser.", b"syncchat-browser", b""),
)

_TRY_WSS = "try wss:// instead of ws://"

#: How many characters of a refusal's body the client keeps.
_MAX_BODY = 1024


@dataclass(frozen=True, slots=True)
class HandshakeResult:
    """The result of a successful opening handshake."""

    #: The protocol of the open connection. It is made with the handshake, often on the
    #: acceptor thread: on the connection thread, it would take a page of stack more.
    protocol: Protocol
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


# The server side. It answers with HTTP errors; see syncchat.net.http.


def wants_upgrade(request: Request) -> bool:
    """Whether ``request`` wants a WebSocket. The rest of the handshake is checked later.

    An upgrade to another protocol, which HTTP/2 clients offer, is ignored (RFC 9110, section 7.8).
    """
    return request.method == "GET" and any(
        name == b"upgrade" and b"websocket" in value.lower() for name, value in request.raw_headers
    )


def accept(
    request: Request,
    rest: bytes,
    subprotocols: Sequence[str],
    limits: Limits,
    headers: bytes = b"",
) -> HandshakeResult:
    """Check the client's request, and make the answer, 101 (RFC 6455, section 4.2).

    ``rest`` are the bytes that arrived after the request. ``subprotocols`` are the
    server's, the preferred one first. ``limits`` are those of the connection.
    ``headers`` are lines that are sent with the answer. Raises :class:`Refusal`.
    """
    own: dict[bytes, list[bytes]] = {name: [] for name in _HANDSHAKE_HEADERS}
    others: list[tuple[bytes, bytes]] = []
    for name, value in request.raw_headers:
        if name in own:
            own[name].append(value)
        else:
            others.append((name, value))
    offered: list[str] = []
    if own[b"sec-websocket-protocol"]:
        offered = _tokens(own[b"sec-websocket-protocol"])
        for entry in offered:
            for begin, header, scheme in _ENTRIES:
                secret = unquote(entry.removeprefix(begin))
                if entry.startswith(begin) and secret.isascii() and secret.isprintable():
                    # For the program, it is as if a header had shown it.
                    others.append((header, scheme + secret.encode("ascii")))
    # This is faster than dataclasses.replace().
    request = Request(
        request.target,
        tuple(others),
        request.host,
        request.method,
        request.remote_address,
        request.scheme,
        request.http_version,
    )
    _check_request(request, own)
    key = _check_key(own[b"sec-websocket-key"])
    chosen = next((name for name in subprotocols if name in offered), None)
    if chosen is not None:
        headers = b"Sec-WebSocket-Protocol: %b\r\n%b" % (chosen.encode("ascii"), headers)
    protocol = Protocol(limits.max_message, limits.max_fragments, is_client=False)
    return HandshakeResult(protocol, rest, _acceptance(key, headers), request, chosen)


def _check_request(request: Request, own: Mapping[bytes, Sequence[bytes]]) -> None:
    """Check everything but the key; ``own`` are the handshake's headers."""
    if request.method != "GET":
        raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET is supported.", [("Allow", "GET")])
    if request.http_version != "1.1":
        raise Refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "Only HTTP/1.1 is supported.")
    if not own[b"upgrade"]:
        raise _upgrade_required("This is a WebSocket server: connect with a WebSocket client.")
    if "upgrade" not in map(str.lower, _tokens(own[b"connection"])):
        raise _invalid("Missing header, 'Connection: Upgrade'")
    if not own[b"sec-websocket-version"]:
        raise _invalid("Missing header, 'Sec-WebSocket-Version'")
    if own[b"sec-websocket-version"][-1] != b"13":
        raise _upgrade_required("Only version 13 of the WebSocket protocol is supported.")
    if own[b"upgrade"][-1].lower() != b"websocket":
        raise _invalid("Missing header, 'Upgrade: websocket'")
    for name, value in request.raw_headers:
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            raise Refusal(HTTPStatus.BAD_REQUEST, "A WebSocket handshake must not have a body.")


def _check_key(keys: Sequence[bytes]) -> bytes:
    """The client's key. Raises :class:`Refusal` unless it is one valid key."""
    if not keys:
        raise _invalid("Missing header, 'Sec-WebSocket-Key'")
    try:
        valid = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
    except binascii.Error:
        valid = False
    if not valid:
        # RFC 6455, section 4.2.1: 16 bytes in base64.
        raise Refusal(HTTPStatus.BAD_REQUEST, "Sec-WebSocket-Key is not 16 bytes in base64.")
    return keys[0]


def _tokens(values: Sequence[bytes]) -> list[str]:
    """The items of a header's comma-separated list."""
    try:
        return [item.strip() for item in b",".join(values).decode("ascii").split(",")]
    except UnicodeDecodeError as exc:
        raise Refusal(HTTPStatus.BAD_REQUEST, "A header is not ASCII.") from exc


def _invalid(what: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, f"Invalid WebSocket handshake: {what}.")


def _upgrade_required(text: str) -> Refusal:
    return Refusal(
        HTTPStatus.UPGRADE_REQUIRED,
        text,
        [("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket")],
    )


def _acceptance(key: bytes, headers: bytes) -> bytes:
    """The answer to a valid handshake request (RFC 6455, section 4.2.2).

    wsproto would make the same answer with h11, but take eight times as long, which
    is a tenth of the total cost of a connection.
    """
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n"
    ) % (generate_accept_token(key), headers)


# The client side.


def request_upgrade(
    stream: Stream,
    deadline: Deadline,
    limits: Limits,
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
    handshake = H11Handshake(ConnectionType.CLIENT)
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
                rest = END_OF_HEAD.split(received, 1)[1]
                return HandshakeResult(
                    Protocol(limits.max_message, limits.max_fragments, is_client=True),
                    rest,
                    b"",
                    Request(
                        target,
                        tuple((n.lower(), v) for n, v in upgrade.extra_headers),
                        host,
                        remote_address=stream.address,
                    ),
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
    end = END_OF_HEAD.search(received)
    if (end.end() if end else len(received)) > MAX_HEAD:
        raise HandshakeFailed(f"the head of the server's answer is longer than {MAX_HEAD} bytes")
