"""Limits for clients: connections, heartbeat, rate limit; and the counters."""

from __future__ import annotations

import socket
import threading
import time
import typing
from collections import Counter
from contextlib import ExitStack, suppress

import pytest
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from syncchat import ChatServer, Client
from syncchat.errors import ConnectionClosed, HandshakeRefused
from syncchat.net import Deadline, Limits, WebSocket, connect, serve
from syncchat.net.limits import ClientCounts, ConnectionSettings, ServerSettings, TokenBucket
from tests.peer import PATIENCE, Peer, client_side, read_all, upgrade_request, wait_for
from tests.people import line


def echo(websocket: WebSocket) -> None:
    for message in websocket:
        websocket.send(message)


def test_every_limit_can_be_set_by_its_name() -> None:
    hints = typing.get_type_hints(Limits)
    assert typing.get_type_hints(ServerSettings) == hints
    assert set(hints) - set(typing.get_type_hints(ConnectionSettings)) == {
        "max_connections",
        "max_connections_per_address",
        "connect_rate",
        "connect_burst",
        "max_memory",
    }
    with pytest.raises(TypeError, match="nonsense"):
        ChatServer(nonsense=1)  # type: ignore[call-arg]


# Connection limits.


def test_a_client_above_the_limit_gets_503_until_a_place_is_free() -> None:
    with serve(echo, max_connections=3) as server, ExitStack() as stack:
        peers = [stack.enter_context(Peer.client(server.port)) for _ in range(3)]
        for _ in range(5):
            with pytest.raises(HandshakeRefused) as caught:
                connect(f"ws://127.0.0.1:{server.port}/")
            assert caught.value.status == 503
        peers[0].close()
        wait_for(lambda: server.connections == 2)
        with connect(f"ws://127.0.0.1:{server.port}/") as websocket:
            websocket.send("x")
            assert websocket.recv(PATIENCE) == "x"
        assert server.stats().refused == {"503": 5}
        peers[1].close()
        peers[2].close()


def test_clients_are_counted_in_total_and_for_each_host() -> None:
    counts = ClientCounts(Limits(max_connections=3, max_connections_per_address=2))
    for host in ("192.0.2.1", "192.0.2.1"):
        assert counts.refusal(host) is None
        counts.enter(host)
    refusal = counts.refusal("192.0.2.1")
    assert refusal is not None
    assert refusal.text.startswith("Too many clients from your address: ")
    # The client of a proxy, which is named later.
    assert counts.refusal(None) is None
    counts.enter(None)
    assert counts.refusal_of_host("192.0.2.1") is not None
    assert counts.refusal_of_host("192.0.2.2") is None
    counts.count_host("192.0.2.2")
    full = counts.refusal("192.0.2.3")
    assert full is not None
    assert full.text.startswith("Too many clients: ")
    counts.leave("192.0.2.2")
    counts.leave("192.0.2.1")
    assert counts.total == 1
    assert counts.refusal("192.0.2.1") is None


def test_a_crowd_above_the_limit_takes_no_threads_and_no_memory() -> None:
    with serve(echo, max_connections=1) as server, ExitStack() as stack:
        stack.enter_context(Peer.client(server.port))
        crowd = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            for _ in range(300)
        ]
        wait_for(lambda: sum(server.stats().refused.values()) == 300)
        assert threading.active_count() < 100
        for sock in crowd:
            sock.settimeout(PATIENCE)
            assert read_all(sock).startswith(b"HTTP/1.1 503 ")


def test_one_address_cannot_take_every_place() -> None:
    with (
        serve(echo, "0.0.0.0", 0, max_connections=10, max_connections_per_address=2) as server,
        ExitStack() as stack,
    ):
        for host in ("127.0.0.1", "127.0.0.2"):
            for _ in range(2):
                # The kernel also gives that address to a client that connects to 127.0.0.2.
                sock = socket.create_connection(
                    (host, server.port), timeout=PATIENCE, source_address=(host, 0)
                )
                stack.enter_context(sock)
                sock.sendall(upgrade_request())
                assert sock.recv(100).startswith(b"HTTP/1.1 101 ")
            with socket.create_connection(
                (host, server.port), timeout=PATIENCE, source_address=(host, 0)
            ) as sock:
                sock.sendall(upgrade_request())
                assert read_all(sock).startswith(b"HTTP/1.1 503 ")


