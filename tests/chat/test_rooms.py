"""Rooms and the people in them: names, notices, commands, and how many there may be."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
from wsproto.events import CloseConnection, TextMessage

from syncchat import ChatServer, Client, Keep, RoomsFull, events
from syncchat.chat.nicks import BadNick, check_nick
from syncchat.chat.rooms import MAX_ROOM, BadRoom, check_room
from syncchat.engine import Draft, open_engine
from tests.peer import PATIENCE, Peer, ask_http, wait_for
from tests.people import Json, Plain, url_of


def settled(chat: ChatServer, count: int) -> None:
    """Return once so many clients are connected."""
    wait_for(lambda: chat.stats().connections == count)


# Names.


def test_a_nick_comes_from_the_url_or_a_command_and_is_an_address_before() -> None:
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


def test_a_nick_is_unique_in_its_room_however_it_is_written() -> None:
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
        # Who goes gives it back.
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
        ("\u3164", "seen"),
        ("a\u3164", "seen"),
        ("\u0301", "seen"),
        ("server\ufe0f", "seen"),
        ("ann\u034f", "seen"),
        ("ann\U000e0100", "seen"),
        ("a" + "\u0315\u0300" * 4_000, "at most 32"),
        ("\x1b\u202e", "at least one"),
        ("", "at least one"),
    ],
)
def test_a_nick_that_could_deceive_is_refused_with_a_reason(nick: str, why: str) -> None:
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


# Who comes and goes.


def test_a_room_is_told_who_comes_goes_and_is_called_otherwise() -> None:
    with (
        ChatServer(port=0, greeting="") as chat,
        Plain(url_of(chat, "/?nick=ann")) as ann,
        Json(url_of(chat, "/elsewhere")) as elsewhere,
    ):
        elsewhere.event("welcome")
        with Json(url_of(chat, "/?nick=bob")) as bob:
            assert ann.hear() == " * bob joined. (Connected: 2)"
            assert bob.event("welcome")["members"] == ["ann", "bob"]
            with Plain(url_of(chat)) as carl:
                assert ann.hear() == f" * {carl.address} joined. (Connected: 3)"
                assert bob.event() == {"type": "joined", "nick": carl.address, "connected": 3}
                carl.send("/nick carl")
                assert ann.hear() == carl.hear() == f" * {carl.address} is now known as carl."
                assert bob.event("renamed")["nick"] == "carl"
                carl.websocket.socket.shutdown(2)
                assert ann.hear() == " * carl left. (Connected: 2)"
                assert bob.event() == {
                    "type": "left", "nick": "carl", "connected": 2, "reason": "connection lost",
                }  # fmt: skip
            ann.send("/join elsewhere")
            assert bob.event() == {"type": "left", "nick": "ann", "connected": 1}
            assert elsewhere.event() == {"type": "joined", "nick": "ann", "connected": 2}
        assert ann.hear() == "-> You are in elsewhere now."


def test_without_notices_nobody_is_told() -> None:
    with (
        ChatServer(port=0, greeting="", notices=False) as chat,
        Json(url_of(chat)) as one,
        Json(url_of(chat)) as two,
    ):
        one.event("welcome")
        two.event("welcome")
        two.ask(type="nick", nick="bob")
        assert two.event("renamed")["nick"] == "bob"
        with Json(url_of(chat)) as third:
            third.event("welcome")
        settled(chat, 2)
        two.ask(type="say", text="x")
        assert one.event("message")["nick"] == "bob"


def test_a_crowd_that_comes_in_is_told_of_in_a_few_notices() -> None:
    members, joins = 1000, 100
    with ChatServer(port=0, greeting="", rate=0) as chat, ExitStack() as stack:
        first = stack.enter_context(Json(url_of(chat, "/?nick=first")))
        first.event("welcome")
        for _ in range(members - 1):
            stack.enter_context(Peer.client(chat.port))
        settled(chat, members)
        # All that was told of them.
        first.find("joined", connected=members)
        before = chat.stats().messages_out
        begin = time.monotonic()
        for number in range(joins):
            at = begin + number / joins
            while time.monotonic() < at:
                time.sleep(0.001)
            stack.enter_context(Peer.client(chat.port, path=f"/?nick=late{number}"))
        told: list[str] = []
        notices = 0
        while len(told) < joins:
            event = first.event("joined")
            notices += 1
            told += [event["nick"], *event.get("others", [])]
        took = time.monotonic() - begin
        # Each once, and nobody is left out; who is in first, the threads decide.
        assert sorted(told) == sorted(f"late{number}" for number in range(joins))
        assert event["connected"] == members + joins
        assert notices <= 11 + 5 * took
        assert chat.stats().messages_out - before <= (notices + 1) * (members + joins)


def test_notices_catch_up_however_many_speakers_were_introduced() -> None:
    with (
        ChatServer(port=0, greeting="", rate=0) as chat,
        Json(url_of(chat, "/?nick=ann")) as ann,
        ExitStack() as stack,
    ):
        ann.event("welcome")
        for number in range(100):
            guest = stack.enter_context(Peer.client(chat.port, path=f"/?nick=guest{number}"))
            guest.send(TextMessage(data="hello"))
            ann.find("message", nick=f"guest{number}")
        begin = time.monotonic()
        stack.enter_context(Peer.client(chat.port, path="/?nick=silent"))
        ann.find("joined", nick="silent")
        assert time.monotonic() - begin < 2


def test_a_room_that_begins_anew_hears_nothing_of_its_former_life() -> None:
    with ChatServer(port=0, greeting="", rate=0) as chat:
        for _ in range(10):
            with ExitStack() as stack:
                for _ in range(14):
                    stack.enter_context(Peer.client(chat.port, path="/ops"))
                settled(chat, 14)
            settled(chat, 0)
            with Json(url_of(chat, "/ops?nick=new")) as client:
                assert client.event("welcome")["members"] == ["new"]
                client.ask(type="say", text="alone")
                time.sleep(0.3)
                client.ask(type="names")
                assert client.event("message")["text"] == "alone"
                client.event("names")


def test_a_step_that_fails_is_logged_and_costs_nobody_else_anything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with ChatServer(port=0, greeting="") as chat, Plain(url_of(chat, "/?nick=ann")) as ann:
        ann.send("here")
        ann.hear()
        assert chat._rooms is not None
        room = chat._rooms._rooms["lobby"]
        heard: list[int] = []

        def fail() -> None:
            raise ZeroDivisionError

        room._queue.submit([lambda: heard.append(1), fail, lambda: heard.append(2)], 0)
        room.drain()
        assert heard == [1, 2]
        assert "a step failed" in caplog.text
        ann.send("still here")
        assert ann.hear() == "ann: still here"


def test_a_name_in_other_letters_is_another_name_in_the_notices() -> None:
    with (
        ChatServer(port=0, greeting="", rate=0) as chat,
        Json(url_of(chat, "/?nick=ann")) as ann,
        ExitStack() as stack,
    ):
        there = set(ann.event("welcome")["members"])
        for _ in range(12):
            # So many that they are gathered.
            stack.enter_context(Peer.client(chat.port))
        for nick in ("Bob", "bob", "BOB"):
            with Json(url_of(chat, f"/?nick={nick}")) as bob:
                bob.event("welcome")
        settled(chat, 13)
        there.discard("nobody")
        while not there >= set(chat_names(chat)) or there != set(chat_names(chat)):
            event = ann.event("joined", "left")
            changed = {event["nick"], *event.get("others", [])}
            there = there | changed if event["type"] == "joined" else there - changed


def chat_names(chat: ChatServer) -> list[str]:
    assert chat._rooms is not None
    return chat._rooms.engine.names("lobby")


def test_a_speaker_is_introduced_before_he_speaks() -> None:
    with (
        ChatServer(port=0, greeting="", rate=0) as chat,
        # Lines spell out so many names; events all of them.
        Json(url_of(chat, "/?nick=ann")) as ann,
        ExitStack() as stack,
    ):
        ann.event("welcome")
        for number in range(40):
            guest = stack.enter_context(Peer.client(chat.port, path=f"/?nick=guest{number}"))
            guest.send(TextMessage(data="hello"))
        introduced: set[str] = set()
        for _ in range(40):
            while (heard := ann.event("joined", "message"))["type"] == "joined":
                introduced |= {heard["nick"], *heard.get("others", [])}
            assert heard["nick"] in introduced


# Rooms.


def test_join_goes_from_room_to_room_and_takes_the_nick_along() -> None:
    with (
        ChatServer(port=0, greeting="Hello", notices=False) as chat,
        Plain(url_of(chat, "/?nick=ann")) as ann,
        Json(url_of(chat, "/ops?nick=bob")) as bob,
    ):
        assert ann.hear() == "Hello"
        epoch = bob.event("welcome")["epoch"]
        bob.ask(type="say", text="you missed this")
        bob.event("message")
        ann.send("in the lobby", "/join ops", "in ops")
        assert ann.hear() == "ann: in the lobby"
        assert ann.hear() == "-> You are in ops now."
        assert ann.hear() == "ann: in ops"
        assert bob.event("message")["text"] == "in ops"
        bob.ask(type="join", room="lobby")
        welcome = bob.event("welcome")
        assert (welcome["room"], welcome["nick"], welcome["offset"]) == ("lobby", "bob", 1)
        bob.ask(type="join", room="ops", after=f"{epoch}:1")
        assert bob.event("welcome")["offset"] == 2
        history = bob.event("history")
        assert [m["text"] for m in history["messages"]] == ["in ops"]
        assert history["complete"]
        bob.ask(type="join", room="ops")
        assert bob.event("error").items() >= {"code": "room", "command": "join"}.items()
        ann.send("/join " + "x" * (MAX_ROOM + 1), "/join \x1b", "/join", "/rooms")
        assert ann.hear() == f"-> A room's name has at most {MAX_ROOM} characters."
        # A command without its argument says how it is written.
        assert ann.hear() == ann.hear() == "-> Write it as /join ROOM"
        assert ann.hear() == "-> 2 rooms: lobby (0), ops (2)"


def test_a_join_in_lines_begins_with_as_much_of_the_past_as_the_url_asked_for() -> None:
    """Issue 13, item 11: behind the line that names the room, and ahead of what is said live."""
    with ChatServer(port=0, greeting="", notices=False) as chat:
        for number in range(9):
            chat.say(str(number), room="ops")
        with Plain(url_of(chat, "/?history=2")) as ann, Plain(url_of(chat, "/ops")) as other:
            ann.send("/join ops")
            assert ann.hear() == "-> You are in ops now."
            assert [ann.hear(), ann.hear()] == ["server: 7", "server: 8"]
            other.send("live")
            assert ann.hear() == f"{other.address}: live"
        with Plain(url_of(chat)) as bob:
            bob.send("/join ops", "hi")
            assert bob.hear() == "-> You are in ops now."
            assert bob.hear() == f"{bob.address}: hi"


def test_a_join_in_events_may_ask_for_the_last_messages() -> None:
    """Issue 13, item 11: ``history`` beside ``after``, which wins as it does in the URL."""
    with ChatServer(port=0, greeting="", notices=False) as chat:
        for number in range(9):
            chat.say(str(number), room="ops")
        with Json(url_of(chat, "/?history=1")) as ann:
            ann.event("welcome")
            ann.event("history")
            ann.ask(type="join", room="ops", history=2)
            welcome = ann.event("welcome")
            history = ann.event("history")
            assert [each["offset"] for each in history["messages"]] == [8, 9]
            assert history["complete"]
            ann.ask(type="join", room="lobby", history=0)
            ann.event("welcome")
            ann.ask(type="join", room="ops", history=2, after=f"{welcome['epoch']}:5")
            ann.event("welcome")
            history = ann.event("history")
            assert [each["offset"] for each in history["messages"]] == [6, 7, 8, 9]
            # What does not ask for any gets none, whatever the URL has.
            ann.ask(type="join", room="lobby")
            ann.event("welcome")
            for wrong in (1001, -1, "x"):
                ann.ask(type="join", room="ops", history=wrong)
                assert ann.event("error")["code"] == "malformed"


def test_who_finds_the_nick_taken_in_the_next_room_is_told_so() -> None:
    with (
        ChatServer(port=0, greeting="", notices=False) as chat,
        Plain(url_of(chat, "/?nick=ann")) as ann,
        Plain(url_of(chat, "/ops?nick=ann")) as other,
    ):
        ann.send("/join ops")
        assert ann.hear() == "-> You are in ops now."
        assert ann.hear() == f"-> The nick ann is taken here; you are {ann.address}."
        ann.send("hi")
        assert other.hear() == f"{ann.address}: hi"


def test_there_are_so_many_rooms_and_no_more() -> None:
    with (
        ChatServer(port=0, greeting="", notices=False, max_rooms=2) as chat,
        Plain(url_of(chat)) as one,
        Plain(url_of(chat, "/ops")) as two,
    ):
        with Plain(url_of(chat, "/third")) as plain:
            assert plain.hear() == "-> There are 2 rooms, and can be no more."
            assert plain.hear_end() == 1013
        with Json(url_of(chat, "/third")) as client:
            assert client.event("error")["code"] == "room"
            assert client.hear_end() == 1013
        one.send("/join third", "still in the lobby")
        assert one.hear() == "-> There are 2 rooms, and can be no more."
        assert one.hear() == f"{one.address}: still in the lobby"
        with pytest.raises(RoomsFull):
            chat.say("x", room="third")
        # A room that is left and for which nothing is kept makes room.
        two.send("/quit")
        two.hear_end()
        settled(chat, 1)
        with Plain(url_of(chat, "/third")) as plain:
            plain.send("kept")
            plain.hear()
        settled(chat, 1)
        # One with messages stays.
        with Plain(url_of(chat, "/fourth")) as plain:
            assert plain.hear_end() == 1013
        one.send("/rooms")
        assert one.hear() == "-> 2 rooms: lobby (1), third (0)"


def test_the_lobby_is_there_however_many_rooms_there_are() -> None:
    with ChatServer(port=0, greeting="", max_rooms=1) as chat, Plain(url_of(chat, "/ops")) as ops:
        ops.send("kept")
        ops.hear()
        with Plain(url_of(chat)) as lobby:
            lobby.send("let in")
            assert lobby.hear().endswith(": let in")


def test_rooms_for_which_nothing_is_kept_any_more_vanish() -> None:
    with ChatServer(port=0, greeting="", max_rooms=3, keep=Keep(seconds=0.3), rate=0) as chat:
        for name in ("a", "b", "c"):
            with Plain(url_of(chat, f"/{name}")) as plain:
                plain.send("x")
                plain.hear()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                chat.say("let in", room="d")
                break
            except RoomsFull:
                assert time.monotonic() < deadline


def test_a_path_that_can_be_no_room_is_closed_with_a_reason() -> None:
    with (
        ChatServer(port=0) as chat,
        Plain(url_of(chat, "/" + "x" * (MAX_ROOM + 1))) as plain,
    ):
        assert plain.hear() == f"-> A room's name has at most {MAX_ROOM} characters."
        assert plain.hear_end() == 1008
    with pytest.raises(BadRoom):
        check_room("\x1b/ ")


#: Spellings of one name each, and the one by which the room is known everywhere.
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
def test_a_room_has_one_name_however_it_is_spelled(spellings: list[str], name: str) -> None:
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
            assert bob.hear() == f"-> You are in {name} now."
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
            assert ann.event("error")["text"] == f"You are in {name}."
            ann.ask(type="join", room="LOBBY")
            assert ann.event("welcome")["room"] == "lobby"
            bob.send("/join Lobby")
            bob.hear()
            client.join("#lobby")
            client.receive(PATIENCE)
        rooms = {event["room"] for event in map(json.loads, logged) if "room" in event}
        assert rooms == {name}


#: What is no room's name, and what its owner is told.
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
    ("..", "no URL can name"),
    ("#.", "no URL can name"),
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
    ("#", "at least one"),
    ("", "at least one"),
    ("x" * (MAX_ROOM + 1), "at most 64"),
    ("ß" * MAX_ROOM, "at most 64"),
    ("x" * 100_000, "at most 64"),
]


@pytest.mark.parametrize(("name", "why"), NO_NAMES)
def test_what_a_url_cannot_carry_plainly_is_no_rooms_name(name: str, why: str) -> None:
    """Issue 13, item 18: it is refused with a sentence, wherever it is asked for."""
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
def test_a_path_that_is_no_name_is_refused(path: str) -> None:
    """Issue 13, item 18: a path of several pieces among them; one slash at the end is none."""
    with ChatServer(port=0) as chat, Peer.client(chat.port, path) as peer:
        assert peer.expect(TextMessage).data.startswith("-> ")
        assert peer.expect(CloseConnection).code == 1008
        assert ask_http(chat.port, path)[0] == 404


def test_rooms_that_were_kept_under_other_spellings_can_still_be_reached(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue 13, item 18: nothing of an SQLite file of an earlier version is lost."""
    path = tmp_path / "chat.db"
    kept = {"ops": 2, "OPS": 3, "Ops": 1, "ops-2": 1, "Caf\u00e9": 1, "a b": 1, "A/B": 2, "#x": 1,
            "a?": 1, "..%": 1, "ß" * 64: 1, "lobby": 1}  # fmt: skip
    engine = open_engine(f"sqlite:{path}", Keep())
    for room, count in kept.items():
        engine.append(room, [Draft("ann", room)] * count)
    epochs = {room: engine.position(room).epoch for room in kept}
    engine.close()
    now = {"OPS": "ops", "ops": "ops-3", "Ops": "ops-4", "Caf\u00e9": "caf\u00e9", "A/B": "a-b",
           "a b": "a-b-2", "#x": "x", "a?": "a-", "..%": "..-", "ß" * 64: "s" * 64}  # fmt: skip
    for told in (now, {}):
        caplog.clear()
        with ChatServer(port=0, engine=f"sqlite:{path}", greeting="") as chat:
            assert sorted(record.getMessage() for record in caplog.records) == sorted(
                f"the room {old!r} of {path} is called {new!r} now" for old, new in told.items()
            )
            for old, count in kept.items():
                name = now.get(old, old)
                with Json(url_of(chat, f"/{quote(name)}?history=9")) as client:
                    welcome = client.event("welcome")
                    assert (welcome["room"], welcome["epoch"]) == (name, epochs[old])
                    texts = [each["text"] for each in client.event("history")["messages"]]
                    assert texts == [old] * count


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
            ("/whois BOB", "-> bob is here since .*, spoke last .*"),
            ("/whois ann", "-> ann is here since .*, has not spoken yet."),
            ("/whois carl", "-> There is no carl here."),
            ("/history", rf"-> {when} bob: about breakfast"),
            ("/history 5", rf"-> {when} bob: about breakfast"),
            ("/search BREAK", rf"-> {when} bob: about breakfast"),
            ("/search dinner", "-> Nothing was found."),
            ("/me eats", r"\*\* ann eats"),
            ("/msg bob", "-> Write it as /msg NAME TEXT"),
            ("/nick", "-> Write it as /nick NAME"),
            ("/HELP", "-> Commands:(?s:.*)"),
            ("/whois\tBOB", "-> bob is here since .*"),
            ("/serach x", r"-> There is no command /serach\. Did you mean /search\? .*"),
            ("/" + "x" * 5000, "-> There is no command /x.*"),
        ]:
            ann.send(line)
            assert re.fullmatch(answer, ann.hear()), line
        bob.send("/history 1")
        # Its own line, what ann did, and nothing of her commands.
        assert bob.hear() == "bob: about breakfast"
        assert bob.hear() == "** ann eats"
        assert re.fullmatch(rf"-> {when} \*\* ann eats", bob.hear())


