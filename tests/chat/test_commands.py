"""The commands of the plain dialect."""

from __future__ import annotations

import re

import pytest

from syncchat import ChatServer
from tests.people import Json, Plain, url_of

# Commands.


def test_every_command_of_the_plain_dialect_answers() -> None:
    with (
        ChatServer(port=0, greeting="", notices=False) as chat,
        Plain(url_of(chat, "/?nick=ann")) as ann,
        Plain(url_of(chat, "/?nick=bob")) as bob,
    ):
        bob.send("about breakfast")
        assert ann.hear() == "bob: about breakfast"
        when = r"\[\d{4}-\d\d-\d\d \d\d:\d\d\]"
        for line, answer in [
            ("/help", r"-> Commands:\n(?s:.*)/quit(?s:.*)"),
            ("/names", "-> 2 connected: ann, bob"),
            ("/rooms", r"-> 1 room: lobby \(2\)"),
            ("/whois BOB", "-> bob has been here since .* and last spoke .*"),
            ("/whois ann", "-> ann has been here since .* and has not spoken yet. Idle for .*"),
            ("/whois carl", "-> carl is not here."),
            ("/history", rf"-> {when} bob: about breakfast"),
            ("/history 5", rf"-> {when} bob: about breakfast"),
            ("/search BREAK", rf"-> {when} bob: about breakfast"),
            ("/search dinner", "-> No messages found."),
            ("/me eats", r"\*\* ann eats"),
            ("/msg bob", "-> Usage: /msg NAME TEXT"),
            ("/nick", "-> Usage: /nick NAME"),
            ("/HELP", "-> Commands:(?s:.*)"),
            ("/whois\tBOB", "-> bob has been here since .*"),
            ("/serach x", r"-> Unknown command /serach\. Did you mean /search\? .*"),
            ("/" + "x" * 5000, "-> Unknown command /x.*"),
        ]:
            ann.send(line)
            assert re.fullmatch(answer, ann.hear()), line
        bob.send("/history 1")
        # Its own line and ann's action, but none of her commands.
        assert bob.hear() == "bob: about breakfast"
        assert bob.hear() == "** ann eats"
        assert re.fullmatch(rf"-> {when} \*\* ann eats", bob.hear())


def test_an_away_message_is_shown_until_the_person_is_back() -> None:
    with (
        ChatServer(port=0, greeting="", rate=0) as chat,
        Plain(url_of(chat, "/?nick=ann")) as ann,
        Json(url_of(chat, "/?nick=bob")) as bob,
    ):
        bob.event("welcome")
        ann.hear_until(" * bob joined. (Connected: 2)")
        for line, notice, event in [
            ("/away for\tlunch \x1b", " * ann is away: for lunch", {"reason": "for lunch"}),
            ("/away", " * ann is away.", {}),
            ("/back", " * ann is back.", {}),
        ]:
            ann.send(line)
            assert ann.hear() == notice
            kind = "back" if line == "/back" else "away"
            assert bob.event("away", "back") == {"type": kind, "nick": "ann"} | event
        # No change, so that the room is not told.
        ann.send("/back", "/away " + "x" * 201)
        assert ann.hear() == " * ann is back."
        assert ann.hear() == "-> A reason must have at most 200 characters."
        ann.send("/away meeting")
        assert bob.event("away")["reason"] == "meeting"
        bob.ask(type="private", to="ann", text="psst")
        assert bob.event("private")["text"] == "psst"
        assert bob.event("away") == {"type": "away", "nick": "ann", "reason": "meeting"}
        bob.ask(type="whois", nick="ann")
        assert bob.event("whois")["away"] == "meeting"
        assert ann.hear() == " * ann is away: meeting"
        assert ann.hear() == "[PM from bob] psst"
        ann.send("/join ops")
        ann.hear_until("-> You are now in ops.")
        bob.ask(type="whois", nick="ann")
        assert bob.find("whois")["rooms"] == ["ops"]
        ann.send("/whois ann")
        assert ann.hear().endswith(" Away: meeting")


@pytest.mark.parametrize("number", ["0", "1001", "5000", "-1", "x", "1 2", "\u0665"])
def test_history_tells_its_range(number: str) -> None:
    """Issue 13, item 16: a number out of range is answered with the range."""
    with ChatServer(port=0, greeting="", notices=False) as chat, Plain(url_of(chat)) as client:
        client.send(f"/history {number}")
        assert client.hear() == "-> Usage: /history [N], where N is 1-1,000"


def test_history_is_shown_to_a_plain_client_that_asks_for_it() -> None:
    with (
        ChatServer(port=0, greeting="Hello", notices=False) as chat,
        Plain(url_of(chat, "/?nick=ann")) as ann,
    ):
        ann.hear()
        ann.send("one", "/me two", "three")
        ann.hear_until("ann: three")
        with Plain(url_of(chat, "/?history=2")) as late:
            assert [late.hear() for _ in range(3)] == ["Hello", "** ann two", "ann: three"]
            ann.send("four")
            assert late.hear() == "ann: four"


def test_names_marks_people_who_are_away() -> None:
    """Issue 13, item 11: in both dialects, until the person is back."""
    with (
        ChatServer(port=0, notices=False, greeting="") as chat,
        Json(url_of(chat, "/?nick=ann")) as ann,
        Plain(url_of(chat, "/?nick=bob")) as bob,
    ):
        ann.event("welcome")
        # The answer proves that he has joined.
        bob.send("/back")
        bob.hear()
        ann.ask(type="names")
        assert ann.event("names") == {"type": "names", "names": ["ann", "bob"]}
        ann.ask(type="away", reason="lunch")
        ann.event("away")
        ann.ask(type="names")
        assert ann.event("names") == {"type": "names", "names": ["ann", "bob"], "away": ["ann"]}
        bob.send("/names")
        assert bob.hear() == "-> 2 connected: ann (away), bob"
        ann.ask(type="back")
        ann.event("back")
        bob.send("/names")
        assert bob.hear() == "-> 2 connected: ann, bob"
