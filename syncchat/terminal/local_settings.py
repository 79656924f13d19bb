"""The commands that change settings of the terminal client alone."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from ..client import Client
from .commands import Highlight, Ignore, SetBell, Timestamp, Unhighlight, Unignore
from .keeper import Keeper
from .model import Model
from .snapshot import BELLS

__all__ = ["LocalSettings"]


class LocalSettings:
    """Carries out the commands of these settings. For the prompt's thread."""

    def __init__(self, client: Client, model: Model, keeper: Keeper | None) -> None:
        self._client = client
        self._model = model
        self._keeper = keeper

    def carry_out(
        self, command: SetBell | Timestamp | Ignore | Unignore | Highlight | Unhighlight
    ) -> str:
        """Carry out a command, and return the answer for the user."""
        match command:
            case SetBell():
                return self._bell(command.when)
            case Timestamp():
                return self._timestamp(command.wanted)
            case Ignore():
                return self._ignore(command.nick)
            case Unignore():
                return self._unignore(command.nick)
            case Highlight():
                return self._highlight(command.word)
            case Unhighlight():
                return self._unhighlight(command.word)
            case _:
                assert_never(command)

    def _bell(self, argument: str) -> str:
        for bell in BELLS:
            if argument.lower() == bell:
                self._model.set_preferences(replace(self._model.preferences, bell=bell))
                return f"The bell is set to {bell}."
        if argument:
            return "Usage: /bell off|mention|all"
        return f"The bell is set to {self._model.preferences.bell}."

    def _timestamp(self, argument: str) -> str:
        # The name of the format works like "on".
        shown = self._model.preferences.timestamps
        wanted = {"": not shown, "on": True, "hh:mm": True, "off": False}.get(argument.lower())
        if wanted is None:
            return "Usage: /timestamp [on|off]"
        self._model.set_preferences(replace(self._model.preferences, timestamps=wanted))
        return f"Timestamps are {'on' if wanted else 'off'}."

    def _ignore(self, argument: str) -> str:
        if len(argument.split()) > 1:
            return "Usage: /ignore NAME"
        nick = argument.removeprefix("@").rstrip(":,")
        if nick and nick.casefold() == (self._client.nick or "").casefold():
            return "You cannot ignore yourself."
        if nick and not self._model.knows(nick):
            return f"{nick} is not in this room and has sent no message."
        if nick:
            self._model.ignore(nick)
            if self._keeper is not None:
                self._keeper.put_word("ignored", nick)
            return f"You ignore {nick} now. /unignore {nick} undoes it."
        ignored = self._model.ignored
        return f"You ignore {', '.join(ignored)}." if ignored else "You ignore nobody."

    def _unignore(self, argument: str) -> str:
        if not argument:
            return "Usage: /unignore NAME"
        if self._model.unignore(argument):
            if self._keeper is not None:
                self._keeper.drop_word("ignored", argument)
            return f"You no longer ignore {argument}."
        return f"You do not ignore {argument}."

    def _highlight(self, word: str) -> str:
        if word:
            self._model.mark(word)
            if self._keeper is not None:
                self._keeper.put_word("marked", word)
            return f"{word} is marked now, and rings. /unhighlight {word} undoes it."
        marked = self._model.marked
        return f"Marked: {', '.join(marked)}." if marked else "No word is marked but your nick."

    def _unhighlight(self, word: str) -> str:
        if not word:
            return "Usage: /unhighlight WORD"
        if not self._model.unmark(word):
            return f"{word} is not marked."
        if self._keeper is not None:
            self._keeper.drop_word("marked", word)
        return f"{word} is no longer marked."
