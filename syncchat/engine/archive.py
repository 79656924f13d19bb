"""The logs of an engine as a whole, and their file: export and import.

The file has a JSON object per line: a header, the records, then for each room a ``room``, its
messages and its nonces, and an ``end`` that tells how many there are. Records are sorted by kind
and key, rooms by name, and nonces by their offsets, so that the same logs make the same file on
every engine. No log is read as a whole: only the records, the names of rooms and the nonces of one
room of a Redis are in memory at a time.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO

import msgspec

from ..errors import EngineFailed
from .interface import Message, Position, Retention
from .records import Record, Records

__all__ = ["Archive", "Nonce", "Room", "export_logs", "import_logs"]

#: Files of version 1 have no records.
_FORMAT, _VERSION = "syncchat-log", 2

#: Messages or nonces that are read or written at a time; a longer line is not read.
_BATCH = 500
_LONGEST_LINE = 64 * 1024 * 1024

#: Times that are valid, in seconds since 1970.
_TIMES = range(1, 10**11)


class _Header(msgspec.Struct, frozen=True, tag_field="type", tag="header"):
    format: str
    version: int


class Room(msgspec.Struct, frozen=True, tag_field="type", tag="room"):
    """A log: its room, its epoch and its last offset, which is more than 0."""

    name: str
    epoch: str
    last: int

    @property
    def end(self) -> Position:
        """The end of the log."""
        return Position(self.epoch, self.last)


class Nonce(msgspec.Struct, frozen=True, tag_field="type", tag="nonce"):
    """A fingerprint of a nonce and a text, and the offset of the message."""

    fingerprint: str
    offset: int


class _Stored(msgspec.Struct, frozen=True, tag_field="type", tag="record"):
    kind: str
    key: str
    value: bytes


class _End(msgspec.Struct, frozen=True, tag_field="type", tag="end"):
    rooms: int
    messages: int


_Line = _Header | _Stored | Room | Message | Nonce | _End

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(_Line)


class Archive(ABC):
    """The logs and records of an engine that no server uses. For one thread.

    Methods raise :class:`~syncchat.errors.EngineFailed`.
    """

    records: Records

    @abstractmethod
    def rooms(self) -> Iterator[Room]:
        """The logs that have or had messages, sorted by name."""

    @abstractmethod
    def find(self, room: str) -> Position | None:
        """The end of the room's log; None if it never had a message."""

    @abstractmethod
    def messages(self, room: str, last: int) -> Iterator[Message]:
        """The messages up to the offset ``last``, the oldest first."""

    @abstractmethod
    def nonces(self, room: str, last: int) -> Iterable[Nonce]:
        """The known nonces of messages up to ``last``, sorted by offset and fingerprint."""

    @abstractmethod
    def add(
        self,
        room: str,
        before: Position | None,
        end: Position,
        messages: Sequence[Message],
        nonces: Sequence[Nonce],
    ) -> None:
        """Add to the log that ends at ``before``, so that it ends at ``end``. All or nothing."""

    @abstractmethod
    def close(self) -> None:
        """Free all resources."""


# The file.


def export_logs(archive: Archive, file: BinaryIO) -> tuple[int, int]:
    """Write all logs to ``file``. Returns how many rooms and messages there are.

    Raises :class:`OSError`, of which :class:`~syncchat.errors.EngineFailed` is one.
    """
    rooms = total = 0

    def write(line: _Line) -> None:
        file.write(_encode(line) + b"\n")

    write(_Header(_FORMAT, _VERSION))
    for record in archive.records.all():
        assert record.value is not None
        write(_Stored(record.kind, record.key, record.value))
    for room in archive.rooms():
        rooms += 1
        write(room)
        offset: int | None = None
        for message in archive.messages(room.name, room.last):
            if offset is not None and message.offset != offset + 1:
                break
            offset = message.offset
            total += 1
            write(message)
        if offset not in (None, room.last):
            raise EngineFailed(f"messages of {room.name} were dropped meanwhile: export again")
        for nonce in archive.nonces(room.name, room.last):
            write(nonce)
    write(_End(rooms, total))
    file.flush()
    return rooms, total


def import_logs(
    archive: Archive, file: BinaryIO, keep: Retention, check_room: Callable[[str], str]
) -> tuple[int, int]:
    """Add the logs of ``file``. Returns how many rooms and messages the file has.

    The records of the file replace those of the same kind and key.

    A room of the engine must have no messages, or be the beginning of the file's log, as after an
    import that was interrupted. Of others, what exceeds ``keep`` is left out. ``check_room`` raises
    :class:`ValueError` for an invalid name.

    Raises :class:`ValueError` for a broken file, and as :func:`export_logs`.
    """
    return _Import(archive, keep, check_room).run(file)


