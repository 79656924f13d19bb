"""The WebSocket protocol without I/O (RFC 6455): bytes in, events out; messages in, bytes out.

There is no lock, socket, thread or clock here. wsproto does the framing, except for
what nearly all clients send: messages in single frames. They are decoded here, in
a tenth of the time that wsproto needs. All other bytes go to wsproto unchanged:
control frames, fragments, incomplete frames and invalid frames, whose errors
wsproto reports.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed, XorMaskerSimple

from ..closecodes import ABNORMAL, INVALID_DATA, NO_CODE, TOO_BIG
from ..errors import ConnectionClosed

__all__ = [
    "Close",
    "Control",
    "Event",
    "Fragment",
    "Message",
    "Ping",
    "Pong",
    "Protocol",
    "Violation",
    "checked",
    "encode_frame",
]

#: A text message is a ``str``, a binary one is ``bytes``.
Message = str | bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping, which must be answered by a pong with the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A pong: the answer to a ping, or unasked."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Fragment:
    """A frame that belongs to a message, but does not complete it."""


@dataclass(frozen=True, slots=True)
class Close:
    """The peer's Close. It is the last event. The code is 1005 if the peer sent none."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Violation:
    """The peer has broken a rule: send Close with this code. It is the last event."""

    code: int
    reason: str


#: An event that is no message.
Control = Fragment | Ping | Pong | Close | Violation
Event = Message | Control

#: The header of a whole message without a fault (section 5.2): FIN and the opcode
#: for text or binary; the size in 7, 16 or 64 bits, whichever is the shortest; the
#: mask of a client's frame. A server's frames have no mask (section 5.3). The groups
#: are the three sizes and the mask.
_FROM_CLIENT, _FROM_SERVER = (
    re.compile(
        rb"[\x81\x82](?:(%b)|%b((?!\0[\0-\x7d])..)|%b((?!\0{6})[\0-\x7f].{7}))(%b)" % parts,
        re.DOTALL,
    )
    for parts in (
        (rb"[\x80-\xfd]", rb"\xfe", rb"\xff", rb".{4}"),
        (rb"[\0-\x7d]", rb"\x7e", rb"\x7f", rb""),
    )
)
#: The first byte of a whole message.
_TEXT, _BINARY = 0x81, 0x82
#: The header of a frame with a payload of more than 125 bytes, and of more than 65,535.
_MEDIUM, _LONG = struct.Struct("!BBH"), struct.Struct("!BBQ")
_FIN, _CONTROL, _MASKED = 0x80, 0x08, 0x80

#: Bytes of the longest header.
_MAX_HEADER = 14

#: Up to this payload size in bytes, unmasking by one large integer is faster than
#: wsproto's unmasking.
_SMALL = 1024


def _size_of(data: Message) -> int:
    """Bytes that ``data`` takes on the wire. Raises UnicodeEncodeError for a lone surrogate."""
    return len(data) if not isinstance(data, str) or data.isascii() else len(data.encode())


def checked(message: Message) -> tuple[Message, int]:
    """The message as ``str`` or ``bytes``, and its size in bytes.

    Raises :class:`UnicodeEncodeError` for a lone surrogate, so that the message
    cannot fail later, among others in a batch, and :class:`TypeError` for a message
    that is neither text nor bytes.
    """
    if isinstance(message, str):
        return message, _size_of(message)
    if isinstance(message, bytes | bytearray | memoryview):
        data = bytes(message)
        return data, len(data)
    raise TypeError(f"a message must be str or bytes, not {type(message).__name__}")


def encode_frame(payload: bytes, *, binary: bool = False) -> bytes:
    """A message as one unmasked frame, which a server may send to any client.

    ``payload`` is text in UTF-8, or with ``binary`` any bytes.
    """
    first = _BINARY if binary else _TEXT
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return _MEDIUM.pack(first, 126, size) + payload
    return _LONG.pack(first, 127, size) + payload