def test_who_is_away_is_said_and_shown_until_it_is_back() -> None:
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
        # Nothing new, so that it concerns nobody else.
        ann.send("/back", "/away " + "x" * 201)
        assert ann.hear() == " * ann is back."
        assert ann.hear() == "-> A reason has at most 200 characters."
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
        ann.hear_until("-> You are in ops now.")
        ann.send("/whois ann")
        assert ann.hear().endswith(" Away: meeting")


@pytest.mark.parametrize("number", ["0", "1001", "5000", "-1", "x", "1 2", "\u0665"])
def test_history_says_how_many_messages_it_shows(number: str) -> None:
    """Issue 13, item 16: a number that is too small or too large is answered by the limits."""
    with ChatServer(port=0, greeting="", notices=False) as chat, Plain(url_of(chat)) as client:
        client.send(f"/history {number}")
        assert client.hear() == "-> Write it as /history [N], where N is 1-1,000"


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


# The log.


def test_the_log_can_be_json_for_machines(tmp_path: Path) -> None:
    lines: list[str] = []
    with (
        ChatServer(port=0, log=lines.append, log_json=True) as chat,
        Json(url_of(chat, "/ops?nick=ann")) as ann,
    ):
        ann.event("welcome")
        ann.ask(type="say", text="a\nb")
        ann.event("message")
        ann.ask(type="private", to="ann", text="between us")
        ann.event("private")
        who = ann.address
        ann.websocket.close()
        settled(chat, 0)
        events = [json.loads(line) for line in lines]
        assert all(abs(event.pop("time") - time.time()) < 60 for event in events)
        assert events == [
            {"event": "listening", "port": chat.port, "url": f"http://127.0.0.1:{chat.port}/"},
            {"event": "connected", "client": who},
            {"event": "received", "client": who, "nick": "ann", "room": "ops", "text": "a\nb"},
            {"event": "disconnected", "client": who},
        ]


