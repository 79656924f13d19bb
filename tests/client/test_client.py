"""The client that comes back: what it hands out over breaks, and when it gives up."""

from __future__ import annotations

import itertools
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from syncchat import (
    ChatServer,
    Client,
    ConnectionClosed,
    Disconnected,
    Gap,
    HandshakeRefused,
    Keep,
    Line,
    NotConnected,
)
from syncchat.chat.events import (
    Ack,
    ClientLimits,
    Error,
    History,
    HistoryRequest,
    Message,
    Names,
    NamesRequest,
    Nick,
    Private,
    PrivateMessage,
    Renamed,
    Say,
    Welcome,
    decode_from_client,
    encode,
)
from syncchat.client import Event
from syncchat.client.outbox import Item, Outbox
from syncchat.client.reconnect import asks_for_past, delays, is_final, url_for
from syncchat.client.tracker import Tracker
from syncchat.net import WebSocket, serve
from tests.peer import PATIENCE, InThread, Peer, wait_for
from tests.people import Json, line, url_of

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def until(client: Client, *kinds: type) -> list[Event]:
    """The events up to one of these kinds, that included."""
    events = [client.receive(PATIENCE)]
    while not isinstance(events[-1], kinds):
        events.append(client.receive(PATIENCE))
    return events


def messages(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Message)]


def tcp_connections() -> list[Any]:
    return list(psutil.Process().net_connections("tcp"))


def cut(client: Client) -> None:
    """As a cable does."""
    client._link.websocket.abort()


# With a real server.


@pytest.mark.parametrize("echo", [True, False])
def test_a_client_comes_back_and_misses_nothing(tmp_path: Path, *, echo: bool) -> None:
    port = free_port()
    database = f"sqlite:{tmp_path / 'chat.db'}"

    def server() -> ChatServer:
        return ChatServer(port=port, engine=database, echo=echo, notices=False, rate=0)

    with ExitStack() as stack:
        with server() as chat:
            ann = stack.enter_context(Client(url_of(chat), nick="ann"))
            bob = stack.enter_context(Client(url_of(chat), nick="bob"))
            ann.say("one")
            ann.flush(PATIENCE)
            bob.say("two")
            bob.flush(PATIENCE)
        until(ann, Disconnected)
        heard = until(bob, Disconnected)
        assert not ann.connected
        # Said while nobody is there.
        ann.say("three")
        ann.act("four")
        with pytest.raises(TimeoutError):
            ann.flush(0.05)
        assert ann.unacknowledged == 2
        with server() as chat:
            ann.flush(PATIENCE)
            assert ann.nick == "ann"
            with Json(url_of(chat, "/?history=9")) as judge:
                judge.event("welcome")
                history = judge.event("history")["messages"]
                assert [m["text"] for m in history] == ["one", "two", "three", "four"]
                assert [m["nick"] for m in history] == ["ann", "bob", "ann", "ann"]
            rest = [*heard, *until(bob, Welcome)]
            while "four" not in messages(rest):
                rest.append(bob.receive(PATIENCE))
            assert not any(isinstance(event, Gap) for event in rest)
            # Without echo it is not sent its own, but what it missed.
            wanted = ["one", "two", "three", "four"] if echo else ["one", "three", "four"]
            assert messages(rest) == wanted


def test_a_server_that_has_forgotten_says_so_and_the_client_tells_of_a_gap() -> None:
    port = free_port()
    with ExitStack() as stack:
        with ChatServer(port=port, notices=False) as chat:
            client = stack.enter_context(Client(url_of(chat)))
            client.say("before")
            until(client, Message)
        until(client, Disconnected)
        with ChatServer(port=port, notices=False) as chat:
            chat.say("first of a new life")
            events = until(client, Message)
            assert [type(event) for event in events[-2:]] == [Gap, Message]
            gap = events[-2]
            assert isinstance(gap, Gap)
            assert gap.after == 1
            client.say("and on")
            assert messages(until(client, Message)) == ["and on"]


