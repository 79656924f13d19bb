"""The engine on Redis, with links that break, and a Redis that is killed, emptied or away."""

from __future__ import annotations

import random
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trustme

from syncchat.chat import events
from syncchat.engine import (
    Candidate,
    Delivery,
    Departed,
    Draft,
    Engine,
    Message,
    Position,
    Retention,
    Revoked,
    open_engine,
)
from syncchat.errors import AppendUnknown, EngineFailed, EngineUnusable
from tests.engine.drafts import named
from tests.peer import PATIENCE, InThread, wait_for
from tests.proxy import Proxy
from tests.redis_server import REDIS, RedisProcess

ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")


class Node:
    """An engine, and everything that it delivers of the room ``a``."""

    def __init__(self, url: str, keep: Retention | None = None) -> None:
        self.engine: Engine = open_engine(url, keep or Retention(), codec=events.LIVE_CODEC)
        self.deliveries: list[Delivery] = []
        self.live: list[object] = []
        self.changes: list[tuple[str, Departed | Revoked]] = []
        self.engine.attach(
            lambda _, delivery: self.deliveries.append(delivery),
            lambda _, event: self.live.append(event),
            lambda room, change: self.changes.append((room, change)),
        )
        self.begun = self.engine.follow("a")

    @property
    def position(self) -> Position:
        return self.deliveries[-1].position if self.deliveries else self.begun

    @property
    def messages(self) -> list[Message]:
        return [message for delivery in self.deliveries for message in delivery.messages]

    def say(self, *texts: str) -> list[int]:
        drafts = [Draft("ann", text) for text in texts]
        return [answer.offset for answer in self.engine.append("a", drafts)]


@contextmanager
def redis(*flags: str) -> Iterator[RedisProcess]:
    with RedisProcess(*flags) as process:
        yield process


@contextmanager
def node(url: str, keep: Retention | None = None) -> Iterator[Node]:
    made = Node(url, keep)
    try:
        yield made
    finally:
        made.engine.close()


def url_of(proxy: Proxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}/0"


def check_whole(*nodes: Node, last: int) -> None:
    """Every node has got 1 to ``last``, in order, each once, and the same."""
    for each in nodes:
        wait_for(lambda each=each: each.position.offset >= last, "the last message")  # type: ignore[misc]
        assert [message.offset for message in each.messages] == list(range(1, last + 1))
        assert all(delivery.complete for delivery in each.deliveries)
        assert each.messages == nodes[0].messages


# Two nodes.


def test_what_one_node_appends_is_delivered_on_all() -> None:
    with redis() as server, node(server.url) as a, node(server.url) as b:
        assert a.begun == b.begun
        assert a.say("one", "two") == [1, 2]
        assert b.say("three") == [3]
        check_whole(a, b, last=3)
        a.engine.publish("a", events.Renamed("x", "y"))
        wait_for(lambda: a.live and b.live)
        assert a.live == b.live == [events.Renamed("x", "y")]


def test_writers_on_two_nodes_have_one_order() -> None:
    with redis() as server, node(server.url) as a, node(server.url) as b:

        def write(which: Node, name: str) -> None:
            for number in range(200):
                which.say(*[f"{name} {number}.{at}" for at in range(number % 4 + 1)])

        for writing in [InThread(lambda: write(a, "a")), InThread(lambda: write(b, "b"))]:
            writing.result()
        check_whole(a, b, last=1000)
        for name in "ab":
            mine = [m.text for m in a.messages if m.text.startswith(name)]
            assert mine == [f"{name} {n}.{at}" for n in range(200) for at in range(n % 4 + 1)]


def test_a_nick_is_claimed_on_one_node_only(full: bool) -> None:
    with redis() as server, node(server.url) as a, node(server.url) as b:
        for number in range(1000 if full else 100):
            nick = f"nick{number}"
            barrier = threading.Barrier(2)

            def claim(which: Node, nick: str = nick, barrier: threading.Barrier = barrier) -> str:
                barrier.wait(PATIENCE)
                return which.engine.claim(
                    "a", [Candidate(nick.upper()), Candidate(f"{nick}-other")]
                )

            racing = [InThread(lambda: claim(a)), InThread(lambda: claim(b))]
            assert sorted(each.result() for each in racing) == [nick.upper(), f"{nick}-other"]
        assert a.engine.names("a") == b.engine.names("a")
        assert not b.engine.rename("a", "nick0-other", Candidate("NICK1"))


