"""Several servers on one Redis: what their clients see."""

from __future__ import annotations

import http.client
import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from syncchat import Client, EngineFailed, Gap, Publisher
from syncchat.chat.events import Message
from tests.engine.test_kill import Talker, check
from tests.peer import PATIENCE, ask_http, wait_for
from tests.people import Json, Plain
from tests.processes import SERVER, Script, ServerScript, environment
from tests.proxy import Proxy
from tests.redis_server import RedisProcess

FLAGS = ["--rate", "0", "--keep", "1000000"]


def test_a_server_without_its_redis_says_so_in_one_line_and_exits_1() -> None:
    result = subprocess.run(
        [*SERVER, "--port", "0", "--engine", "redis://user:secret@127.0.0.1:1/0"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=environment(),
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("cannot use redis://127.0.0.1:1/0: ")
    assert "secret" not in result.stderr


def test_clients_of_two_servers_are_in_one_room() -> None:
    with (
        RedisProcess() as redis,
        ServerScript("--engine", redis.url, *FLAGS) as first,
        ServerScript("--engine", redis.url, *FLAGS) as second,
        Json(f"{first.url}?nick=ann") as ann,
        ExitStack() as stack,
    ):
        epoch = ann.event("welcome")["epoch"]
        bob = stack.enter_context(Json(f"{second.url}?nick=bob"))
        welcome = bob.event("welcome")
        assert (welcome["epoch"], welcome["members"]) == (epoch, ["ann", "bob"])
        assert ann.event("joined")["nick"] == "bob"
        for number in range(10):
            ann.ask(type="say", text=f"a{number}", nonce=f"a{number}")
            bob.ask(type="say", text=f"b{number}", nonce=f"b{number}")
        heard = [[each.find("message") for _ in range(20)] for each in (ann, bob)]
        assert heard[0] == heard[1]
        assert [message["offset"] for message in heard[0]] == list(range(1, 21))
        # Who comes back to the other server gets what it missed.
        with Json(f"{second.url}?nick=eve&after={epoch}:15") as eve:
            assert eve.event("welcome")["nick"] == "eve"
            history = eve.event("history")
            assert history["complete"]
            assert [m["offset"] for m in history["messages"]] == list(range(16, 21))
        assert ann.find("left")["nick"] == "eve"
        with Json(f"{second.url}?nick=Ann") as other:
            assert other.event("welcome")["nick"] != "Ann"
            assert other.event("error")["code"] == "nick_taken"
        bob.ask(type="nick", nick="ann")
        assert bob.find("error")["code"] == "nick_taken"
        ann.ask(type="nick", nick="anna")
        assert bob.find("renamed")["nick"] == "anna"


def test_what_somebody_does_is_told_in_its_order_on_every_server() -> None:
    with (
        RedisProcess() as redis,
        ServerScript("--engine", redis.url, *FLAGS) as first,
        ServerScript("--engine", redis.url, *FLAGS) as second,
        Json(f"{first.url}?nick=near") as near,
        Json(f"{second.url}?nick=far") as far,
        ExitStack() as stack,
    ):
        for each in (near, far):
            each.event("welcome")
        speaker = stack.enter_context(Json(f"{first.url}?nick=n"))
        for number in range(100):
            speaker.ask(type="nick", nick=f"n{number}")
            speaker.ask(type="say", text=f"{number}")
            speaker.ask(type="private", to="near", text=f"{number}")
        done = [
            step
            for number in range(100)
            for step in (
                ("renamed", f"n{number}"),
                ("message", f"{number}"),
                ("private", f"{number}"),
            )
        ]
        assert _steps(near, "renamed", "message", "private") == done
        assert _steps(far, "renamed", "message") == [step for step in done if step[0] != "private"]


def _steps(client: Json, *kinds: str) -> list[tuple[str, str]]:
    """The events of these kinds, up to the message ``99`` and what follows it."""
    steps: list[tuple[str, str]] = []
    while ("message", "99") not in steps or (kinds[-1], "99") not in steps:
        event = client.event()
        if event["type"] in kinds:
            steps.append((event["type"], event.get("text") or event["nick"]))
    return steps


def test_while_redis_is_away_clients_stay_and_are_told_unavailable() -> None:
    with (
        RedisProcess("--appendonly", "yes", "--appendfsync", "always") as redis,
        ServerScript("--engine", redis.url, *FLAGS) as server,
        Json(f"{server.url}?nick=ann") as ann,
        Plain(f"{server.url}?nick=bob") as bob,
    ):
        # What is promised with this Redis.
        server.wait_for_line("Storage: .* is on Redis' disk before anybody gets it .*")
        ann.event("welcome")
        bob.hear()
        ann.ask(type="say", text="before")
        ann.find("message")
        assert ask_http(server.port, "/healthz")[0] == 200
        redis.kill()
        wait_for(lambda: ask_http(server.port, "/healthz")[0] == 503)
        assert b"Redis cannot be reached" in ask_http(server.port, "/healthz")[2]
        ann.ask(type="say", text="lost", nonce="n1")
        assert ann.find("error")["code"] == "unavailable"
        ann.ask(type="names")
        assert ann.find("error")["command"] == "names"
        ann.ask(type="search", words="before")
        assert ann.find("error")["command"] == "search"
        server.wait_for_line("cannot reach Redis at .*", errors=True)
        redis.start()
        wait_for(lambda: ask_http(server.port, "/healthz")[0] == 200)
        server.wait_for_line("can reach Redis at .* again", errors=True)
        ann.ask(type="say", text="after", nonce="n1")
        message = ann.find("message")
        assert (message["offset"], message["text"]) == (2, "after")
        server.signal(signal.SIGTERM)
        assert ann.hear_end() == 1001
        assert server.exit_code() == 0


def started(url: str, port: int) -> Script:
    server = Script([*SERVER, "--port", str(port), "--engine", url, *FLAGS])
    server.wait_for_line("listening on port .*")
    return server


@contextmanager
def talking(redis: RedisProcess) -> Iterator[Nodes]:
    """Two nodes, with 8 clients each that say something all the time."""
    with Proxy(redis.path) as near, Proxy(redis.path) as far:
        nodes = Nodes([near, far])
        try:
            nodes.talkers += [
                Talker(f"talker{number}", f"ws://127.0.0.1:{nodes.ports[number % 2]}/room")
                for number in range(16)
            ]
            yield nodes
        finally:
            for talker in nodes.talkers:
                talker.close()
            for script in nodes.scripts:
                script.__exit__()


class Nodes:
    """Servers, each behind a proxy of its own to Redis, and their clients."""

    def __init__(self, proxies: list[Proxy]) -> None:
        self.proxies = proxies
        self.urls = [f"redis://127.0.0.1:{proxy.port}/0" for proxy in proxies]
        servers = [ServerScript("--engine", url, *FLAGS) for url in self.urls]
        self.ports = [server.port for server in servers]
        self.scripts: list[Script] = [*servers]
        self.talkers: list[Talker] = []

    def kill(self, number: int) -> None:
        """Kill a node, and start it again."""
        self.scripts[number].signal(signal.SIGKILL)
        self.scripts[number].__exit__()
        self.scripts[number] = started(self.urls[number], self.ports[number])

    def wait_for_messages(self) -> None:
        """Wait until everybody gets messages."""
        before = [len(talker.heard) for talker in self.talkers]
        wait_for(
            lambda: all(
                len(talker.heard) > count + 20
                for talker, count in zip(self.talkers, before, strict=True)
            ),
            "messages for everybody",
        )


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize(("fault", "turns"), [("node", 10), ("link", 20), ("redis", 10)])
def test_nothing_is_lost_while_nodes_or_links_or_redis_end(fault: str, turns: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with (
        RedisProcess("--appendonly", "yes", "--appendfsync", "always") as redis,
        talking(redis) as nodes,
    ):
        for turn in range(turns):
            time.sleep(chance.uniform(0.1, 0.5))
            proxy = nodes.proxies[turn % 2]
            match fault, turn % 4:
                case "node", _:
                    nodes.kill(turn % 2)
                    nodes.wait_for_messages()
                case "link", 0:
                    proxy.reset()
                    nodes.wait_for_messages()
                case "link", 1:
                    # A stall: it is noticed after seconds. Others are cut meanwhile.
                    proxy.swallow()
                case "link", 2:
                    # Half-open: what is sent arrives, but nothing comes back.
                    proxy.swallow_answers()
                case "link", _:
                    proxy.reset()
                case _:
                    redis.kill()
                    redis.start()
                    nodes.wait_for_messages()
        check(nodes.talkers, turns // 2, breaks=fault == "node")


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_everybody_is_told_of_a_gap_each_time_redis_is_emptied() -> None:
    with RedisProcess() as redis, talking(redis) as nodes:
        for turn in range(5):
            nodes.wait_for_messages()
            with Json(f"ws://127.0.0.1:{nodes.ports[0]}/room") as early:
                welcome = early.event("welcome")
                seen = welcome["epoch"], welcome["offset"]
            gaps = [len(talker.gaps) for talker in nodes.talkers]
            # It forgets everything.
            redis.kill()
            redis.start()
            # Also whoever comes back meanwhile, to either node.
            for port in nodes.ports:
                with Json(f"ws://127.0.0.1:{port}/room?after={seen[0]}:{seen[1]}") as late:
                    assert not late.find("history")["complete"]
            wait_for(
                lambda gaps=gaps: all(  # type: ignore[misc]
                    len(talker.gaps) > count
                    for talker, count in zip(nodes.talkers, gaps, strict=True)
                ),
                f"the gap for everybody, turn {turn}",
            )
        for talker in nodes.talkers:
            talker.be_silent()


def test_a_client_of_the_package_stays_through_a_restart_of_redis() -> None:
    with (
        RedisProcess() as redis,
        ServerScript("--engine", redis.url, *FLAGS) as server,
        Client(server.url, nick="ann").connect() as ann,
    ):
        ann.say("one")
        ann.flush(PATIENCE)
        redis.kill()
        redis.start()
        ann.say("two")
        ann.flush(PATIENCE)


def test_people_are_found_across_servers() -> None:
    with (
        RedisProcess() as redis,
        ServerScript("--engine", redis.url, *FLAGS) as first,
        ServerScript("--engine", redis.url, *FLAGS) as second,
        Json(f"{first.url}?nick=ann") as ann,
        ExitStack() as stack,
    ):
        ann.event("welcome")
        bob = stack.enter_context(Json(f"{second.url}?nick=Bob"))
        ann.find("joined", nick="Bob", connected=2)
        bob.event("welcome")
        ann.ask(type="private", to="bob", text="psst")
        private = bob.find("private")
        assert (private["nick"], private["to"], private["text"]) == ("ann", "Bob", "psst")
        # The receipt.
        assert ann.find("private") == private
        ann.ask(type="private", to="nobody", text="psst")
        assert ann.find("error")["code"] == "absent"
        bob.ask(type="say", text="hello")
        time_of = bob.find("message")["time"]
        bob.ask(type="away", reason="lunch")
        assert ann.find("away")["reason"] == "lunch"
        ann.ask(type="whois", nick="bob")
        whois = ann.find("whois")
        assert (whois["nick"], whois["spoke"], whois["away"]) == ("Bob", time_of, "lunch")
        assert whois["since"] <= time_of
        ann.ask(type="names")
        assert ann.find("names") == {"type": "names", "names": ["ann", "Bob"], "away": ["Bob"]}
        ann.ask(type="private", to="bob", text="are you there?")
        assert ann.find("away")["nick"] == "Bob"
        bob.ask(type="nick", nick="bobby")
        assert ann.find("renamed")["nick"] == "bobby"
        ann.ask(type="whois", nick="bobby")
        assert ann.find("whois")["away"] == "lunch"
        bob.ask(type="back")
        ann.find("back")
        ann.ask(type="names")
        assert "away" not in ann.find("names")
        ann.ask(type="rooms")
        assert ann.find("rooms")["rooms"] == [{"room": "lobby", "connected": 2}]
        with Json(f"{second.url}ops?nick=eve") as eve:
            eve.event("welcome")
            ann.ask(type="rooms")
            assert {"room": "lobby", "connected": 2} in ann.find("rooms")["rooms"]


@pytest.mark.slow
def test_the_members_of_a_killed_server_are_told_as_gone() -> None:
    with (
        RedisProcess() as redis,
        ServerScript("--engine", redis.url, *FLAGS) as first,
        ServerScript("--engine", redis.url, *FLAGS) as second,
        Json(f"{first.url}?nick=ann") as ann,
        ExitStack() as stack,
    ):
        ann.event("welcome")
        stack.enter_context(Plain(f"{second.url}?nick=bob"))
        ann.find("joined", nick="bob")
        second.signal(signal.SIGKILL)
        begin = time.monotonic()
        left = ann.find("left")
        assert (left["nick"], left["connected"]) == ("bob", 1)
        # Not at once: it may be a restart.
        assert 15 < time.monotonic() - begin < 45


@pytest.mark.slow
def test_a_process_without_a_server_publishes_a_message() -> None:
    with (
        RedisProcess() as redis,
        ServerScript("--engine", redis.url, *FLAGS) as server,
        Json(f"{server.url}ops?nick=ann") as ann,
        Publisher(redis.url) as publisher,
    ):
        ann.event("welcome")
        assert publisher.say("deployed", room="ops", nick="ci") == 1
        assert publisher.say("deployed \x1b[2J", room="#Ops", nonce="1") == 2
        assert publisher.say("deployed \x1b[2J", room="ops", nonce="1") == 2
        first, second = ann.find("message"), ann.find("message")
        assert (first["offset"], first["nick"], first["text"]) == (1, "ci", "deployed")
        assert (second["offset"], second["nick"], second["text"]) == (2, "server", "deployed [2J")
        for arguments in ({"room": "a b"}, {"nick": "admin"}, {"nick": "a b"}):
            with pytest.raises(ValueError, match="must|reserved"):
                publisher.say("x", **arguments)
    with pytest.raises(ValueError, match="must be a Redis"):
        Publisher("memory:")
    with Publisher("redis://127.0.0.1:1") as publisher, pytest.raises(EngineFailed):
        publisher.say("x")


@pytest.mark.slow
def test_clients_that_all_come_back_at_once_do_not_bring_redis_down() -> None:
    with (
        RedisProcess() as redis,
        ServerScript("--engine", redis.url, *FLAGS) as first,
        ServerScript("--engine", redis.url, *FLAGS) as second,
        ExitStack() as stack,
    ):
        clients = [
            stack.enter_context(Client(server.url, nick=f"n{number}").connect())
            for number in range(100)
            for server in (first, second)
        ]
        clients[0].say("old")
        clients[0].flush(PATIENCE)
        # It forgets everything, so that each client is disconnected, and reads the history.
        redis.kill()
        redis.start()
        begin = time.monotonic()
        for client in clients:
            while not isinstance(client.receive(2 * PATIENCE), Gap):
                pass
        print(f"all are back after {time.monotonic() - begin:.1f} s")
        clients[1].say("new")
        for client in clients:
            while True:
                event = client.receive(PATIENCE)
                if isinstance(event, Message) and event.text == "new":
                    break
        assert time.monotonic() - begin < 2 * PATIENCE


def post(port: int, text: str, path: str = "/ops", **headers: str) -> tuple[int, dict[str, Any]]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        client.request("POST", path, text.encode(), named)
        answer = client.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        client.close()


def test_programs_over_http_use_any_server() -> None:
    with (
        RedisProcess() as redis,
        ServerScript("--engine", redis.url, *FLAGS) as first,
        ServerScript("--engine", redis.url, *FLAGS) as second,
        Json(f"{first.url}ops?nick=ann") as ann,
    ):
        epoch = ann.event("welcome")["epoch"]
        follower = http.client.HTTPConnection("127.0.0.1", second.port, timeout=PATIENCE)
        follower.request("GET", "/ops?format=ndjson")
        answer = follower.getresponse()
        assert json.loads(answer.readline())["members"] == ["ann"]
        # The same key on another server is stored once.
        for server in (first, second, first):
            status, place = post(server.port, "once", Idempotency_Key="k")
            assert (status, place) == (201, {"epoch": epoch, "offset": 1})
        assert post(second.port, "x", "/ops?nick=ann")[0] == 409
        ann.ask(type="say", text="twice")
        for expected in ("once", "twice"):
            while (event := json.loads(answer.readline()))["type"] != "message":
                pass
            assert event["text"] == expected
            assert ann.find("message")["text"] == expected
        follower.close()


@pytest.mark.slow
def test_while_redis_is_away_a_post_is_503_and_may_be_repeated() -> None:
    with (
        RedisProcess("--appendonly", "yes", "--appendfsync", "always") as redis,
        ServerScript("--engine", redis.url, *FLAGS) as server,
    ):
        assert post(server.port, "before")[0] == 201
        redis.kill()
        wait_for(lambda: ask_http(server.port, "/healthz")[0] == 503)
        status, said = post(server.port, "meanwhile", Idempotency_Key="k")
        assert status == 503
        assert said["error"].endswith(".")
        assert ask_http(server.port, "/ops?poll=1")[0] == 503
        redis.start()
        wait_for(lambda: ask_http(server.port, "/healthz")[0] == 200)
        assert post(server.port, "meanwhile", Idempotency_Key="k")[1]["offset"] == 2
