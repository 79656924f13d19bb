"""A robot with commands: python robot.py [URL].

!help, !roll [SIDES], !remember NAME TEXT, !recall NAME. It survives restarts of the server, and
waits for one that is not there yet.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

from syncchat import Client, events

notes: dict[str, str] = {}


def roll(sides: str = "6") -> str:
    """[SIDES]: roll a die"""
    return str(random.randint(1, int(sides)))


def remember(name: str, *words: str) -> str:
    """NAME TEXT: keep a note"""
    notes[name] = " ".join(words)
    return f"I shall remember {name}."


def recall(name: str) -> str:
    """NAME: show a note"""
    return notes.get(name, f"I know nothing about {name}.")


def help_() -> str:
    """list the commands"""
    return "\n".join(f"!{name} {run.__doc__}" for name, run in COMMANDS.items())


COMMANDS: dict[str, Callable[..., str]] = {
    "help": help_,
    "roll": roll,
    "remember": remember,
    "recall": recall,
}


def answer(text: str) -> str | None:
    """The answer to a line; None if it is no command."""
    if not text.startswith("!"):
        return None
    name, *arguments = text[1:].split() or ["help"]
    run = COMMANDS.get(name, help_)
    try:
        return run(*arguments)
    except (TypeError, ValueError):
        return f"Usage: !{name} {run.__doc__}"


def main(url: str) -> None:
    with Client(url, nick="robot").connect(wait=True) as robot:
        for event in robot:
            match event:
                case events.Message(nick=nick, text=text) if nick != robot.nick:
                    said = answer(text)
                    if said is not None:
                        robot.say(said)
                case events.PrivateMessage(nick=nick, text=text) if nick != robot.nick:
                    robot.ask(events.Private(nick, answer(f"!{text.lstrip('!')}") or ""))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:2000/")
