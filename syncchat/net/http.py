"""The requests of HTTP: the head, parsed once, and the body, read when it is needed.

A WebSocket handshake is parsed here, too. See RFC 9110 and RFC 9112.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import h11

from .address import Address
from .io_thread import Deadline
from .stream import Stream

__all__ = [
    "END_OF_HEAD",
    "MAX_HEAD",
    "METHODS",
    "Body",
    "Refusal",
    "Request",
    "check_method",
    "is_whole",
    "parse",
    "read_request",
]

#: Maximum bytes of the head of a request or response, on both sides; also h11's limit.
MAX_HEAD = 16384

#: Matches the end of a head, the empty line included.
END_OF_HEAD = re.compile(rb"\n\r?\n")
_FIRST_BYTE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")

#: The methods of a view, unless its route has others.
METHODS = ("GET", "HEAD")

#: The part of h11's error text that quotes bytes of the request in Python's notation.
_QUOTED = re.compile(r": (?:bytearray\()?b['\"].*", re.DOTALL)

#: The beginning of an absolute target.
_AUTHORITY = re.compile(r"(?i)^https?://[^/?]*(?=/)")

#: Matches what nearly all clients send: a path, and headers in ASCII, each with one
#: blank before its value and none after it. Groups: the method; the path with its query; the
#: headers.
_USUAL_HEAD = re.compile(
    rb"([A-Z]{1,20}) (/[!-~]*) HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [!-~](?:[ -~]*[!-~])?\r\n)+)\r\n"
)
_USUAL_LENGTH = re.compile(rb"[0-9]{1,15}")

#: A header that is continued on the next line, which servers and proxies read differently.
_FOLDED = re.compile(rb"\n[ \t]+[^ \t\r\n]")
_LENGTH = re.compile(rb"(?im)^content-length:")

#: Chunks of a body that is read as a whole, at most: tiny chunks cost much time.
_MOST_CHUNKS = 1024

#: Bytes of a chunk's first line, and of the trailers, at most.
_MAX_LINE = 4096

#: Begins a chunked body for h11, which needs a head.
_CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: -\r\nTransfer-Encoding: chunked\r\n\r\n"

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Refusal(Exception):
    """An error answer to a request. Raise it in a view or in ``authorize``.

    The answer is the text, or with ``as_json`` an object that has it as its ``error``.
    """

    def __init__(
        self,
        status: HTTPStatus,
        text: str,
        headers: Sequence[tuple[str, str]] = (),
        *,
        as_json: bool = False,
    ) -> None:
        super().__init__(f"{status.value} {text}")
        self.status = status
        self.text = text
        self.headers = headers
        self.as_json = as_json


class Body:
    """The body of a request. Only for the connection's thread; the methods may block.

    ``length`` is in bytes, None for a chunked body. ``expects``: the client waits for the
    status 100 before it sends the body (RFC 9110, section 10.1.1). The client has ``patience``
    seconds for each ``read``, and for all of ``read_all``.
    """

    __slots__ = ("_chunks", "_expects", "_left", "_patience", "_pending", "_stream", "length")

    def __init__(
        self, stream: Stream, length: int | None, *, expects: bool = False, patience: float = 0.0
    ) -> None:
        self._stream = stream
        self.length = length
        self._expects = expects
        self._patience = patience
        #: Bytes that are not read yet; of a chunked body, 0 after its end.
        self._left = 1 if length is None else length
        #: Decodes a chunked body.
        self._chunks: h11.Connection | None = None
        #: The rest of a chunk.
        self._pending = b""

    @property
    def is_read(self) -> bool:
        """Whether all of it is read, so that the next request can follow."""
        return not self._left and not self._pending

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most ``size`` of them; ``b""`` at the end.

        Raises :class:`Refusal`: 400 for a malformed or incomplete body, 408 if nothing
        arrives in time.
        """
        return self._read(size, Deadline.after(self._patience))

    def read_all(self, limit: int) -> bytes:
        """Return the whole body. Raises :class:`Refusal` as :meth:`read`, and 413 over ``limit``.

        ``limit`` is in bytes.
        """
        if self.length is not None and self.length > limit:
            raise _too_large(f"The body has more than {limit} bytes.")
        deadline = Deadline.after(self._patience)
        pieces: list[bytes] = []
        size = 0
        while piece := self._read(limit + 1 - size, deadline):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise _too_large(f"The body has more than {limit} bytes.")
            if self.length is None and len(pieces) > _MOST_CHUNKS:
                raise _too_large(f"The body has more than {_MOST_CHUNKS} chunks.")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read(self, size: int, deadline: Deadline) -> bytes:
        if self.length is None:
            while not self._pending and self._left:
                self._decode(deadline)
            data, self._pending = self._pending[:size], self._pending[size:]
            return data
        if not self._left:
            return b""
        data = self._receive(deadline)
        taken = min(size, self._left)
        if len(data) > taken:
            self._stream.unread(data[taken:])
            data = data[:taken]
        self._left -= len(data)
        return data

    def _decode(self, deadline: Deadline) -> None:
        """Decode the next chunk, or what there is of it."""
        if self._chunks is None:
            self._chunks = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_LINE)
            self._chunks.receive_data(_CHUNKED_HEAD)
            self._chunks.next_event()
        try:
            event = self._chunks.next_event()
        except h11.RemoteProtocolError as exc:
            raise Refusal(HTTPStatus.BAD_REQUEST, "The body is not chunked correctly.") from exc
        if event is h11.NEED_DATA:
            self._chunks.receive_data(self._receive(deadline))
        elif isinstance(event, h11.Data):
            self._pending = bytes(event.data)
        else:
            self._left = 0
            rest, _ = self._chunks.trailing_data
            self._chunks = None
            self._stream.unread(rest)

    def _receive(self, deadline: Deadline) -> bytes:
        if self._expects:
            self._expects = False
            self._stream.writer.write(_CONTINUE)
        try:
            data = self._stream.read(deadline)
        except TimeoutError:
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "The body took too long.") from None
        if not data:
            raise Refusal(HTTPStatus.BAD_REQUEST, "The body is incomplete.")
        return data