def test_a_shared_nick_is_free_when_its_last_node_releases_it() -> None:
    own = [Candidate("Ann", "ann", owner="a")]
    with redis() as server, node(server.url) as a, node(server.url) as b:
        assert a.engine.enter("a", own, None, 0, with_names=False).first
        assert not b.engine.enter("a", own, None, 0, with_names=True).first
        assert not b.engine.enter("a", own, None, 0, with_names=True).first
        assert a.engine.names("a") == b.engine.names("a") == ["Ann"]
        assert a.engine.elsewhere(["a"]) == b.engine.elsewhere(["a"]) == [0]
        # Another one, which only looks the same.
        assert a.engine.claim("a", [Candidate("\u0410nn", "ann"), Candidate("x")]) == "x"
        assert not a.engine.rename("a", "x", Candidate("\u0410nn", "ann"))
        found = b.engine.find("a", "\u0410nn", "ann")
        assert found is not None
        assert found.nick == "Ann"
        assert [a.engine.release("a", "Ann"), b.engine.release("a", "Ann")] == [False, False]
        assert b.engine.names("a") == ["Ann", "x"]
        assert b.engine.release("a", "Ann")
        assert a.engine.rename("a", "x", Candidate("\u0410nn", "ann"))


@pytest.mark.slow
def test_a_shared_nick_outlives_a_dead_node_and_a_forgetful_redis() -> None:
    own = [Candidate("ann", "ann", owner="a")]
    with redis() as server, node(server.url) as a, ExitStack() as stack:
        with Proxy(server.path) as proxy:
            b = stack.enter_context(node(url_of(proxy)))
            for each in (a, b):
                each.engine.claim("a", own)
            b.engine.claim("a", named("bob"))
        # Node b cannot reach Redis any more, and counts as dead: bob leaves, and ann does not.
        wait_for(lambda: a.changes, "the end of a lease")
        assert a.changes == [("a", Departed(["bob"]))]
        assert a.engine.names("a") == ["ann"]
        server.ask("FLUSHALL")
        wait_for(lambda: a.engine.names("a") == ["ann"], "the claim")
        assert a.engine.claim("a", [Candidate("\u0430nn", "ann"), Candidate("x")]) == "x"


def test_of_colliding_nicks_one_is_claimed() -> None:
    # Equal by casefold, or by their look.
    alike = [Candidate(nick, "ann") for nick in ("ann", "ANN", "\u0430nn", "\u0410nn")]
    with redis() as server, node(server.url) as a, node(server.url) as b:
        for number in range(10):
            room = f"room{number}"
            barrier = threading.Barrier(8)

            def claim(
                which: Node, nick: Candidate, room: str = room, barrier: threading.Barrier = barrier
            ) -> str:
                barrier.wait(PATIENCE)
                return which.engine.claim(room, [nick, *named(*(f"x{i}" for i in range(8)))])

            racing = [
                InThread(lambda which=which, nick=nick: claim(which, nick))  # type: ignore[misc]
                for which in (a, b)
                for nick in alike
            ]
            claimed = [each.result() for each in racing]
            assert len(set(claimed)) == 8
            assert sum(not nick.startswith("x") for nick in claimed) == 1


def test_what_a_node_holds_is_free_when_it_closes() -> None:
    with redis() as server, node(server.url) as a:
        with node(server.url) as b:
            b.engine.claim("a", named("bob"))
            assert a.engine.names("a") == ["bob"]
            # Not its own.
            a.engine.release("a", "bob")
            assert a.engine.names("a") == ["bob"]
        assert a.engine.names("a") == []
        assert b"0" in server.ask("EXISTS", "syncchat:nodes:x")


# Appending over links that break.


@pytest.mark.slow
@pytest.mark.parametrize("nonce", [None, "n1"])
def test_a_script_that_ran_but_was_not_answered_is_not_applied_twice(nonce: str | None) -> None:
    with redis() as server, Proxy(server.path) as proxy, node(url_of(proxy)) as a:
        a.say("before")
        proxy.swallow_answers_to(b"only once")
        answers = a.engine.append("a", [Draft("ann", "only once", nonce=nonce)])
        assert [answer.offset for answer in answers] == [2]
        assert answers[0].new
        assert a.say("after") == [3]
        check_whole(a, last=3)
        # Nor if the link is cut instead.
        for number in range(4, 24):
            cutting = InThread(lambda: proxy.cut(1.0, random.Random()))
            assert a.say(str(number)) == [number]
            cutting.result()
        check_whole(a, last=23)