def test_the_json_log_is_safe_to_look_at() -> None:
    lines: list[str] = []
    with (
        ChatServer(port=0, log=lines.append, log_json=True) as chat,
        Plain(url_of(chat, "/%e2%82%ac?nick=ann")) as ann,
    ):
        ann.hear()
        text = "\x9b31m\x7f\u202e\u2028\x1b[2J\U000e0041"
        ann.send(text)
        ann.hear()
        assert all(line.isascii() and line.isprintable() for line in lines)
        assert json.loads(lines[-1])["text"] == text


def test_messages_of_json_clients_are_logged_as_those_of_any_other() -> None:
    lines: list[str] = []
    with ChatServer(port=0, log=lines.append) as chat, Json(url_of(chat)) as client:
        client.event("welcome")
        client.ask(type="say", text="hello\x1b[31m")
        client.ask(type="action", text="waves")
        client.find("message", kind="action")
        assert lines[3:] == [
            f"Received from {client.address}: hello\\x1b[31m",
            f"Received from {client.address}: /me waves",
        ]


# What the embedding program says.


def test_what_the_server_says_is_kept_and_numbered_as_any_message() -> None:
    with ChatServer(port=0, greeting="") as chat:
        chat.say("nobody hears this", room="ops")
        with Json(url_of(chat, "/ops?history=5")) as client:
            assert client.event("welcome")["offset"] == 1
            (message,) = client.event("history")["messages"]
            assert (message["nick"], message["text"]) == ("server", "nobody hears this")
            threads = [
                threading.Thread(target=chat.say, args=(str(number), "ops")) for number in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            offsets = [client.event("message")["offset"] for _ in threads]
            assert offsets == list(range(2, 10))


def test_a_peer_that_is_gone_before_it_was_let_in_leaves_nothing() -> None:
    with ChatServer(port=0) as chat:
        for _ in range(200):
            peer = Peer.client(chat.port, path="/ghost?nick=ghost")
            peer.reset()
            peer.close()
        settled(chat, 0)
        rooms = chat._rooms
        assert rooms is not None
        assert not rooms._rooms
        assert rooms.engine.names("ghost") == []
        with Peer.client(chat.port, path="/ghost?nick=ghost") as peer:
            peer.expect(TextMessage)
            assert rooms.engine.names("ghost") == ["ghost"]


def test_names_tells_who_is_away() -> None:
    """Issue 13, item 11: in both dialects, and no longer once they are back."""
    with (
        ChatServer(port=0, notices=False, greeting="") as chat,
        Json(url_of(chat, "/?nick=ann")) as ann,
        Plain(url_of(chat, "/?nick=bob")) as bob,
    ):
        ann.event("welcome")
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
