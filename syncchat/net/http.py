"""Plain HTTP, as far as a WebSocket server speaks it: a request, an answer, a close."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import h11

from .address import Address

__all__ = ["MAX_HEAD", "Refusal", "Request", "Response", "View", "encode", "parse", "view_for"]

#: Bytes of a request's or response's head, both sides; h11's own limit too.
MAX_HEAD = 16384

_METHODS = ("GET", "HEAD")

#: Statuses whose answers have no body, and say no length of one (RFC 9110, section 8.6).
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked for, by a handshake or as plain HTTP. Immutable."""

    #: Path and query as they stand in the request line, percent-encoded.
    target: str
    #: Every header but those of the handshake's own, names in lower case.
    raw_headers: tuple[tuple[bytes, bytes], ...]
    #: The ``Host`` header.
    host: str
    #: ``GET``, or ``HEAD`` for who wants no body.
    method: str = "GET"
    #: Where it comes from.
    remote_address: Address = ("", 0)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the ``?`` in the target; empty where there is none."""
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
    """What a view answers. ``headers`` are those besides the length and the type."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: Sequence[tuple[str, str]] = ()


#: Answers a request that is no handshake, on that connection's thread; may raise
#: :class:`Refusal`.
View = Callable[[Request], Response]


class Refusal(Exception):
    """What the server answers instead of what was asked for."""

    def __init__(
        self, status: HTTPStatus, text: str, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(f"{status.value} {text}")
        self.status = status
        self.text = text
        self.headers = headers

    @property
    def response(self) -> Response:
        """The same, as an answer."""
        return Response(f"{self.text}\n".encode(), status=self.status, headers=self.headers)


def parse(head: bytes, address: Address) -> Request:
    """The request that ``head`` is, with its empty line. Raises :class:`Refusal`."""
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    http.receive_data(head)
    try:
        event = http.next_event()
        if not isinstance(event, h11.Request):
            raise Refusal(HTTPStatus.BAD_REQUEST, "This is no HTTP request.")
        headers = tuple((bytes(name), bytes(value)) for name, value in event.headers)
        target, method = event.target.decode("ascii"), event.method.decode("ascii")
        host = dict(headers).get(b"host", b"").decode("ascii")
    except h11.RemoteProtocolError as exc:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"This is no HTTP request: {exc}.") from exc
    except UnicodeError as exc:
        raise Refusal(HTTPStatus.BAD_REQUEST, "A header is not in ASCII.") from exc
    if method not in _METHODS:
        allowed = ", ".join(_METHODS)
        raise Refusal(
            HTTPStatus.METHOD_NOT_ALLOWED,
            f"Only {' and '.join(_METHODS)} are understood here.",
            [("Allow", allowed)],
        )
    # As to a proxy, which a server must take, too (RFC 9112, section 3.2.2).
    target = re.sub(r"(?i)^https?://[^/?]*(?=/)", "", target)
    if not target.startswith("/"):
        raise Refusal(HTTPStatus.BAD_REQUEST, "The request's target is not a path.")
    others = tuple((name, value) for name, value in headers if name != b"host")
    return Request(target, others, host, method, address)


def view_for(routes: Mapping[str, View], path: str) -> View | None:
    """The view of the route that fits ``path``: itself, or the longest ``/beginning/*``."""
    exact = routes.get(path)
    if exact is not None:
        return exact
    fitting = [route for route in routes if route.endswith("*") and path.startswith(route[:-1])]
    return routes[max(fitting, key=len)] if fitting else None


def encode(response: Response, *, head_only: bool = False) -> bytes:
    """The answer as it goes over the wire; every one is the connection's last."""
    bodiless = response.status in _BODILESS
    length = [] if bodiless else [("Content-Length", str(len(response.body)))]
    message = h11.Response(
        status_code=response.status,
        reason=response.status.phrase.encode(),
        headers=[
            *([] if bodiless else [("Content-Type", response.content_type)]),
            *length,
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
            *response.headers,
        ],
    )
    head = h11.Connection(h11.SERVER).send(message) or b""
    return head if head_only or bodiless else head + response.body
