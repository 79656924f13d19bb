"""People with tokens of their own: their names, their devices, and guests."""

from __future__ import annotations

import contextlib
import http.client
import statistics
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from homoglyph.data import load_prototypes

from syncchat import ChatServer, Client
from syncchat.chat.hooks import Visitor
from syncchat.chat.people import (
    TOKEN_PREFIX,
    add_person,
    read_people,
    remove_person,
    renew_token,
)
from syncchat.engine import Records, open_records
from syncchat.engine.records import MemoryRecords
from syncchat.errors import HandshakeRefused, NickTaken
from tests.peer import ask_http, wait_for
from tests.people import Json, Plain, settled, url_of
from tests.redis_server import RedisProcess


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "people.db")


@pytest.fixture
def records(file: str) -> Iterator[Records]:
    with closing(open_records("memory:", file)) as records:
        yield records


def as_person(chat: ChatServer, token: str, more: str = "", path: str = "/") -> Json:
    return Json(url_of(chat, f"{path}?token={token}{more}"))


def refused_names(client: Json, *nicks: str) -> set[str]:
    """The nicks that a client does not get. It is renamed by each that it gets."""
    refused = set()
    for nick in nicks:
        client.ask(type="nick", nick=nick)
        event = client.event()
        while event["type"] not in ("error", "renamed"):
            event = client.event()
        if event["type"] == "error":
            assert event["code"] in ("nick", "nick_taken"), event
            refused.add(nick)
    return refused


def test_whoever_shows_the_token_has_the_name_and_nobody_else(file: str, records: Records) -> None:
    token = add_person(records, "Ann", operator=True)
    with (
        ChatServer(port=0, people=file, notices=False, rate=0) as chat,
        as_person(chat, token) as ann,
        Json(url_of(chat, "/?nick=ann")) as guest,
        Plain(url_of(chat, f"/?nick={quote('аnn')}")) as plain,
    ):
        welcome = ann.event("welcome")
        assert (welcome["nick"], welcome["person"], welcome["operator"]) == ("Ann", "Ann", True)
        assert "person" not in guest.event("welcome")
        assert guest.event("error") == {
            "type": "error",
            "code": "nick_taken",
            "command": "nick",
            "text": f"The nick ann belongs to somebody else; you are {guest.address}.",
        }
        assert plain.hear() == "Welcome to chat! Type a message"
        assert plain.hear() == (
            f"-> The nick аnn belongs to somebody else; you are {plain.address}."
        )
        # Also where she is not present.
        ann.ask(type="join", room="elsewhere")
        ann.event("welcome")
        tried = ("ann", "ANN", "аnn", "ａｎｎ", "αnn", "𝐚nn")
        assert refused_names(guest, *tried, "anna") == set(tried)
        assert post(chat, "x", "/lobby?nick=ANN") == 409
        with pytest.raises(NickTaken):
            chat.say("x", nick="ann")


def test_a_person_has_another_nick_only_if_it_is_free(file: str, records: Records) -> None:
    ann, bob = add_person(records, "ann"), add_person(records, "bob")
    with (
        ChatServer(port=0, people=file, notices=False) as chat,
        Json(url_of(chat, "/?nick=carl")) as carl,
        as_person(chat, ann, "&nick=phone") as phone,
        as_person(chat, ann, "&nick=bob") as second,
        as_person(chat, bob, "&nick=cаrl") as third,
    ):
        carl.event("welcome")
        assert phone.event("welcome")["nick"] == "phone"
        assert second.event("welcome")["nick"] == "ann"
        text = "The nick bob belongs to somebody else; you are ann."
        assert second.event("error")["text"] == text
        assert third.event("welcome")["nick"] == "bob"
        assert third.event("error")["text"] == "The nick cаrl is taken here; you are bob."
        phone.ask(type="nick", nick="BOB")
        assert phone.event("error")["text"] == "The nick BOB belongs to somebody else."
        phone.ask(type="nick", nick="ANN")
        assert phone.event("renamed")["nick"] == "ann"
        assert chat.members() == ["ann", "bob", "carl"]


# Names that look the same, by Unicode's own table.


def confusables() -> dict[str, str]:
    """Every character that looks like ASCII letters, and these.

    Others see the normal form of a nick: what looks like a letter only before that, does not count.
    """
    found = {}
    table = load_prototypes()
    for number, letters in table.items():
        char = chr(number)
        shown = unicodedata.normalize("NFKC", char)
        if letters.isascii() and letters.isalpha() and (shown in (char, letters)):
            found[char] = letters
    assert len(found) > 700
    return found