class _Import:
    """An import: the room that is being read, and what is to be written next."""

    def __init__(self, archive: Archive, keep: Retention, check_room: Callable[[str], str]) -> None:
        self._archive = archive
        self._keep = keep
        self._check_room = check_room
        self._rooms: set[str] = set()
        self._total = 0
        self._room: Room | None = None
        #: The end of the engine's log, and its messages, to be compared with the file's.
        self._end: Position | None = None
        self._stored: Iterator[Message] = iter(())
        self._next_stored: Message | None = None
        #: Whether messages may be left out, since all before are left out.
        self._drops = False
        #: The offset of the last message read; None: there was none.
        self._offset: int | None = None
        self._has_nonces = False
        self._messages: list[Message] = []
        self._nonces: list[Nonce] = []

    def run(self, file: BinaryIO) -> tuple[int, int]:
        """Read the file to its end."""
        number = 0
        is_whole = False
        while line := file.readline(_LONGEST_LINE):
            number += 1
            try:
                if is_whole:
                    raise ValueError("there is more behind the end")
                is_whole = self._take(line, number)
            except (msgspec.MsgspecError, ValueError) as exc:
                raise ValueError(f"line {number}: {exc}") from exc
        if not is_whole:
            raise ValueError(f"line {number}: the file is not whole: its end is missing")
        return len(self._rooms), self._total

    def _take(self, line: bytes, number: int) -> bool:
        """Carry out a line. Returns whether it is the end."""
        if number == 1:
            _check_header(line)
            return False
        match record := _decoder.decode(line):
            case _Stored():
                stored = Record(record.kind, record.key, record.value)
                self._archive.records.write([stored])
            case Room():
                self._finish()
                self._begin(record)
            case Message():
                self._take_message(record)
            case Nonce():
                self._take_nonce(record)
            case _End():
                self._finish()
                if record != _End(len(self._rooms), self._total):
                    raise ValueError("there are other numbers of rooms and messages than it says")
                return True
            case _Header():
                raise ValueError("a second header")
        return False

    def _begin(self, room: Room) -> None:
        if self._check_room(room.name) != room.name or room.name in self._rooms:
            raise ValueError(f"the room {room.name!r} is not valid, or is there twice")
        if room.last < 1 or not room.epoch or not room.epoch.isalnum():
            raise ValueError("an epoch or an offset is not valid")
        end = self._archive.find(room.name)
        if end is not None and (end.epoch != room.epoch or end.offset > room.last):
            raise _refusal(room)
        self._rooms.add(room.name)
        self._room, self._end, self._offset = room, end, None
        self._drops, self._has_nonces = end is None, False
        if end is not None:
            self._stored = self._archive.messages(room.name, end.offset)
            self._next_stored = next(self._stored, None)

    def _take_message(self, message: Message) -> None:
        room = self._room
        if room is None or self._has_nonces:
            raise ValueError("a message without a room before it")
        follows = self._offset is None or message.offset == self._offset + 1
        if not (follows and 1 <= message.offset <= room.last):
            raise ValueError(f"a message has the offset {message.offset}")
        if int(message.time) not in _TIMES:
            raise ValueError(f"a message has the time {message.time}")
        self._offset = message.offset
        self._total += 1
        if self._end is not None and message.offset <= self._end.offset:
            self._compare(room, message)
        elif not (self._drops and self._exceeds(room, message)):
            self._drops = False
            end = None if self._messages else self._end
            if end is not None and message.offset != end.offset + 1:
                raise _refusal(room)
            self._messages.append(message)
            if len(self._messages) == _BATCH:
                self._write()

    def _compare(self, room: Room, message: Message) -> None:
        """Check that the stored message is the same. Either side may have dropped it."""
        while self._next_stored is not None and self._next_stored.offset < message.offset:
            self._next_stored = next(self._stored, None)
        stored = self._next_stored
        if stored is not None and stored.offset == message.offset and stored != message:
            raise _refusal(room)

    def _exceeds(self, room: Room, message: Message) -> bool:
        keep = self._keep
        return (keep.messages is not None and message.offset <= room.last - keep.messages) or (
            keep.seconds is not None and message.time < time.time() - keep.seconds
        )

    def _take_nonce(self, nonce: Nonce) -> None:
        if self._room is None or not 1 <= nonce.offset <= self._room.last:
            raise ValueError("a nonce has no message")
        self._end_messages()
        self._nonces.append(nonce)
        if len(self._nonces) == _BATCH:
            self._write()

    def _end_messages(self) -> None:
        """All messages of the room have been read."""
        room = self._room
        if room is not None and not self._has_nonces:
            self._has_nonces = True
            if self._offset not in (None, room.last):
                raise ValueError(f"the last messages of {room.name} are missing")
            if not self._messages and self._end not in (None, room.end):
                # The file has dropped those behind the engine's.
                raise _refusal(room)

    def _finish(self) -> None:
        """All of the room has been read."""
        self._end_messages()
        if self._room is not None:
            self._write()
        self._room = None

    def _write(self) -> None:
        """Add what has been read."""
        room = self._room
        assert room is not None
        end = room.end if self._has_nonces else Position(room.epoch, self._messages[-1].offset)
        if self._messages or self._nonces or end != self._end:
            self._archive.add(room.name, self._end, end, self._messages, self._nonces)
        self._end, self._messages, self._nonces = end, [], []


def _refusal(room: Room) -> EngineFailed:
    return EngineFailed(f"the room {room.name} has messages that are not those of the file")


def _check_header(line: bytes) -> None:
    try:
        header = msgspec.json.decode(line, type=_Header)
    except msgspec.MsgspecError:
        header = _Header("", 0)
    if header.format != _FORMAT:
        raise ValueError("this is not a file of syncchat-server export")
    if not 1 <= header.version <= _VERSION:
        raise ValueError("the file was created by a later version of syncchat")
