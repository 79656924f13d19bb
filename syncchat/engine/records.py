"""Small records that outlive a restart: people, bans, topics. Their interface, and in memory."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

import msgspec

__all__ = ["MemoryRecords", "Record", "Records"]


class Record(msgspec.Struct, frozen=True):
    """A record of a kind, by its key. ``value`` is None for a record to delete."""

    kind: str
    key: str
    value: bytes | None


class Records(ABC):
    """Small records that outlive a restart: people, bans, topics. From any thread.

    They are as durable as the engine. Methods raise :class:`~syncchat.errors.EngineFailed`.
    """

    #: Whether other processes may write, too. If not, :attr:`version` changes only here.
    is_shared = True

    @abstractmethod
    def read(self, kind: str) -> dict[str, bytes]:
        """All records of the kind, by their keys."""

    @abstractmethod
    def all(self) -> list[Record]:
        """All records, sorted by kind and key."""

    @abstractmethod
    def get(self, kind: str, key: str) -> bytes | None:
        """One record; None: there is none."""

    @abstractmethod
    def write(self, records: Sequence[Record], *, announce: bool = True) -> None:
        """Store or delete the records, all or none. They are durable when it returns.

        ``announce``: whether :meth:`version` changes, so that all servers read them again.
        """

    @abstractmethod
    def version(self) -> int:
        """A number that is another one after each announced write of any process. Cheap."""

    @abstractmethod
    def close(self) -> None:
        """Free all resources. Calls after it may raise an exception."""


class MemoryRecords(Records):
    """Records in memory."""

    is_shared = False

    def __init__(self) -> None:
        #: Guards the fields below. No other lock is taken under it.
        self._lock = threading.Lock()
        self._records: dict[str, dict[str, bytes]] = {}
        self._version = 0

    def read(self, kind: str) -> dict[str, bytes]:
        with self._lock:
            return dict(self._records.get(kind, {}))

    def all(self) -> list[Record]:
        with self._lock:
            return [
                Record(kind, key, records[key])
                for kind, records in sorted(self._records.items())
                for key in sorted(records)
            ]

    def get(self, kind: str, key: str) -> bytes | None:
        with self._lock:
            return self._records.get(kind, {}).get(key)

    def write(self, records: Sequence[Record], *, announce: bool = True) -> None:
        with self._lock:
            for record in records:
                kind = self._records.setdefault(record.kind, {})
                if record.value is None:
                    kind.pop(record.key, None)
                else:
                    kind[record.key] = record.value
                if not kind:
                    del self._records[record.kind]
            self._version += announce

    def version(self) -> int:
        return self._version

    def close(self) -> None:
        pass
