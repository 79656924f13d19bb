"""The plain dialect: text in, lines out; any WebSocket client speaks it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from string import Formatter

from .safetext import clean, indent

__all__ = ["Command", "LineFormat", "Say", "parse", "reply"]

#: The system's answers to a client begin so.
_REPLY = "-> "


class Command(Enum):
    """What a client can ask for by a line that begins with ``/``."""

    HELP = auto()
    QUIT = auto()


@dataclass(frozen=True, slots=True)
class Say:
    """Something for the room."""

    text: str


HELP_TEXT = "/help: this list. /quit: leave. //text: say a text that begins with a slash."


def parse(line: str) -> Say | Command | str:
    """What a client means by ``line``: something to say, a command, or an unknown command's name.

    ``//`` at the beginning stands for a slash that is to be said.
    """
    text = clean(line)
    if not text.startswith("/"):
        return Say(text)
    if text.startswith("//"):
        return Say(text[1:])
    name = text[1:].partition(" ")[0]
    for command in Command:
        if command.name.lower() == name.lower():
            return command
    return name


def reply(text: str) -> str:
    """``text`` as the system says it to one client."""
    return _REPLY + indent(text)


def _bad_format(template: str) -> ValueError:
    return ValueError(
        f"{template!r} is no format: it must hold {{text}} and may hold {{sender}},"
        " and a brace is written twice"
    )


class LineFormat:
    """How a message is shown as one line: ``{sender}: {text}``, or as the operator likes it.

    Raises :class:`ValueError`, whose text says what is wrong, for a template
    without ``{text}``, or with other fields than that and ``{sender}``.
    """

    def __init__(self, template: str) -> None:
        try:
            names = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
            template.format(sender="", text="")
        except (LookupError, ValueError, AttributeError) as exc:
            raise _bad_format(template) from exc
        if "text" not in names or not names <= {"text", "sender"}:
            raise _bad_format(template)
        named = "sender" in names
        self._format = template.format
        #: Without a sender in the line there is nobody whom a continuation
        #: line could fake, and the text stays as it is.
        self._named = named

    def line(self, sender: str, text: str) -> str:
        """The line for ``text``, which has been cleaned."""
        return self._format(sender=sender, text=indent(text) if self._named else text)