def test_no_gap_is_told_where_nothing_was_said_before_a_memory_server_restarted() -> None:
    """Issue 13, item 20: a client that has seen no message misses none of the new log."""
    port = free_port()

    def server() -> ChatServer:
        return ChatServer(port=port, notices=False)

    with ExitStack() as stack:
        with server() as chat:
            client = stack.enter_context(Client(url_of(chat)))
            until(client, Welcome)
        until(client, Disconnected)
        with server() as chat:
            events = until(client, Welcome)
            # Nothing is in the new log, either.
            client.say("first")
            events += until(client, Message)
            cut(client)
            until(client, Disconnected)
            # Reconnecting within the new log is exact.
            chat.say("second")
            events += until(client, Message)
            assert messages(events) == ["first", "second"]
            assert not any(isinstance(event, Gap) for event in events)


def test_a_client_that_has_seen_nothing_gets_the_new_log_from_its_first_message_on() -> None:
    """Issue 13, item 20: only messages that are no longer kept make a gap."""
    port = free_port()
    with ExitStack() as stack:
        with ChatServer(port=port, notices=False) as chat:
            client = stack.enter_context(Client(url_of(chat)))
            until(client, Welcome)
        until(client, Disconnected)
        with ChatServer(port=port, notices=False, keep=Keep(messages=2)) as chat:
            # Before the client returns, which takes half a second at least.
            chat.say("one")
            chat.say("two")
            events = until(client, Message)
            assert messages(events) == ["one"]
            assert not any(isinstance(event, Gap) for event in events)
        until(client, Disconnected)
    with ChatServer(port=0, notices=False, keep=Keep(messages=2)) as chat:
        for number in range(3):
            chat.say(str(number))
        with Json(url_of(chat, "/?after=another:0")) as late:
            late.event("welcome")
            history = late.event("history")
            assert [m["text"] for m in history["messages"]] == ["1", "2"]
            assert history["complete"] is False


def test_what_was_sent_and_not_acknowledged_is_kept_once() -> None:
    with ChatServer(port=0, notices=False, rate=0) as chat, Client(url_of(chat)) as client:
        for number in range(300):
            client.say(str(number))
            if number % 30 == 0:
                cut(client)
        client.flush(PATIENCE)
        heard: list[str] = []
        while len(heard) < 300:
            heard += messages(until(client, Message))
        assert heard == [str(number) for number in range(300)]


def test_a_client_goes_back_to_the_room_that_it_joined() -> None:
    with ChatServer(port=0, rate=0) as chat, Client(url_of(chat), nick="ann") as client:
        until(client, Welcome)
        client.say("in the lobby")
        client.join("café&co")
        client.say("in the other room")
        client.flush(PATIENCE)
        assert client.room == "café&co"
        cut(client)
        client.say("there again")
        events = until(client, Disconnected)
        assert messages(events) == ["in the lobby", "in the other room"]
        events = until(client, Message)
        assert messages(events) == ["there again"]
        assert not any(isinstance(event, Gap) for event in events)
        # Which is refused, since that is where it is.
        client.join("#CAFÉ&CO")
        client.say("still there")
        events = until(client, Message)
        assert any(isinstance(event, Error) and event.code == "room" for event in events)
        assert client.room == "café&co"


def test_a_client_gets_its_nick_back_when_its_ghost_is_gone() -> None:
    with ChatServer(port=0, ping_interval=0) as chat:
        with Json(url_of(chat, "/?nick=other")) as other:
            other.event("welcome")
            client = Client(url_of(chat), nick="ann")
            with client:
                until(client, Welcome)
                other.find("joined", nick="ann")
                cut(client)
                other.find("left", nick="ann")
                # Somebody else is quicker.
                other.ask(type="nick", nick="ann")
                other.find("renamed", nick="ann")
                until(client, Disconnected)
                until(client, Welcome)
                assert client.nick != "ann"
                other.ask(type="nick", nick="other")
                events = until(client, Renamed)
                events += until(client, Renamed) if client.nick != "ann" else []
                assert client.nick == "ann"
                # What it asked for in vain is nobody's concern.
                told = [event for event in events if isinstance(event, Error)]
                assert len(told) <= 1


