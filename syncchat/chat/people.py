"""The people who have a token of their own, and with it a name that nobody else can take."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from .nicks import key_of

__all__ = ["PEOPLE", "People", "Person"]

#: The kind of their records.
PEOPLE = "people"


class Person(msgspec.Struct, frozen=True, omit_defaults=True):
    """A person with a token. ``name`` is theirs; ``digest`` is the keyed hash of the token."""

    name: str
    digest: str
    operator: bool = False
    robot: bool = False


class People:
    """All people, as they are in the records. Immutable; usable from any thread."""

    def __init__(self, records: Mapping[str, bytes]) -> None:
        self._by_name = {
            key: msgspec.json.decode(value, type=Person) for key, value in records.items()
        }

    def named(self, name: str) -> Person | None:
        """The person of this name; None: there is none."""
        return self._by_name.get(key_of(name))