def test_a_message_that_is_stored_is_not_told_as_refused_if_redis_refuses_to_say_so() -> None:
    with (
        redis() as server,
        Proxy(server.path) as proxy,
        node(url_of(proxy)) as a,
        node(server.url) as b,
    ):
        a.say("before")
        check_whole(a, b, last=1)
        proxy.swallow_answers_to(b"only once")
        saying = InThread(lambda: a.say("only once"))
        check_whole(b, last=2)
        server.ask("CONFIG", "SET", "maxmemory", "1")
        proxy.cut(1.0, random.Random(0))
        wait_for(lambda: b"errorstat_OOM" in server.ask("INFO", "errorstats"))
        server.ask("CONFIG", "SET", "maxmemory", "0")
        assert saying.result() == [2]
        assert a.say("after") == [3]
        check_whole(a, b, last=3)


@pytest.mark.slow
def test_an_outcome_that_stays_unknown_is_told_so() -> None:
    with redis() as server, node(server.url) as a:
        a.say("one")
        server.pause()
        begin = time.monotonic()
        with pytest.raises(AppendUnknown):
            a.say("two")
        assert time.monotonic() - begin < 12
        server.go_on()
        # It ran: Redis had it in its socket. The node gets it.
        wait_for(lambda: a.position.offset == 2)
        wait_for(lambda: _says(a, "three"))
        assert [message.text for message in a.messages[:2]] == ["one", "two"]


def _says(which: Node, text: str) -> bool:
    try:
        which.say(text)
    except EngineFailed:
        return False
    return True


def test_the_batches_of_rooms_that_wait_share_round_trips() -> None:
    with redis() as server, node(server.url) as a:
        rooms = [f"room{number}" for number in range(20)]
        begin = a.engine.round_trips  # type: ignore[attr-defined]
        server.pause()
        saying = [
            InThread(lambda room=room: a.engine.append(room, [Draft("ann", "x")]))  # type: ignore[misc]
            for room in rooms
        ]
        time.sleep(0.3)
        server.go_on()
        for each in saying:
            each.result()
        # The first, all the others, and those that came before the script was known; a few
        # more if the machine was so busy that some came too late.
        assert a.engine.round_trips - begin <= 12  # type: ignore[attr-defined]
        before = a.engine.round_trips  # type: ignore[attr-defined]
        for number in range(50):
            a.engine.append("a", [Draft("ann", str(number))])
        assert a.engine.round_trips - before == 50  # type: ignore[attr-defined]


# Following over links that break.


@pytest.mark.slow
def test_cut_links_leave_no_hole_and_no_repeat(full: bool) -> None:
    chance = random.Random(7)
    with (
        redis() as server,
        Proxy(server.path) as near,
        Proxy(server.path) as far,
        node(url_of(near)) as a,
        node(url_of(far)) as b,
    ):
        stop = threading.Event()

        def write(which: Node, name: str) -> int:
            said = 0
            while not stop.is_set():
                try:
                    which.engine.append(
                        "a", [Draft("ann", f"{name} {said}", nonce=f"{name}{said}")]
                    )
                except EngineFailed:
                    stop.wait(0.05)
                    continue
                said += 1
            return said

        writing = [InThread(lambda: write(a, "a")), InThread(lambda: write(b, "b"))]
        for number in range(20 if full else 4):
            time.sleep(chance.uniform(0.1, 0.5))
            for proxy in (near, far):
                match number % 4:
                    case 0 | 2:
                        proxy.cut(1.0, chance)
                    case 1:
                        proxy.swallow()
                    case _:
                        proxy.swallow_answers()
        time.sleep(0.5)
        stop.set()
        said = sum(each.result() for each in writing)
        check_whole(a, b, last=said)


@pytest.mark.slow
def test_a_deaf_subscription_is_noticed_within_15_seconds() -> None:
    with (
        redis() as server,
        Proxy(server.path) as proxy,
        node(server.url) as a,
        node(url_of(proxy)) as b,
    ):
        a.say("one")
        check_whole(a, b, last=1)
        proxy.swallow_answers()
        a.say("two")
        begin = time.monotonic()
        check_whole(a, b, last=2)
        assert time.monotonic() - begin < 15


