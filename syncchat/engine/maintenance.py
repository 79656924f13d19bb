"""Maintenance of what an engine stores: backup, check, prune, figures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from ..errors import EngineFailed
from .archive import Archive, export_logs
from .interface import Draft, Retention, fingerprint
from .records import Record

__all__ = ["ArchiveMaintenance", "Maintenance", "RoomFigures"]


class RoomFigures(msgspec.Struct, frozen=True):
    """What is kept of a room. ``bytes`` counts texts as UTF-8; times are seconds since 1970."""

    name: str
    epoch: str
    last: int
    messages: int
    bytes: int
    oldest: float | None
    newest: float | None


class Maintenance(ABC):
    """Maintenance for an engine from outside, also while servers use it. For one thread.

    Methods raise :class:`~syncchat.errors.EngineFailed`, and :class:`OSError` for files.
    """

    @abstractmethod
    def backup(self, target: Path) -> None:
        """Write all that is stored, as it is at one moment, to the empty file ``target``."""

    @abstractmethod
    def faults(
        self, of_records: Callable[[Sequence[Record]], Iterable[str]] = lambda _: ()
    ) -> Iterator[str]:
        """What is wrong with the log, the search index and the records, a line each.

        ``of_records`` tells what is wrong with all records. Changes nothing.
        """

    @abstractmethod
    def prune(self, keep: Retention) -> tuple[int, bool]:
        """Delete the messages that exceed ``keep``; their nonces stay.

        Returns how many are deleted, and whether their place is given back to the system.
        """

    @abstractmethod
    def rooms(self) -> list[RoomFigures]:
        """The figures of each room that has or had messages, sorted by name."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Bytes of the engine's files, by what they are."""

    def close(self) -> None:  # noqa: B027 - most keep nothing open
        """Free all resources."""


class ArchiveMaintenance(Maintenance):
    """Maintenance for a Redis, through its archive. Each room is seen as it is at one moment."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def backup(self, target: Path) -> None:
        with target.open("wb") as file:
            export_logs(self._archive, file)

    def faults(
        self, of_records: Callable[[Sequence[Record]], Iterable[str]] = lambda _: ()
    ) -> Iterator[str]:
        archive = self._archive
        yield from of_records(archive.records.all())
        for room in archive.rooms():
            keys: dict[int, str | None] = {}
            offset = None
            for message in archive.messages(room.name, room.last):
                if offset is not None and message.offset != offset + 1:
                    missing = f"offsets {offset + 1} to {message.offset - 1}"
                    yield f"room {room.name}: messages are missing: {missing}"
                offset = message.offset
                draft = Draft("", message.text, message.kind, message.nonce)
                keys[offset] = fingerprint(draft)
            if offset not in (None, room.last):
                yield f"room {room.name}: the log ends at {room.last}, its messages at {offset}"
            for nonce in archive.nonces(room.name, room.last):
                if nonce.offset in keys and keys[nonce.offset] != nonce.fingerprint:
                    at = f"a nonce points at offset {nonce.offset}"
                    yield f"room {room.name}: {at}, which is another message"

    def prune(self, keep: Retention) -> tuple[int, bool]:  # noqa: ARG002 - the interface's
        raise EngineFailed("the servers prune a Redis as messages come: start them with --keep")

    def rooms(self) -> list[RoomFigures]:
        return [self._figures(room.name, room.epoch, room.last) for room in self._archive.rooms()]

    def _figures(self, name: str, epoch: str, last: int) -> RoomFigures:
        count = size = 0
        oldest = newest = None
        for message in self._archive.messages(name, last):
            count += 1
            size += len(message.text.encode())
            oldest = message.time if oldest is None else min(oldest, message.time)
            newest = message.time if newest is None else max(newest, message.time)
        return RoomFigures(name, epoch, last, count, size, oldest, newest)

    def sizes(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self._archive.close()