def test_requests_are_answered_by_events() -> None:
    with ChatServer(port=0, notices=False) as chat, Client(url_of(chat), nick="ann") as client:
        until(client, Welcome)
        client.say("about breakfast")
        client.send_line("/me eats")
        client.ask(NamesRequest())
        answer = until(client, Names)[-1]
        assert isinstance(answer, Names)
        assert answer.names == ["ann"]
        client.ask(HistoryRequest(limit=5))
        answer = until(client, History)[-1]
        assert isinstance(answer, History)
        assert [message.text for message in answer.messages] == ["about breakfast", "eats"]
        client.send_line("/msg ann to myself")
        private = until(client, PrivateMessage)[-1]
        assert isinstance(private, PrivateMessage)
        client.send_line("/search break")
        answer = until(client, History)[-1]
        assert client.lines(answer)[0].endswith("] ann: about breakfast")
        client.send_line("/help")
        assert isinstance(until(client, Line)[-1], Line)
        with pytest.raises(ValueError, match="Did you mean /nick"):
            client.send_line("/nik x")
        with pytest.raises(ValueError, match="Nobody has said"):
            client.send_line("/reply x")
        client.ask(Nick("anna"))
        until(client, Renamed)
        assert client.nick == "anna"
        client.ask(Private("nobody-here", "x"))
        assert until(client, Error)[-1] == Error(
            "absent", "There is no nobody-here here.", "private"
        )
        client.send_line("/quit")
        assert list(client) == []
        assert client.close_code == 1000


def test_history_and_live_meet_for_a_client_that_asks_for_history() -> None:
    with ChatServer(port=0, notices=False) as chat:
        for number in range(20):
            chat.say(str(number))
        with Client(url_of(chat), history=5) as client:
            chat.say("live")
            heard: list[str] = []
            while "live" not in heard:
                heard += messages([client.receive(PATIENCE)])
            # Which may have been said just before the client was in.
            assert heard == ["15", "16", "17", "18", "19", "live"][-len(heard) :]
            assert len(heard) >= 5


def test_what_is_too_long_is_refused_even_if_the_limit_is_learned_later() -> None:
    release = threading.Event()

    def handler(websocket: WebSocket) -> None:
        release.wait(PATIENCE)
        websocket.send(encode(welcome(0)))
        heard.extend(decode_from_client(str(text)) for text in websocket)

    heard: list[object] = []
    with (
        serve(handler, subprotocols=["syncchat.v1"]) as server,
        Client(f"ws://127.0.0.1:{server.port}/", reconnect=False) as client,
    ):
        client.say("one")
        nonce = client.say("x" * 70_000)
        client.say("two")
        release.set()
        error = until(client, Error)[-1]
        assert isinstance(error, Error)
        assert (error.code, error.nonce) == ("too_big", nonce)
        wait_for(lambda: client.unacknowledged == 2)
        client.close()
    assert [event.text for event in heard if isinstance(event, Say)] == ["one", "two"]


def test_a_refused_message_is_told_and_not_tried_again(tmp_path: Path) -> None:
    with (
        ChatServer(port=0, engine=f"sqlite:{tmp_path / 'chat.db'}", notices=False) as chat,
        Client(url_of(chat)) as client,
    ):
        until(client, Welcome)
        assert chat._rooms is not None
        engine = chat._rooms.engine
        # A disk that is full, as far as SQLite can tell.
        engine._writer.execute("PRAGMA max_page_count = 1")  # type: ignore[attr-defined]
        client.say("x" * 60_000)
        error = until(client, Error)[-1]
        assert isinstance(error, Error)
        assert error.code == "unavailable"
        assert "full" in error.text
        assert str(tmp_path) not in error.text
        client.flush(PATIENCE)
        engine._writer.execute("PRAGMA max_page_count = 1000000")  # type: ignore[attr-defined]
        client.say("fits again")
        assert messages(until(client, Message)) == ["fits again"]


def test_a_burst_waits_for_the_server_and_arrives_in_order() -> None:
    with (
        ChatServer(port=0, rate=2000, burst=50, notices=False) as chat,
        Client(url_of(chat)) as client,
    ):
        for number in range(3000):
            client.say(f"{number} {'x' * 100}")
        client.flush(PATIENCE)
        with Json(url_of(chat, "/?history=1000")) as judge:
            judge.event("welcome")
            history = judge.event("history")["messages"]
            assert [int(m["text"].split()[0]) for m in history] == list(range(2000, 3000))


def test_too_much_that_waits_is_an_error_with_a_time_limit() -> None:
    port = free_port()
    with ChatServer(port=port) as chat:
        client = Client(url_of(chat)).connect()
        until(client, Welcome)
    try:
        until(client, Disconnected)
        with pytest.raises(NotConnected):
            client.ask(NamesRequest())
        with pytest.raises(TimeoutError):
            for _ in range(2000):
                client.say("x", timeout=0)
        assert client.unacknowledged == 1000
    finally:
        client.close()
    with pytest.raises(ConnectionClosed):
        client.say("x")


