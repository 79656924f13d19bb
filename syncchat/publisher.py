"""Messages from a process that serves no clients, such as a cron job or a task queue."""

from __future__ import annotations

from typing import Self

from .chat.nicks import SERVER_NICK, check_nick
from .chat.room_names import LOBBY, check_room
from .chat.sanitize import clean
from .engine import Draft, open_appender

__all__ = ["Publisher"]


class Publisher:
    """Says something in the rooms of the servers that share a Redis.

    ::

        with syncchat.Publisher("redis://127.0.0.1:6379/0") as publisher:
            publisher.say("deployed", room="ops", nick="ci")

    ``engine`` is what the servers have as ``--engine``. Any thread may call the methods. Make a
    publisher in the process that uses it, after a fork.

    Raises :class:`ValueError` if ``engine`` is not a Redis, and
    :class:`~syncchat.errors.EngineUnusable` if the package ``redis`` is missing.
    """

    def __init__(self, engine: str) -> None:
        self._appender = open_appender(engine)

    def say(
        self, text: str, room: str = LOBBY, nick: str = SERVER_NICK, *, nonce: str | None = None
    ) -> int:
        """Send ``text`` to everybody in ``room``, from ``nick``. Returns the message's offset.

        It is stored, numbered and delivered as any other message. The same text with the same
        ``nonce`` is stored once, so that a task may be repeated. ``nick`` need not be free in the
        room.

        Raises :class:`~syncchat.errors.EngineFailed` if the message is not stored,
        :class:`~syncchat.errors.AppendUnknown` if that is not known,
        :class:`~syncchat.errors.BadRoom` and :class:`~syncchat.errors.BadNick` for an invalid
        name, :class:`TypeError` if ``text`` is not ``str``, and :class:`UnicodeEncodeError` for a
        lone surrogate.
        """
        if not isinstance(text, str):
            raise TypeError(f"a text must be str, not {type(text).__name__}")
        text.encode()
        sender = SERVER_NICK if nick == SERVER_NICK else check_nick(nick)
        draft = Draft(sender, clean(text), nonce=nonce)
        stored = self._appender.append(check_room(room), [draft], ("", 0, 0.0))
        return stored.answers[0].offset

    def close(self) -> None:
        """Close the connection to Redis."""
        self._appender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