def test_no_confusable_character_makes_the_name_of_a_person(file: str, records: Records) -> None:
    chars = confusables()
    for letters in sorted(set(chars.values())):
        with contextlib.suppress(NickTaken):  # Such as "I" and "l".
            add_person(records, f"q{letters}q")
    with (
        ChatServer(port=0, people=file, notices=False, rate=0) as chat,
        Json(url_of(chat)) as guest,
    ):
        guest.event("welcome")
        nicks = [f"q{char}q" for char in chars]
        assert refused_names(guest, *nicks) == set(nicks)


def test_no_confusable_character_makes_the_nick_of_somebody_present() -> None:
    chars = confusables()
    with ChatServer(port=0, notices=False, rate=0) as chat, ExitStack() as stack:
        for letters in set(chars.values()):
            present = stack.enter_context(Json(url_of(chat, f"/?nick=q{letters}q")))
            assert present.event("welcome")
        guest = stack.enter_context(Json(url_of(chat)))
        guest.event("welcome")
        nicks = [f"q{char}q" for char in chars]
        assert refused_names(guest, *nicks) == set(nicks)


@pytest.mark.parametrize("other", ["tirn", "T1M", "ТІМ", "tlm", "ｔｉｍ", "tⅰm"])
def test_the_capitals_of_a_name_are_its_name_too(other: str) -> None:
    records = MemoryRecords()
    add_person(records, "tim")
    people = read_people(records)
    assert people.owner(other) is people.named("TIM")
    assert people.owner("tom") is None


