"""HTTP of the server: the head of a request, answers and routes.

Every request is parsed here, once: a WebSocket handshake as well as one for a view.
A connection carries one request and one answer.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

import h11

from .address import Address
from .io_thread import Deadline
from .stream import Stream

__all__ = [
    "END_OF_HEAD",
    "MAX_HEAD",
    "Refusal",
    "Request",
    "Response",
    "View",
    "answer",
    "check_method",
    "dismiss",
    "encode",
    "is_whole",
    "parse",
    "read_request",
    "run_view",
    "view_for",
]

logger = logging.getLogger("syncchat.net")

#: Maximum bytes of the head of a request or response, on both sides; also h11's limit.
MAX_HEAD = 16384

#: Matches the end of a head, the empty line included.
END_OF_HEAD = re.compile(rb"\n\r?\n")
_FIRST_BYTE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")

_METHODS = ("GET", "HEAD")

#: Bytes and seconds for which the server still reads from a client before it closes
#: the connection, so that the answer can reach the client.
_LINGER_BYTES = 4 * 1024 * 1024
_LINGER_SECONDS = 2.0

#: The part of h11's error text that quotes bytes of the request in Python's notation.
_QUOTED = re.compile(r": (?:bytearray\()?b['\"].*", re.DOTALL)

#: The beginning of an absolute target.
_AUTHORITY = re.compile(r"(?i)^https?://[^/?]*(?=/)")

#: Matches what nearly all clients send: a GET for a path, and headers in ASCII, each with one
#: blank before its value and none after it. Groups: the path with its query; the headers.
_USUAL_HEAD = re.compile(
    rb"GET (/[!-~]*) HTTP/1\.1\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [!-~](?:[ -~]*[!-~])?\r\n)+)\r\n"
)
#: Headers whose values h11 checks, besides Host.
_CHECKED_HEADERS = frozenset({b"content-length", b"transfer-encoding"})

#: Statuses whose answers have neither a body nor a Content-Length (RFC 9110, section 8.6).
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request, a handshake or plain HTTP. Immutable."""

    #: Path and query as in the request line, percent-encoded.
    target: str
    #: All headers except those of the handshake itself, with lower-case names.
    raw_headers: tuple[tuple[bytes, bytes], ...]
    #: The ``Host`` header. Behind a trusted proxy, the one that the proxy reports.
    host: str
    #: Views are called for ``GET``, and for ``HEAD``, whose answer has no body.
    method: str = "GET"
    #: The client's host and port. Behind a trusted proxy, those of the proxy's client.
    remote_address: Address = ("", 0)
    #: ``https`` if the client uses TLS, to the server or to a trusted proxy.
    scheme: str = "http"
    http_version: str = "1.1"

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The part of the target after the ``?``; empty without one."""
        return self.target.partition("?")[2]

    @property
    def headers(self) -> dict[str, str]:
        """Headers by lower-case name, repeated ones joined by a comma (RFC 9110, section 5.3)."""
        joined = {"host": self.host}
        for name_bytes, value_bytes in self.raw_headers:
            name, value = name_bytes.decode("ascii"), value_bytes.decode("latin-1")
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        return joined


@dataclass(frozen=True, slots=True)
class Response:
    """A view's answer. ``headers`` are added to those for length, type and date.

    A ``str`` body is sent as UTF-8; then a ``content_type`` of ``text/...`` without
    a ``charset`` is extended by ``charset=utf-8``.
    """

    body: bytes | str
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: Sequence[tuple[str, str]] = ()


#: Answers a request that is not a handshake, on that connection's thread. It may
#: raise :class:`Refusal`.
View = Callable[[Request], Response]


class Refusal(Exception):
    """An error answer to a request. Raise it in a view or in ``authorize``."""

    def __init__(
        self, status: HTTPStatus, text: str, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(f"{status.value} {text}")
        self.status = status
        self.text = text
        self.headers = headers

    @property
    def response(self) -> Response:
        """The refusal as an answer."""
        return Response(f"{self.text}\n".encode(), status=self.status, headers=self.headers)


def is_whole(received: bytes) -> bool:
    """Whether ``received`` contains the complete head of a request."""
    return END_OF_HEAD.search(received) is not None


def read_request(stream: Stream, deadline: Deadline) -> tuple[Request, bytes] | None:
    """Read a request, and the bytes after it; None for a client that left before.

    Raises :class:`Refusal`.
    """
    received = _read_head(stream, deadline)
    if received is None:
        return None
    head, rest = received
    return parse(head, stream.address), rest


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
        end = END_OF_HEAD.search(buffer, searched)
        if end is not None and end.end() <= MAX_HEAD:
            return bytes(buffer[: end.end()]), bytes(buffer[end.end() :])
        if len(buffer) > MAX_HEAD:
            raise Refusal(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"The head of the request exceeds {MAX_HEAD} bytes.",
            )


def parse(head: bytes, address: Address) -> Request:
    """Parse ``head``, a request's head with its empty line. Raises :class:`Refusal`."""
    usual = _USUAL_HEAD.fullmatch(head)
    request = None if usual is None else _usual_request(usual, address)
    return request or _parse_with_h11(head, address)