def test_who_never_listens_holds_nobody_up_and_is_acknowledged() -> None:
    with (
        ChatServer(port=0, notices=False, rate=0) as chat,
        Client(url_of(chat)) as deaf,
        Json(url_of(chat)) as loud,
    ):
        loud.event("welcome")
        for number in range(12_000):
            loud.ask(type="say", text=f"{number}")
        for _ in range(12_000):
            loud.event("message")
        deaf.say("I am here")
        deaf.flush(PATIENCE)
        assert loud.event("message")["text"] == "I am here"
        # The last ones have been kept for who begins to listen after all.
        first = until(deaf, Message)[-1]
        assert isinstance(first, Message)
        # The last of all may not be in the queue yet when it is acknowledged.
        assert 12_001 - first.offset in (9_999, 10_000)
        assert chat.stats().slow_consumers == 0


def test_a_second_connect_goes_on_where_the_first_ended() -> None:
    with ChatServer(port=0, notices=False) as chat:
        client = Client(url_of(chat))
        with client:
            client.say("one")
            client.flush(PATIENCE)
            with pytest.raises(RuntimeError):
                client.connect()
        chat.say("missed")
        with client:
            client.say("two")
            client.flush(PATIENCE)
        heard = messages(list(client))
        assert heard == ["one", "missed", "two"]


def test_a_client_that_is_closed_while_it_connects_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        client = Client(f"ws://127.0.0.1:{mute.getsockname()[1]}/")
        failed: list[Exception] = []

        def connect() -> None:
            try:
                client.connect()
            except Exception as exc:
                failed.append(exc)

        thread = threading.Thread(target=connect)
        thread.start()
        sock, _ = mute.accept()
        client.close()
        with Peer.server(sock):
            thread.join(PATIENCE)
        assert [type(exc) for exc in failed] == [NotConnected]
        assert not client.connected


def test_a_line_for_a_plain_server_that_is_gone_is_refused() -> None:
    with closing_with(1001) as (url, _), Client(url) as client:
        until(client, Disconnected)
        with pytest.raises(NotConnected):
            while True:
                client.say("x")


@pytest.mark.parametrize("form", ["{text:999999999999}", "{text}" * 2000, "{", "no text"])
def test_a_servers_format_cannot_harm_a_client(form: str) -> None:
    def handler(websocket: WebSocket) -> None:
        websocket.send(encode(msgspec.structs.replace(welcome(0), format=form)))
        websocket.send(encode(message(1)))
        websocket.recv()

    with serve(handler, subprotocols=["syncchat.v1"]) as server:
        with Client(f"ws://127.0.0.1:{server.port}/", reconnect=False) as client:
            assert line(client) == "bob: 1"


# When to come back.


@contextmanager
def closing_with(code: int, subprotocols: tuple[str, ...] = ()) -> Iterator[tuple[str, list[int]]]:
    """A server of another make that closes at once; and how often it was asked."""
    asked: list[int] = []

    def handler(websocket: WebSocket) -> None:
        asked.append(code)
        websocket.send("a line")
        if code == 1006:
            websocket.abort()
        else:
            websocket.close(code, "so it is")

    with serve(handler, subprotocols=subprotocols) as server:
        yield f"ws://127.0.0.1:{server.port}/", asked


@pytest.mark.parametrize("code", [1001, 1006, 1011, 1012, 1013, 3000, 4000, 4499])
def test_these_close_codes_bring_a_client_back(code: int) -> None:
    with closing_with(code) as (url, asked), Client(url) as client:
        assert isinstance(client.receive(PATIENCE), Line | Disconnected)
        wait_for(lambda: len(asked) >= 2)
        assert client.close_code is None


@pytest.mark.parametrize("code", [1000, 1002, 1003, 1007, 1008, 1009, 3500, 4999])
def test_these_close_codes_are_for_good(code: int) -> None:
    with closing_with(code) as (url, asked), Client(url) as client:
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                assert isinstance(client.receive(PATIENCE), Line)
        assert caught.value.code == client.close_code == code
        assert caught.value.reason == client.close_reason == "so it is"
        assert len(asked) == 1


