"""Who may enter a room, and speak there, by the server's settings and by what operators decide."""

from __future__ import annotations

from ..net import Request
from .events import Error
from .members import Member
from .people import Person
from .room_settings import RoomSettings
from .rules import banned

__all__ = ["Permits"]


class Permits:
    """Usable from any thread."""

    def __init__(self, settings: RoomSettings) -> None:
        self._settings = settings

    def silence(
        self, name: str, nick: str, person: Person | None, request: Request
    ) -> Error | None:
        """Why the sender of this request may not speak in the room; None: it may."""
        if why := self._settings.read_only.silences(name, request):
            return Error("refused", why)
        return self._settings.directory.rules.silence(name, nick, request.remote_address[0], person)

    def only_reads(self, request: Request) -> Error | None:
        """Why the sender of this request may speak to nobody, not even in private; None: it may."""
        why = self._settings.read_only.silences(None, request)
        return Error("refused", why) if why else None

    def is_always_read_only(self, name: str) -> bool:
        """Whether the server's own settings make the room read-only."""
        return name in self._settings.read_only.rooms

    def is_muted(self, name: str, member: Member) -> bool:
        """Whether an operator has muted ``member`` in the room."""
        rules = self._settings.directory.rules
        return rules.mute_of(name, member.nick, member.host, member.person) is not None

    def ban(self, name: str, nick: str, person: Person | None, host: str) -> Error | None:
        """Why a client of this nick and address may not enter the room; None: it may."""
        found = self._settings.directory.rules.ban_of(name, nick, host, person)
        return None if found is None else banned(found)