class Protocol:
    """One end of an open WebSocket connection.

    ``max_message`` is the maximum size of a message from the peer in bytes,
    ``max_fragments`` the maximum number of its fragments.

    Only one thread at a time may receive (:meth:`receive`, :meth:`next_event`), and
    only one at a time may call the other methods. The two kinds share no state, so
    one thread may receive while another one sends. Any thread may read the attributes and
    call :meth:`closed`.
    """

    __slots__ = (
        "_at",
        "_buffer",
        "_close_sent",
        "_fragments",
        "_header",
        "_in_message",
        "_incoming",
        "_is_client",
        "_match_header",
        "_max_fragments",
        "_max_message",
        "_outgoing",
        "_pieces",
        "_remaining",
        "_size",
        "_whole",
        "close_code",
        "close_reason",
        "ended",
    )

    def __init__(self, max_message: int, max_fragments: int, *, is_client: bool) -> None:
        self._is_client = is_client
        #: wsproto's framing, one for receiving and one for sending. Each is made when it is
        #: needed: many clients are silent, or send whole messages only.
        self._incoming: FrameProtocol | None = None
        self._outgoing: FrameProtocol | None = None
        self._match_header = (_FROM_SERVER if is_client else _FROM_CLIENT).match
        self._max_message = max_message
        self._max_fragments = max_fragments
        #: Received bytes, and how many of them have been parsed.
        self._buffer = b""
        self._at = 0
        #: The buffer goes on with a new message or control frame: wsproto has no part of one.
        self._whole = True
        #: The beginning of an incomplete header, which wsproto has already.
        self._header = b""
        #: Missing bytes of the frame that wsproto has in part.
        self._remaining = 0
        #: wsproto waits for further fragments.
        self._in_message = False
        #: The message that is being joined, its size, and its number of fragments.
        self._pieces: list[Any] = []
        self._size = 0
        self._fragments = 0
        self._close_sent = False
        #: No further message will arrive.
        self.ended = False
        #: How the connection ended, None while it is open.
        self.close_code: int | None = None
        self.close_reason = ""

    @property
    def state(self) -> str:
        """``open``, ``closing`` after a Close was sent, or ``closed``."""
        return "closed" if self.ended else "closing" if self._close_sent else "open"

    # Receiving.

    def receive(self, data: bytes) -> None:
        """Add bytes that were read."""
        if self._at == len(self._buffer):
            self._buffer = data
        else:
            self._buffer = self._buffer[self._at :] + data
        self._at = 0

    def next_event(self) -> Event | None:
        """The next event of the received bytes; None if they hold no further event.

        Do not call it after a :class:`Close` or :class:`Violation`.
        """
        buffer, at = self._buffer, self._at
        if at == len(buffer):
            # A silent connection keeps no buffer.
            self._buffer, self._at = b"", 0
            return None
        header = self._match_header(buffer, at) if self._whole else None
        if header is not None:
            short, key = header[1], header[4]
            size = short[0] & 0x7F if short else int.from_bytes(header[2] or header[3])
            start = header.end()
            end = start + size
            if end <= len(buffer) and size <= self._max_message:
                payload = buffer[start:end]
                if key and size <= _SMALL:
                    mask = (key * (size // 4 + 1))[:size]
                    payload = (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(size)
                elif key:
                    payload = bytes(XorMaskerSimple(key).process(bytearray(payload)))
                try:
                    message = payload.decode() if buffer[at] == _TEXT else payload
                except UnicodeDecodeError:
                    pass  # wsproto will report it.
                else:
                    self._at = end
                    return message
        return self._next_from_wsproto()

    def _next_from_wsproto(self) -> Event | None:
        while piece := self._next_piece():
            if self._incoming is None:
                self._incoming = _framing(is_client=self._is_client)
            self._incoming.receive_bytes(piece)
            try:
                # A piece is at most one frame.
                for frame in self._incoming.received_frames():
                    event = self._event_of(frame)
                    if event is not None:
                        return event
            except ParseFailed as exc:
                return Violation(int(exc.code), _reason_for(exc))
        return None

    def _next_piece(self) -> bytes:
        """The available bytes of the next frame, for wsproto; ``b""`` if there are none."""
        buffer, at = self._buffer, self._at
        if at == len(buffer):
            return b""
        if not self._remaining:
            header = self._header + buffer[at : at + _MAX_HEADER - len(self._header)]
            length = _frame_length(header)
            if length is None:
                # The header is incomplete: hand out this part, and the rest later.
                self._header = header
                self._at = len(buffer)
                self._whole = False
                return buffer[at:]
            self._remaining = length - len(self._header)
            self._header = b""
            if not header[0] & _CONTROL:
                self._in_message = not header[0] & _FIN
        piece = buffer[at : at + self._remaining]
        self._remaining -= len(piece)
        self._at += len(piece)
        self._whole = not (self._remaining or self._in_message)
        return piece

    def _event_of(self, frame: Frame) -> Event | None:
        """The event of wsproto's ``frame``; None for an incomplete frame."""
        match frame.opcode, frame.payload:
            case Opcode.PING, bytes(payload):
                return Ping(payload)
            case Opcode.PONG, bytes(payload):
                return Pong(payload)
            case Opcode.CLOSE, (code, reason):
                return Close(int(code), str(reason))
            case _, str() | bytes() as payload:
                return self._join(payload, frame)
        raise AssertionError(frame)

    def _join(self, piece: Message, frame: Frame) -> Event | None:
        """Join the message. wsproto has no limits, and it makes a frame of each piece."""
        self._size += _size_of(piece)
        self._fragments += frame.frame_finished
        if self._size > self._max_message or self._fragments > self._max_fragments:
            return Violation(
                TOO_BIG,
                f"a message can have at most {self._max_message} bytes"
                f" and {self._max_fragments} fragments",
            )
        if piece:
            # Empty pieces would make the list grow without counting as bytes.
            self._pieces.append(piece)
        if not frame.message_finished:
            return Fragment() if frame.frame_finished else None
        pieces, self._pieces, self._size, self._fragments = self._pieces, [], 0, 0
        return "".join(pieces) if isinstance(piece, str) else b"".join(pieces)

    # Sending.

    def encode(self, message: Message) -> bytes | None:
        """The frame of ``message``; None if a Close was sent or the connection has ended.

        The peer's Close does not forbid further messages until it is answered.
        """
        if self._close_sent or self.ended:
            return None
        if self._is_client:
            return bytes(self._sender().send_data(message))
        if isinstance(message, str):
            return encode_frame(message.encode())
        return encode_frame(message, binary=True)

    def _sender(self) -> FrameProtocol:
        if self._outgoing is None:
            self._outgoing = _framing(is_client=self._is_client)
        return self._outgoing

    def ping(self, payload: bytes) -> bytes | None:
        """A ping with ``payload``, at most 125 bytes; None as in :meth:`encode`."""
        return None if self._close_sent or self.ended else bytes(self._sender().ping(payload))

    def pong(self, payload: bytes) -> bytes | None:
        """The answer to a ping; None as in :meth:`encode`."""
        return None if self._close_sent or self.ended else bytes(self._sender().pong(payload))

    def close(self, code: int, reason: str) -> bytes | None:
        """The Close to send, also in answer to the peer's; None as in :meth:`encode`.

        For 1005, the Close has no code.
        """
        if self._close_sent or self.ended:
            return None
        self._close_sent = True
        return bytes(self._sender().close(None if code == NO_CODE else code, reason))

    def end(self, code: int, reason: str) -> None:
        """Record that no further message will arrive."""
        # In this order: a thread that sees ``ended`` also sees the code.
        self.note_close(code, reason)
        self.ended = True

    def note_close(self, code: int, reason: str) -> bool:
        """Record how the connection ends. False: that is recorded already."""
        if self.close_code is not None:
            return False
        # In this order: any thread may read both, and one that sees the code also sees the reason.
        self.close_reason = reason
        self.close_code = code
        return True

    def closed(self) -> ConnectionClosed:
        """The exception for a call that needs an open connection."""
        code = self.close_code
        return ConnectionClosed(ABNORMAL if code is None else code, self.close_reason)


def _framing(*, is_client: bool) -> FrameProtocol:
    # There are no extensions. With compression, a shared frame would not fit every
    # client, and a small message could take much memory.
    return FrameProtocol(client=is_client, extensions=[])


def _frame_length(header: bytes) -> int | None:
    """The frame's length in bytes with its header; None if ``header`` is incomplete."""
    if len(header) < 2:
        return None
    size = header[1] & ~_MASKED
    end = 2 if size < 126 else 4 if size == 126 else 10
    if len(header) < end:
        return None
    if end > 2:
        size = int.from_bytes(header[2:end])
    return end + (4 if header[1] & _MASKED else 0) + size


def _reason_for(failure: ParseFailed) -> str:
    """The close reason for a violation.

    It is wsproto's text, except where that text comes from Python's codecs or
    holds the ``repr`` of an object.
    """
    said = str(failure)
    if failure.code == INVALID_DATA:
        where = "a close reason" if "CLOSE" in said else "a text message"
        return f"invalid UTF-8 in {where}"
    if said.startswith("expected CONTINUATION"):
        return "a message began inside another one"
    return said