def test_a_refusal_on_the_way_back_is_for_good_unless_it_may_pass() -> None:
    for status, final in [(401, True), (403, True), (404, True), (429, False), (503, False)]:
        assert is_final(HandshakeRefused(status)) is final
    port = free_port()
    with ChatServer(port=port, token="secret") as chat:
        client = Client(url_of(chat), token="secret").connect()
        until(client, Welcome)
    try:
        until(client, Disconnected)
        with ChatServer(port=port, token="another"):
            with pytest.raises(ConnectionClosed, match="401"):
                until(client, Message)
    finally:
        client.close()


def test_a_client_that_is_told_so_does_not_come_back() -> None:
    with closing_with(1001) as (url, asked), Client(url, reconnect=False) as client:
        with pytest.raises(ConnectionClosed, match="1001"):
            until(client, Message)
        assert len(asked) == 1


def test_pauses_grow_by_chance_from_half_a_second_to_thirty() -> None:
    runs = [list(itertools.islice(delays(), 12)) for _ in range(200)]
    assert all(0.5 <= pause <= 30 for run in runs for pause in run)
    assert all(run[0] <= 1 for run in runs)
    assert len({run[0] for run in runs}) > 100
    assert max(run[-1] for run in runs) > 20
    assert sum(run[5] for run in runs) > sum(run[1] for run in runs)


