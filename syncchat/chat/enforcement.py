"""Carries out new bans and mutes on the clients that are in the rooms of this server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from ..errors import EngineFailed
from .directory import Directory
from .events import BanEntry
from .members import Member, Members
from .nicks import key_of
from .room import Room
from .rules import Rules, banned, entry_record, network_around

__all__ = ["Enforcement"]

logger = logging.getLogger("syncchat.chat")


class Enforcement:
    """Acts on each change of the rules, on the thread that notices it.

    ``rooms`` returns the rooms that have members here.
    """

    def __init__(self, directory: Directory, rooms: Callable[[], Iterable[Room]]) -> None:
        self._directory = directory
        self._rooms = rooms
        #: The bans and mutes of the last change. A race between two threads does no harm: to
        #: enforce a ban twice is the same as once.
        self._known = _entries(directory.rules)
        directory.on_change(self._apply)

    def _apply(self) -> None:
        rules = self._directory.rules
        entries = _entries(rules)
        new, self._known = entries - self._known, entries
        if not new:
            return
        for room in self._rooms():
            try:
                self._follow_guests(room, rules, new)
            except EngineFailed as exc:
                # The nick is banned, but not the address.
                logger.warning("room %r: an address could not be banned: %s", room.name, exc)
            room.visit(partial(_remove_banned, room.name, rules))

    def _follow_guests(
        self, room: Room, rules: Rules, new: frozenset[tuple[str, BanEntry]]
    ) -> None:
        """Have a ban or mute of a guest's nick hold for its address, too.

        Only the server that the guest is connected to knows the address.
        """
        guests: list[Member] = []
        room.visit(
            lambda members: guests.extend(
                each for each in members if each.person is None and not each.follows
            )
        )
        for member in guests:
            args = (room.name, member.nick, member.host, None)
            for kind, entry in (("ban", rules.ban_of(*args)), ("mute", rules.mute_of(*args))):
                if entry is None or (kind, entry) not in new:
                    continue
                around = network_around(member.host)
                networks = {*entry.networks, str(around)}
                if (
                    around is None
                    or key_of(entry.target) != key_of(member.nick)
                    or len(networks) == len(entry.networks)
                ):
                    continue
                wider = msgspec.structs.replace(entry, networks=tuple(sorted(networks)))
                # This calls _apply with the new rules.
                self._directory.write(entry_record(kind, wider))


def _entries(rules: Rules) -> frozenset[tuple[str, BanEntry]]:
    return frozenset(
        [*(("ban", each) for each in rules.bans), *(("mute", each) for each in rules.mutes)]
    )


def _remove_banned(room: str, rules: Rules, members: Members) -> None:
    for member in members:
        ban = rules.ban_of(room, member.nick, member.host, member.person)
        if ban is not None:
            error = banned(ban)
            members.close(member, error, error.text)
