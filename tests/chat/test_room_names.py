"""The names of rooms: one for all spellings of a path."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from wsproto.events import CloseConnection, TextMessage

from syncchat import ChatServer, Client, Retention, events
from syncchat.chat.room_names import MAX_ROOM, check_room
from syncchat.engine import Draft, open_engine
from syncchat.errors import BadRoom
from tests.peer import PATIENCE, Peer, ask_http
from tests.people import Json, Plain, url_of


def test_an_invalid_room_path_is_closed_with_the_reason() -> None:
    with (
        ChatServer(port=0) as chat,
        Plain(url_of(chat, "/" + "x" * (MAX_ROOM + 1))) as plain,
    ):
        assert plain.hear() == f"-> A room's name must have at most {MAX_ROOM} characters."
        assert plain.hear_end() == 1008
    with pytest.raises(BadRoom):
        check_room("\x1b/ ")


#: Spellings of a name, and the name that the room has everywhere.
SPELLINGS = [
    (["ops", "#ops", "##ops", "OPS", "#Ops", " ops "], "ops"),
    (["caf\u00e9", "cafe\u0301", "CAF\u00c9", "#CAFE\u0301"], "caf\u00e9"),
    (["stra\u00dfe", "STRASSE", "Stra\u1e9ee"], "strasse"),
    (["\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2", "\u03c3\u03af\u03c3\u03c5\u03c6\u03bf\u03c3"],
     "\u03c3\u03af\u03c3\u03c5\u03c6\u03bf\u03c3"),
    (["日本", "#日本"], "日本"),
    (["🦀"], "🦀"),
    (["a.b_c~d-e!$&'()*+,;=:@"], "a.b_c~d-e!$&'()*+,;=:@"),
]  # fmt: skip


@pytest.mark.parametrize(("spellings", "name"), SPELLINGS)
def test_a_room_has_one_name_in_any_spelling(spellings: list[str], name: str) -> None:
    """Issue 13, item 18: by URL, /join, say() and Client.join(), in the log and the list."""
    logged: list[str] = []
    with (
        ChatServer(port=0, greeting="", notices=False, rate=0, log=logged.append, log_json=True)
        as chat,
        Json(url_of(chat, "/?nick=ann")) as ann,
        Plain(url_of(chat, "/?nick=bob")) as bob,
        Client(url_of(chat)) as client,
    ):  # fmt: skip
        ann.event("welcome")
        client.receive(PATIENCE)
        for spelling in spellings:
            assert check_room(spelling) == name
            with Json(url_of(chat, f"/{quote(spelling, safe='')}?nick=eve")) as eve:
                assert eve.event("welcome")["room"] == name
            ann.ask(type="join", room=spelling)
            assert ann.event("welcome")["room"] == name
            bob.send(f"/join {spelling}")
            assert bob.hear() == f"-> You are now in {name}."
            client.join(spelling)
            welcome = client.receive(PATIENCE)
            assert isinstance(welcome, events.Welcome)
            assert welcome.room == name
            chat.say("hello", room=spelling)
            assert ann.event("message")["text"] == "hello"
            assert bob.hear() == "server: hello"
            client.receive(PATIENCE)
            bob.send("here")
            assert ann.event("message")["text"] == "here"
            bob.hear()
            client.receive(PATIENCE)
            ann.ask(type="rooms")
            assert ann.event("rooms")["rooms"] == [{"room": name, "connected": 3}]
            ann.ask(type="join", room=spelling.swapcase())
            assert ann.event("error")["text"] == f"You are already in {name}."
            ann.ask(type="join", room="LOBBY")
            assert ann.event("welcome")["room"] == "lobby"
            bob.send("/join Lobby")
            bob.hear()
            client.join("#lobby")
            client.receive(PATIENCE)
        rooms = {event["room"] for event in map(json.loads, logged) if "room" in event}
        assert rooms == {name}


#: Invalid room names, and a part of the error.
NO_NAMES = [
    ("a b", "one word"),
    ("a\tb", "one word"),
    ("a\nb", "one word"),
    ("a\u00a0b", "one word"),
    ("# ops", "one word"),
    ("../x", "cannot contain /"),
    ("a/b", "cannot contain /"),
    ("/ops", "cannot contain /"),
    ("ops/", "cannot contain /"),
    ("..", "no URL can contain"),
    ("#.", "no URL can contain"),
    ("a?b", r"cannot contain \?"),
    ("a#b", "cannot contain #"),
    ("100%", "cannot contain %"),
    ("%2e%2e", "cannot contain %"),
    ("a\\b", r"cannot contain \\"),
    ("<b>", "cannot contain <"),
    ('"', 'cannot contain "'),
    ("[x]", r"cannot contain \["),
    ("{x}", "cannot contain {"),
    ("a|b", r"cannot contain \|"),
    ("^", r"cannot contain \^"),
    ("`", "cannot contain `"),
    ("a\x1bb", r"cannot contain U\+001B"),
    ("a\x9bb", r"cannot contain U\+009B"),
    ("a\u202eb", r"cannot contain U\+202E"),
    ("a\u200db", r"cannot contain U\+200D"),
    ("#", "must not be empty"),
    ("", "must not be empty"),
    ("x" * (MAX_ROOM + 1), "at most 64"),
    ("ß" * MAX_ROOM, "at most 64"),
    ("x" * 100_000, "at most 64"),
]


@pytest.mark.parametrize(("name", "why"), NO_NAMES)
def test_a_room_name_must_fit_into_a_url_unencoded(name: str, why: str) -> None:
    """Issue 13, item 18: it is refused with the reason, in every kind of request."""
    with pytest.raises(BadRoom, match=why):
        check_room(name)
    with (
        ChatServer(port=0, greeting="", notices=False, max_message=1_000_000) as chat,
        Json(url_of(chat, "/?nick=ann")) as ann,
        Client(url_of(chat)) as client,
    ):
        ann.event("welcome")
        ann.ask(type="join", room=name)
        error = ann.event("error")
        assert (error["code"], error["command"]) == ("room", "join")
        assert re.search(why, error["text"])
        with pytest.raises(ValueError, match=why):
            chat.say("x", room=name)
        with pytest.raises(ValueError, match=why):
            client.join(name)
        if name:
            with pytest.raises(ValueError, match=why):
                client.send_line(f"/join {name}")
        if name and len(name) < 1000:
            path = f"/{quote(name, safe='')}"
            with Plain(url_of(chat, path)) as plain:
                assert re.match(f"-> .*{why}", plain.hear())
                assert plain.hear_end() == 1008
            status, _, body = ask_http(chat.port, path)
            assert status == 404
            assert re.search(why, body.decode())
        ann.ask(type="rooms")
        assert ann.event("rooms")["rooms"] == [{"room": "lobby", "connected": 2}]


@pytest.mark.parametrize("path", ["/a/b", "/../x", "/ops//", "///", "/%ff", "/%zz", "/%", "/a%2fb"])
def test_an_invalid_path_is_refused(path: str) -> None:
    """Issue 13, item 18: such as a path of several segments; a trailing slash is ignored."""
    with ChatServer(port=0) as chat, Peer.client(chat.port, path) as peer:
        assert peer.expect(TextMessage).data.startswith("-> ")
        assert peer.expect(CloseConnection).code == 1008
        assert ask_http(chat.port, path)[0] == 404


def test_rooms_stored_under_old_spellings_are_renamed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue 13, item 18: every room of an SQLite file of an earlier version is kept."""
    path = tmp_path / "chat.db"
    kept = {"ops": 2, "OPS": 3, "Ops": 1, "ops-2": 1, "Caf\u00e9": 1, "a b": 1, "A/B": 2, "#x": 1,
            "a?": 1, "..%": 1, "ß" * 64: 1, "lobby": 1}  # fmt: skip
    engine = open_engine(f"sqlite:{path}", Retention())
    for room, count in kept.items():
        engine.append(room, [Draft("ann", room)] * count)
    epochs = {room: engine.follow(room).epoch for room in kept}
    engine.close()
    now = {"OPS": "ops", "ops": "ops-3", "Ops": "ops-4", "Caf\u00e9": "caf\u00e9", "A/B": "a-b",
           "a b": "a-b-2", "#x": "x", "a?": "a-", "..%": "..-", "ß" * 64: "s" * 64}  # fmt: skip
    for told in (now, {}):
        caplog.clear()
        with ChatServer(port=0, engine=f"sqlite:{path}", greeting="") as chat:
            assert sorted(record.getMessage() for record in caplog.records) == sorted(
                f"renamed the room {old!r} of {path} to {new!r}" for old, new in told.items()
            )
            for old, count in kept.items():
                name = now.get(old, old)
                with Json(url_of(chat, f"/{quote(name)}?history=9")) as client:
                    welcome = client.event("welcome")
                    assert (welcome["room"], welcome["epoch"]) == (name, epochs[old])
                    texts = [each["text"] for each in client.event("history")["messages"]]
                    assert texts == [old] * count