@pytest.mark.slow
def test_a_subscription_that_answers_but_brings_nothing_is_noticed() -> None:
    with redis() as server, node(server.url) as a:
        a.say("one")
        check_whole(a, last=1)
        # Appended as by another node, and published nowhere.
        room = "syncchat:{a}:"
        server.ask("XADD", f"{room}log", "2-0", "d", '[1.5,"bob","two","message",null]')
        server.ask("HSET", f"{room}meta", "last", "2", "at", "1.5")
        server.ask("HSET", "syncchat:rooms", "a", f"{a.begun.epoch} 2 1.5")
        begin = time.monotonic()
        wait_for(lambda: a.position.offset == 2)
        assert time.monotonic() - begin < 15
        assert a.messages[1].text == "two"


def test_clients_that_come_back_at_once_share_one_read() -> None:
    with redis() as server, node(server.url) as a, node(server.url) as b:
        a.say(*[f"{number}" for number in range(100)])
        check_whole(a, b, last=100)
        epoch = a.begun.epoch

        def enter(which: Node, after: int, number: int) -> list[int]:
            position = Position(epoch, after)
            nick = f"n{number}{which is a}"
            entered = which.engine.enter("a", [Candidate(nick)], position, 1000, with_names=False)
            assert entered.tail.complete
            assert entered.tail.reached == entered.tail.end.offset
            return [message.offset for message in entered.tail.messages]

        before = server.calls("xrange")
        assert enter(b, 50, 0) == list(range(51, 101))
        once = server.calls("xrange") - before
        for number in range(1, 50):
            assert enter(b, 50 + number, number) == list(range(51 + number, 101))
        assert server.calls("xrange") - before == once
        # What is said meanwhile is in the shared part.
        b.say("new")
        wait_for(lambda: b.position.offset == 101)
        begin = server.calls("xrange")
        assert enter(b, 60, 60) == list(range(61, 102))
        assert server.calls("xrange") == begin
        # It has not what came earlier.
        assert enter(b, 40, 61) == list(range(41, 102))
        assert server.calls("xrange") > begin
        # A Redis that has been emptied is asked itself.
        server.ask("FLUSHALL")
        tail = b.engine.enter("a", named("late"), Position(epoch, 101), 10, with_names=False).tail
        assert not tail.complete


@pytest.mark.slow
def test_what_was_trimmed_away_meanwhile_is_told_as_a_gap() -> None:
    keep = Retention(messages=3)
    with (
        redis() as server,
        Proxy(server.path) as proxy,
        node(server.url, keep) as a,
        node(url_of(proxy), keep) as b,
    ):
        a.say("1")
        check_whole(a, b, last=1)
        proxy.swallow()
        a.say(*[str(number) for number in range(2, 11)])
        wait_for(lambda: b.position.offset == 10)
        assert [message.offset for message in b.messages] == [1, 8, 9, 10]
        assert [delivery.complete for delivery in b.deliveries] == [True, False]


# A Redis that is killed, emptied or away.


def test_redis_is_killed_and_nothing_acknowledged_is_lost(full: bool) -> None:
    with redis(*ALWAYS) as server, node(server.url) as a, node(server.url) as b:
        told = 0
        for turn in range(10 if full else 2):
            stop = threading.Event()

            def write(stop: threading.Event = stop, turn: int = turn) -> dict[str, int]:
                said: dict[str, int] = {}
                while not stop.is_set():
                    text = f"{turn} {len(said)}"
                    try:
                        (said[text],) = a.say(text)
                    except AppendUnknown:
                        said[text] = 0
                    except EngineFailed:
                        stop.wait(0.02)
                return said

            writing = InThread(write)
            time.sleep(0.5)
            server.kill()
            time.sleep(0.2)
            server.start()
            wait_for(lambda: not _fails(a.engine))
            time.sleep(0.3)
            stop.set()
            said = writing.result()
            assert said
            told += len(said)
            kept = {m.text: m.offset for m in a.engine.read_before("a", None, 1000).messages}
            # Whatever was said, once; and what was acknowledged at its offset.
            for text, offset in [*said.items()][-900:]:
                assert kept.get(text, 0) == offset or not offset
        # The disk may be slow.
        assert told > 20
        last = a.engine.read_before("a", None, 1).messages[0].offset
        check_whole(a, b, last=last)
        assert len({m.text for m in a.messages}) == len(a.messages)
        assert a.position.epoch == a.begun.epoch


