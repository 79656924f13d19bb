"""Several rooms in the terminal, with a real server: traffic, a restart, and the next start."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from syncchat import ChatServer, Client
from syncchat.terminal import Keeper, Preferences
from tests.people import url_of
from tests.processes import ServerScript, Terminal
from tests.screen import Screen


def numbers(lines: list[str], room: str) -> list[int]:
    """The numbers of the messages of ``room`` that are shown."""
    return [int(line.rpartition(" ")[2]) for line in lines if line.startswith(f"server: {room} ")]


def test_three_rooms_with_traffic_lose_nothing(tmp_path: Path) -> None:
    with (
        ChatServer(port=0, notices=False, greeting="") as chat,
        Terminal("--nick", "ann", url_of(chat), home=tmp_path, columns=100, rows=40) as ann,
    ):
        ann.wait_for_last(r" lobby \| ann.*connected.*")
        for room in ("ops", "dev"):
            ann.type(f"/join {room}\r")
            ann.wait_for_line(f"--- {room} ---")
        ann.wait_for_last(r" lobby  ops  dev \| ann .*")
        rooms = {"lobby": "1", "ops": "2", "dev": "3"}
        sent = 0
        for current, key in rooms.items():
            for _ in range(5):
                sent += 1
                for room in rooms:
                    chat.say(f"{room} {sent}", room=room)
            ann.type(f"\x1b{key}")
            ann.wait_for_line(f"server: {current} {sent}")
        for room, key in rooms.items():
            # Shown only after the switch.
            chat.say(f"{room} {sent + 1}", room=room)
            ann.type(f"\x1b{key}")
            ann.wait_for_line(f"server: {room} {sent + 1}")
        ann.wait_for_last(r" lobby  ops  dev \| ann .*")
        shown = ann.scrollback()
        for room in rooms:
            assert numbers(shown, room) == list(range(1, sent + 2)), (room, shown)
        # A mention, and the exact number of unread messages.
        for number in range(3):
            chat.say(f"well {number}", room="ops")
        chat.say("ann: come here", room="lobby")
        ann.wait_for_line(r"\[lobby\] server: ann: come here")
        ann.wait_for_last(r" lobby 1!  ops 3  dev \| ann .*")
        ann.type("\x1ba")
        ann.wait_for_line("server: ann: come here")
        ann.wait_for_last(r" lobby  ops 3  dev \| ann .*")
        ann.type("/quit\r")
        assert ann.exit_code() == 0
        # The next start opens with what was said since.
        chat.say("while away", room="lobby")
        with Terminal("--nick", "ann", url_of(chat), home=tmp_path, columns=100, rows=40) as again:
            again.wait_for_line("server: while away")
            again.wait_for_last(r" lobby  ops 3  dev \| ann .*")
            shown = again.scrollback()
            at = shown.index("--- Last read ---")
            assert shown[at - 1 : at + 2] == [
                "-> 1 new message since your last visit.",
                "--- Last read ---",
                "server: while away",
            ]


@pytest.mark.slow
def test_a_restart_of_the_server_loses_no_count(tmp_path: Path) -> None:
    engine = ("--engine", f"sqlite:{tmp_path / 'chat.sqlite'}", "--no-notices")
    with ServerScript(*engine) as server:
        port = str(server.port)
        url = f"{server.url}"
        with Terminal("--nick", "ann", url, home=tmp_path, columns=100) as ann:
            ann.wait_for_last(r" lobby \| ann.*connected.*")
            ann.type("/join ops\r")
            ann.wait_for_last(r" lobby  ops \| ann.*connected.*")
            with Screen(url, nick="bob") as bob:
                bob.wait_for_last(" lobby.*connected.*")
                bob.type("one\rtwo\r")
                ann.wait_for_last(r" lobby 2  ops \| .*")
            server.process.kill()
            ann.wait_for_last(r" lobby 2  ops \| ann \| reconnecting.*")
            with ServerScript(*engine, "--port", port):
                ann.type("/reconnect\r")
                ann.wait_for_last(r" lobby 2  ops \| ann.*connected.*")
                with Screen(url, nick="bob") as bob:
                    bob.wait_for_last(" lobby.*connected.*")
                    bob.type("three\r")
                    ann.wait_for_last(r" lobby 3  ops \| .*")
                ann.type("\x1b1")
                ann.wait_for_line("bob: three")
                shown = ann.scrollback()
                assert [line for line in shown if re.match("bob: (one|two|three)", line)] == [
                    "bob: one",
                    "bob: two",
                    "bob: three",
                ]
                ann.type("\x04")
                assert ann.exit_code() == 0


def test_what_is_ignored_in_a_watched_room_does_not_ring(tmp_path: Path) -> None:
    with ChatServer(port=0, notices=False, greeting="") as chat:
        keeper = Keeper(tmp_path / "places.sqlite", url_of(chat))
        keeper.put_word("ignored", "server")
        with Screen(url_of(chat), nick="ann", preferences=Preferences(), keeper=keeper) as ann:
            ann.wait_for_last(" lobby.*connected.*")
            ann.type("/join ops\r")
            ann.wait_for_last(" lobby  ops .*")
            chat.say("ann!", room="lobby")
            ann.wait_for_last(" lobby 1  ops .*")
            with Client(url_of(chat), nick="bob") as bob:
                bob.say("ann?")
                ann.wait_for_line(r"\[lobby\] bob: ann\?")
            ann.wait_for_last(" lobby 2!  ops .*")
            assert "[lobby] server: ann!" not in ann.scrollback()
            assert ann.written.count(b"\x07") == 1
