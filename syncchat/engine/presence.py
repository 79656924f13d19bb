"""The presence of people in the rooms: the nicks that are claimed, and events that are not kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

__all__ = [
    "Candidate",
    "ClaimsChanged",
    "Departed",
    "Live",
    "LiveCodec",
    "LiveEvent",
    "Person",
    "Presence",
    "Revoked",
]


class Candidate(msgspec.Struct, frozen=True):
    """A nick to claim. Nicks are compared by casefold, and by ``look``, if it is not empty.

    ``look`` is equal for nicks that look the same. ``owner``, if it is not empty: all claims with
    the same owner may be held at the same time, on any server. It has no blanks and no colons.
    """

    nick: str
    look: str = ""
    owner: str = ""


class Person(msgspec.Struct, frozen=True):
    """Who has claimed a nick: since when, when it spoke last, why it is away.

    Times are in seconds since 1970. ``spoke`` is None if it is not known; ``away`` is None if
    the person is not away.
    """

    nick: str
    since: float
    spoke: float | None
    away: str | None


#: A live event of the chat, a ``msgspec.Struct``. The engine does not look into it.
LiveEvent: TypeAlias = Any

#: Called with a room's name and a live event, which has no offset and is not kept.
Live = Callable[[str, LiveEvent], None]


class Departed(msgspec.Struct, frozen=True):
    """The members of a server that has ended without a word. Their nicks are free."""

    nicks: Sequence[str]


class Revoked(msgspec.Struct, frozen=True):
    """Nicks claimed here that other servers have now: this one was cut off for too long."""

    nicks: Sequence[str]


#: Called with a room's name and a change of its claims that nobody here asked for.
ClaimsChanged = Callable[[str, Departed | Revoked], None]


@dataclass(frozen=True, slots=True)
class LiveCodec:
    """Turns live events into bytes and back, for an engine that sends them to other processes.

    ``decode`` raises :class:`ValueError` or :class:`~syncchat.errors.BadEvent`.
    """

    encode: Callable[[LiveEvent], bytes]
    decode: Callable[[bytes], LiveEvent]


class Presence(ABC):
    """The nicks claimed in the rooms, and live events, which are not kept. From any thread.

    Nicks are compared as :class:`Candidate` says.
    """

    @abstractmethod
    def claim(self, room: str, nicks: Iterable[Candidate]) -> str:
        """Claim the first free one of ``nicks``, and return it. ``nicks`` may be endless.

        Raises :class:`ValueError` if none is free.
        """

    @abstractmethod
    def rename(self, room: str, old: str, new: Candidate) -> bool:
        """Claim ``new`` and release ``old`` in one step. False: ``new`` is taken.

        They may be the same nick in another case.
        """

    @abstractmethod
    def release(self, room: str, nick: str) -> bool:
        """Release a claimed nick. Returns whether nobody has it any more, on any server."""

    @abstractmethod
    def names(self, room: str) -> list[str]:
        """Every claimed nick in the room, sorted without regard to case."""

    @abstractmethod
    def find(self, room: str, nick: str, look: str = "") -> Person | None:
        """Who has claimed the nick, or one of this look, on another server. None: nobody has.

        A local engine knows of no other server; nor do the next three methods there.
        """

    @abstractmethod
    def set_away(self, room: str, nick: str, reason: str | None) -> None:
        """Let other servers know that a nick claimed here is away, or back (None)."""

    @abstractmethod
    def away_nicks(self, room: str) -> list[str]:
        """The nicks that are away on any server, as :meth:`set_away` was told."""

    @abstractmethod
    def elsewhere(self, rooms: Sequence[str]) -> list[int]:
        """How many nicks are claimed in each room on other servers."""

    @abstractmethod
    def where(self, nick: str) -> list[str]:
        """The rooms in which the nick is claimed, on any server, compared by casefold."""

    @abstractmethod
    def publish(self, room: str, event: LiveEvent) -> None:
        """Deliver a live event on every server where the room has members."""
