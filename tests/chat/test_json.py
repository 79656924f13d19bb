"""The JSON dialect, by another library's client, beside plain clients in the same room."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from syncchat import ChatServer, Retention, events
from tests.peer import Peer, wait_for
from tests.people import Json, Plain, url_of

SUBPROTOCOL = "Sec-WebSocket-Protocol: syncchat.v1\r\n"

GREETING = "Welcome to chat! Type a message"


def test_a_welcome_has_the_room_the_nick_and_the_position() -> None:
    with ChatServer(port=0) as chat, Plain(url_of(chat, "/ops?nick=ann")) as ann:
        assert ann.hear() == GREETING
        ann.send("first")
        ann.hear()
        with Json(url_of(chat, "/ops?nick=bob")) as bob:
            welcome = bob.event("welcome")
            assert welcome["room"] == "ops"
            assert welcome["nick"] == "bob"
            assert welcome["offset"] == 1
            assert len(welcome["epoch"]) >= 8
            assert welcome["members"] == ["ann", "bob"]
            assert welcome["server"].startswith("syncchat ")
            assert welcome["limits"] == {"message": 65536, "nick": 32, "rate": 10.0, "burst": 20}
            assert welcome["greeting"] == GREETING
            assert welcome["format"] == "{sender}: {text}"
            # There is no second greeting in another room.
            bob.ask(type="join", room="other")
            assert "greeting" not in bob.event("welcome")


@pytest.mark.parametrize("notices", [True, False])
def test_the_welcome_tells_whether_there_are_notices(*, notices: bool) -> None:
    """Issue 13, item 4: the welcome tells a client that it has to request the members."""
    with ChatServer(port=0, notices=notices) as chat, Json(url_of(chat)) as ann:
        assert ann.event("welcome").get("notices", True) is notices


def test_plain_and_json_clients_see_the_same_conversation() -> None:
    before = time.time()
    with (
        ChatServer(port=0, greeting="") as chat,
        Json(url_of(chat, "/?nick=ann")) as ann,
        Plain(url_of(chat, "/?nick=bob")) as bob,
    ):
        assert ann.event("welcome")["members"] == ["ann"]
        joined = ann.event("joined")
        assert joined == {"type": "joined", "nick": "bob", "connected": 2}
        ann.ask(type="say", text="hello", nonce="n-1")
        ann.ask(type="action", text="waves", nonce="n-2")
        bob.send("hi", "/me smiles")
        wanted = ["ann: hello", "** ann waves", "bob: hi", "** bob smiles"]
        heard = [bob.hear() for _ in wanted]
        messages = [ann.event("message") for _ in wanted]
        # In the order of each client, and the same for both.
        assert sorted(heard) == sorted(wanted)
        assert heard == [
            f"** {m['nick']} {m['text']}" if m["kind"] == "action" else f"{m['nick']}: {m['text']}"
            for m in messages
        ]
        assert [message["offset"] for message in messages] == [1, 2, 3, 4]
        assert [m.get("nonce") for m in messages if m["nick"] == "ann"] == ["n-1", "n-2"]
        assert all(before <= message["time"] <= time.time() for message in messages)
        bob.send("/nick robert")
        assert ann.event() == {"type": "renamed", "old": "bob", "nick": "robert"}
        assert bob.hear() == " * bob is now known as robert."
        bob.send("/quit")
        assert ann.event() == {"type": "left", "nick": "robert", "connected": 1}


BAD: list[tuple[str | bytes, str | None, str]] = [
    ("", None, "truncated"),
    ("{", None, "truncated"),
    ("[]", None, "object"),
    ("null", None, "object"),
    ("5", None, "object"),
    ('"say"', None, "object"),
    ("{}", None, "type"),
    ('{"type": 5}', None, "type"),
    ('{"type": null}', None, "type"),
    ('{"type": "shout", "text": "x"}', "shout", "type"),
    ('{"type": "SAY", "text": "x"}', None, "type"),
    ('{"type": "welcome"}', "welcome", "type"),
    ('{"type": "say"}', "say", "text"),
    ('{"type": "say", "text": 5}', "say", "text"),
    ('{"type": "say", "text": null}', "say", "text"),
    ('{"type": "say", "text": ["x"]}', "say", "text"),
    ('{"type": "say", "text": "x", "nonce": 5}', "say", "nonce"),
    ('{"type": "say", "text": "x", "nonce": ""}', "say", "nonce"),
    ('{"type": "say", "text": "x", "nonce": "' + "n" * 65 + '"}', "say", "nonce"),
    ('{"type": "say", "text": "\\ud800"}', "say", ""),
    ('{"type": "say", "text": "x"} trailing', "say", "trailing"),
    ('{"type": "private", "to": "x"}', "private", "text"),
    ('{"type": "private", "text": "x"}', "private", "to"),
    ('{"type": "nick"}', "nick", "nick"),
    ('{"type": "join"}', "join", "room"),
    ('{"type": "join", "room": "x", "after": "nonsense"}', "join", "after"),
    ('{"type": "join", "room": "x", "after": "e:99999999999999999999"}', "join", "after"),
    ('{"type": "history", "limit": 0}', "history", "limit"),
    ('{"type": "history", "limit": 1001}', "history", "limit"),
    ('{"type": "history", "limit": "5"}', "history", "limit"),
    ('{"type": "history", "before": -1}', "history", "before"),
    ('{"type": "history", "before": 99999999999999999999999}', "history", "before"),
    ('{"type": "history", "before": 1.5}', "history", "before"),
    ('{"type": "search"}', "search", "words"),
    ('{"type": "whois"}', "whois", "nick"),
    ('{"type": "say", "text": "x", "deep": ' + "[" * 20000 + "]" * 20000 + "}", "say", ""),
    (b'{"type": "say", "text": "x"}', None, "binary"),
]


def test_an_invalid_event_is_answered_by_an_error_that_names_the_field() -> None:
    with ChatServer(port=0, rate=0) as chat, Json(url_of(chat)) as client:
        client.event("welcome")
        for bad, command, field in BAD:
            client.websocket.send(bad)
            error = client.event()
            assert error["type"] == "error", bad
            assert error["code"] == "malformed"
            assert error.get("command") == command, bad
            assert field in error["text"], (bad, error)
        # Nobody was disconnected, and no message was sent.
        client.ask(type="say", text="still here", later="what this version does not know")
        assert client.event("message")["offset"] == 1


def test_a_nonce_is_stored_once_and_acknowledged_again(tmp_path: Path) -> None:
    for engine in ("memory:", f"sqlite:{tmp_path / 'chat.db'}"):
        with ChatServer(port=0, engine=engine) as chat, Json(url_of(chat)) as client:
            epoch = client.event("welcome")["epoch"]
            client.ask(type="say", text="once", nonce="x")
            assert client.event("message")["offset"] == 1
            client.ask(type="say", text="once", nonce="x")
            ack = {"type": "ack", "nonce": "x", "offset": 1, "epoch": epoch}
            assert client.event() == ack
            with Json(url_of(chat, "/other")) as other:
                other.event("welcome")
                other.ask(type="say", text="another room's", nonce="x")
                assert other.event("message")["offset"] == 1
            with Json(url_of(chat)) as again:
                again.event("welcome")
                again.ask(type="say", text="once", nonce="x")
                assert again.event() == ack
                again.ask(type="say", text="new")
                assert again.event("message")["offset"] == 2


def test_without_echo_the_sender_gets_acknowledgements_in_their_place() -> None:
    with (
        ChatServer(port=0, echo=False, notices=False) as chat,
        Json(url_of(chat, "/?nick=ann")) as ann,
        Json(url_of(chat, "/?nick=bob")) as bob,
    ):
        ack = {"type": "ack", "epoch": ann.event("welcome")["epoch"]}
        bob.event("welcome")
        ann.ask(type="say", text="one", nonce="n1")
        assert ann.event() == {**ack, "nonce": "n1", "offset": 1}
        assert bob.event("message")["text"] == "one"
        bob.ask(type="say", text="two")
        assert ann.event("message")["offset"] == 2
        ann.ask(type="say", text="three", nonce="n3")
        assert ann.event() == {**ack, "nonce": "n3", "offset": 3}
        # Without a nonce there is nothing to acknowledge.
        assert bob.event("message")["text"] == "three"


def test_a_private_message_reaches_its_recipient_and_its_sender() -> None:
    with (
        ChatServer(port=0, notices=False, greeting="") as chat,
        Json(url_of(chat, "/?nick=ann")) as ann,
        Plain(url_of(chat, "/?nick=Bob")) as bob,
        Json(url_of(chat, "/?nick=eve")) as eve,
    ):
        ann.event("welcome")
        eve.event("welcome")
        bob.send("in")
        for client in (ann, eve):
            client.event("message")
        assert bob.hear() == "Bob: in"
        ann.ask(type="private", to="BOB", text="psst\x1b[31m")
        told = ann.event("private")
        assert told.items() >= {"nick": "ann", "to": "Bob", "text": "psst[31m"}.items()
        assert bob.hear() == "[PM from ann] psst[31m"
        bob.send("/reply what?")
        assert bob.hear() == "-> [Sent PM to ann] what?"
        assert ann.event("private")["text"] == "what?"
        bob.send("/msg ann and this")
        assert bob.hear() == "-> [Sent PM to ann] and this"
        assert ann.event("private")["nick"] == "Bob"
        ann.ask(type="private", to="nobody-here", text="x")
        error = ann.event("error")
        assert (error["code"], error["command"]) == ("absent", "private")
        bob.send("/msg nobody-here x")
        assert bob.hear() == "-> nobody-here is not here."
        # It is not a message of the room.
        ann.ask(type="say", text="aloud")
        assert eve.event("message").items() >= {"text": "aloud", "offset": 2}.items()
        with Plain(url_of(chat, "/?nick=zoe")) as zoe:
            zoe.send("/reply x")
            assert zoe.hear() == "-> No private message to reply to."


def test_history_is_requested_page_by_page() -> None:
    with ChatServer(port=0, rate=0) as chat, Json(url_of(chat)) as client:
        client.event("welcome")
        for number in range(1, 11):
            client.ask(type="say", text=f"message {number}")
            client.event("message")
        client.ask(type="history", limit=4)
        page = client.event("history")
        assert [m["offset"] for m in page["messages"]] == [7, 8, 9, 10]
        assert not page["complete"]
        client.ask(type="history", before=7, limit=4)
        page = client.event("history")
        assert [m["text"] for m in page["messages"]] == [f"message {n}" for n in (3, 4, 5, 6)]
        client.ask(type="history", before=3, limit=4)
        page = client.event("history")
        assert [m["offset"] for m in page["messages"]] == [1, 2]
        assert page["complete"]
        client.ask(type="search", words="MESSAGE 1")
        assert [m["offset"] for m in client.event("history")["messages"]] == [1, 10]
        client.ask(type="search", words='"AND OR NOT NEAR( * ^ : - %')
        assert client.event("history") == {
            "type": "history", "messages": [], "complete": True, "command": "search",
        }  # fmt: skip
        client.ask(type="names")
        assert client.event("names")["names"] == [client.address]
        client.ask(type="rooms")
        assert client.event("rooms")["rooms"] == [{"room": "lobby", "connected": 1}]
        client.ask(type="whois", nick=client.address)
        assert client.event("whois")["since"] <= time.time()


def test_a_search_in_sqlite_accepts_any_text(tmp_path: Path) -> None:
    with (
        ChatServer(port=0, rate=0, engine=f"sqlite:{tmp_path / 'chat.db'}") as chat,
        Json(url_of(chat)) as client,
    ):
        client.event("welcome")
        client.ask(type="say", text="Grüße aus dem Café")
        client.event("message")
        for words in ('"', "*", "a OR", "NEAR(x", "text:grüße", "^", "-", "\x00", "x" * 1000, "'"):
            client.ask(type="search", words=words)
            assert client.event("history")["messages"] == [], words
        for words in ("grüße", "CAFÉ grü"):
            client.ask(type="search", words=words)
            assert len(client.event("history")["messages"]) == 1


def test_a_returning_client_gets_what_it_missed_or_is_told_of_a_gap() -> None:
    with (
        ChatServer(port=0, rate=0, keep=Retention(messages=10), notices=False) as chat,
        Json(url_of(chat, "/?nick=ann")) as ann,
    ):
        epoch = ann.event("welcome")["epoch"]
        for number in range(1, 6):
            ann.ask(type="say", text=str(number))
            ann.event("message")

        def missed(place: str) -> tuple[list[int], bool]:
            with Json(url_of(chat, f"/?after={place}")) as back:
                assert back.event("welcome")["offset"] == last
                history = back.event("history")
                assert "command" not in history
                return [m["offset"] for m in history["messages"]], history["complete"]

        last = 5
        assert missed(f"{epoch}:0") == ([1, 2, 3, 4, 5], True)
        assert missed(f"{epoch}:3") == ([4, 5], True)
        assert missed(f"{epoch}:5") == ([], True)
        assert missed(f"{epoch}:6")[1] is False
        assert missed("another:3") == ([1, 2, 3, 4, 5], False)
        for number in range(6, 13):
            ann.ask(type="say", text=str(number))
            ann.event("message")
        last = 12
        assert missed(f"{epoch}:2") == (list(range(3, 13)), True)
        assert missed(f"{epoch}:1") == (list(range(3, 13)), False)
        with Plain(url_of(chat, f"/?after={epoch}:1")) as plain:
            assert plain.hear() == GREETING
            assert plain.hear().startswith("-> Some messages are missing here")
            assert plain.hear() == "ann: 3"


def test_a_taken_nick_has_a_code_of_its_own() -> None:
    with (
        ChatServer(port=0, greeting="", notices=False) as chat,
        Json(url_of(chat, "/?nick=ann")) as ann,
        Json(url_of(chat, "/?nick=ANN")) as bob,
    ):
        ann.event("welcome")
        bob.event("welcome")
        for _ in range(2):
            error = bob.event("error")
            assert (error["code"], error["command"]) == ("nick_taken", "nick")
            bob.ask(type="nick", nick="Ann")
        assert bob.event("error")["code"] == "nick_taken"
        bob.ask(type="nick", nick="a b")
        assert bob.event("error")["code"] == "nick"


def test_an_unknown_error_code_of_a_newer_server_is_accepted() -> None:
    error = events.decode_from_server('{"type":"error","code":"novel","text":"x"}')
    assert error == events.Error("novel", "x")


@pytest.mark.parametrize("wrong", ["after=x", "after=x:y", "after=:", "history=-1", "history=x"])
def test_an_invalid_url_parameter_is_an_error_message_only(wrong: str) -> None:
    with ChatServer(port=0) as chat, Json(url_of(chat, f"/?{wrong}&nick=a:b")) as client:
        welcome = client.event("welcome")
        assert welcome["nick"] == client.address
        assert client.event("error")["code"] == "nick"
        error = client.event("error")
        assert error["code"] == "malformed"
        assert wrong.partition("=")[0] in error["text"]


def test_a_search_is_bounded() -> None:
    with ChatServer(port=0, rate=0) as chat, Json(url_of(chat)) as client:
        client.event("welcome")
        client.ask(type="search", words="a " * 17)
        assert client.event("error")["code"] == "too_big"
        client.ask(type="search", words="a" * 1001)
        assert "words" in client.event("error")["text"]
        client.ask(type="search", words="a " * 16)
        assert client.event("history")["messages"] == []


def test_two_texts_with_the_same_nonce_are_both_stored(tmp_path: Path) -> None:
    for engine in ("memory:", f"sqlite:{tmp_path / 'chat.db'}"):
        with (
            ChatServer(port=0, engine=engine, notices=False) as chat,
            Json(url_of(chat)) as one,
            Json(url_of(chat)) as two,
        ):
            one.event("welcome")
            two.event("welcome")
            one.ask(type="say", text="mine", nonce="1")
            assert two.event("message")["text"] == one.event("message")["text"] == "mine"
            two.ask(type="say", text="yours", nonce="1")
            assert two.event("message")["text"] == one.event("message")["text"] == "yours"
            two.ask(type="action", text="yours", nonce="1")
            assert two.event("message")["offset"] == 3


def test_a_message_of_too_many_lines_is_refused() -> None:
    with (
        ChatServer(port=0, rate=0, notices=False) as chat,
        Json(url_of(chat)) as client,
        Plain(url_of(chat)) as plain,
    ):
        client.event("welcome")
        plain.hear()
        client.ask(type="say", text="\n" * 4096, nonce="n")
        error = client.event("error")
        assert (error["code"], error["nonce"]) == ("too_big", "n")
        plain.send("\n" * 60_000)
        assert plain.hear() == "-> A message must have at most 4096 lines."
        plain.send("a" + "\n" * 4095)
        assert client.event("message")["offset"] == 1


def test_a_client_that_does_not_read_its_history_is_closed_as_slow(tmp_path: Path) -> None:
    lines: list[str] = []
    with ChatServer(
        port=0, rate=0, engine=f"sqlite:{tmp_path / 'chat.db'}", log=lines.append, stall_timeout=0.3
    ) as chat:
        with Json(url_of(chat)) as client:
            epoch = client.event("welcome")["epoch"]
            for _ in range(300):
                client.ask(type="say", text="x" * 60_000)
                client.event("message")
        with Peer.client(chat.port, f"/?after={epoch}:0", SUBPROTOCOL) as deaf:
            wait_for(lambda: any("is too slow" in line for line in lines))
            assert deaf.sock.fileno() > 0
        wait_for(lambda: chat.stats().connections == 0)


def test_a_long_history_is_sent_in_pieces(tmp_path: Path) -> None:
    count, size = 3000, 2000
    with (
        ChatServer(port=0, rate=0, engine=f"sqlite:{tmp_path / 'chat.db'}") as chat,
        Json(url_of(chat, "/?nick=ann")) as ann,
    ):
        epoch = ann.event("welcome")["epoch"]
        for number in range(count):
            ann.ask(type="say", text=f"{number} ".ljust(size, "x"))
        for _ in range(count):
            ann.event("message")
        with Json(url_of(chat, f"/?nick=bob&after={epoch}:100")) as bob:
            bob.event("welcome")
            offsets: list[int] = []
            while len(offsets) < count - 100:
                history = bob.event("history")
                assert history["complete"]
                assert len(history["messages"]) * size < 1_000_000
                offsets += [message["offset"] for message in history["messages"]]
            assert offsets == list(range(101, count + 1))
            # Clients that joined and left meanwhile.
            assert bob.event("names")["names"] == ["ann", "bob"]
            ann.ask(type="say", text="live")
            assert bob.event("message")["offset"] == count + 1
        ann.find("left")
        ann.ask(type="history", limit=1000)
        page = ann.event("history")
        assert not page["complete"]
        assert page["messages"][-1]["offset"] == count + 1
        assert chat.stats().slow_consumers == 0
        wait_for(lambda: chat.stats().connections == 1)
