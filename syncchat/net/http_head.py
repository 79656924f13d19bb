"""The head of every request, parsed once: of a WebSocket handshake, too.

See RFC 9110 and RFC 9112.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus

import h11

from .address import Address
from .http import METHODS, Body, Refusal, Request, check_method
from .io_thread import Deadline
from .stream import Stream

__all__ = ["END_OF_HEAD", "MAX_HEAD", "is_whole", "parse", "read_request"]

#: Maximum bytes of the head of a request or response, on both sides; also h11's limit.
MAX_HEAD = 16384

#: Matches the end of a head, the empty line included.
END_OF_HEAD = re.compile(rb"\n\r?\n")
_FIRST_BYTE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")

#: The part of h11's error text that quotes bytes of the request in Python's notation.
_QUOTED = re.compile(r": (?:bytearray\()?b['\"].*", re.DOTALL)

#: Matches the beginning of an absolute target. Its group is the host.
_AUTHORITY = re.compile(r"(?i)https?://([^/?#]*)")

#: Matches what nearly all clients send: a path, and headers in ASCII, each with one
#: blank before its value and none after it. Groups: the method; the path with its query; the
#: headers.
_USUAL_HEAD = re.compile(
    rb"([A-Z]{1,20}) (/[!-~]*) HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [!-~](?:[ -~]*[!-~])?\r\n)+)\r\n"
)
#: The beginning of a head that comes from a program, which gets its refusal as JSON.
_POST = b"POST "

#: Matches a head that arrives whole.
_USUAL_START = re.compile(rb"[A-Z](?:[^\r\n]+\r\n)+\r\n")
_USUAL_LENGTH = re.compile(rb"[0-9]{1,15}")

#: A header that is continued on the next line, which servers and proxies read differently.
_FOLDED = re.compile(rb"\n[ \t]+[^ \t\r\n]")
_LENGTH = re.compile(rb"(?im)^content-length:")
_LENGTHS = re.compile(rb"(?im)^content-length:[^\n]*,")


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
    return parse(head, stream.peer, stream, patience)


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
            if follows and not buffer:
                # Only empty lines have come.
                return None
            raise _refusal(
                buffer, HTTPStatus.REQUEST_TIMEOUT, "The request took too long."
            ) from None
        if not data:
            if not buffer or stream.writer.error:
                return None
            raise _refusal(buffer, HTTPStatus.BAD_REQUEST, "The request is incomplete.")
        if not buffer and (usual := _USUAL_START.match(data)) and usual.end() <= MAX_HEAD:
            return data[: usual.end()], data[usual.end() :]
        # The empty line may be split between two reads.
        searched = max(0, len(buffer) - 3)
        buffer += data
        if deadline is None:
            deadline = Deadline.after(patience)
        if follows and buffer.startswith(b"\r\n"):
            # Some clients send an empty line after a body (RFC 9112, section 2.2).
            del buffer[:2]
            if not buffer:
                continue
        if not _FIRST_BYTE.match(buffer):
            # This is not HTTP, mostly TLS, so do not wait for an empty line.
            raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid HTTP request.")
        end = END_OF_HEAD.search(buffer, searched)
        if end is not None and end.end() <= MAX_HEAD:
            return bytes(buffer[: end.end()]), bytes(buffer[end.end() :])
        if len(buffer) > MAX_HEAD:
            raise _refusal(
                buffer,
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"The head of the request exceeds {MAX_HEAD} bytes.",
            )


def _refusal(head: bytearray, status: HTTPStatus, text: str) -> Refusal:
    return Refusal(status, text, as_json=head.startswith(_POST))


def parse(
    head: bytes, address: Address, stream: Stream | None = None, patience: float = 0.0
) -> Request:
    """Parse ``head``, a request's head with its empty line. Raises :class:`Refusal`.

    With a ``stream``, the request has the body that follows: see :func:`read_request`.
    """
    try:
        usual = _USUAL_HEAD.fullmatch(head)
        request = None if usual is None else _usual_request(usual, address, stream, patience)
        return request or _parse_with_h11(head, address, stream, patience)
    except Refusal as refusal:
        refusal.as_json = head.startswith(_POST)
        raise


def _body_of(
    stream: Stream | None,
    length: int | None,
    headers: Sequence[tuple[bytes, bytes]],
    patience: float,
) -> Body | None:
    if stream is None or length == 0:
        return None
    expects = False
    for name, value in headers:
        if name == b"expect":
            expects = value.lower() == b"100-continue"
    return Body(stream, length, expects=expects, patience=patience)


def _usual_request(
    usual: re.Match[bytes], address: Address, stream: Stream | None, patience: float
) -> Request | None:
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
    length = length or 0
    return Request(
        target.decode("ascii"),
        tuple(headers),
        host,
        method.decode("ascii"),
        address,
        length=length,
        body=_body_of(stream, length, headers, patience),
    )


def _parse_with_h11(
    head: bytes, address: Address, stream: Stream | None, patience: float
) -> Request:
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
    if version not in ("1.0", "1.1"):
        raise Refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "Only HTTP/1.1 is supported.")
    length = _length_of(headers, version)
    method = event.method.decode("ascii")
    if absolute := _AUTHORITY.match(target):
        # A server must accept this form, too, and ignore the Host header then (RFC 9112,
        # section 3.2.2).
        host, target = absolute[1], target[absolute.end() :]
        if not target.startswith("/"):
            target = f"/{target}"
    if not target.startswith("/"):
        # Other methods may have other targets: OPTIONS * and CONNECT host:port.
        check_method(method, METHODS)
        raise Refusal(HTTPStatus.BAD_REQUEST, "The request's target is not a path.")
    return Request(
        target,
        tuple(headers),
        host,
        method,
        address,
        http_version=version,
        length=length,
        # HTTP/1.0 knows no status 100.
        body=_body_of(stream, length, headers if version == "1.1" else (), patience),
    )


def _check_framing(head: bytes) -> None:
    """Raise :class:`Refusal` for what a proxy may read differently: request smuggling.

    h11 accepts it (RFC 9112, section 11.2).
    """
    if _FOLDED.search(head):
        text = "A header is folded."
    elif len(_LENGTH.findall(head)) > 1 or _LENGTHS.search(head):
        text = "There are several lengths."
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