@pytest.mark.skipif(sys.platform != "linux", reason="needs network namespaces")
def test_a_client_comes_back_at_once_when_the_network_does() -> None:
    # As root, or as somebody who may pretend to be.
    ways = (["unshare", "--net"], ["unshare", "--net", "--user", "--map-root-user"])
    possible = [
        way
        for way in ways
        if not subprocess.run([*way, "true"], capture_output=True, check=False).returncode
    ]
    if not possible:
        pytest.skip("no network of its own may be made here")
    result = subprocess.run(
        [*possible[0], sys.executable, str(ROOT / "tests" / "network_returns.py")],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors")
def test_a_client_that_has_no_descriptor_left_tries_again() -> None:
    port = free_port()
    with ChatServer(port=port) as chat:
        client = Client(url_of(chat)).connect()
        until(client, Welcome)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        until(client, Disconnected)
        with ChatServer(port=port):
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            time.sleep(1.5)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            until(client, Welcome)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        client.close()


def test_close_ends_a_client_that_is_on_its_way_back() -> None:
    with ChatServer(port=free_port()) as chat:
        client = Client(url_of(chat)).connect()
        until(client, Welcome)
    until(client, Disconnected)
    begin = time.monotonic()
    client.close()
    assert time.monotonic() - begin < 1
    with pytest.raises(ConnectionClosed):
        until(client, Message)


@contextmanager
def unanswered() -> Iterator[str]:
    """The URL of a server to which no connection can be made: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, ExitStack() as stack:
        address = listening.getsockname()
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(address)
        yield f"ws://127.0.0.1:{address[1]}/"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse where a queue is full")
def test_close_ends_a_first_attempt_that_is_not_answered() -> None:
    """Issue 13, item 19: from another thread, in the middle of a TCP connect."""
    with unanswered() as url:
        client = Client(url, timeout=4 * PATIENCE)
        attempt = InThread(client.connect)
        wait_for(lambda: any(each.status == "SYN_SENT" for each in tcp_connections()))
        begin = time.monotonic()
        client.close(1.0)
        assert time.monotonic() - begin < 2.0
        with pytest.raises(NotConnected, match="closed while it connected"):
            attempt.result()


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_close_ends_an_attempt_to_come_back_that_is_not_answered(timeout: float | None) -> None:
    """Issue 13, item 19: after a flush that has failed, and in the middle of a handshake."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        client = Client(f"ws://127.0.0.1:{listening.getsockname()[1]}/", timeout=4 * PATIENCE)
        attempt = InThread(client.connect)
        sock, _ = listening.accept()
        with Peer.server(sock, "Sec-WebSocket-Protocol: syncchat.v1\r\n") as peer:
            attempt.result()
            peer.send(TextMessage(data=encode(welcome(0))))
            until(client, Welcome)
            client.say("not acknowledged")
            peer.reset()
        sock, _ = listening.accept()
        with sock:
            with pytest.raises(TimeoutError):
                client.flush(0.1)
            begin = time.monotonic()
            client.close(timeout)
            # The attempt itself would take much longer.
            assert time.monotonic() - begin < 2.5
            with pytest.raises(ConnectionClosed):
                until(client, Message)


@pytest.mark.parametrize("timeout", [0.0, 0.5, 1.5])
def test_close_takes_no_longer_than_its_timeout_where_no_answer_comes(timeout: float) -> None:
    """Issue 13, item 19: the closing handshake and the thread's end together."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        client = Client(f"ws://127.0.0.1:{listening.getsockname()[1]}/")
        attempt = InThread(client.connect)
        sock, _ = listening.accept()
        with Peer.server(sock, "Sec-WebSocket-Protocol: syncchat.v1\r\n") as peer:
            attempt.result()
            peer.send(TextMessage(data=encode(welcome(0))))
            until(client, Welcome)
            client.say("not acknowledged")
            with pytest.raises(TimeoutError):
                client.flush(0.1)
            begin = time.monotonic()
            client.close(timeout)
            # Some slack for a machine that is busy with other things.
            assert timeout * 0.8 <= time.monotonic() - begin < timeout + 1.0
            with pytest.raises(ConnectionClosed):
                until(client, Message)
            assert client.unacknowledged == 1


def test_what_comes_in_the_closing_handshake_is_acknowledged_and_received() -> None:
    """Issue 13, item 19: the client reads on up to the server's answer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        client = Client(f"ws://127.0.0.1:{listening.getsockname()[1]}/")
        attempt = InThread(client.connect)
        sock, _ = listening.accept()
        with Peer.server(sock, "Sec-WebSocket-Protocol: syncchat.v1\r\n") as peer:
            attempt.result()
            peer.send(TextMessage(data=encode(welcome(0))))
            nonce = client.say("last words")
            assert nonce is not None
            assert peer.expect(TextMessage).data
            closing = InThread(client.close)
            close = peer.expect(CloseConnection)
            own = Message(1, 0.0, "ann", "last words", "message", nonce)
            peer.send_bytes(Connection(ConnectionType.SERVER).send(TextMessage(data=encode(own))))
            peer.send(close.response())
            closing.result()
        assert client.unacknowledged == 0
        assert messages(list(client)) == ["last words"]
        assert client.close_code == 1000


def test_a_server_without_the_subprotocol_is_talked_to_in_lines() -> None:
    heard: list[str | bytes] = []

    def handler(websocket: WebSocket) -> None:
        websocket.send("Hello")
        for message in websocket:
            heard.append(message)
            websocket.send(f"you said {message!s}")

    with serve(handler) as server, Client(f"ws://127.0.0.1:{server.port}/") as client:
        assert client.receive(PATIENCE) == Line("Hello")
        assert client.room is client.nick is None
        client.say("/etc/hosts")
        client.act("waves")
        client.send_line("/names")
        client.join("ops")
        client.flush(PATIENCE)
        wanted = ["//etc/hosts", "/me waves", "/names", "/join ops"]
        told = [client.receive(PATIENCE) for _ in wanted]
        assert told == [Line(f"you said {text}") for text in wanted]
        with pytest.raises(NotConnected):
            client.ask(NamesRequest())
        client.leave()
        assert list(client) == []
    assert heard == wanted


# The parts.


def welcome(offset: int, epoch: str = "e", room: str = "lobby") -> Welcome:
    limits = ClientLimits(65536, 32, 10.0, 20)
    return Welcome(room, "ann", epoch, offset, ["ann"], "syncchat", limits, "{text}")


def message(offset: int) -> Message:
    return Message(offset, 0.0, "bob", str(offset), "message")


def fed(tracker: Tracker, *events: object) -> list[object]:
    told = [each for event in events for each in tracker.feed(event)]  # type: ignore[arg-type]
    return [each.offset if isinstance(each, Message) else type(each).__name__ for each in told]


def test_a_break_before_the_history_has_come_forgets_nothing() -> None:
    tracker = Tracker()
    tracker.expect(resume=False, history=False)
    assert fed(tracker, welcome(5), message(6)) == ["Welcome", 6]
    assert tracker.place == "e:6"
    for _ in range(2):
        tracker.expect(resume=True, history=False)
        assert fed(tracker, welcome(9)) == ["Welcome"]
        assert tracker.place == "e:6"
    pieces = [History((message(7),), True), History((message(8), message(9)), True)]
    assert fed(tracker, *pieces, message(10)) == [7, 8, 9, 10]
    tracker.expect(resume=True, history=False)
    # Another log: the place holds until its past has come, and then a new one.
    assert fed(tracker, welcome(3, "f")) == ["Welcome"]
    assert tracker.place == "e:10"
    assert fed(tracker, History((message(2), message(3)), False), message(4)) == ["Gap", 2, 3, 4]
    assert tracker.place == "f:4"


def test_a_message_is_handed_out_once_and_a_hole_is_told() -> None:
    tracker = Tracker()
    tracker.expect(resume=False, history=True)
    assert tracker.place is None
    assert fed(tracker, welcome(2), History((message(1), message(2)), True)) == ["Welcome", 1, 2]
    assert fed(tracker, message(2), message(3), message(3), message(6)) == [3, "Gap", 6]
    assert fed(tracker, Ack("n", 7), message(8)) == ["Ack", 8]
    # Another room has a log of its own.
    assert fed(tracker, welcome(1, "g", "ops"), message(2)) == ["Welcome", 2]
    assert tracker.place == "g:2"


def test_a_server_that_gives_no_history_gives_its_messages_all_the_same() -> None:
    tracker = Tracker()
    tracker.expect(resume=False, history=True)
    assert fed(tracker, welcome(5), message(6)) == ["Welcome", 6]
    assert fed(tracker, welcome(2, "g", "ops"), message(3)) == ["Welcome", 3]
    assert tracker.place == "g:3"
    tracker.expect(resume=False, history=True)
    # What was asked for by a place of one's own is told where it is gone.
    assert fed(tracker, welcome(9), History((message(8), message(9)), False)) == [
        "Welcome", "Gap", 8, 9,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "history", "asks"),
    [
        ("ws://h/", 0, False),
        ("ws://h/", 3, True),
        ("ws://h/?history=0", 0, False),
        ("ws://h/?history=5", 0, True),
        ("ws://h/?history=x", 0, False),
        ("ws://h/?after=e:5", 0, True),
    ],
)
def test_a_url_may_ask_for_the_past(url: str, history: int, *, asks: bool) -> None:
    assert asks_for_past(url, history) is asks


