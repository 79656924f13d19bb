"""A WSGI application (PEP 3333) as a view, on the thread of its connection."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from types import TracebackType
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper, is_hop_by_hop

from .address import host_of
from .http import Body, Refusal, Request
from .http_answer import BODILESS, Response, Route, View

__all__ = ["WsgiApp", "wsgi_route", "wsgi_view"]

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

#: Called with the environment and ``start_response``; returns the pieces of the body.
WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: Bytes that are asked for at a time when a line or the whole body is read.
_PIECE = 65536

#: Those of final answers.
_STATUSES = range(200, 600)

_PORTS = {"http": "80", "https": "443"}


def wsgi_route(app: WsgiApp) -> Route:
    """The route of ``app``, which gets requests of every method."""
    return Route(wsgi_view(app), methods=None)


def wsgi_view(app: WsgiApp) -> View:
    """``app`` as a view."""

    def view(request: Request) -> Response:
        call = _Call(request)
        try:
            return call.run(app)
        except Exception as exc:
            if call.input.refusal is not None:
                raise call.input.refusal from exc
            raise

    return view


class _Call:
    """One call of an application."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.input = _Input(request.body)
        self._status: int | None = None
        self._headers: list[tuple[str, str]] = []
        #: Whether the head of the answer is on its way.
        self._is_answered = False
        #: What the application has given to ``write``.
        self._written: list[bytes] = []

    def run(self, app: WsgiApp) -> Response:
        """Call the application up to the first piece of its body."""
        result = app(_environ_of(self._request, self.input), self.start_response)
        body = _Result(result, self._written)
        try:
            # The application may call start_response() with the first piece that is not empty.
            body.begin()
            if self.input.refusal is not None:
                # It has answered that it cannot read the body: the reason is the client's.
                raise self.input.refusal
            if self._status is None:
                raise RuntimeError("the WSGI application has not called start_response()")
        except BaseException:
            body.close()
            raise
        self._is_answered = True
        return self._response(self._status, body)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """Take the status and the headers. Returns the ``write`` of PEP 3333.

        Raises the exception of ``exc_info`` if the head is sent already.
        """
        if exc_info is not None and self._is_answered:
            raise exc_info[1].with_traceback(exc_info[2])
        if self._status is not None and exc_info is None:
            raise RuntimeError("start_response() was called twice")
        number = int(status.partition(" ")[0])
        if number not in _STATUSES:
            raise ValueError(f"the status {status!r} cannot be that of an answer")
        self._status = number
        self._headers = [(name, value) for name, value in headers if not is_hop_by_hop(name)]
        return self._written.append

    def _response(self, status: int, body: _Result) -> Response:
        types = [value for name, value in self._headers if name.lower() == "content-type"]
        headers = [each for each in self._headers if each[0].lower() != "content-type"]
        content_type = types[0] if types else ""
        if status in BODILESS:
            body.close()
            headers = [each for each in headers if each[0].lower() != "content-length"]
            return Response(b"", content_type, status, headers)
        has_length = any(name.lower() == "content-length" for name, _ in headers)
        whole = None if has_length or self._request.method == "HEAD" else body.whole()
        return Response(body if whole is None else whole, content_type, status, headers)


class _Result:
    """The body of an answer, piece by piece; also what the application has written before."""

    def __init__(self, result: Iterable[bytes], written: list[bytes]) -> None:
        self._result, self._written = result, written
        self._pieces = iter(result)
        self._first = b""
        #: The number of pieces that the application has left, if it is known.
        self._left = len(result) if isinstance(result, Sized) else None

    def begin(self) -> None:
        """Get the first piece that is not empty."""
        while not self._first and not self._written:
            piece = next(self._pieces, None)
            if piece is None:
                self._left = 0
                return
            self._first = piece
            if self._left is not None:
                self._left -= 1

    def whole(self) -> bytes | None:
        """The body, if it is known without waiting for the application; else None."""
        if self._left != 0:
            return None
        body = b"".join([*self._written, self._first])
        self.close()
        return body

    def __iter__(self) -> Iterator[bytes]:
        """Yield the pieces. What is written meanwhile comes first."""
        for piece in itertools.chain([self._first], self._pieces):
            while self._written:
                yield self._written.pop(0)
            yield piece
        yield from self._written

    def close(self) -> None:
        """Tell the application that its answer is sent, or never will be."""
        close = getattr(self._result, "close", None)
        if close is not None:
            close()


class _Input:
    """The body of a request as ``wsgi.input``. Its methods raise :class:`OSError`.

    ``refusal``: why, once they have.
    """

    def __init__(self, body: Body | None) -> None:
        self._body = body
        self._buffer = b""
        self.refusal: Refusal | None = None

    def read(self, size: int | None = -1) -> bytes:
        """The next ``size`` bytes, or fewer at the end; by default all."""
        pieces = []
        left = None if size is None or size < 0 else size
        while left is None or left > 0:
            piece = self._next(_PIECE if left is None else left)
            if not piece:
                break
            pieces.append(piece)
            if left is not None:
                left -= len(piece)
        return b"".join(pieces)

    def readline(self, size: int | None = -1) -> bytes:
        """The next line with its end, at most ``size`` bytes of it."""
        limit = sys.maxsize if size is None or size < 0 else size
        line = bytearray()
        while len(line) < limit and (piece := self._next(min(_PIECE, limit - len(line)))):
            end = piece.find(b"\n") + 1
            if end:
                line += piece[:end]
                self._buffer = piece[end:] + self._buffer
                break
            line += piece
        return bytes(line)

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """The next lines, until they have ``hint`` bytes; by default all."""
        lines: list[bytes] = []
        size = 0
        for line in self:
            lines.append(line)
            size += len(line)
            if hint is not None and 0 < hint <= size:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _next(self, size: int) -> bytes:
        if self._buffer:
            piece, self._buffer = self._buffer[:size], self._buffer[size:]
            return piece
        if self._body is None:
            return b""
        try:
            return self._body.read(size)
        except Refusal as exc:
            self.refusal = exc
            raise ConnectionError(exc.text) from exc


def _environ_of(request: Request, body: _Input) -> dict[str, Any]:
    # HTTP/1.0 requests need no host, but the name must not be empty.
    name = host_of(request.host) or "localhost"
    port = request.host.rpartition("]")[2].partition(":")[2]
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(request.path).decode("latin-1"),
        "QUERY_STRING": request.query,
        "REQUEST_URI": request.target,
        "SERVER_NAME": name,
        "SERVER_PORT": port if port.isdigit() else _PORTS[request.scheme],
        "SERVER_PROTOCOL": f"HTTP/{request.http_version}",
        "SERVER_SOFTWARE": "syncchat",
        "REMOTE_ADDR": request.remote_address[0],
        "REMOTE_PORT": str(request.remote_address[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": body,
        # It ends by itself, so that a chunked body can be read.
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    for each, value in request.headers.items():
        # A name with an underscore could be mistaken for one of a proxy, and Proxy for the
        # variable of that name (CVE-2016-5385).
        if "_" in each or each == "proxy" or (each == "host" and not value):
            continue
        key = each.upper().replace("-", "_")
        plain = key in ("CONTENT_TYPE", "CONTENT_LENGTH")
        environ[key if plain else f"HTTP_{key}"] = value
    return environ