def test_a_message_in_too_many_fragments_is_1009() -> None:
    with serve(echo, max_fragments=3) as server, Peer.client(server.port) as peer:
        peer.send(*[TextMessage(data="", message_finished=False)] * 2, TextMessage(data="fine"))
        assert peer.expect(TextMessage).data == "fine"
        peer.send(*[TextMessage(data="", message_finished=False)] * 4)
        assert peer.expect(CloseConnection).code == 1009


# The heartbeat.


def test_a_silent_client_is_pinged_and_stays_if_it_answers() -> None:
    with (
        serve(echo, ping_interval=0.1, ping_timeout=PATIENCE) as server,
        Peer.client(server.port) as peer,
    ):
        for _ in range(4):
            peer.send(peer.expect(Ping).response())
        assert server.connections == 1


def test_a_client_that_does_not_answer_pings_ends_with_1006() -> None:
    codes: list[int | None] = []

    def handler(websocket: WebSocket) -> None:
        with pytest.raises(ConnectionClosed, match="no response"):
            websocket.recv()
        codes.append(websocket.close_code)

    with (
        serve(handler, ping_interval=0.1, ping_timeout=0.2) as server,
        Peer.client(server.port) as peer,
    ):
        peer.expect(Ping)
        # Only further pings.
        assert peer.expect_end().replace(b"\x89\x00", b"") == b""
        wait_for(lambda: server.connections == 0)
    assert codes == [1006]


def test_an_active_client_is_not_pinged() -> None:
    with (
        serve(echo, ping_interval=1.0, ping_timeout=5) as server,
        Peer.client(server.port) as peer,
    ):
        for number in range(25):
            peer.send(TextMessage(data=str(number)))
            assert peer.expect(TextMessage).data == str(number)
            time.sleep(0.05)  # That it talks all the time is what the test is about.


def test_a_client_whose_handler_does_not_receive_does_not_count_as_dead() -> None:
    release = threading.Event()

    def handler(websocket: WebSocket) -> None:
        release.wait(PATIENCE)
        echo(websocket)

    with (
        serve(handler, ping_interval=0.1, ping_timeout=1.0) as server,
        Peer.client(server.port) as peer,
    ):
        peer.send(peer.expect(Ping).response(), TextMessage(data="unread"))
        # Longer than a client that sends nothing may be silent.
        release.wait(1.5)
        release.set()
        while isinstance(event := peer.next(), Ping):
            pass
        assert isinstance(event, TextMessage)


def test_a_client_pings_a_silent_server_and_disconnects() -> None:
    with client_side(ping_interval=0.1, ping_timeout=0.2) as (websocket, peer):
        peer.expect(Ping)
        with pytest.raises(ConnectionClosed, match="no response"):
            websocket.recv(PATIENCE)
        assert websocket.close_code == 1006


def test_without_an_interval_there_are_no_pings() -> None:
    with client_side(ping_interval=None) as (websocket, peer):
        websocket.send("the only thing")
        assert peer.expect(TextMessage).data == "the only thing"
        assert not [t for t in threading.enumerate() if t.name.startswith("syncchat-io")]


# The rate limit.


def test_the_rate_limit_allows_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=10, burst=5)
    begun = time.monotonic()
    moments = [bucket.charge() - begun for _ in range(25)]
    took = time.monotonic() - begun
    assert all(moment < 0.1 + took for moment in moments[:4])
    assert 2.0 <= moments[24] <= 2.2 + took


@pytest.mark.parametrize(
    "event",
    [
        TextMessage(data="x"),
        TextMessage(data=""),
        BytesMessage(data=b""),
        Ping(payload=b"x"),
        Pong(),
    ],
    ids=["text", "blank", "binary", "ping", "pong"],
)
def test_a_flooding_client_is_read_at_the_rate(event: TextMessage) -> None:
    with serve(echo, rate=40, burst=10) as server, Peer.client(server.port) as peer:
        begun = time.monotonic()
        peer.send(*[event] * 30, TextMessage(data="the last"))
        while not (isinstance(got := peer.next(), TextMessage) and got.data == "the last"):
            pass
        # 10 at once, 21 at 40 per second.
        assert 0.45 < time.monotonic() - begun < PATIENCE


