"""Nicks: their sources, uniqueness and rules."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from syncchat import ChatServer
from syncchat.chat.nicks import check_nick
from syncchat.errors import BadNick
from tests.people import Json, Plain, url_of
from tests.redis_server import RedisProcess

# Names.


def test_a_nick_comes_from_the_url_or_a_command() -> None:
    with (
        ChatServer(port=0, greeting="", notices=False) as chat,
        Plain(url_of(chat, "/?nick=ann")) as ann,
        Plain(url_of(chat)) as other,
    ):
        other.send("before")
        assert ann.hear() == f"{other.address}: before"
        other.send("/nick Ärger", "after")
        assert ann.hear() == "Ärger: after"
        ann.send("hi")
        assert ann.hear() == "ann: hi"


@pytest.mark.parametrize("name", ["memory:", pytest.param("redis:", marks=pytest.mark.slow)])
def test_a_nick_belongs_to_all_tabs_of_a_browser_and_to_nobody_else(name: str) -> None:
    with ExitStack() as stack:
        url = name if name == "memory:" else stack.enter_context(RedisProcess()).url
        _check_tabs(url)


def _check_tabs(engine: str) -> None:
    ann, other = (f"syncchat.browser.{secret}" for secret in ("s3cret-of-ann-1-2", "else" * 16))
    with (
        ChatServer(port=0, greeting="", engine=engine) as chat,
        Json(url_of(chat, "/?nick=bob")) as bob,
        Json(url_of(chat, "/?nick=ann&strict=1"), ann) as first,
    ):
        assert first.event("welcome")["nick"] == "ann"
        assert first.websocket.subprotocol == "syncchat.v1"
        assert bob.find("joined")["nick"] == "ann"
        with Json(url_of(chat, "/?nick=Ann&strict=1"), ann) as second:
            assert second.event("welcome")["nick"] == "Ann"
            second.ask(type="names")
            assert second.find("names")["names"] == ["ann", "bob"]
            second.ask(type="say", text="from the second")
            assert first.find("message")["text"] == "from the second"
        for entries in ((), (other,), ("syncchat.browser.s3cret",)):
            with Json(url_of(chat, "/?nick=ann&strict=1"), *entries) as stranger:
                error = stranger.event("error")
                assert (error["code"], error["text"]) == (
                    "nick_taken",
                    "The nick ann is taken here.",
                )
                assert stranger.hear_end() == 1008
            with Json(url_of(chat, "/?nick=ann"), *entries) as stranger:
                assert stranger.event("welcome")["nick"] == stranger.address
                stranger.ask(type="nick", nick="ANN")
                assert stranger.find("error")["code"] == "nick_taken"
        with Json(url_of(chat, "/?nick=admin&strict=1")) as stranger:
            assert stranger.event("error")["code"] == "nick"
            assert stranger.hear_end() == 1008
        with Json(url_of(chat, "/ops?nick=ann&strict=1")) as stranger:
            stranger.ask(type="join", room="lobby")
            assert stranger.event("welcome")["room"] == "ops"
            assert stranger.find("welcome")["room"] == "ops"
            error = stranger.find("error")
            assert (error["code"], error["command"]) == ("nick_taken", "join")
        first.ask(type="nick", nick="zoe")
        # Nothing was told of the second tab, and of those who were refused.
        while (event := bob.event())["type"] != "renamed":
            assert event["type"] in {"message", "joined", "left"}
            assert event.get("nick", "").startswith("127.0.0.1:") or event["type"] == "message"
        assert (event["old"], event["nick"]) == ("ann", "zoe")


def test_a_nick_is_unique_in_its_room_in_any_spelling() -> None:
    with (
        ChatServer(port=0, greeting="", notices=False) as chat,
        Plain(url_of(chat, "/?nick=Stra%C3%9Fe")) as first,
        Plain(url_of(chat, "/?nick=STRASSE")) as second,
        Plain(url_of(chat, "/elsewhere?nick=strasse")) as third,
    ):
        assert second.hear() == f"-> The nick STRASSE is taken here; you are {second.address}."
        second.send("/nick strasse", "/nick x", "/nick X", "I am")
        assert second.hear() == "-> The nick strasse is taken here."
        assert second.hear() == f" * {second.address} is now known as x."
        assert second.hear() == " * x is now known as X."
        assert first.hear() == second.hear() == "X: I am"
        third.send("me too")
        assert third.hear() == "strasse: me too"
        # Leaving releases the nick.
        first.send("/quit")
        assert first.hear_end() == 1000
        second.send("/nick STRASSE")
        assert second.hear() == " * X is now known as STRASSE."


@pytest.mark.parametrize(
    ("nick", "why"),
    [
        ("server", "reserved"),
        ("SYSTEM", "reserved"),
        ("ｓｙｓｔｅｍ", "reserved"),
        ("x" * 33, "at most 32"),
        ("a b", "one word"),
        ("a:b", "one word"),
        ("127.0.0.1:80", "one word"),
        ("a,b", "one word"),
        ("a\nb", "one word"),
        ("a\tb", "one word"),
        ("a\u00a0b", "one word"),
        ("a\u200db", "one word"),
        ("a\ufeff", "one word"),
        ("*ann", "begin"),
        ("->", "begin"),
        ("/quit", "begin"),
        ("\u3164", "visible"),
        ("a\u3164", "visible"),
        ("\u0301", "visible"),
        ("server\ufe0f", "visible"),
        ("ann\u034f", "visible"),
        ("ann\U000e0100", "visible"),
        ("a" + "\u0315\u0300" * 4_000, "at most 32"),
        ("\x1b\u202e", "must not be empty"),
        ("", "must not be empty"),
    ],
)
def test_a_deceptive_nick_is_refused_with_the_reason(nick: str, why: str) -> None:
    with pytest.raises(BadNick, match=why):
        check_nick(nick)
    with (
        ChatServer(port=0, greeting="", notices=False) as chat,
        Json(url_of(chat)) as client,
    ):
        client.event("welcome")
        client.ask(type="nick", nick=nick)
        error = client.event("error")
        assert error["code"] == "nick"
        assert why in error["text"]
        client.ask(type="say", text="still")
        assert client.event("message")["nick"] == client.address


@pytest.mark.parametrize("nick", ["ann", "x" * 32, "日本", "Ünï", "a.b-c_d", "r2d2", "🦀"])
def test_a_nick_may_be_any_word(nick: str) -> None:
    assert check_nick(f" \x07{nick}\u200f") == nick