def test_a_place_in_the_url_is_where_a_client_begins() -> None:
    with ChatServer(port=0, notices=False) as chat:
        for text in ("one", "two", "three"):
            chat.say(text)
        with Client(url_of(chat)) as client:
            until(client, Welcome)
            epoch = client._link.welcome.epoch  # type: ignore[union-attr]
        with Client(url_of(chat, f"/?after={epoch}:1")) as client:
            assert messages(until(client, Message)) == ["two"]
            assert messages(until(client, Message)) == ["three"]
        with Client(url_of(chat, "/?history=0")) as client:
            until(client, Welcome)
            client.join("other")
            client.say("first there")
            assert messages(until(client, Message)) == ["first there"]
            assert client._link._protocol.tracker.place is not None
            assert client._link._protocol.tracker.place.endswith(":1")


def test_history_and_live_meet_in_a_room_that_is_joined() -> None:
    """Issue 13, item 11: the tracker begins behind the past that it is given."""
    tracker = Tracker(history_on_join=True)
    tracker.expect(resume=False, history=True)
    assert fed(tracker, welcome(2), History((message(2),), True)) == ["Welcome", 2]
    assert fed(tracker, welcome(7, "g", "ops")) == ["Welcome"]
    past = History((message(6), message(7)), True)
    assert fed(tracker, past, message(7), message(8)) == [6, 7, 8]
    assert tracker.place == "g:8"
    # A room of which nothing is kept.
    assert fed(tracker, welcome(0, "h", "new"), History((), True), message(1)) == ["Welcome", 1]
    # A server that does not know of it.
    assert fed(tracker, welcome(5, "i", "old"), message(6)) == ["Welcome", 6]