@pytest.mark.parametrize("count", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_of_many_that_want_a_name_one_gets_it(count: int, many_files: None) -> None:
    spellings = ("ann", "ANN", "аnn", "ａｎn", "aոո")
    with ChatServer(port=0, notices=False, rate=0, max_rooms=10) as chat, ExitStack() as stack:
        clients = [stack.enter_context(Json(url_of(chat))) for _ in range(count)]
        for client in clients:
            client.event("welcome")
        got: list[str] = []
        begin = threading.Barrier(10)

        def ask(mine: list[Json]) -> None:
            begin.wait()
            for number, client in enumerate(mine):
                client.ask(type="nick", nick=spellings[number % len(spellings)])
            for client in mine:
                event = client.event("renamed", "error")
                if event["type"] == "renamed":
                    got.append(event["nick"])

        threads = [threading.Thread(target=ask, args=(clients[at::10],)) for at in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1
        assert [nick for nick in chat.members() if ":" not in nick] == got


# Several devices.


@contextmanager
def nodes(kind: str, tmp_path: Path, **settings: Any) -> Iterator[tuple[ChatServer, ChatServer]]:
    """Two servers of one engine, or twice the same one, and ann's token in a file."""
    with ExitStack() as stack:
        people = None
        if kind == "redis":
            engine = stack.enter_context(RedisProcess()).url
        else:
            engine = f"sqlite:{tmp_path / 'log'}" if kind == "sqlite" else "memory:"
            people = str(tmp_path / "people") if kind == "memory" else None
        with closing(open_records(engine, people)) as records:
            (tmp_path / "token").write_text(add_person(records, "ann"))
        settings.update(engine=engine, people=people, greeting="")
        first = stack.enter_context(ChatServer(port=0, **settings))
        both = first, first
        if kind == "redis":
            both = first, stack.enter_context(ChatServer(port=0, **settings))
        yield both


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
def test_the_devices_of_a_person_are_one_member(kind: str, tmp_path: Path) -> None:
    with nodes(kind, tmp_path) as (here, there), ExitStack() as stack:
        token = (tmp_path / "token").read_text()
        bob = stack.enter_context(Json(url_of(here, "/?nick=bob")))
        bob.event("welcome")
        laptop = stack.enter_context(as_person(here, token))
        assert laptop.event("welcome")["nick"] == "ann"
        assert bob.event("joined") == {"type": "joined", "nick": "ann", "connected": 2}
        with as_person(there, token) as phone, as_person(there, token) as tablet:
            for device in (phone, tablet):
                welcome = device.event("welcome")
                assert (welcome["nick"], welcome["members"]) == ("ann", ["ann", "bob"])
            assert here.members() == there.members() == ["ann", "bob"]
            assert [each.connected for each in there.rooms()] == [2]
            bob.ask(type="private", to="ann", text="psst")
            for device in (laptop, phone, tablet):
                # Before it, notices of earlier joins may come from Redis.
                assert device.find("private")["text"] == "psst"
            bob.event("private")
            # What one device says, the others show as her own.
            phone.ask(type="private", to="bob", text="yes")
            for device in (laptop, phone, tablet, bob):
                assert device.event("private")["text"] == "yes"
            tablet.ask(type="say", text="hi", nonce="n")
            for device in (laptop, phone, tablet, bob):
                assert device.event("message")["text"] == "hi"
            # One that takes another nick comes as somebody else, and the others stay.
            phone.ask(type="nick", nick="annie")
            assert phone.event("renamed") == {"type": "renamed", "old": "ann", "nick": "annie"}
            for device in (laptop, tablet, bob):
                joined = {"type": "joined", "nick": "annie", "connected": 3}
                assert device.event() == joined
            phone.ask(type="nick", nick="ann")
            assert phone.find("renamed")["nick"] == "ann"
            for device in (laptop, tablet, bob):
                assert device.event() == {"type": "left", "nick": "annie", "connected": 2}
        settled(there, 2 if here is there else 0)
        assert here.members() == ["ann", "bob"]
        bob.ask(type="say", text="still there?")
        assert bob.event("message")["text"] == "still there?"
        assert laptop.event("message")["text"] == "still there?"
        laptop.websocket.close()
        assert bob.event() == {"type": "left", "nick": "ann", "connected": 1}


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_without_echo_the_other_devices_get_what_one_says(kind: str, tmp_path: Path) -> None:
    with nodes(kind, tmp_path, echo=False, notices=False) as (here, there):
        token = (tmp_path / "token").read_text()
        with (
            as_person(here, token) as laptop,
            as_person(here, token) as phone,
            as_person(there, token) as tablet,
            Plain(url_of(here, f"/?token={token}")) as plain,
        ):
            for device in (laptop, phone, tablet):
                device.event("welcome")
            plain.send("/names")
            assert plain.hear() == "-> 1 connected: ann"
            for number in range(3):
                phone.ask(type="say", text="same", nonce=f"p{number}")
                laptop.ask(type="say", text="same", nonce=f"l{number}")
                plain.send("same")
            for device, own in ((laptop, "l"), (phone, "p"), (tablet, "t")):
                heard = [device.event("message", "ack") for _ in range(9)]
                acks = [each["nonce"] for each in heard if each["type"] == "ack"]
                assert acks == [f"{own}{number}" for number in range(3) if own != "t"]
            assert [plain.hear() for _ in range(6)] == ["ann: same"] * 6
            plain.send("the end")
            assert phone.event("message")["text"] == "the end"
            laptop.ask(type="say", text="really")
            assert plain.hear() == "ann: really"


# Changes while the server runs.


def test_a_guest_is_renamed_when_its_nick_becomes_the_name_of_a_person(
    file: str, records: Records
) -> None:
    with (
        ChatServer(port=0, people=file) as chat,
        Json(url_of(chat, "/?nick=other")) as other,
        Json(url_of(chat, "/?nick=аnn")) as guest,
    ):
        guest.event("welcome")
        token = add_person(records, "ann")
        renamed = guest.find("renamed", old="аnn")
        assert renamed["nick"] == guest.address
        text = f"The nick аnn belongs to somebody else now; you are {guest.address}."
        assert guest.event("error")["text"] == text
        assert other.find("renamed", old="аnn")["nick"] == guest.address
        with as_person(chat, token) as ann:
            assert ann.event("welcome")["nick"] == "ann"


@pytest.mark.parametrize("change", [remove_person, renew_token])
def test_a_token_that_is_not_valid_any_more_ends_its_connections(
    file: str, records: Records, change: Any
) -> None:
    token, bobs = add_person(records, "ann"), add_person(records, "bob")
    with (
        ChatServer(port=0, people=file, greeting="", guests="no") as chat,
        as_person(chat, token) as ann,
        as_person(chat, token, path="/elsewhere") as other,
        as_person(chat, bobs) as bob,
    ):
        for client in (ann, other, bob):
            client.event("welcome")
        change(records, "ann")
        assert ann.find("error")["text"] == "Your token is not valid any more."
        assert (ann.hear_end(), other.hear_end()) == (1008, 1008)
        assert bob.find("left")["nick"] == "ann"
        with pytest.raises(HandshakeRefused, match="401"):
            Client(f"ws://127.0.0.1:{chat.port}", token=token).connect()
        bob.ask(type="say", text="still here")
        assert bob.event("message")["text"] == "still here"


def test_a_token_that_ends_while_its_client_enters_ends_the_client(
    file: str, records: Records
) -> None:
    token = add_person(records, "ann")

    def on_join(visitor: Visitor) -> None:
        if visitor.room == "ops":
            remove_person(records, "ann")
            assert ann.hear_end() == 1008

    with (
        ChatServer(port=0, people=file, on_join=on_join) as chat,
        as_person(chat, token) as ann,
        as_person(chat, token, path="/ops") as late,
    ):
        assert late.find("error")["text"] == "Your token is not valid any more."
        assert late.hear_end() == 1008


def test_a_removed_person_does_not_become_a_guest_unawares(file: str, records: Records) -> None:
    with ChatServer(port=0, people=file) as chat:
        with pytest.raises(HandshakeRefused, match="401: The token is wrong"):
            Client(f"ws://127.0.0.1:{chat.port}", token=f"{TOKEN_PREFIX}x").connect()
        # The token of something else.
        Client(f"ws://127.0.0.1:{chat.port}", token="x").connect().close()


# Guests.


def test_a_personal_token_is_enough_and_guests_need_the_shared_one(
    file: str, records: Records
) -> None:
    token = add_person(records, "ann")
    with ChatServer(port=0, people=file, token="s3cret", http=True) as chat:
        for shown, status in ((token, 204), ("s3cret", 204), (f"{token}x", 401), ("", 401)):
            header = {"Authorization": f"Bearer {shown}"} if shown else {}
            assert ask_http(chat.port, "/-/auth", **header)[0] == status
            if status == 204:
                Client(f"ws://127.0.0.1:{chat.port}", token=shown).connect().close()


def test_without_guests_only_people_come_in(file: str, records: Records) -> None:
    token = add_person(records, "ann")
    with ChatServer(port=0, people=file, guests="no", token="s3cret") as chat:
        for shown in (None, "s3cret"):
            with pytest.raises(HandshakeRefused, match="401"):
                Client(f"ws://127.0.0.1:{chat.port}", token=shown).connect()
            header = {} if shown is None else {"Authorization": f"Bearer {shown}"}
            for path in ("/?poll=1", "/-/auth"):
                assert ask_http(chat.port, path, **header)[0] == 401
            assert ask_http(chat.port, "/", "POST", **header)[0] == 401
        with as_person(chat, token) as ann:
            assert ann.event("welcome")["nick"] == "ann"


def test_guests_may_only_read(file: str, records: Records) -> None:
    token = add_person(records, "ann")
    with (
        ChatServer(port=0, people=file, guests="read", notices=False) as chat,
        as_person(chat, token) as ann,
        Json(url_of(chat, "/?nick=bob")) as guest,
        Plain(url_of(chat)) as plain,
    ):
        assert "read_only" not in ann.event("welcome")
        assert guest.event("welcome")["read_only"] is True
        why = "Guests can only read here: to speak, you need a token of your own."
        for asked in (
            {"type": "say", "text": "x", "nonce": "n"},
            {"type": "action", "text": "x"},
            {"type": "private", "to": "ann", "text": "x"},
            {"type": "away", "reason": "x"},
        ):
            guest.ask(**asked)
            error = guest.event("error")
            assert (error["code"], error["text"]) == ("refused", why)
        plain.send("x")
        assert plain.hear_until(f"-> {why}")
        assert post(chat, "x") == 403
        ann.ask(type="say", text="hello")
        assert guest.event("message")["text"] == "hello"
        assert [each.text for each in chat.history()] == ["hello"]
        assert b"hello" in ask_http(chat.port, "/?poll=1&format=text")[2]


def test_guests_is_one_of_three_words() -> None:
    with pytest.raises(ValueError, match="guests must be yes, no or read, not 'maybe'"):
        ChatServer(guests="maybe")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="for memory: only"):
        ChatServer(engine="sqlite:x", people="y")


# HTTP.


def post(chat: ChatServer, text: str, path: str = "/", token: str = "") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", chat.port, timeout=30)
    with closing(connection):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("POST", path, text.encode(), headers)
        return connection.getresponse().status


def test_a_post_with_a_token_is_by_its_person(file: str, records: Records) -> None:
    token = add_person(records, "ann")
    with (
        ChatServer(port=0, people=file, rate=0) as chat,
        Json(url_of(chat, "/?nick=bob")) as bob,
        as_person(chat, token) as ann,
    ):
        bob.event("welcome")
        ann.event("welcome")
        assert post(chat, "1", token=token) == 201
        assert post(chat, "2", "/?nick=ANN", token) == 201
        assert post(chat, "3", "/?nick=builder", token) == 201
        assert post(chat, "4", "/?nick=bob", token) == 409
        assert post(chat, "5", "/?nick=ann") == 409
        assert post(chat, "6", f"/?nick={quote('bоb')}") == 409
        assert post(chat, "7", "/?nick=carl") == 201
        said = [(each.nick, each.text) for each in chat.history()]
        assert said == [("ann", "1"), ("ann", "2"), ("builder", "3"), ("carl", "7")]


def test_a_follower_ends_with_its_token(file: str, records: Records) -> None:
    token = add_person(records, "ann")
    ended = threading.Event()

    def follow(chat: ChatServer) -> None:
        # The answer breaks off.
        with pytest.raises(http.client.IncompleteRead):
            ask_http(chat.port, f"/?format=ndjson&token={token}")
        ended.set()

    with ChatServer(port=0, people=file, guests="no") as chat:
        thread = threading.Thread(target=follow, args=(chat,))
        thread.start()
        wait_for(lambda: chat.stats().connections_total == 1)
        remove_person(records, "ann")
        thread.join()
        assert ended.is_set()


# Robots.


def test_a_robot_has_a_rate_of_its_own(file: str, records: Records) -> None:
    robot, slow = add_person(records, "robot", robot=True), add_person(records, "person")
    with ChatServer(port=0, people=file, rate=0.001, burst=3, robot_rate=1000) as chat:
        with as_person(chat, robot) as client, as_person(chat, slow) as other:
            assert client.event("welcome")["limits"]["rate"] == 1000
            assert other.event("welcome")["limits"]["rate"] == 0.001
            for number in range(50):
                client.ask(type="say", text=str(number))
            client.find("message", text="49")
        statuses = [post(chat, "x", "/elsewhere", robot) for _ in range(6)]
        assert statuses == [201] * 6
        assert [post(chat, "x", "/elsewhere", slow) for _ in range(4)] == [201] * 3 + [429]


# Tokens.


def test_no_log_contains_a_token(
    file: str, records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    token = add_person(records, "ann")
    wrong = f"{token[:-1]}!"
    lines: list[str] = []
    caplog.set_level(1)
    with ChatServer(port=0, people=file, log=lines.append, guests="no") as chat:
        for shown in (token, wrong):
            for path, headers in (
                (f"/?token={quote(shown)}&poll=1", {}),
                ("/?poll=1", {"Authorization": f"Bearer {shown}"}),
            ):
                assert ask_http(chat.port, path, **headers)[0] in (200, 401)
            with contextlib.suppress(HandshakeRefused):
                Client(url_of(chat, f"/?token={quote(shown)}")).connect().close()
        renew_token(records, "ann")
    assert lines
    assert TOKEN_PREFIX not in " ".join([*lines, caplog.text])


def test_our_client_shows_a_token_of_its_url_in_a_header(file: str, records: Records) -> None:
    token = add_person(records, "ann")
    seen: list[str] = []
    with ChatServer(
        port=0, people=file, on_join=lambda visitor: seen.append(visitor.request.target)
    ) as chat:
        url = url_of(chat, f"/ops?token={token}&history=3")
        with Client(url).connect() as client:
            assert client.url == url_of(chat, "/ops?history=3")
            wait_for(lambda: client.nick == "ann")
    assert seen == ["/ops?history=3"]


def test_people_are_stored_with_a_keyed_hash_only(file: str, records: Records) -> None:
    token = add_person(records, "ann")
    stored = Path(file).read_bytes() + Path(f"{file}-wal").read_bytes()
    assert token.encode() not in stored
    assert b'"name":"ann"' in stored
    (person,) = read_people(records)
    assert read_people(records).holder([token]) == person
    assert read_people(records).holder([f"{token} ", token[1:], token.upper()]) is None


@pytest.mark.slow
@pytest.mark.alone
def test_the_time_does_not_tell_a_wrong_token_from_an_unknown_one() -> None:
    records = MemoryRecords()
    tokens = [add_person(records, f"person{number}") for number in range(100)]
    people = read_people(records)
    wrong = [token[:-1] + "." for token in tokens]
    unknown = [TOKEN_PREFIX + "." * (len(token) - len(TOKEN_PREFIX)) for token in tokens]
    taken: dict[str, list[float]] = {"wrong": [], "unknown": []}
    for _ in range(300):
        for name, shown in (("wrong", wrong), ("unknown", unknown)):
            begin = time.perf_counter()
            for token in shown:
                assert people.holder([token]) is None
            taken[name].append((time.perf_counter() - begin) / len(shown))
    medians = [statistics.median(each) for each in taken.values()]
    # No scrypt either, which would take a thousand times as long.
    assert max(medians) < 1e-4
    assert max(medians) / min(medians) < 1.2
