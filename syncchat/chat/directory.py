"""The directory: people and operators' decisions, read from the records of the engine.

All servers of an engine share the records, and other processes may change them: ``people add``
while the server runs. A server has them in memory, and reads them again when they change.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator

from ..engine import Record, Records
from ..errors import EngineFailed
from .people import PEOPLE, PEOPLE_KEY, People
from .rules import KINDS, Rules

__all__ = ["PERIOD", "Directory", "faults_of_records"]

logger = logging.getLogger("syncchat.chat")

#: Seconds between two looks for changes of other processes.
PERIOD = 0.1


class Directory:
    """People and rules of a server. Every method may be called from any thread.

    ``people`` and ``rules`` are immutable, and replaced as a whole: read them once for a decision.
    Raises :class:`~syncchat.errors.EngineFailed` if the records cannot be read.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        #: Guards ``_version`` and the order of refreshes; held while records are read.
        self._lock = threading.Lock()
        self._version = -1
        #: The records of which ``people`` is made.
        self._of_people: tuple[dict[str, bytes], dict[str, bytes]] = ({}, {})
        #: The damaged records of which the log tells.
        self._told: frozenset[tuple[str, str]] = frozenset()
        self.people = People({})
        self.rules = Rules({})
        self._listeners: list[Callable[[], None]] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.refresh()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each change, on the thread that notices it. Before ``start``."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Look for changes of other processes from now on, if there may be any."""
        if self._records.is_shared:
            self._thread = threading.Thread(target=self._watch, name="syncchat-directory")
            self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def write(self, *records: Record) -> None:
        """Store records, and apply them here at once. Raises :class:`EngineFailed`."""
        self._records.write(records)
        self.refresh()

    def refresh(self) -> None:
        """Read the records again if they have changed, and call the listeners."""
        with self._lock:
            version = self._records.version()
            if version == self._version:
                return
            of_people = self._records.read(PEOPLE), self._records.read(PEOPLE_KEY)
            if of_people != self._of_people:
                # Otherwise it stays the same object, by which a listener knows that.
                self._of_people = of_people
                self.people = People(*of_people)
            self.rules = Rules({kind: self._records.read(kind) for kind in KINDS})
            self._version = version
            damaged = self.people.damaged | self.rules.damaged
            news, self._told = damaged - self._told, damaged
        for each in sorted(news):
            logger.warning("%s", _fault(*each))
        for listener in self._listeners:
            listener()

    def _watch(self) -> None:
        while not self._stopping.wait(PERIOD):
            try:
                self.refresh()
            except EngineFailed as exc:
                # The engine tells of its failure itself.
                logger.debug("the directory could not be read: %s", exc)
            except Exception:
                logger.exception("the directory could not be read")


def faults_of_records(records: Iterable[Record]) -> Iterator[str]:
    """A line for each of the records that is damaged."""
    by_kind: dict[str, dict[str, bytes]] = {}
    for record in records:
        by_kind.setdefault(record.kind, {})[record.key] = record.value or b""
    people = People(by_kind.get(PEOPLE, {}), by_kind.get(PEOPLE_KEY))
    for each in sorted(people.damaged | Rules(by_kind).damaged):
        yield _fault(*each)


def _fault(kind: str, key: str) -> str:
    name = " ".join(key.split("\0")).strip()
    return (
        f"the record {kind!r} of {name!r} is damaged and has no effect: restore a backup, or set it"
        " anew"
    )