def _fails(engine: Engine) -> bool:
    try:
        engine.check()
    except EngineFailed:
        return True
    return False


def test_redis_is_emptied_and_everybody_is_told_of_the_gap() -> None:
    with redis() as server, node(server.url) as a, node(server.url) as b:
        a.say("one", "two", "three")
        check_whole(a, b, last=3)
        first = a.begun.epoch
        server.kill()
        server.start()
        wait_for(lambda: _says(b, "again"))
        for each in (a, b):
            wait_for(lambda each=each: each.messages[-1].text == "again")  # type: ignore[misc]
            (anew,) = [d for d in each.deliveries if not d.complete]
            assert anew.position.epoch != first
            assert each.position.epoch == anew.position.epoch
            assert each.messages[-1].offset == 1
            # Who comes back is told, too.
            tail = each.engine.read_after("a", Position(first, 3), 10)
            assert not tail.complete
        assert a.position == b.position


@pytest.mark.slow
def test_redis_is_flushed_while_nobody_says_anything_and_the_gap_is_told() -> None:
    with redis() as server, node(server.url) as a:
        a.say("one")
        check_whole(a, last=1)
        server.ask("FLUSHALL")
        wait_for(lambda: not a.deliveries[-1].complete)
        assert a.position.offset == 0
        assert a.position.epoch != a.begun.epoch


@pytest.mark.slow
def test_a_redis_that_went_back_and_on_again_begins_a_new_epoch() -> None:
    with redis() as server, node(server.url) as a:
        a.say("one", "two")
        check_whole(a, last=2)
        # As after a failover to a replica that lagged, on which another node said something.
        room = "syncchat:{a}:"
        server.ask("DEL", f"{room}log")
        server.ask("XADD", f"{room}log", "1-0", "d", '[1.5,"ann","one","message",null]')
        server.ask("XADD", f"{room}log", "2-0", "d", '[2.5,"bob","other","message",null]')
        server.ask("HSET", f"{room}meta", "at", "2.5")
        server.ask("HSET", "syncchat:rooms", "a", f"{a.begun.epoch} 2 2.5")
        wait_for(lambda: not a.deliveries[-1].complete)
        assert a.position.epoch != a.begun.epoch
        assert a.say("three") == [3]


def test_a_node_notices_that_redis_lost_what_only_the_answer_to_its_append_has_told() -> None:
    holds, goes_on = threading.Event(), threading.Event()
    own: list[Delivery] = []

    def hold(_room: str, _delivery: Delivery) -> None:
        holds.set()
        goes_on.wait(PATIENCE)

    def take_own(_room: str, delivery: Delivery) -> bool:
        own.append(delivery)
        return True

    with redis() as server, node(server.url) as a, node(server.url) as b:
        a.engine.attach(hold, lambda *_: None, deliver_own=take_own)
        b.say("one")
        # The follower takes nothing more from its subscription.
        assert holds.wait(PATIENCE)
        assert a.say("two", "three") == [2, 3]
        assert [message.text for message in own[0].messages] == ["two", "three"]
        # As after a failover to a replica that lagged, on which another node said something.
        room = "syncchat:{a}:"
        server.ask("DEL", f"{room}log")
        server.ask("XADD", f"{room}log", "3-0", "d", '[2.5,"bob","other","message",null]')
        server.ask("HSET", f"{room}meta", "at", "2.5")
        a.say("four")
        assert not a.engine.read_after("a", own[0].position, 10).complete
        goes_on.set()


def test_while_redis_is_away_the_engine_refuses_at_once_and_recovers() -> None:
    with redis() as server, node(server.url) as a:
        a.engine.claim("a", named("ann", "eve"))
        server.kill()
        wait_for(lambda: _fails(a.engine))
        begin = time.monotonic()
        for _ in range(20):
            with pytest.raises(EngineFailed, match="cannot be reached"):
                a.say("x")
            with pytest.raises(EngineFailed, match="cannot be reached"):
                a.engine.enter("a", named("bob"), None, 0, with_names=True)
        # The member leaves although Redis does not know it.
        a.engine.release("a", "nobody")
        assert time.monotonic() - begin < 5
        server.start()
        wait_for(lambda: not _fails(a.engine))
        assert a.say("y") == [1]
        # Redis had forgotten the nicks.
        wait_for(lambda: a.engine.names("a") == ["ann"])


