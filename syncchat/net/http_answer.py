"""The answers of HTTP: views and their routes, and how an answer becomes bytes."""

from __future__ import annotations

import itertools
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from .http import METHODS, Refusal, Request, check_method
from .io_thread import Deadline
from .stream import Stream

__all__ = [
    "BODILESS",
    "Response",
    "Route",
    "Routes",
    "View",
    "answer",
    "dismiss",
    "encode",
    "encode_chunk",
    "refusal_of",
    "respond",
    "run_view",
]

logger = logging.getLogger("syncchat.net")

#: Bytes and seconds for which the server still reads from a client before it closes
#: the connection, so that the answer can reach the client.
_LINGER_BYTES = 4 * 1024 * 1024
_LINGER_SECONDS = 2.0

#: Statuses whose answers have neither a body nor a Content-Length (RFC 9110, section 8.6).
BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})

_PHRASES: dict[int, str] = {status.value: status.phrase for status in HTTPStatus}

#: A header that can be sent (RFC 9110, section 5).
_HEADER = re.compile(
    r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: (?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?"
)


@dataclass(frozen=True, slots=True)
class Response:
    """A view's answer. ``headers`` are added to those for length, type and date.

    A ``str`` body is sent as UTF-8; then a ``content_type`` of ``text/...`` without
    a ``charset`` is extended by ``charset=utf-8``. An empty ``content_type`` is not sent.
    A body of several pieces is sent piece by piece, as fast as the client reads: chunked, unless
    ``headers`` have its ``Content-Length``. If it has a method ``close``, that is called in
    the end.
    """

    body: bytes | str | Iterable[bytes]
    content_type: str = "text/plain; charset=utf-8"
    status: int = HTTPStatus.OK
    headers: Sequence[tuple[str, str]] = ()


#: Answers a request that is not a handshake, on that connection's thread. It may
#: raise :class:`Refusal`.
View = Callable[[Request], Response]


@dataclass(frozen=True, slots=True)
class Route:
    """A view with more than the usual ``methods``; None: every method.

    ``guarded``: whether a request is checked as an opening handshake is, by the limits of
    connections, the origin and ``authorize``. The refusals of such a request are JSON.
    """

    view: View
    methods: Sequence[str] | None = METHODS
    guarded: Callable[[Request], bool] = lambda _request: False


def refusal_of(refusal: Refusal) -> Response:
    """The refusal as an answer."""
    if refusal.as_json:
        body = json.dumps({"error": refusal.text}, ensure_ascii=False) + "\n"
        return Response(body.encode(), "application/json", refusal.status, refusal.headers)
    return Response(f"{refusal.text}\n".encode(), status=refusal.status, headers=refusal.headers)


class Routes:
    """The routes of a server. Immutable."""

    def __init__(self, routes: Mapping[str, View | Route]) -> None:
        self._routes = {
            path: route if isinstance(route, Route) else Route(route)
            for path, route in routes.items()
        }
        #: Those of ``/beginning/*``, the longest first.
        beginnings = sorted((path for path in routes if path.endswith("*")), key=len, reverse=True)
        self._beginnings = [(path[:-1], self._routes[path]) for path in beginnings]

    def __bool__(self) -> bool:
        return bool(self._routes)

    def find(self, path: str) -> Route | None:
        """The route of ``path``: the same one, else the longest ``/beginning/*``."""
        found = self._routes.get(path)
        if found is None:
            for beginning, route in self._beginnings:
                if path.startswith(beginning):
                    return route
        return found


def run_view(route: Route | None, request: Request) -> Response:
    """Call the view of ``route`` for ``request``.

    Raises :class:`Refusal` if there is no view, if it refuses the request, or if it fails.
    """
    if route is None:
        raise Refusal(HTTPStatus.NOT_FOUND, "Not found.")
    if route.methods is not None:
        check_method(request.method, route.methods)
    try:
        response: object = route.view(request)
    except Refusal:
        raise
    except Exception as exc:
        logger.exception("the view of %s failed", request.path)
        raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error.") from exc
    if isinstance(response, Response):
        return response
    kind = type(response).__name__
    logger.error("the view of %s returned %s instead of a Response", request.path, kind)
    raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error.")


def encode(
    response: Response,
    *,
    head_only: bool = False,
    chunked: bool = False,
    keeps_alive: bool = False,
) -> bytes:
    """The bytes of an answer; of one whose body has several pieces, the head.

    ``chunked``: how the pieces are to be sent. Without ``keeps_alive``, it tells the client that
    the connection closes after it. Raises :class:`UnicodeEncodeError` for a body with a lone
    surrogate, and :class:`ValueError` for headers that cannot be sent.
    """
    if type(response.body) is bytes and not response.headers and not head_only:
        second = int(time.time())
        start = _usual_start(
            response.status, response.content_type, second, keeps_alive=keeps_alive
        )
        if start is not None:
            return start % len(response.body) + response.body
    return _encode(response, head_only=head_only, chunked=chunked, keeps_alive=keeps_alive)


@lru_cache(maxsize=64)
def _usual_start(
    status: int, content_type: str, _second: int, *, keeps_alive: bool
) -> bytes | None:
    """The head of a usual answer, with a place for the length. None: it has none."""
    head = _encode(Response(b"", content_type, status), keeps_alive=keeps_alive)
    start, length, end = head.replace(b"%", b"%%").partition(b"Content-Length: 0")
    return start + b"Content-Length: %d" + end if length else None


def _encode(
    response: Response,
    *,
    head_only: bool = False,
    chunked: bool = False,
    keeps_alive: bool = False,
) -> bytes:
    bodiless = response.status in BODILESS
    body, content_type = response.body, response.content_type
    if isinstance(body, str):
        body = body.encode()
        if content_type.startswith("text/") and "charset=" not in content_type.lower():
            content_type += "; charset=utf-8"
    named = {name.lower() for name, _ in response.headers}
    lines = [f"HTTP/1.1 {response.status:d} {_PHRASES.get(response.status, '')}"]
    if not bodiless:
        if content_type:
            lines.append(f"Content-Type: {content_type}")
        if isinstance(body, bytes):
            lines.append(f"Content-Length: {len(body)}")
        elif chunked:
            lines.append("Transfer-Encoding: chunked")
    if "date" not in named:
        # RFC 9110, section 6.6.1.
        lines.append(_date_at(int(time.time())))
    if "x-content-type-options" not in named:
        lines.append("X-Content-Type-Options: nosniff")
    # Connection must list the Upgrade header, if there is one (section 7.8).
    options = [*(["Upgrade"] if "upgrade" in named else []), *([] if keeps_alive else ["close"])]
    if options:
        lines.append(f"Connection: {', '.join(options)}")
    own = [f"{name}: {value}" for name, value in response.headers]
    for line in (f"Content-Type: {content_type}", *own):
        if not _can_be_sent(line):
            raise ValueError(f"the header {line!r} cannot be sent")
    lines += own
    head = "\r\n".join([*lines, "\r\n"]).encode("latin-1")
    return head + body if isinstance(body, bytes) and not (head_only or bodiless) else head


@lru_cache(maxsize=256)
def _can_be_sent(line: str) -> bool:
    return _HEADER.fullmatch(line) is not None


@lru_cache(maxsize=2)
def _date_at(seconds: int) -> str:
    return f"Date: {formatdate(seconds, usegmt=True)}"


def encode_chunk(data: bytes) -> bytes:
    """``data``, which is not empty, as a chunk (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def respond(stream: Stream, request: Request, response: Response, patience: float) -> bool:
    """Send a view's answer, and wait until the network has accepted it.

    The client has ``patience`` seconds to take it, or each piece of it. Returns whether the
    connection can be used for another request.
    """
    keeps_alive = request.keeps_alive and (request.body is None or request.body.is_read)
    head_only = request.method == "HEAD"
    pieces = None
    try:
        if not isinstance(response.body, bytes | str):
            pieces = _Pieces(response)
        chunked = pieces is not None and pieces.length is None and request.http_version == "1.1"
        keeps_alive = keeps_alive and (pieces is None or chunked or pieces.length is not None)
        data = encode(response, head_only=head_only, chunked=chunked, keeps_alive=keeps_alive)
    except Exception:
        logger.exception("the view of %s failed", request.path)
        if pieces is not None:
            pieces.end()
        refusal = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error.")
        data = encode(refusal_of(refusal), head_only=head_only)
        answer(stream, data, Deadline.after(patience))
        return False
    if pieces is not None and head_only:
        pieces.end()
    elif pieces is not None:
        stream.writer.write(data)
        if not pieces.send(stream, patience, chunked=chunked):
            # The client sees that the answer breaks off.
            stream.writer.abort()
            return False
        data = b"0\r\n\r\n" if chunked else b""
    if keeps_alive:
        stream.writer.write(data)
        return _is_flushed(stream, patience)
    answer(stream, data, Deadline.after(patience))
    return False


class _Pieces:
    """The body of a response that has several pieces. Raises what the first piece raises."""

    def __init__(self, response: Response) -> None:
        assert not isinstance(response.body, bytes | str)
        self._close = getattr(response.body, "close", None)
        # Before the head is sent, so that a failure can still be told.
        try:
            #: The length that the program has announced, in bytes.
            self.length = _announced_length(response.headers)
            self._pieces = iter(response.body)
            self._first = next(self._pieces, b"")
            if not isinstance(self._first, bytes):
                raise TypeError(f"a piece must be bytes, not {type(self._first).__name__}")
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Tell the program that its answer is sent, or never will be."""
        if self._close is None:
            return
        try:
            self._close()
        except Exception:
            logger.exception("the close() of a body failed")

    def send(self, stream: Stream, patience: float, *, chunked: bool) -> bool:
        """Send the pieces. False: the answer must break off."""
        size = 0
        try:
            for piece in itertools.chain([self._first], self._pieces):
                size += len(piece)
                if self.length is not None and size > self.length:
                    break
                if piece:
                    stream.writer.write(encode_chunk(piece) if chunked else piece)
                if stream.writer.broken or not _is_flushed(stream, patience):
                    return False
        except Exception:
            logger.exception("the body of an answer failed")
            return False
        finally:
            self.end()
        if self.length in (None, size):
            return True
        logger.error("a body has other than the %d bytes that were announced", self.length)
        return False


def _announced_length(headers: Sequence[tuple[str, str]]) -> int | None:
    lengths = [value for name, value in headers if name.lower() == "content-length"]
    if len(lengths) > 1 or not all(each.isascii() and each.isdigit() for each in lengths):
        raise ValueError(f"the Content-Length {', '.join(lengths)!r} cannot be sent")
    return int(lengths[0]) if lengths else None


def _is_flushed(stream: Stream, patience: float) -> bool:
    return not stream.writer.backlog_size or stream.writer.wait_flushed(Deadline.after(patience))


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
    stream.writer.seal(encode(refusal_of(refusal)))
    stream.writer.shutdown_write()
    stream.writer.close()
