"""Messages: checks before sending, and assembly of received pieces."""

from __future__ import annotations

from typing import Any

from wsproto.events import BytesMessage, Event, TextMessage

__all__ = ["Assembler", "Message", "MessageTooBig", "checked", "event_of"]

#: A text message is a ``str``, a binary one is ``bytes``.
Message = str | bytes


class MessageTooBig(Exception):
    """The peer's message exceeds the limit. Never leaves ``syncchat.net``."""


def size_of(data: str | bytes | bytearray) -> int:
    """Bytes that ``data`` takes on the wire. Raises UnicodeEncodeError for a lone surrogate."""
    return len(data) if not isinstance(data, str) or data.isascii() else len(data.encode())


def checked(message: Message) -> tuple[Message, int]:
    """The message as ``str`` or ``bytes``, and its size in bytes.

    Raises :class:`UnicodeEncodeError` for a lone surrogate, so that the message
    cannot fail later, among others in a batch, and :class:`TypeError` for a message
    that is neither text nor bytes.
    """
    if isinstance(message, str):
        return message, size_of(message)
    if isinstance(message, bytes | bytearray | memoryview):
        data = bytes(message)
        return data, len(data)
    raise TypeError(f"a message must be str or bytes, not {type(message).__name__}")


def event_of(message: Message) -> Event:
    """The message as an event of wsproto. Raises as :func:`checked` does."""
    message, _ = checked(message)
    return TextMessage(data=message) if isinstance(message, str) else BytesMessage(data=message)


class Assembler:
    """Assembles messages from wsproto's events, and limits their size.

    wsproto has no size limit, and it emits an event per read, not per frame. Only
    one thread at a time may use an assembler.
    """

    __slots__ = ("_fragments", "_max_fragments", "_max_message", "_pieces", "_size")

    def __init__(self, max_message: int, max_fragments: int) -> None:
        self._max_message = max_message
        self._max_fragments = max_fragments
        self._pieces: list[Any] | None = None
        self._size = 0
        self._fragments = 0

    def add(self, event: TextMessage | BytesMessage) -> Message | None:
        """Add a piece. Returns the message if ``event`` completes it, else None.

        Raises :class:`MessageTooBig` as soon as a limit is exceeded; nothing can
        be added after that.
        """
        data = event.data
        self._size += size_of(data)
        self._fragments += event.frame_finished
        if self._size > self._max_message or self._fragments > self._max_fragments:
            raise MessageTooBig
        if not event.message_finished:
            if self._pieces is None:
                self._pieces = []
            if data:
                # Empty pieces would make the list grow without counting as bytes.
                self._pieces.append(data)
            return None
        pieces, self._pieces, self._size, self._fragments = self._pieces, None, 0, 0
        if isinstance(data, str):
            return "".join([*pieces, data]) if pieces else data
        return b"".join([*pieces, data]) if pieces else bytes(data)