def test_a_message_that_is_known_already_changes_nothing() -> None:
    with redis() as server, node(server.url) as a, node(server.url) as b:
        once = [Draft("ann", "once", nonce="n")]
        assert a.engine.append("a", once)[0].new
        check_whole(a, b, last=1)
        for each in (b, a, b):
            assert not each.engine.append("a", once)[0].new
            assert each.engine.append("a", []) == []
        b.say("two")
        check_whole(a, b, last=2)


# Leases.


def add_dead_node(server: RedisProcess, ends: str) -> str:
    """Have Redis know a node with the nicks Bob and eve. Returns the key of its lease."""
    lease = "syncchat:node:dead"
    server.ask("SADD", f"{lease}:rooms", "a")
    server.ask("HSET", "syncchat:{a}:names", "bob", "dead 1.5 Bob", "eve", "dead 1.5 eve")
    server.ask("SET", lease, "1")
    server.ask("ZADD", "syncchat:nodes", ends, "dead")
    return lease


def test_a_node_releases_the_nicks_of_a_dead_one_when_it_starts() -> None:
    with redis() as server:
        add_dead_node(server, "1")
        with node(server.url) as a:
            assert a.engine.names("a") == []


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["1", "9999999999"], ids=["long ago", "by a clock that was ahead"])
def test_the_nicks_of_a_dead_node_become_free_and_its_members_are_told_as_gone(ends: str) -> None:
    with redis() as server, node(server.url) as a:
        a.engine.claim("a", named("ann"))
        prefix = add_dead_node(server, ends)
        assert a.engine.claim("a", named("bob", "carl")) == "carl"
        # Its lease ends.
        server.ask("DEL", prefix)
        assert a.engine.claim("a", named("BOB")) == "BOB"
        wait_for(lambda: a.changes)
        assert a.changes == [("a", Departed(["eve"]))]
        assert a.engine.names("a") == ["ann", "BOB", "carl"]
        wait_for(lambda: server.ask("EXISTS", f"{prefix}:rooms") == b":0\r\n")


@pytest.mark.slow
def test_after_an_outage_of_redis_a_node_takes_no_other_for_dead() -> None:
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    with redis(*durable) as server, node(server.url) as a:
        # For a, a node that has not renewed its lease yet after the outage.
        add_dead_node(server, "9999999999")
        name = a.engine.node  # type: ignore[attr-defined]

        def renewed() -> None:
            before = server.ask("ZSCORE", "syncchat:nodes", name)
            wait_for(lambda: server.ask("ZSCORE", "syncchat:nodes", name) != before)

        renewed()
        server.kill()
        # Longer than a node may be silent.
        time.sleep(20)
        server.start()
        renewed()
        renewed()
        assert a.engine.names("a") == ["Bob", "eve"]
        assert a.changes == []


@pytest.mark.slow
def test_a_node_that_was_cut_off_claims_its_nicks_again_or_learns_that_they_are_gone() -> None:
    with redis() as server, Proxy(server.path) as proxy, ExitStack() as stack:
        a = stack.enter_context(node(server.url))
        b = stack.enter_context(node(url_of(proxy)))
        b.engine.claim("a", named("bob"))
        b.engine.claim("a", named("eve"))
        lease = f"syncchat:node:{b.engine.node}"  # type: ignore[attr-defined]
        proxy.swallow()
        server.ask("DEL", lease)
        assert a.engine.claim("a", named("bob")) == "bob"
        wait_for(lambda: b.changes)
        assert b.changes == [("a", Revoked(["bob"]))]
        assert b.engine.claim("a", named("eve", "other")) == "other"
        # What it lost is not its own to release.
        b.engine.release("a", "bob")
        assert a.engine.names("a") == ["bob", "eve", "other"]