def test_a_flooding_client_blocks_neither_others_nor_the_stop() -> None:
    with ChatServer(port=0, greeting="") as chat, Peer.client(chat.port) as flooder:
        flooder.send(*[TextMessage(data=f"flood {n}") for n in range(500)])
        with Client(f"ws://127.0.0.1:{chat.port}/") as honest:
            honest.say("hello")
            while not line(honest).endswith(": hello"):
                pass
            begun = time.monotonic()
            chat.stop(timeout=0.5)
            assert time.monotonic() - begun < PATIENCE / 2


def test_a_client_delayed_by_the_rate_limit_does_not_count_as_dead() -> None:
    heard: list[str] = []

    def handler(websocket: WebSocket) -> None:
        heard.extend(str(message) for message in websocket)

    with serve(handler, rate=40, burst=10, ping_interval=0.5, ping_timeout=0.5) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        with connect(url, ping_interval=0.5, ping_timeout=0.5) as websocket:
            for number in range(100):
                websocket.send(str(number))
            # Far longer than the ping timeout; pongs wait behind the messages.
            websocket.begin_close(1000, "", Deadline.after(None))
            assert list(websocket) == []
        assert websocket.close_code == 1000
    assert heard == [str(number) for number in range(100)]


@pytest.mark.parametrize("seconds", [1e10, 1e300, None])
def test_a_deadline_may_be_far_away(seconds: float | None) -> None:
    deadline = Deadline.after(seconds)
    assert threading.Lock().acquire(timeout=deadline.for_lock())
    assert not deadline.expired


def test_time_limits_may_be_huge() -> None:
    with serve(echo, open_timeout=1e300, close_timeout=1e10) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        with connect(url, open_timeout=1e300, close_timeout=1e10) as websocket:
            websocket.send("x")
            websocket.flush(1e300)
            assert websocket.recv(1e10) == "x"
            stopper = threading.Thread(target=server.stop, args=(1e10,))
            stopper.start()
            assert list(websocket) == []
            assert websocket.close_code == 1001
        stopper.join(PATIENCE)
        assert not stopper.is_alive()


def test_a_ping_timeout_of_zero_does_not_spin() -> None:
    with serve(echo, ping_interval=0.001, ping_timeout=0) as server:
        begun = time.process_time()
        threading.Event().wait(0.5)
        assert time.process_time() - begun < 0.2
        assert server.connections == 0


def test_sending_within_the_rate_is_not_delayed() -> None:
    # After the burst, each message would take ten seconds.
    with (
        ChatServer(port=0, greeting="", rate=0.1) as chat,
        Client(f"ws://127.0.0.1:{chat.port}/") as client,
    ):
        # With the Close frame, this is the whole burst.
        for number in range(19):
            client.say(str(number))
        begun = time.monotonic()
        for number in range(19):
            assert line(client).endswith(f": {number}")
        assert time.monotonic() - begun < 9


# The counters.


def test_stats_count_messages_and_bytes() -> None:
    with serve(echo) as server:
        with Peer.client(server.port) as peer:
            peer.send(TextMessage(data="abc"), BytesMessage(data=b"de"))
            peer.expect(TextMessage)
            peer.expect(BytesMessage)
            live = server.stats()
            assert (live.connections, live.connections_total) == (1, 1)
            assert live.messages_in == 2
        wait_for(lambda: server.connections == 0)
        with Peer.client(server.port):
            wait_for(lambda: server.stats().connections_total == 2)
        wait_for(lambda: server.connections == 0)
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            read_all(sock)
        wait_for(lambda: server.connections == 0)
        done = server.stats()
        assert (done.connections, done.connections_total) == (0, 2)
        assert (done.messages_in, done.messages_out, done.slow_consumers) == (2, 2, 0)
        assert done.refused == {"426": 1}
        assert done.bytes_in > 2 * len(upgrade_request())
        assert done.bytes_out > live.bytes_out


# A first line of defence.


