"""What the server keeps for people with a token: places, and private messages until they come."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ..engine import Record, Records
from ..errors import EngineFailed
from .asked import position_of
from .events import PrivateMessage

__all__ = ["MAX_LETTERS", "PersonalRecords"]

logger = logging.getLogger("syncchat.chat")

#: Private messages that are kept for a person, at most.
MAX_LETTERS = 100

#: Seconds between two writes of places.
_PERIOD = 2.0

_letter: msgspec.json.Decoder[PrivateMessage] = msgspec.json.Decoder(PrivateMessage)


class PersonalRecords:
    """Any thread may call every method. A person is named by the key of the name.

    The records of kind ``places/PERSON`` have the last position seen in each room, those of kind
    ``letters/PERSON`` the private messages to somebody who was not there. The thread
    ``syncchat-personal`` writes places and deletes letters; it starts with the first of them.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        #: Guards the fields below. No other lock is taken under it.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        #: The places to write, by person and room, and those that are being written.
        self._seen: dict[str, dict[str, str]] = {}
        self._writing: Mapping[str, Mapping[str, str]] = {}
        #: The letters on their way to a client, and those that have arrived, as person and key.
        self._going: set[tuple[str, str]] = set()
        self._arrived: list[tuple[str, str]] = []
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        #: Held while a letter is counted and stored, so that there are never too many.
        self._counting = threading.Lock()

    def close(self) -> None:
        """Write what is left, and end the thread. No client may be left."""
        with self._lock:
            self._stopping.set()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    # Places.

    def places(self, person: str) -> dict[str, str]:
        """The last position seen in each room. Raises :class:`EngineFailed`."""
        with self._lock:
            # Before the records are read: what is here now is there later.
            fresh = [dict(each.get(person, {})) for each in (self._writing, self._seen)]
        places = {
            room: place.decode() for room, place in self._records.read(f"places/{person}").items()
        }
        for each in fresh:
            _advance(places, each)
        return places

    def see(self, person: str, room: str, place: str) -> None:
        """Note that a person has seen a room up to a place. Never blocks."""
        with self._lock:
            _advance(self._seen.setdefault(person, {}), {room: place})
            self._wake_locked()

    # Letters.

    def keep(self, person: str, message: PrivateMessage) -> str | None:
        """Keep a private message. Returns its key; None: there are too many.

        Raises :class:`EngineFailed`.
        """
        kind = f"letters/{person}"
        with self._counting:
            if len(self._records.read(kind)) >= MAX_LETTERS:
                return None
            key = f"{time.time_ns():020}-{secrets.token_hex(4)}"
            record = Record(kind, key, msgspec.json.encode(message))
            self._records.write([record], announce=False)
            return key

    def take(self, person: str, only: str | None = None) -> dict[str, PrivateMessage]:
        """The letters to a person by their keys, the oldest first; or ``only`` one of them.

        The caller must call :meth:`settle` with the keys. Until then, nobody else on this server
        gets the letters. Raises :class:`EngineFailed`.
        """
        with self._lock:
            # Those that are deleted meanwhile.
            going = set(self._going)
        found = self._records.read(f"letters/{person}")
        with self._lock:
            going |= self._going
            free = [
                key for key in sorted(found) if only in (None, key) and (person, key) not in going
            ]
            self._going.update((person, key) for key in free)
        return {key: _letter.decode(found[key]) for key in free}

    def settle(self, person: str, keys: Iterable[str], *, arrived: bool) -> None:
        """Note whether the client has received letters: then they are deleted. Never blocks."""
        letters = [(person, key) for key in keys]
        with self._lock:
            if arrived:
                # They stay in _going until they are deleted.
                self._arrived += letters
                self._wake_locked()
            else:
                self._going.difference_update(letters)

    # The thread.

    def _wake_locked(self) -> None:
        assert self._lock.locked()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="syncchat-personal", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._changed.wait_for(lambda: self._seen or self._arrived or self._is_stopping())
                stopping = self._is_stopping()
                self._writing, self._seen = self._seen, {}
                arrived, self._arrived = self._arrived, []
            try:
                self._write(self._writing, arrived)
            except EngineFailed as exc:
                # The next attempt comes, unless the server stops.
                level = logging.WARNING if stopping else logging.DEBUG
                logger.log(level, "the last seen places cannot be written: %s", exc)
                self._restore(arrived)
            else:
                with self._lock:
                    self._writing = {}
                    self._going.difference_update(arrived)
            if stopping:
                return
            self._stopping.wait(_PERIOD)

    def _is_stopping(self) -> bool:
        return self._stopping.is_set()

    def _write(
        self, seen: Mapping[str, Mapping[str, str]], arrived: Sequence[tuple[str, str]]
    ) -> None:
        records = [Record(f"letters/{person}", key, None) for person, key in arrived]
        for person, places in seen.items():
            kind = f"places/{person}"
            # Another device may have seen more, at another server.
            known = {room: place.decode() for room, place in self._records.read(kind).items()}
            before = dict(known)
            _advance(known, places)
            records += [
                Record(kind, room, known[room].encode())
                for room in places
                if known[room] != before.get(room)
            ]
        if records:
            self._records.write(records, announce=False)

    def _restore(self, arrived: Sequence[tuple[str, str]]) -> None:
        with self._lock:
            for person, places in self._writing.items():
                newer = self._seen.get(person, {})
                self._seen[person] = dict(places)
                _advance(self._seen[person], newer)
            self._writing = {}
            self._arrived += arrived


def _advance(places: dict[str, str], newer: Mapping[str, str]) -> None:
    """Take over the places of ``newer``, unless they are before those known in the same log."""
    for room, place in newer.items():
        known = places.get(room)
        if known is not None:
            old, new = position_of(known), position_of(place)
            if old.epoch == new.epoch and old.offset > new.offset:
                continue
        places[room] = place