@pytest.mark.slow
def test_nicks_that_come_back_after_a_failover_are_released() -> None:
    with redis() as server, node(server.url) as a:
        a.engine.claim("a", named("ann"))
        a.engine.claim("a", named("bob"))
        a.engine.claim("b", named("carl"))
        a.engine.set_away("a", "bob", "lunch")
        name = a.engine.node  # type: ignore[attr-defined]
        for room, nick in (("a", "bob"), ("b", "carl")):
            a.engine.release(room, nick)
            # As after a failover to a replica that lagged: it still has the nick.
            server.ask("HSET", f"syncchat:{{{room}}}:names", nick, f"{name} 1.5 {nick}")
        server.ask("HSET", "syncchat:{a}:away", "bob", "lunch")
        server.ask("CLIENT", "KILL", "TYPE", "normal")
        wait_for(lambda: a.engine.names("a") == ["ann"])
        wait_for(lambda: a.engine.names("b") == [])
        assert server.ask("EXISTS", "syncchat:{a}:away") == b":0\r\n"
        assert a.engine.claim("a", named("bob")) == "bob"
        assert a.changes == []


@pytest.mark.slow
def test_members_who_enter_a_redis_that_forgot_their_node_leave_when_it_dies() -> None:
    with redis() as server, node(server.url) as a, ExitStack() as stack:
        with Proxy(server.path) as proxy:
            b = stack.enter_context(node(url_of(proxy)))
            server.ask("FLUSHALL")
            assert b.engine.claim("a", named("bob")) == "bob"
        # The node dies before it renews its lease; this was long ago.
        name = b.engine.node  # type: ignore[attr-defined]
        assert server.ask("EXISTS", f"syncchat:node:{name}") == b":0\r\n"
        server.ask("ZADD", "syncchat:nodes", "XX", "1", name)
        wait_for(lambda: a.engine.names("a") == [])
        assert a.changes == [("a", Departed(["bob"]))]


# Starting, stopping, and what it costs.


@pytest.mark.slow
def test_a_redis_that_cannot_be_reached_or_refuses_is_unusable() -> None:
    for url in ("redis://127.0.0.1:1/0", "redis+unix:///nonexistent"):
        with pytest.raises(EngineUnusable, match="cannot use redis") as caught:
            open_engine(url, Retention(), codec=events.LIVE_CODEC)
        assert "\n" not in str(caught.value)
    with redis("--requirepass", "secret") as server:
        wrong = server.url.replace("//", "//:wrong@")
        for url in (server.url, wrong):
            with pytest.raises(EngineUnusable, match="cannot use redis") as caught:
                open_engine(url, Retention(), codec=events.LIVE_CODEC)
            assert "wrong@" not in str(caught.value)
        with node(server.url.replace("//", "//:secret@")) as a:
            assert a.say("x") == [1]


@pytest.mark.slow
def test_redis_is_reached_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    port = free_port()
    flags = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    for name in ("cert", "key"):
        flags += [f"--tls-{name}-file", str(tmp_path / f"{name}.pem")]
    with redis(*flags, "--tls-ca-cert-file", str(tmp_path / "ca.pem")):
        url = f"rediss://127.0.0.1:{port}/0"
        trusting = f"{url}?ssl_ca_certs={tmp_path / 'ca.pem'}"
        with node(trusting) as a, node(trusting) as b:
            a.say("one")
            # More than a record of TLS.
            b.say("x" * 60_000)
            a.say(*[str(number) for number in range(100)])
            check_whole(a, b, last=102)
        with pytest.raises(EngineUnusable, match="certificate verify failed"):
            open_engine(url, Retention(), codec=events.LIVE_CODEC)


@pytest.mark.slow
def test_user_and_password_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    with redis(
        *["--requirepass", "secret", "--user", "chat", "on", ">word", "~*", "&*", "+@all"]
    ) as server:
        url = f"{server.url}?password_file={file}"
        for text, complaint in [
            (None, "No such file"),
            (b"", "neither a password"),
            (b"\xff\xfe", "neither a password"),
            (b"a\nb\nc\n", "neither a password"),
            (b"wrong\n", "cannot use"),
        ]:
            if text is not None:
                file.write_bytes(text)
            with pytest.raises(EngineUnusable, match=complaint) as caught:
                open_engine(url, Retention(), codec=events.LIVE_CODEC)
            assert "\n" not in str(caught.value)
        for text in (b"secret\n", b"chat\nword\n"):
            file.write_bytes(text)
            with node(url) as a:
                a.say("x")
                # The password of the connections to come.
                file.write_bytes(b"secret")
                wait_for(lambda a=a: a.messages)  # type: ignore[misc]


def test_two_databases_of_a_redis_are_two_chats() -> None:
    with redis() as server, Proxy(server.path) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        with node(f"{url}/0") as a, node(f"{url}/1") as b:
            a.say("x")
            check_whole(a, last=1)
            b.say("y")
            check_whole(b, last=1)
            assert a.messages[0].text != b.messages[0].text


