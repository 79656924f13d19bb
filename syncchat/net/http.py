"""A request of HTTP, its body, which is read when it is needed, and its refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import h11

from .address import Address
from .io_thread import Deadline
from .stream import Stream

__all__ = ["METHODS", "Body", "Refusal", "Request", "check_method"]

#: The methods of a view, unless its route has others.
METHODS = ("GET", "HEAD")

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
        if self.length is not None:
            # Mostly, the body has arrived with the head.
            early = self._stream.take_early()
            if len(early) >= self._left > 0:
                if len(early) > self._left:
                    self._stream.unread(early[self._left :])
                    early = early[: self._left]
                self._left = 0
                return early
            self._stream.unread(early)
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
        if self.http_version != "1.1":
            return False
        for name, value in self.raw_headers:
            if name == b"connection" and b"close" in map(bytes.strip, value.lower().split(b",")):
                return False
        return True

    def read_body(self, limit: int) -> bytes:
        """The whole body, as :meth:`Body.read_all`; ``b""`` without one."""
        return b"" if self.body is None else self.body.read_all(limit)

    @property
    def headers(self) -> dict[str, str]:
        """Headers by lower-case name, repeated ones joined (RFC 9110, section 5.3)."""
        joined = {"host": self.host}
        for name_bytes, value_bytes in self.raw_headers:
            name, value = name_bytes.decode("ascii"), value_bytes.decode("latin-1")
            # RFC 6265, section 5.4, for cookies.
            separator = "; " if name == "cookie" else ", "
            joined[name] = f"{joined[name]}{separator}{value}" if name in joined else value
        return joined


def check_method(method: str, allowed: Sequence[str]) -> None:
    """Raise :class:`Refusal` if ``method`` is none of those (RFC 9110, section 15.5.6)."""
    if method not in allowed:
        names = f"{', '.join(allowed[:-1])} and {allowed[-1]}"
        raise Refusal(
            HTTPStatus.METHOD_NOT_ALLOWED,
            f"Only {names} are supported.",
            [("Allow", ", ".join(allowed))],
        )
