"""The people who have a token of their own, and with it a name that nobody else can take."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from ..engine import Record, Records
from ..errors import BadNick, NickTaken
from .nicks import check_nick, key_of, look_of
from .stored import RecordReader

__all__ = [
    "PEOPLE",
    "PEOPLE_KEY",
    "TOKEN_PREFIX",
    "People",
    "Person",
    "add_person",
    "read_people",
    "remove_person",
    "renew_token",
]

#: The kind of their records.
PEOPLE = "people"
#: The kind of the record with the key of the hashes.
PEOPLE_KEY = "people-key"

#: How every token of a person begins, so that a server knows it from a shared token, and a scanner
#: finds it where it does not belong.
TOKEN_PREFIX = "syncchat_"  # noqa: S105 - it is the same for all


class Person(msgspec.Struct, frozen=True, omit_defaults=True):
    """A person with a token. ``name`` is theirs; ``digest`` is the keyed hash of the token."""

    name: str
    digest: str
    operator: bool = False
    robot: bool = False


class People:
    """All people, as they are in the records. Immutable; usable from any thread.

    ``keys`` are those of the hashes. There is one, unless two processes have added the first
    person at the same time. Damaged records have no effect.
    """

    def __init__(
        self, records: Mapping[str, bytes], keys: Mapping[str, bytes] | None = None
    ) -> None:
        reader = RecordReader()
        self._keys = tuple(reader.read(PEOPLE_KEY, keys or {}, _key).values())
        self._by_name = reader.read(PEOPLE, records, _person)
        #: Kind and key of the records that cannot be read.
        self.damaged = frozenset(reader.damaged)
        self._by_digest = {person.digest: person for person in self}
        self._by_look: dict[str, Person] = {}
        for person in self:
            # "I" looks like "l", but "i" does not.
            for spelled in (person.name.upper(), person.name):
                self._by_look[look_of(spelled)] = person

    def __iter__(self) -> Iterator[Person]:
        return iter(self._by_name.values())

    def named(self, name: str) -> Person | None:
        """The person of this name, compared by casefold; None: there is none."""
        return self._by_name.get(key_of(name))

    def owner(self, nick: str) -> Person | None:
        """The person whose name ``nick`` is, or looks like; None: it is nobody's."""
        if not self._by_name:
            return None
        return self._by_name.get(key_of(nick)) or self._by_look.get(look_of(nick))

    def holder(self, tokens: Iterable[str]) -> Person | None:
        """The person to whom one of the tokens belongs; None: there is none.

        A token is never compared with another one: its hash is looked up, and reveals nothing
        by the time that this takes.
        """
        for token in tokens:
            for key in self._keys:
                person = self._by_digest.get(_digest(token, key))
                if person is not None:
                    return person
        return None

    def current(self, person: Person) -> Person | None:
        """The person as it is now; None: it is gone, or has another token."""
        return self._by_digest.get(person.digest)

    def is_free(self, nick: str, person: Person | None) -> bool:
        """Whether ``person``, or a guest, may take ``nick``: it is not the name of another one."""
        owner = self.owner(nick)
        return owner is None or (person is not None and owner.digest == person.digest)


def _person(_: str, value: bytes) -> Person:
    return msgspec.json.decode(value, type=Person)


def _key(_: str, value: bytes) -> bytes:
    _digest("", value)
    return value


def _digest(token: str, key: bytes) -> str:
    shown = token.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(shown, key=key, digest_size=32).hexdigest()


# For commands. They raise EngineFailed.


def read_people(records: Records) -> People:
    """The people now."""
    return People(records.read(PEOPLE), records.read(PEOPLE_KEY))


def add_person(records: Records, name: str, *, operator: bool = False, robot: bool = False) -> str:
    """Add a person, and return the token.

    Raises :class:`~syncchat.errors.BadNick` for an invalid name, and
    :class:`~syncchat.errors.NickTaken` for that of another person, or one that looks like it.
    """
    name = check_nick(name)
    owner = read_people(records).owner(name)
    if owner is not None:
        if key_of(owner.name) == key_of(name):
            raise NickTaken(f"{owner.name} has a token already")
        raise NickTaken(f"{name} looks like {owner.name}, who has a token")
    return _write(records, Person(name, "", operator, robot))


def remove_person(records: Records, name: str) -> Person:
    """Remove a person, and return it. Raises :class:`~syncchat.errors.BadNick` if it is unknown."""
    person = _known(records, name)
    records.write([Record(PEOPLE, key_of(person.name), None)])
    return person


def renew_token(records: Records, name: str) -> str:
    """Give a person another token, and return it. Raises as :func:`remove_person`."""
    return _write(records, _known(records, name))


def _known(records: Records, name: str) -> Person:
    person = read_people(records).named(check_nick(name))
    if person is None:
        raise BadNick(f"nobody is called {name}; 'people list' shows all names")
    return person


def _write(records: Records, person: Person) -> str:
    """Store a person with a new token, and return the token."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    keys = records.read(PEOPLE_KEY)
    key = min(keys.values(), default=secrets.token_bytes(32))
    person = msgspec.structs.replace(person, digest=_digest(token, key))
    added = [] if keys else [Record(PEOPLE_KEY, secrets.token_hex(8), key)]
    record = Record(PEOPLE, key_of(person.name), msgspec.json.encode(person))
    records.write([*added, record])
    return token
