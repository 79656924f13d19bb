"""What operators do: kicks, bans, mutes, topics, hidden messages; and who may not do it."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from syncchat import ChatServer, Client
from syncchat.chat.events import Ban, Error, KickRequest
from syncchat.chat.people import add_person
from syncchat.engine import open_records
from syncchat.errors import ConnectionClosed
from tests.peer import PATIENCE, wait_for
from tests.people import Json, Plain, url_of
from tests.processes import ServerScript
from tests.redis_server import RedisProcess

#: Each command of operators, and the event that it becomes.
COMMANDS: dict[str, dict[str, Any]] = {
    "/kick bob": {"type": "kick", "nick": "bob"},
    "/ban bob": {"type": "ban", "target": "bob"},
    "/unban eve": {"type": "unban", "target": "eve"},
    "/bans": {"type": "bans"},
    "/mute bob": {"type": "mute", "nick": "bob"},
    "/unmute bob": {"type": "unmute", "nick": "bob"},
    "/topic tea": {"type": "topic", "text": "tea"},
    "/redact bob": {"type": "redact", "nick": "bob"},
    "/motd tea": {"type": "motd", "text": "tea"},
    "/read-only on": {"type": "read_only", "on": True},
    "/op ann": {"type": "op", "nick": "ann"},
    "/deop ann": {"type": "deop", "nick": "ann"},
}

QUIET: dict[str, Any] = {"port": 0, "greeting": "", "notices": False, "rate": 0}


def tokens_in(engine: str) -> dict[str, str]:
    """Add the server operator root, and the person ann. Returns their tokens."""
    with closing(open_records(engine)) as records:
        return {
            name: add_person(records, name, operator=name == "root")
            for name in ("root", "ann", "ed")
        }


class House:
    """A server, and the tokens of its people."""

    def __init__(self, chat: ChatServer, tokens: dict[str, str], log: list[str]) -> None:
        self.chat = chat
        self.tokens = tokens
        self.log = log

    def url(self, name: str, room: str = "") -> str:
        """The URL for a person, or a guest of this nick."""
        if name in self.tokens:
            return url_of(self.chat, f"/{room}?token={self.tokens[name]}")
        return url_of(self.chat, f"/{room}?nick={name}")

    def bans(self) -> list[str]:
        """What is banned in the lobby."""
        with Json(self.url("root")) as root:
            root.event("welcome")
            root.ask(type="bans")
            return [each["target"] for each in root.event("bans")["bans"]]


@contextmanager
def house(path: Path, **settings: Any) -> Iterator[House]:
    engine = f"sqlite:{path / 'chat.db'}"
    tokens = tokens_in(engine)
    log: list[str] = []
    with ChatServer(engine=engine, log=log.append, **QUIET | settings) as chat:
        yield House(chat, tokens, log)


class From(Json):
    """A client whose proxy names this address."""

    def __init__(self, url: str, address: str) -> None:
        self.websocket = connect(
            url,
            subprotocols=[Subprotocol("syncchat.v1")],
            additional_headers={"X-Forwarded-For": address},
            legacy=True,
            compression=None,
        )


def ask_http(
    port: int,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Status and text of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as client:
        client.request(method, path, body, headers or {})
        answer = client.getresponse()
        return answer.status, answer.read().decode()


def order(client: Json, **request: Any) -> dict[str, Any]:
    """Ask for something, and return the answer."""
    client.ask(**request)
    while True:
        event = client.event()
        if event["type"] in ("done", "error"):
            return event


def enters(house: House, address: str, nick: str = "guest") -> bool:
    """Whether a client with this address gets in."""
    with From(url_of(house.chat, f"/?nick={nick}"), address) as client:
        event = client.event("welcome", "error")
        if event["type"] == "error":
            assert event["code"] == "banned"
            assert client.hear_end() == 1008
        return bool(event["type"] == "welcome")


# Who may do it.


def test_others_can_do_nothing_that_operators_do(tmp_path: Path) -> None:
    with (
        house(tmp_path) as home,
        Json(home.url("bob")) as bob,
        Plain(home.url("eve")) as eve,
        Json(home.url("ann")) as ann,
    ):
        bob.event("welcome")
        bob.ask(type="say", text="hello")
        bob.event("message")
        assert eve.hear() == "bob: hello"
        ann.event("welcome")
        for line, event in COMMANDS.items():
            for client in (bob, ann):
                answer = order(client, **event)
                assert (answer["code"], answer["command"]) == ("forbidden", event["type"])
            eve.send(line)
            assert eve.hear().startswith("-> Only operators of this "), line
        assert home.bans() == []
        # Nothing has changed, and nobody was told of anything.
        eve.send("/topic", "/motd", "/history")
        assert eve.hear() == " * There is no topic."
        assert eve.hear() == "-> There is no message of the day."
        assert "bob: hello" in eve.hear()
        assert not [line for line in home.log if " in lobby: " in line]


def test_an_operator_of_a_room_rules_that_room_alone(tmp_path: Path) -> None:
    with (
        house(tmp_path) as home,
        Json(home.url("root", "ops")) as root,
        Json(home.url("ann", "ops")) as ann,
        Json(home.url("bob", "ops")) as bob,
    ):
        assert root.event("welcome")["operator"] is True
        assert "operator" not in ann.event("welcome")
        bob.event("welcome")
        assert order(root, type="op", nick="bob")["code"] == "absent"
        assert order(root, type="op", nick="ann")["type"] == "done"
        assert ann.find("moderated")["action"] == "op"
        for request in (
            {"type": "kick", "nick": "root"},
            {"type": "mute", "nick": "root"},
            {"type": "ban", "target": "root"},
            {"type": "ban", "target": "ann"},
            {"type": "ban", "target": "127.0.0.0/8"},
            {"type": "motd", "text": "tea"},
        ):
            assert order(ann, **request)["code"] == "forbidden", request
        assert order(root, type="ban", target="eve")["type"] == "done"
        assert order(ann, type="unban", target="eve")["code"] == "forbidden"
        assert order(ann, type="ban", target="bob", reason="spam")["type"] == "done"
        assert bob.find("error")["text"] == "You are banned from ops: spam"
        assert bob.hear_end() == 1008
        with Json(home.url("bob")) as again:
            again.event("welcome")
            again.ask(type="join", room="ops")
            assert again.event("error")["code"] == "banned"
            # It stays where it was.
            again.ask(type="names")
            assert again.event("names")["names"] == ["bob"]
        with Json(home.url("ann")) as elsewhere:
            elsewhere.event("welcome")
            assert order(elsewhere, type="kick", nick="bob")["code"] == "forbidden"
        assert order(root, type="deop", nick="ann")["type"] == "done"
        assert order(ann, type="topic", text="tea")["code"] == "forbidden"


# Kicks and bans.


def test_a_kicked_client_hears_why_and_does_not_return(tmp_path: Path) -> None:
    with (
        house(tmp_path, notices=True) as home,
        Json(home.url("root")) as root,
        Json(home.url("ann")) as ann,
    ):
        root.event("welcome")
        ann.event("welcome")
        assert order(root, type="kick", nick="bob")["code"] == "absent"
        with Client(home.url("bob")) as bob:
            wait_for(lambda: "bob" in home.chat.members())
            assert order(root, type="kick", nick="BOB", reason="be nice")["type"] == "done"
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    bob.receive(PATIENCE)
            assert (caught.value.code, "be nice" in caught.value.reason) == (1008, True)
        assert ann.find("left")["reason"] == "removed"
        wait_for(lambda: home.chat.members() == ["ann", "root"])


def test_a_ban_of_a_nick_holds_for_those_that_look_like_it(tmp_path: Path) -> None:
    with house(tmp_path) as home, Json(home.url("root")) as root, Json(home.url("bob")) as bob:
        root.event("welcome")
        bob.event("welcome")
        answer = order(root, type="ban", target="Bob", seconds=3600, reason="spam")
        assert answer["type"] == "done"
        told = bob.find("error")
        assert told["code"] == "banned"
        assert told["text"].startswith("You are banned from this chat until 20")
        assert told["text"].endswith(" UTC: spam")
        assert bob.hear_end() == 1008
        for nick in ("bob", "BOB", "b%D0%BEb"):
            with Json(home.url(nick)) as client:
                assert client.event("error")["code"] == "banned", nick
                assert client.hear_end() == 1008
        with Plain(home.url("carl")) as carl:
            carl.send("/nick bob")
            assert carl.hear().startswith("-> You are banned")
            assert home.bans() == ["Bob"]
            assert order(root, type="unban", target="bOB")["type"] == "done"
            carl.send("/nick bob", "/names")
            assert carl.hear() == " * carl is now known as bob."
        assert order(root, type="unban", target="bob")["code"] == "absent"


def test_a_ban_of_an_address_holds_for_all_its_forms(tmp_path: Path) -> None:
    with house(tmp_path, trusted_proxies=["127.0.0.1"]) as home, Json(home.url("root")) as root:
        root.event("welcome")
        for target, inside, outside in (
            ("192.0.2.7", ("192.0.2.7", "::ffff:192.0.2.7"), ("192.0.2.8",)),
            ("::ffff:198.51.100.0/120", ("198.51.100.9",), ("198.51.101.9",)),
            ("2001:db8:1::/48", ("2001:db8:1:2::3", "2001:DB8:1::"), ("2001:db8:2::1",)),
            ("2001:db8:9::1", ("2001:db8:9:0::1",), ("2001:db8:9::2",)),
        ):
            with From(url_of(home.chat, "/?nick=there"), inside[0]) as there:
                there.event("welcome")
                assert order(root, type="ban", target=target)["type"] == "done"
                assert there.find("error")["code"] == "banned"
                assert there.hear_end() == 1008
            assert not any(enters(home, address) for address in inside), target
            assert all(enters(home, address) for address in outside), target
            headers = {"X-Forwarded-For": inside[0]}
            for method, path in (("POST", "/ops"), ("GET", "/?poll=1")):
                answer = ask_http(home.chat.port, path, method=method, body=b"x", headers=headers)
                assert answer[0] == 403, (method, target)
            assert order(root, type="unban", target=target)["type"] == "done"
            assert enters(home, inside[0])


def test_a_ban_reaches_followers_and_clients_of_ipv6(tmp_path: Path) -> None:
    with house(tmp_path, host="::1") as home:
        url = f"http://[::1]:{home.chat.port}/?format=ndjson"
        with urllib.request.urlopen(url, timeout=PATIENCE) as follower:
            assert json.loads(follower.readline())["type"] == "welcome"
            with Json(f"ws://[::1]:{home.chat.port}/?nick=bob") as bob:
                bob.event("welcome")
                answer = home.chat.moderate(Ban("0::1/127", 600.0, "spam"))
                assert not isinstance(answer, Error)
                assert bob.find("error")["code"] == "banned"
                assert bob.hear_end() == 1008
            with pytest.raises(http.client.IncompleteRead) as cut:
                follower.read()
            assert b'"banned"' in cut.value.partial
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(url, timeout=PATIENCE)
        with caught.value as refused:
            assert refused.status == 403
            assert b"spam" in refused.read()


def test_all_devices_of_a_person_are_kicked(tmp_path: Path) -> None:
    with house(tmp_path) as home, Json(home.url("ann")) as one, Json(home.url("ann")) as other:
        one.event("welcome")
        other.event("welcome")
        home.chat.moderate(KickRequest("ann"))
        assert one.hear_end() == other.hear_end() == 1008


def test_a_guest_does_not_return_under_another_nick(tmp_path: Path) -> None:
    with house(tmp_path, trusted_proxies=["127.0.0.1"]) as home, Json(home.url("root")) as root:
        root.event("welcome")
        with From(url_of(home.chat, "/?nick=bob"), "2001:db8::1") as bob:
            bob.event("welcome")
            assert order(root, type="ban", target="bob")["type"] == "done"
            assert bob.hear_end() == 1008
        assert not enters(home, "2001:db8::ffff", "carl")
        assert enters(home, "2001:db8:0:1::1", "carl")
        # A person has a name of its own, and is not banned with its neighbours.
        with From(home.url("ann"), "2001:db8::2") as ann:
            ann.event("welcome")
        assert home.bans() == ["bob"]


def test_bans_outlive_a_restart_and_end_by_themselves(tmp_path: Path) -> None:
    with house(tmp_path) as home, Json(home.url("root")) as root:
        root.event("welcome")
        assert order(root, type="ban", target="bob")["type"] == "done"
        assert order(root, type="ban", target="eve", seconds=1.0)["type"] == "done"
        assert order(root, type="topic", text="tea")["type"] == "done"
    with ChatServer(engine=f"sqlite:{tmp_path / 'chat.db'}", **QUIET) as chat:
        with Json(url_of(chat, "/?nick=bob")) as bob:
            assert bob.event("error")["code"] == "banned"

        def comes() -> bool:
            with Json(url_of(chat, "/?nick=eve")) as eve:
                event = eve.event("welcome", "error")
                assert event.get("topic", "tea") == "tea"
                return bool(event["type"] == "welcome")

        wait_for(comes)


def test_who_is_banned_from_a_room_reads_no_line_of_it_from_elsewhere(tmp_path: Path) -> None:
    with (
        house(tmp_path) as home,
        Json(home.url("bob")) as bob,
        Json(home.url("eve")) as eve,
        Json(home.url("root", "ops")) as root,
    ):
        for client in (bob, eve, root):
            client.event("welcome")
        bob.ask(type="watch", rooms=[{"room": "ops"}])
        assert bob.event("activity")["room"] == "ops"
        assert order(root, type="op", nick="ann")["type"] == "done"
        with Json(home.url("ann", "ops")) as ann:
            ann.event("welcome")
            assert order(ann, type="ban", target="bob")["type"] == "done"
            assert order(ann, type="ban", target="eve")["type"] == "done"
        root.ask(type="say", text="bob: a secret")
        assert "mention" not in bob.event("activity")
        eve.ask(type="watch", rooms=[{"room": "ops"}])
        assert eve.event("error")["code"] == "banned"


# Speaking.


def test_who_is_muted_reads_but_does_not_speak(tmp_path: Path) -> None:
    with house(tmp_path) as home, Json(home.url("root")) as root, Json(home.url("bob")) as bob:
        root.event("welcome")
        bob.event("welcome")
        assert order(root, type="mute", nick="bob", seconds=3600)["type"] == "done"
        assert bob.event("moderated")["seconds"] == 3600
        for event in (
            {"type": "say", "text": "x", "nonce": "n"},
            {"type": "action", "text": "x"},
            {"type": "away", "reason": "x"},
            {"type": "nick", "nick": "carl"},
        ):
            bob.ask(**event)
            told = bob.event("error")
            assert (told["code"], told["command"]) == ("muted", event["type"])
        answer = ask_http(home.chat.port, "/?nick=bob", method="POST", body=b"x")
        assert answer[0] == 403
        bob.ask(type="quit", reason="x")
        assert bob.hear_end() == 1000
        with Json(home.url("bob")) as again:
            again.event("welcome")
            again.ask(type="say", text="x")
            assert again.event("error")["code"] == "muted"
            assert order(root, type="unmute", nick="bob")["type"] == "done"
            again.ask(type="say", text="hello")
            assert again.find("message")["text"] == "hello"
            assert order(root, type="mute", nick="bob", seconds=0.2)["type"] == "done"
            again.find("moderated")
            time.sleep(0.2)
            again.ask(type="say", text="again")
            assert again.find("message")["text"] == "again"
        assert order(root, type="mute", nick="bob")["code"] == "absent"


def test_topic_motd_and_read_only_are_shown_on_entering(tmp_path: Path) -> None:
    with house(tmp_path) as home, Plain(home.url("root")) as root:
        for line, answer in (
            ("/topic Tea at four", " * The topic is: Tea at four"),
            ("/motd Be nice", "-> The message of the day is set."),
            ("/read-only on", " * root has decided that only operators may speak here."),
            ("/topic " + "x" * 401, "-> It must have at most 400 characters."),
            ("/read-only maybe", "-> Usage: /read-only on|off"),
            ("/mute bob soon", "-> Usage: /mute NAME [TIME]"),
            ("/ban bob 0s", "-> 0s is not a possible time: it must be 1s to 3650d."),
        ):
            root.send(line)
            root.hear_until(answer)
        with Json(home.url("bob")) as bob, Plain(home.url("eve")) as eve:
            welcome = bob.event("welcome")
            assert (welcome["topic"], welcome["motd"]) == ("Tea at four", "Be nice")
            assert welcome["read_only"] is True
            assert eve.hear() == "-> Be nice"
            assert eve.hear() == " * The topic is: Tea at four"
            assert eve.hear() == "-> lobby is read-only: you cannot speak here."
            bob.ask(type="say", text="x")
            assert bob.event("error")["code"] == "refused"
            root.send("hello", "/read-only off", "/topic -")
            assert bob.event("message")["text"] == "hello"
            assert bob.event("read_only") == {"type": "read_only", "on": False, "by": "root"}
            assert bob.event("topic")["text"] == ""
            bob.ask(type="say", text="x")
            assert bob.event("message")["text"] == "x"


# Hidden messages.


@pytest.mark.parametrize("echo", [True, False])
def test_a_hidden_message_is_seen_nowhere(tmp_path: Path, echo: bool) -> None:
    with house(tmp_path, echo=echo) as home, Json(home.url("root")) as root:
        epoch = root.event("welcome")["epoch"]
        with Plain(home.url("bob")) as bob:
            bob.send("first", "my secret", "/names")
            assert bob.hear_until("-> 2 connected: bob, root")
            assert root.find("message", text="my secret")["offset"] == 2
            root.ask(type="redact", nick="BOB")
            assert root.find("message")["kind"] == "redaction"
            assert root.event("done")["command"] == "redact"
            assert bob.hear() == " * root has removed a message."
        # A client that was away.
        with Json(url_of(home.chat, f"/?after={epoch}:1")) as back:
            back.event("welcome")
            hidden, redaction = back.event("history")["messages"]
            assert (hidden["offset"], hidden["kind"], hidden["text"]) == (2, "redacted", "")
            assert (redaction["kind"], redaction["text"]) == ("redaction", "2")
            back.ask(type="history", limit=50)
            kinds = [each["kind"] for each in back.event("history")["messages"]]
            assert kinds == ["message", "redacted", "redaction"]
            back.ask(type="search", words="secret")
            assert back.event("history")["messages"] == []
            back.ask(type="search", words="2")
            assert back.event("history")["messages"] == []
        _, text = ask_http(home.chat.port, "/?poll=1")
        assert "secret" not in text
        assert [json.loads(line)["kind"] for line in text.splitlines() if '"kind"' in line] == kinds
        assert [each.kind for each in home.chat.history()] == kinds
        assert order(root, type="redact", offset=9)["code"] == "absent"
        assert order(root, type="redact", nick="eve")["code"] == "absent"
        # The next message of the nick is the one before.
        assert order(root, type="redact", nick="bob")["type"] == "done"
        assert home.chat.history()[0].text == ""


def test_a_program_cannot_post_a_redaction(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        answer = ask_http(
            home.chat.port,
            "/",
            method="POST",
            body=b'{"text": "1", "kind": "redaction"}',
            headers={"Content-Type": "application/json"},
        )
        assert answer[0] == 400


# Habits.


def test_the_others_read_why_somebody_leaves(tmp_path: Path) -> None:
    with house(tmp_path, notices=True) as home, Plain(home.url("ann")) as ann:
        with Plain(home.url("bob")) as bob:
            ann.hear_until(" * bob joined. (Connected: 2)")
            bob.send("/q gone\x1b fishing")
            assert bob.hear_end() == 1000
            assert ann.hear() == " * bob left: gone fishing. (Connected: 1)"
        with Plain(home.url("eve", "ops")) as eve:
            eve.send("/part")
            eve.hear_until("-> You are now in lobby.")
            eve.send("/w")
            eve.hear_until("-> 2 connected: ann, eve")
            eve.send("/j ops")
            eve.hear_until("-> You are now in ops.")
            eve.send("/exit")
            assert eve.hear_end() == 1000


def test_whois_shows_rooms_people_and_operators(tmp_path: Path) -> None:
    with (
        house(tmp_path) as home,
        Json(home.url("root")) as root,
        Json(home.url("root", "ops")) as device,
        Plain(home.url("bob")) as bob,
    ):
        root.event("welcome")
        device.event("welcome")
        bob.send("/whois root")
        assert " Idle for " in (shown := bob.hear())
        assert shown.endswith(" In lobby, ops. The name is reserved. Operator.")
        root.ask(type="whois", nick="bob")
        assert root.event("whois")["rooms"] == ["lobby"]


# The log, and programs.


@pytest.mark.parametrize("is_json", [True, False])
def test_the_log_says_who_has_done_what(tmp_path: Path, is_json: bool) -> None:
    with house(tmp_path, log_json=is_json) as home, Json(home.url("root", "ops")) as root:
        root.event("welcome")
        assert order(root, type="ban", target="bob", seconds=600, reason="spam")["type"] == "done"
        wanted = {
            "event": "moderated",
            "by": "root",
            "client": root.address,
            "action": "ban",
            "target": "bob",
            "room": "ops",
            "reason": "spam",
            "seconds": 600,
        }
        if is_json:
            assert any(json.loads(line).items() >= wanted.items() for line in home.log)
        else:
            assert f"root ({root.address}) in ops: ban bob for 10m: spam" in home.log


def test_a_program_acts_as_the_console() -> None:
    with ChatServer(**QUIET) as chat, Json(url_of(chat, "/?nick=bob")) as bob:
        bob.event("welcome")
        answer = chat.moderate(KickRequest("eve"))
        assert isinstance(answer, Error)
        assert not isinstance(chat.moderate(KickRequest("bob", "be nice")), Error)
        assert bob.find("error")["text"] == "You were removed from this room: be nice."


@pytest.mark.slow
def test_decisions_hold_on_all_servers_of_a_redis() -> None:
    flags = ["--rate", "0", "--greeting", "", "--trusted-proxy", "127.0.0.1"]
    with RedisProcess() as redis:
        tokens = tokens_in(redis.url)
        with (
            ServerScript("--engine", redis.url, *flags) as first,
            ServerScript("--engine", redis.url, *flags) as second,
            Json(f"{first.url}?token={tokens['root']}") as root,
            From(f"{second.url}?nick=bob", "2001:db8::1") as bob,
            From(f"{second.url}?nick=eve", "192.0.2.1") as eve,
        ):
            for client in (root, bob, eve):
                client.event("welcome")
            assert order(root, type="mute", nick="eve")["type"] == "done"
            eve.find("moderated")

            def is_mute() -> bool:
                eve.ask(type="say", text="x")
                return bool(eve.event("message", "error")["type"] == "error")

            wait_for(is_mute)
            assert order(root, type="ban", target="bob", reason="spam")["type"] == "done"
            assert bob.find("error")["code"] == "banned"
            assert bob.hear_end() == 1008
            for server in (first, second):

                def is_out(url: str = server.url) -> bool:
                    with From(f"{url}?nick=carl", "2001:db8::2") as carl:
                        return bool(carl.event("welcome", "error")["type"] == "error")

                wait_for(is_out)
            assert order(root, type="kick", nick="eve")["type"] == "done"
            assert eve.hear_end() == 1008
