"""The commands of the terminal client, and those for the server."""

from __future__ import annotations

import re

import pytest

from syncchat import ChatServer, Client
from syncchat.chat.events import (
    History,
    Message,
    Names,
    Private,
    PrivateMessage,
    Renamed,
)
from syncchat.net import WebSocket, serve
from tests.peer import wait_for
from tests.people import url_of
from tests.screen import Screen
from tests.stage import Stage

# Commands.


def test_a_mention_is_marked_and_rings() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")

        def rings(text: str, nick: str = "bob") -> bool:
            before = client.written.count(b"\x07")
            stage.say(text, nick)
            stage.say(f"after {text}", "ann")
            client.wait_for_line(re.escape(f"ann: after {text}"))
            return client.written.count(b"\x07") > before

        assert rings("well, Ann?")
        assert all(cell.reverse for cell in client.cells("well, Ann?")[6:9])
        assert not any(cell.reverse for cell in client.cells("well, Ann?")[:6])
        assert not rings("annual planning")
        assert not rings("nothing")
        assert not rings("ann says ann", "ann")
        client.type("/bell all\r")
        client.wait_for_line("-> The bell is set to all.")
        assert rings("anything")
        assert not rings("my own", "ann")
        client.type("/bell off\r")
        client.wait_for_line("-> The bell is set to off.")
        assert not rings("hey ann")
        client.type("/bell loud\r")
        client.wait_for_line(r"-> Usage: /bell off\|mention\|all")
        client.type("/bell mention\r/bell\r")
        client.wait_for_line("-> The bell is set to mention.")
        stage.tell(PrivateMessage("bob", "ann", "psst", 0.0))
        client.wait_for_line(r"\[PM from bob\] psst")
        stage.tell(Names(["ann", "bob"]))
        client.wait_for_line("-> 2 connected.*")
        assert client.written.endswith(b"\x07") or client.written.count(b"\x07") == 3


def test_an_ignored_person_stays_ignored_under_a_new_nick() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("/ignore BOB\r")
        client.wait_for_line("-> You ignore BOB now.*")
        stage.say("one")
        stage.tell(PrivateMessage("bob", "ann", "psst", 0.0), Renamed("bob", "rob"))
        stage.say("two", "rob")
        client.wait_for_line(r" \* bob is now known as rob\.")
        client.type("/ignore\r")
        client.wait_for_line("-> You ignore rob.")
        client.type("/unignore rob\r/unignore rob\r/unignore\r/ignore\r")
        client.wait_for_line("-> You no longer ignore rob.")
        client.wait_for_line("-> You do not ignore rob.")
        client.wait_for_line("-> Usage: /unignore NAME")
        client.wait_for_line("-> You ignore nobody.")
        stage.say("three", "rob")
        client.wait_for_line("rob: three")
        shown = client.scrollback()
        assert not [line for line in shown if "one" in line or "psst" in line or "two" in line]


def test_a_reply_goes_to_the_last_visible_sender() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        stage.say("I am here", nick="mal")
        client.wait_for_line("mal: I am here")
        client.type("/ignore mal\r")
        client.wait_for_line("-> You ignore mal now.*")
        stage.tell(
            PrivateMessage("bob", "ann", "one", 0.0),
            PrivateMessage("mal", "ann", "two", 0.0),
            History((Message(1, 0.0, "mal", "old", "message"),), complete=True, command="history"),
        )
        client.wait_for_line("-> No messages found.")
        client.type("/reply for bob only\r")
        wait_for(lambda: stage.heard == [Private("bob", "for bob only")])


def test_a_command_after_a_blank_is_not_sent_to_the_room() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("  /msg @bob: secret\r")
        wait_for(lambda: stage.heard == [Private("bob", "secret")])


def test_the_matches_of_a_search_are_marked() -> None:
    with ChatServer(port=0, notices=False) as chat, Screen(url_of(chat), nick="ann") as client:
        client.type("breakfast at nine\rlunch at noon\r")
        client.wait_for_line("ann: lunch at noon")
        client.type("/search BREAK\r")
        client.wait_for_line(r"-> \[.{16}\] ann: breakfast at nine")
        found = client.cells("] ann: breakfast at nine")
        assert [cell.underscore for cell in found] == [False] * 7 + [True] * 9 + [False] * 8
        client.type("/search dinner\r")
        client.wait_for_line(r"-> No messages found\.")
        client.type("/history 1\r")
        client.wait_for_line(r"-> \[.{16}\] ann: lunch at noon")