def _too_large(text: str) -> Refusal:
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request, a handshake or plain HTTP. Immutable, but for the body."""

    #: Path and query as in the request line, percent-encoded.
    target: str
    #: All headers except those of the handshake itself, with lower-case names.
    raw_headers: tuple[tuple[bytes, bytes], ...]
    #: The ``Host`` header. Behind a trusted proxy, the one that the proxy reports.
    host: str
    #: The answer to ``HEAD`` has no body.
    method: str = "GET"
    #: The client's host and port. Behind a trusted proxy, those of the proxy's client.
    remote_address: Address = ("", 0)
    #: ``https`` if the client uses TLS, to the server or to a trusted proxy.
    scheme: str = "http"
    http_version: str = "1.1"
    #: The length of the body in bytes; None: it is chunked.
    length: int | None = 0
    #: None: there is no body.
    body: Body | None = field(default=None, compare=False, repr=False)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The part of the target after the ``?``; empty without one."""
        return self.target.partition("?")[2]

    @property
    def keeps_alive(self) -> bool:
        """Whether the client may send another request on this connection afterwards."""
        # RFC 9112, section 9.3; HTTP/1.0 has no common way.
        return self.http_version == "1.1" and not any(
            b"close" in map(bytes.strip, value.lower().split(b","))
            for name, value in self.raw_headers
            if name == b"connection"
        )

    def read_body(self, limit: int) -> bytes:
        """The whole body, as :meth:`Body.read_all`; ``b""`` without one."""
        return b"" if self.body is None else self.body.read_all(limit)

    @property
    def headers(self) -> dict[str, str]:
        """Headers by lower-case name, repeated ones joined by a comma (RFC 9110, section 5.3)."""
        joined = {"host": self.host}
        for name_bytes, value_bytes in self.raw_headers:
            name, value = name_bytes.decode("ascii"), value_bytes.decode("latin-1")
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        return joined


def is_whole(received: bytes) -> bool:
    """Whether ``received`` contains the complete head of a request."""
    return END_OF_HEAD.search(received) is not None


def read_request(stream: Stream, deadline: Deadline | None, patience: float) -> Request | None:
    """Read the head of a request; None for a client that left before.

    What follows, the stream returns again. The client has ``patience`` seconds for the body: see
    :class:`Body`. Without a ``deadline``, wait for the beginning of the request without limit, and
    for the rest of the head with the same patience. Raises :class:`Refusal`.
    """
    received = _read_head(stream, deadline, patience)
    if received is None:
        return None
    head, rest = received
    if rest:
        stream.unread(rest)
    request = parse(head, stream.peer)
    if request.length == 0:
        return request
    expects = any(
        name == b"expect" and value.lower() == b"100-continue"
        for name, value in request.raw_headers
    )
    # This is faster than dataclasses.replace().
    return Request(
        request.target,
        request.raw_headers,
        request.host,
        request.method,
        request.remote_address,
        request.scheme,
        request.http_version,
        request.length,
        Body(stream, request.length, expects=expects, patience=patience),
    )