def test_a_stop_does_not_wait_for_a_redis_that_does_not_answer() -> None:
    with redis() as server:
        a = Node(server.url)
        a.say("x")
        server.pause()
        saying = InThread(lambda: _says(a, "y"))
        time.sleep(0.5)
        begin = time.monotonic()
        a.engine.interrupt()
        saying.result()
        assert time.monotonic() - begin < 1.5
        a.engine.close()
        assert time.monotonic() - begin < 6


@pytest.mark.slow
@pytest.mark.parametrize("rooms", [1, 200])
def test_an_idle_node_costs_redis_few_commands(rooms: int) -> None:
    with redis() as server, node(server.url) as a:
        for number in range(1, rooms):
            a.engine.follow(f"room{number}")
            a.engine.claim(f"room{number}", named("ann"))
            # Half of them have a message.
            if number % 2:
                a.engine.append(f"room{number}", [Draft("ann", "x")])
        a.say("x")
        # Empty logs are kept from being forgotten by the first sweep after a connection.
        time.sleep(11)
        before, begin = server.commands(), time.monotonic()
        time.sleep(20)
        rate = (server.commands() - before - 1) / (time.monotonic() - begin)
        print(f"{rooms} rooms: {rate:.2f} commands a second, those inside scripts included")
        assert rate < 5


@pytest.mark.slow
def test_a_message_is_acknowledged_when_enough_replicas_have_it() -> None:
    with redis() as server, ExitStack() as stack:
        replica = RedisProcess("--replicaof", "127.0.0.1 1")
        stack.enter_context(replica)
        proxy = stack.enter_context(Proxy(server.path))
        replica.ask("REPLICAOF", "127.0.0.1", str(proxy.port))
        wait_for(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"))
        one = open_engine(server.url, Retention(), codec=events.LIVE_CODEC, replicas=1)
        stack.callback(one.close)
        assert one.append("a", [Draft("ann", "x")])[0].offset == 1
        assert b"message" in replica.ask("XRANGE", "syncchat:{a}:log", "-", "+")
        two = open_engine(server.url, Retention(), codec=events.LIVE_CODEC, replicas=2)
        stack.callback(two.close)
        with pytest.raises(AppendUnknown, match="fewer than 2 replicas"):
            two.append("a", [Draft("ann", "y")])
        # It is stored once, and others have it.
        assert [message.text for message in one.read_before("a", None, 10).messages] == ["x", "y"]


def free_port() -> int:
    """A port at which nobody listens: neither Redis nor its sentinel can choose one."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.mark.slow
def test_after_a_failover_the_sentinels_tell_the_new_master(tmp_path: Path) -> None:
    ports = [free_port() for _ in range(3)]
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {ports[2]}\ndir {tmp_path}\n"
        f"sentinel monitor chat 127.0.0.1 {ports[0]} 1\n"
        "sentinel down-after-milliseconds chat 1000\nsentinel failover-timeout chat 5000\n"
    )
    with (
        redis("--port", str(ports[0])) as master,
        redis("--port", str(ports[1]), "--replicaof", f"127.0.0.1 {ports[0]}") as replica,
        subprocess.Popen(
            [str(REDIS), str(config), "--sentinel"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        ) as sentinel,
    ):
        try:
            wait_for(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"))
            url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{ports[2]}/chat"
            wait_for(lambda: _opens(url))
            with node(url) as a, node(url) as b:
                a.say("one")
                check_whole(a, b, last=1)
                # The sentinel learns of replicas by and by.
                wait_for(lambda: _asked(ports[2], b"SENTINEL REPLICAS chat\r\n").startswith(b"*1"))
                # What the replica lacks is lost, and told as a gap.
                wait_for(lambda: replica.ask("XLEN", "syncchat:{a}:log") == b":1\r\n")
                master.kill()
                wait_for(lambda: _says(a, "two"))
                wait_for(lambda: _says(b, "three"))
                check_whole(a, b, last=3)
        finally:
            sentinel.terminate()


def _opens(url: str) -> bool:
    try:
        open_engine(url, Retention(), codec=events.LIVE_CODEC).close()
    except EngineUnusable:
        return False
    return True


def _asked(port: int, line: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(line)
        return sock.recv(4096)
