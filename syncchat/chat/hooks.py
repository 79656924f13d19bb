"""The callbacks of an embedding program: messages, joins and leaves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..engine import Draft, Kind
from ..errors import Rejected
from ..net import Request
from .members import Member
from .sanitize import clean

__all__ = ["NO_HOOKS", "Heard", "Hooks", "ReadOnly", "Visitor"]

logger = logging.getLogger("syncchat.chat")


@dataclass(frozen=True, slots=True)
class Heard:
    """A message of a client, before it is kept.

    ``text`` is sanitized. ``kind`` is ``message`` or ``action``. ``address`` is the client's.
    """

    room: str
    nick: str
    text: str
    kind: Kind
    address: str


class Visitor:
    """A client in a room. The same object comes to ``on_join`` and to ``on_leave``.

    ``watches``: it is in another room, and asks to watch this one; ``on_leave`` is not called.
    """

    def __init__(self, room: str, member: Member, *, watches: bool = False) -> None:
        self.room = room
        self.watches = watches
        self._member = member

    def __repr__(self) -> str:
        return f"<Visitor {self.nick!r} in {self.room!r}>"

    @property
    def nick(self) -> str:
        """Its nick, which it may change."""
        return self._member.nick

    @property
    def address(self) -> str:
        """Its host and port."""
        return self._member.address

    @property
    def request(self) -> Request:
        """Its handshake request, with the headers and the query."""
        return self._member.websocket.request


class ReadOnly:
    """Who may not speak.

    In ``rooms``, only the server and clients that ``may_speak`` admits. ``only_reads`` tells of
    a client that may speak nowhere; None: there is none.
    """

    def __init__(
        self,
        rooms: Iterable[str],
        may_speak: Callable[[Request], bool],
        only_reads: Callable[[Request], bool] | None = None,
    ) -> None:
        self.rooms = frozenset(rooms)
        self._may_speak = may_speak
        self._only_reads = only_reads

    def silences(self, room: str | None, request: Request) -> str:
        """Why the sender of this request may not speak in the room; empty: it may.

        None for the room: whether it may speak to anybody.
        """
        if self._only_reads is not None and self._only_reads(request):
            return "Guests can only read here: to speak, you need a token of your own."
        if room in self.rooms and not self._may_speak(request):
            return f"{room} is read-only: you cannot speak here."
        return ""


@dataclass(frozen=True, slots=True)
class Hooks:
    """The callbacks, None for those that the program has not set. Called on clients' threads."""

    on_message: Callable[[Heard], str | None] | None = None
    on_join: Callable[[Visitor], object] | None = None
    on_leave: Callable[[Visitor], object] | None = None

    def __bool__(self) -> bool:
        return any((self.on_message, self.on_join, self.on_leave))

    def admit(self, draft: Draft, room: str, address: str) -> None:
        """Show a message to ``on_message``, which may change its text.

        Raises :class:`~syncchat.errors.Rejected`, also after any exception of the callback.
        """
        if self.on_message is None:
            return
        heard = Heard(room, draft.nick, draft.text, draft.kind, address)
        try:
            changed: object = self.on_message(heard)
            if changed is not None:
                if not isinstance(changed, str):
                    kind = type(changed).__name__
                    raise TypeError(f"on_message must return a str or None, not {kind}")
                changed.encode()
                draft.text = clean(changed)
        except Rejected:
            raise
        except Exception as exc:
            logger.exception("on_message failed in room %r", room)
            raise Rejected("The message was not accepted.") from exc

    def welcome(self, visitor: Visitor) -> None:
        """Show a client to ``on_join``. Raises :class:`~syncchat.errors.Rejected` as above."""
        if self.on_join is None:
            return
        try:
            self.on_join(visitor)
        except Rejected:
            raise
        except Exception as exc:
            logger.exception("on_join failed in room %r", visitor.room)
            raise Rejected("You cannot enter this room.") from exc

    def part(self, visitor: Visitor) -> None:
        """Tell ``on_leave`` that a client has left. Its exception is logged."""
        if self.on_leave is None:
            return
        try:
            self.on_leave(visitor)
        except Exception:
            logger.exception("on_leave failed in room %r", visitor.room)


NO_HOOKS = Hooks()