def test_the_other_commands_answer() -> None:
    with ChatServer(port=0, notices=False) as chat, Screen(url_of(chat), nick="ann") as client:
        with Client(url_of(chat), nick="bob") as bob:
            client.wait_for_line(">.*")
            for line, answer in [
                ("/names", "-> 2 connected: ann, bob"),
                ("/whois bob", "-> bob has been here since .*"),
                ("/rooms", r"-> 1 room: lobby \(2\)"),
                ("/me waves", r"\*\* ann waves"),
                ("//slash", "ann: /slash"),
                ("/msg bob psst", r"-> \[Sent PM to bob\] psst"),
                ("/reply x", r"-> No private message to reply to\."),
                ("/HELP me", "-> /me TEXT: send an action"),
                ("/help nothing", "-> Unknown command /nothing.*"),
                ("/timestmap", r"-> Unknown command /timestmap\. Did you mean /timestamp\?.*"),
                ("/timestamp x", r"-> Usage: /timestamp \[on\|off\]"),
                ("/msg bob", "-> Usage: /msg NAME TEXT"),
                ("/nick anna", r" \* ann is now known as anna\."),
                ("/join ops", "--- ops ---"),
            ]:
                client.type(f"{line}\r")
                client.wait_for_line(answer)
            client.wait_for_last(r" lobby  ops \| anna \| 1 here \| connected.*")
            bob.join("ops")
            bob.ask(Private("anna", "hello"))
            client.wait_for_line(r"\[PM from bob\] hello")
            client.type("/reply hi\r")
            client.wait_for_line(r"-> \[Sent PM to bob\] hi")


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 24), (40, 24), (40, 16), (80, 10)])
def test_help_fits_the_screen(columns: int, rows: int) -> None:
    with Stage() as stage, Screen(stage.url, columns=columns, rows=rows) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("/help\r")
        client.wait_for_line("-> Commands:")
        shown = client.lines()
        assert shown[-2] == ">"
        told = " ".join(shown[shown.index("-> Commands:") :])
        for name in ("/nick", "/msg", "/search", "/bell", "/unignore", "/quit"):
            assert name in told
        if columns < 80:
            return
        assert all(len(line) < columns for line in shown)


def test_clear_leaves_an_empty_screen_and_the_prompt() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        stage.say("hello")
        client.wait_for_line("bob: hello")
        client.type("/clear\r")
        stage.say("later")
        client.wait_for_line("bob: later")
        assert client.lines()[:2] == ["bob: later", ">"]
        client.type("half\x0c")
        wait_for(lambda: client.lines()[:1] == ["> half"])


def test_a_foreign_server_gets_its_own_commands() -> None:
    heard: list[object] = []

    def handler(websocket: WebSocket) -> None:
        for message in websocket:
            heard.append(message)
            websocket.send(f"you said {message!s}")

    with serve(handler) as server, Screen(f"ws://127.0.0.1:{server.port}") as client:
        client.wait_for_line(">.*")
        client.type("/roll 2d6\rhello\r/bell\r")
        client.wait_for_line("-> The bell is set to mention.")
        client.wait_for_line("you said /roll 2d6")
        client.wait_for_line("> hello")
        client.wait_for_line("you said hello")
        client.type("/quit\r")
        assert client.exit_code() == 0
    assert heard == ["/roll 2d6", "hello"]


def test_only_known_people_can_be_ignored() -> None:
    """Issue 13, item 11: a speaker who has left can still be ignored."""
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        stage.say("hello", "Cy")
        client.wait_for_line("Cy: hello")
        for typed, answer in [
            ("/ignore typo", "-> typo is not in this room and has sent no message."),
            ("/ignore", "-> You ignore nobody."),
            ("/ignore ANN", "-> You cannot ignore yourself."),
            ("/ignore two words", "-> Usage: /ignore NAME"),
            ("/ignore BOB", "-> You ignore BOB now. .*"),
            ("/ignore cy", "-> You ignore cy now. .*"),
            ("/ignore", "-> You ignore BOB, cy."),
            ("/Bell ALL", "-> The bell is set to all."),
        ]:
            client.type(f"{typed}\r")
            client.wait_for_line(answer)
        stage.say("unheard", "bob")
        stage.say("heard", "dan")
        client.wait_for_line("dan: heard")
        assert "bob: unheard" not in client.lines()
