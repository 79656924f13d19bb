"""Splits incoming bytes into frames (RFC 6455, section 5.2).

Nearly all messages of a client are single frames. This module decodes them, in a
tenth of the time that wsproto needs. All other bytes go to wsproto unchanged:
control frames, fragments, incomplete frames and invalid frames, whose errors
wsproto reports.
"""

from __future__ import annotations

from wsproto.frame_protocol import XorMaskerSimple

from .messages import Message

__all__ = ["FrameParser"]

_TEXT, _BINARY = 0x81, 0x82  # each with FIN
_FIN, _CONTROL = 0x80, 0x08
_MASKED = 0x80

#: Bytes of the longest header.
_MAX_HEADER = 14

#: Up to this payload size in bytes, unmasking by one large integer is faster than
#: wsproto's unmasking.
_SMALL = 1024


class FrameParser:
    """The bytes that one end has received, but not parsed yet.

    ``max_message`` is the maximum size in bytes of a message that is decoded here.
    Only one thread at a time may use it.
    """

    __slots__ = (
        "_at",
        "_buffer",
        "_header",
        "_in_message",
        "_mask_bit",
        "_max_message",
        "_remaining",
    )

    def __init__(self, *, is_client: bool, max_message: int) -> None:
        #: A client's frames are masked, a server's frames are not (section 5.3).
        self._mask_bit = 0 if is_client else _MASKED
        self._max_message = max_message
        self._buffer = b""
        #: How many bytes of the buffer have been handed out.
        self._at = 0
        #: The beginning of an incomplete header, which wsproto has already.
        self._header = b""
        #: Missing bytes of the frame that wsproto has in part.
        self._remaining = 0
        #: wsproto waits for further fragments.
        self._in_message = False

    def feed(self, data: bytes) -> None:
        """Add bytes that were read."""
        if self._at == len(self._buffer):
            self._buffer = data
        else:
            self._buffer = self._buffer[self._at :] + data
        self._at = 0

    def next_message(self) -> Message | None:
        """The next message, if it is complete in a single valid frame; otherwise None."""
        if self._remaining or self._in_message or self._header:
            return None
        found = self._find_payload()
        if found is None:
            return None
        start, end = found
        buffer = self._buffer
        payload = buffer[start:end]
        if self._mask_bit:
            payload = _unmask(payload, buffer[start - 4 : start])
        message: Message = payload
        if buffer[self._at] == _TEXT:
            try:
                message = payload.decode()
            except UnicodeDecodeError:
                return None
        self._at = end
        return message

    def _find_payload(self) -> tuple[int, int] | None:
        """Where the payload of such a message begins and ends in the buffer, if there is one."""
        buffer, at = self._buffer, self._at
        if len(buffer) < at + 2 or buffer[at] not in (_TEXT, _BINARY):
            return None
        # If the mask bit is wrong, this is above 127.
        size = buffer[at + 1] ^ self._mask_bit
        start = at + 2
        if size > 125:
            if size > 127:
                return None
            shortest, start = (126, at + 4) if size == 126 else (65536, at + 10)
            size = int.from_bytes(buffer[at + 2 : start])
            if size < shortest:
                return None
        if self._mask_bit:
            start += 4
        end = start + size
        return (start, end) if end <= len(buffer) and size <= self._max_message else None

    def next_piece(self) -> bytes:
        """The available bytes of the next frame, for wsproto; ``b""`` if there are none."""
        buffer, at = self._buffer, self._at
        if at == len(buffer):
            # A silent connection keeps no buffer.
            self._buffer, self._at = b"", 0
            return b""
        if not self._remaining:
            header = self._header + buffer[at : at + _MAX_HEADER - len(self._header)]
            length = _frame_length(header)
            if length is None:
                # The header is incomplete: hand out this part, and the rest later.
                self._header = header
                self._at = len(buffer)
                return buffer[at:]
            self._remaining = length - len(self._header)
            self._header = b""
            if not header[0] & _CONTROL:
                self._in_message = not header[0] & _FIN
        piece = buffer[at : at + self._remaining]
        self._remaining -= len(piece)
        self._at += len(piece)
        return piece


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


def _unmask(payload: bytes, key: bytes) -> bytes:
    """``payload`` without its mask (RFC 6455, section 5.3)."""
    size = len(payload)
    if size > _SMALL:
        return bytes(XorMaskerSimple(key).process(bytearray(payload)))
    mask = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(size)