def _usual_request(usual: re.Match[bytes], address: Address) -> Request | None:
    """The request of a usual head, as h11 would parse it, in a tenth of the time.

    None if h11 must check its headers.
    """
    target, block = usual.groups()
    hosts: list[bytes] = []
    headers: list[tuple[bytes, bytes]] = []
    for line in block.splitlines():
        name, _, value = line.partition(b": ")
        name = name.lower()
        if name == b"host":
            hosts.append(value)
        elif name in _CHECKED_HEADERS:
            return None
        else:
            headers.append((name, value))
    if len(hosts) != 1:
        return None
    host = hosts[0].decode("ascii")
    return Request(target.decode("ascii"), tuple(headers), host, "GET", address)


def _parse_with_h11(head: bytes, address: Address) -> Request:
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    http.receive_data(head)
    try:
        event = http.next_event()
        if not isinstance(event, h11.Request):
            raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid HTTP request.")
        headers = []
        host = ""
        for name, value in event.headers:
            if name == b"host":
                host = value.decode("ascii")
            else:
                headers.append((bytes(name), bytes(value)))
        target = event.target.decode("ascii")
    except h11.RemoteProtocolError as exc:
        said = _QUOTED.sub("", str(exc))
        raise Refusal(HTTPStatus.BAD_REQUEST, f"Invalid HTTP request: {said}.") from exc
    except UnicodeError as exc:
        raise Refusal(HTTPStatus.BAD_REQUEST, "A header is not ASCII.") from exc
    if not target.startswith("/"):
        # A server must also accept the absolute form of a target (RFC 9112, section 3.2.2).
        target = _AUTHORITY.sub("", target)
    request = Request(
        target,
        tuple(headers),
        host,
        event.method.decode("ascii"),
        address,
        http_version=event.http_version.decode("ascii"),
    )
    if not target.startswith("/"):
        # Other methods may have other targets: OPTIONS * and CONNECT host:port.
        check_method(request)
        raise Refusal(HTTPStatus.BAD_REQUEST, "The request's target is not a path.")
    return request


def check_method(request: Request) -> None:
    """Raise :class:`Refusal` for a method that no view answers (RFC 9110, section 15.5.6)."""
    if request.method not in _METHODS:
        raise Refusal(
            HTTPStatus.METHOD_NOT_ALLOWED,
            f"Only {' and '.join(_METHODS)} are supported.",
            [("Allow", ", ".join(_METHODS))],
        )


def run_view(routes: Mapping[str, View], request: Request) -> bytes:
    """Call the view for ``request``, and return the bytes of its answer.

    Raises :class:`Refusal` if there is no view, if it refuses the request, or if it fails.
    """
    view = view_for(routes, request.path)
    if view is None:
        raise Refusal(HTTPStatus.NOT_FOUND, "Not found.")
    check_method(request)
    try:
        response: object = view(request)
        if isinstance(response, Response):
            return encode(response, head_only=request.method == "HEAD")
    except Refusal:
        raise
    except Exception as exc:
        logger.exception("the view of %s failed", request.path)
        raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error.") from exc
    kind = type(response).__name__
    logger.error("the view of %s returned %s instead of a Response", request.path, kind)
    raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error.")


def view_for(routes: Mapping[str, View], path: str) -> View | None:
    """The view for ``path``: of the same route, else of the longest ``/beginning/*``."""
    exact = routes.get(path)
    if exact is not None:
        return exact
    fitting = [route for route in routes if route.endswith("*") and path.startswith(route[:-1])]
    return routes[max(fitting, key=len)] if fitting else None


def encode(response: Response, *, head_only: bool = False) -> bytes:
    """The bytes of an answer. It tells the client that the connection closes after it.

    Raises :class:`UnicodeEncodeError` for a body with a lone surrogate, and
    :class:`h11.LocalProtocolError` for invalid headers.
    """
    bodiless = response.status in _BODILESS
    body, content_type = response.body, response.content_type
    if isinstance(body, str):
        body = body.encode()
        if content_type.startswith("text/") and "charset=" not in content_type.lower():
            content_type += "; charset=utf-8"
    named = {name.lower() for name, _ in response.headers}
    length = [] if bodiless else [("Content-Length", str(len(body)))]
    message = h11.Response(
        status_code=response.status,
        reason=response.status.phrase.encode(),
        headers=[
            *([] if bodiless else [("Content-Type", content_type)]),
            *length,
            # RFC 9110, section 6.6.1.
            *([] if "date" in named else [("Date", formatdate(usegmt=True))]),
            ("X-Content-Type-Options", "nosniff"),
            # Connection must list the Upgrade header, if there is one (section 7.8).
            ("Connection", "Upgrade, close" if "upgrade" in named else "close"),
            *response.headers,
        ],
    )
    head = h11.Connection(h11.SERVER).send(message) or b""
    return head if head_only or bodiless else head + body


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