@pytest.mark.parametrize("query", ["", "?history=5"])
def test_a_joined_room_begins_with_its_last_messages(query: str) -> None:
    """Issue 13, item 11: as many as the client asks for on entering, by keyword or URL."""
    with ChatServer(port=0, notices=False, rate=0) as chat:
        for number in range(20):
            chat.say(str(number), room="ops")
        with Client(url_of(chat, f"/{query}"), history=0 if query else 5) as client:
            until(client, Welcome)
            client.join("ops")
            client.say("live")
            heard = until(client, Welcome)
            while "live" not in messages(heard):
                heard.append(client.receive(PATIENCE))
            assert messages(heard) == ["15", "16", "17", "18", "19", "live"]
            assert not any(isinstance(event, Gap) for event in heard)
            # And again after a break, with no repeat.
            cut(client)
            client.say("after it")
            assert messages(until(client, Message)) == ["after it"]
            client.join("empty")
            client.say("first")
            assert messages(until(client, Message)) == ["first"]
        with Client(url_of(chat)) as client:
            client.join("ops")
            client.say("last")
            assert messages(until(client, Message)) == ["last"]


def test_the_outbox_sends_a_window_again_and_a_join_alone() -> None:
    outbox = Outbox()
    for number in range(100):
        outbox.add(Item(str(number), f"n{number}", ""))
    outbox.add(Item("join", None, ""))
    outbox.add(Item("behind", "b", ""))

    def sendable() -> list[str]:
        return [item.text for item in iter(outbox.next, None)]

    first = [str(number) for number in range(64)]
    assert sendable() == first
    for number in range(10):
        outbox.settle(f"n{number}")
    outbox.settle("a stranger's")
    assert sendable() == [str(number) for number in range(64, 74)]
    outbox.rewind(tried=True)
    assert len(outbox) == 92
    assert sendable() == [str(number) for number in range(10, 74)]
    for number in range(100):
        outbox.settle(f"n{number}")
        sendable()
    assert len(outbox) == 2
    outbox.settle(None)
    assert sendable() == ["behind"]


def test_a_message_of_any_size_gets_through_an_empty_window() -> None:
    outbox = Outbox()
    for nonce in "ab":
        outbox.add(Item("x" * 1_000_000, nonce, ""))
    assert outbox.next() is not None
    assert outbox.next() is None
    outbox.settle("a")
    assert outbox.next() is not None


def test_the_url_to_come_back_to() -> None:
    base = "ws://h:1/ops?token=a%26b&nick=old&history=9&after=x:1"
    wanted = "ws://h:1/ops?token=a%26b&nick=ann&after=e%3A5"
    assert url_for(base, rooms=None, nick="ann", after="e:5", history=3) == wanted
    for path, first, room, wanted in [
        ("/", "lobby", "lobby", "/"),
        ("/", "lobby", "a/b c", "/a%2Fb%20c"),
        ("/ops/", "ops", "ops", "/ops/"),
        ("/a%20b", "a b", "ops", "/ops"),
        # A room is called by the one spelling of its name.
        ("/OPS", "ops", "other", "/other"),
        ("/%23Ops/", "ops", "other", "/other"),
        ("/STRASSE", "strasse", "other", "/other"),
        # Behind a proxy that takes a prefix away.
        ("/chat/ops", "ops", "ops", "/chat/ops"),
        ("/chat/ops", "ops", "other", "/chat/other"),
        ("/chat/", "lobby", "other", "/chat/other"),
        ("/chat/OPS", "ops", "other", "/chat/other"),
        ("/my%20chat/", "lobby", "other", "/my%20chat/other"),
    ]:
        url = url_for(f"ws://h{path}", rooms=(first, room), nick=None, after=None, history=3)
        assert url == f"ws://h{wanted}?history=3"
    assert url_for(base, rooms=None, nick=None, after=None, history=0) == (
        "ws://h:1/ops?token=a%26b&nick=old&history=9&after=x%3A1"
    )


def test_a_nick_that_cannot_be_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="reserved"):
        Client("ws://127.0.0.1/", nick="server")


def test_events_of_a_later_version_are_passed_over() -> None:
    def handler(websocket: WebSocket) -> None:
        websocket.send(encode(welcome(0)))
        websocket.send('{"type":"hologram","of":"ann"}')
        websocket.send("no JSON at all")
        websocket.send(encode(message(1)))
        websocket.recv()

    with serve(handler, subprotocols=["syncchat.v1"]) as server:
        with Client(f"ws://127.0.0.1:{server.port}/", reconnect=False) as client:
            assert messages(until(client, Message)) == ["1"]