def _read_head(
    stream: Stream, deadline: Deadline | None, patience: float
) -> tuple[bytes, bytes] | None:
    """The request's head with its empty line, and the bytes after it.

    None if the client left before it sent a request.
    """
    buffer = bytearray()
    follows = deadline is None
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
        if follows and buffer.startswith(b"\r\n"):
            # Some clients send an empty line after a body (RFC 9112, section 2.2).
            del buffer[:2]
            if not buffer:
                continue
        if deadline is None and not END_OF_HEAD.search(buffer):
            deadline = Deadline.after(patience)
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
    try:
        usual = _USUAL_HEAD.fullmatch(head)
        request = None if usual is None else _usual_request(usual, address)
        return request or _parse_with_h11(head, address)
    except Refusal as refusal:
        # Such a request comes from a program.
        refusal.as_json = head.startswith(b"POST ")
        raise


def _usual_request(usual: re.Match[bytes], address: Address) -> Request | None:
    """The request of a usual head, as h11 would parse it, in a tenth of the time.

    None if h11 must check its headers.
    """
    method, target, block = usual.groups()
    host: str | None = None
    length: int | None = None
    headers: list[tuple[bytes, bytes]] = []
    for line in block.splitlines():
        name, _, value = line.partition(b": ")
        name = name.lower()
        if name == b"host":
            if host is not None:
                return None
            host = value.decode("ascii")
            continue
        if name == b"content-length":
            if length is not None or not _USUAL_LENGTH.fullmatch(value):
                return None
            length = int(value)
        elif name == b"transfer-encoding":
            return None
        headers.append((name, value))
    if host is None:
        return None
    text, path = method.decode("ascii"), target.decode("ascii")
    return Request(path, tuple(headers), host, text, address, length=length or 0)


def _parse_with_h11(head: bytes, address: Address) -> Request:
    _check_framing(head)
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
    version = event.http_version.decode("ascii")
    length = _length_of(headers, version)
    method = event.method.decode("ascii")
    if not target.startswith("/"):
        # A server must also accept the absolute form of a target (RFC 9112, section 3.2.2).
        target = _AUTHORITY.sub("", target)
    if not target.startswith("/"):
        # Other methods may have other targets: OPTIONS * and CONNECT host:port.
        check_method(method, METHODS)
        raise Refusal(HTTPStatus.BAD_REQUEST, "The request's target is not a path.")
    return Request(
        target, tuple(headers), host, method, address, http_version=version, length=length
    )


def _check_framing(head: bytes) -> None:
    """Raise :class:`Refusal` for what a proxy may read differently: request smuggling.

    h11 accepts it (RFC 9112, section 11.2).
    """
    if _FOLDED.search(head):
        text = "A header is folded."
    elif len(_LENGTH.findall(head)) > 1:
        text = "There are several Content-Length headers."
    else:
        return
    raise Refusal(HTTPStatus.BAD_REQUEST, f"Invalid HTTP request: {text}")


def _length_of(headers: Sequence[tuple[bytes, bytes]], version: str) -> int | None:
    """The length of the body; None: it is chunked. h11 has checked the values."""
    lengths = [value for name, value in headers if name == b"content-length"]
    if all(name != b"transfer-encoding" for name, _ in headers):
        return int(lengths[0]) if lengths else 0
    # RFC 9112, section 6.1.
    if lengths:
        text = "It has both Content-Length and Transfer-Encoding."
    elif version != "1.1":
        text = "HTTP/1.0 has no Transfer-Encoding."
    else:
        return None
    raise Refusal(HTTPStatus.BAD_REQUEST, f"Invalid HTTP request: {text}")


def check_method(method: str, allowed: Sequence[str]) -> None:
    """Raise :class:`Refusal` if ``method`` is none of those (RFC 9110, section 15.5.6)."""
    if method not in allowed:
        names = f"{', '.join(allowed[:-1])} and {allowed[-1]}"
        raise Refusal(
            HTTPStatus.METHOD_NOT_ALLOWED,
            f"Only {names} are supported.",
            [("Allow", ", ".join(allowed))],
        )