def status_from(address: str, port: int, *headers: str) -> str:
    """The status of a handshake from this address of the loopback network."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE, (address, 0)) as sock:
        with suppress(OSError):
            sock.sendall(upgrade_request("/", *headers))
        return read_head(sock)[9:12].decode()


def read_head(sock: socket.socket) -> bytes:
    data = b""
    with suppress(ConnectionResetError):
        while b"\r\n\r\n" not in data and (part := sock.recv(4096)):
            data += part
    return data


def test_a_storm_of_connections_from_one_address_does_not_slow_others() -> None:
    with serve(echo, connect_rate=5, connect_burst=10) as server:
        over = threading.Event()
        seen: Counter[str] = Counter()

        def storm() -> None:
            while not over.is_set():
                seen[status_from("127.0.0.1", server.port)] += 1

        threads = [threading.Thread(target=storm) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: seen["429"] + seen[""] > 50)
        began = time.monotonic()
        for _ in range(5):
            assert status_from("127.0.0.2", server.port) == "101"
        took = time.monotonic() - began
        over.set()
        for thread in threads:
            thread.join()
        assert 10 <= seen["101"] < 30 + 5 * took
        assert took < PATIENCE / 2
        assert server.stats().refused["429"] >= 50


def test_behind_a_proxy_the_rate_is_that_of_its_client() -> None:
    proxies = ["127.0.0.1"]
    with serve(echo, connect_rate=0.01, connect_burst=2, trusted_proxies=proxies) as server:

        def status(client: str) -> str:
            return status_from("127.0.0.1", server.port, f"X-Forwarded-For: {client}\r\n")

        assert [status("192.0.2.1") for _ in range(3)] == ["101", "101", "429"]
        assert status("192.0.2.2") == "101"
        # A site has all addresses of its IPv6 network.
        assert [status(f"2001:db8::{each}") for each in (1, 2, 3)] == ["101", "101", "429"]
        assert status("2001:db8:0:1::1") == "101"


@pytest.mark.parametrize("both", [False, True])
def test_after_many_wrong_tokens_no_token_of_the_address_is_looked_at(*, both: bool) -> None:
    if both and not socket.has_dualstack_ipv6():
        pytest.skip("no socket for IPv4 and IPv6")
    with ExitStack() as stack:
        sockets = None
        if both:
            # As systemd may hand it over: it names IPv4 clients as ::ffff:127.0.0.1.
            both_kinds = socket.create_server(
                ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True
            )
            sockets = [stack.enter_context(both_kinds)]
        chat = stack.enter_context(ChatServer(port=0, token="right", sockets=sockets))

        def status(address: str, token: str) -> str:
            return status_from(address, chat.port, f"Authorization: Bearer {token}\r\n")

        assert status("127.0.0.1", "right") == "101"
        assert {status("127.0.0.1", f"wrong{number}") for number in range(20)} == {"401"}
        assert status("127.0.0.1", "wrong") == "429"
        assert status("127.0.0.1", "right") == "429"
        assert status("127.0.0.2", "right") == "101"
        # Whoever shows no token, such as a page that asks for one, is told to show one.
        assert status_from("127.0.0.1", chat.port) == "401"


def test_when_memory_is_short_the_slowest_are_closed_first() -> None:
    websockets: list[WebSocket] = []
    over = threading.Event()

    def keep(websocket: WebSocket) -> None:
        websockets.append(websocket)
        over.wait(PATIENCE)

    slow: list[str] = []
    with (
        serve(
            keep,
            max_memory=3_000_000,
            max_backlog=8_000_000,
            on_slow=lambda client: slow.append(client.close_reason or ""),
        ) as server,
        ExitStack() as stack,
    ):
        for _ in range(3):
            stack.enter_context(Peer.client(server.port))
        wait_for(lambda: len(websockets) == 3)
        sizes = [4_000_000, 6_000_000, 5_500_000]
        for websocket, size in zip(websockets, sizes, strict=True):
            while websocket.backlog_size < size - 3_500_000:
                websocket.write_frames(b"\x82\x7e\x80\x00" + bytes(32768), 1)
        wait_for(lambda: len(slow) == 1)
        assert websockets[1].backlog_size < 1_000_000
        assert websockets[0].backlog_size >= 500_000
        assert slow == ["too slow: the backlogs of all clients are too large"]
        over.set()
