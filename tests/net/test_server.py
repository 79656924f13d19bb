"""The server: one thread per connection, and an orderly stop."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from wsproto.events import CloseConnection, TextMessage

from syncchat.errors import AddressInUse, CannotListen, ConnectionClosed
from syncchat.net import Address, Request, WebSocket, connect, serve
from syncchat.net.http_head import parse
from syncchat.net.limits import Counters
from tests.peer import PATIENCE, InThread, Peer, upgrade_request, wait_for


def echo(websocket: WebSocket) -> None:
    for message in websocket:
        websocket.send(message)


def void(_: object) -> None:
    """A handler returns nothing."""


def test_the_port_is_the_real_one_and_is_free_afterwards() -> None:
    server = serve(echo, "127.0.0.1", 0)
    port = server.port
    assert port > 0
    assert server.addresses == [("127.0.0.1", port)]
    with server:
        assert "0 connections" in repr(server)
        with connect(f"ws://127.0.0.1:{port}/") as websocket:
            websocket.send("x")
            assert websocket.recv(PATIENCE) == "x"
            assert server.connections == 1
    with serve(echo, "127.0.0.1", port) as again:
        assert again.port == port


def test_a_server_that_was_never_started_can_be_stopped() -> None:
    server = serve(echo)
    server.stop()
    server.stop()
    with pytest.raises(RuntimeError):
        server.start()
    server.serve_forever()


def test_a_port_in_use_is_an_error_of_its_own() -> None:
    with serve(echo) as server, pytest.raises(AddressInUse, match=f"127.0.0.1:{server.port}"):
        serve(echo, "127.0.0.1", server.port)


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(CannotListen, match="no-such-host.invalid:1: "):
        serve(echo, "no-such-host.invalid", 1)
    with pytest.raises(CannotListen, match=r"192\.0\.2\.1:1: "):
        serve(echo, "192.0.2.1", 1)


@pytest.mark.parametrize("host", ["::1", "localhost", "", None, "0.0.0.0", "127.0.0.2"])
def test_the_server_listens_on_every_address_of_the_host(host: str | None) -> None:
    with serve(echo, host, 0) as server:
        assert len({port for _, port in server.addresses}) == 1
        for address, port in server.addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            place = f"[{address}]" if family == socket.AF_INET6 else address
            place = {"[::]": "[::1]", "0.0.0.0": "127.0.0.1"}.get(place, place)
            with connect(f"ws://{place}:{port}/") as websocket:
                websocket.send("x")
                assert websocket.recv(PATIENCE) == "x"


def test_n_clients_take_n_plus_three_threads() -> None:
    before = threading.active_count()
    with serve(echo) as server, ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(Peer.client(server.port))
        # The acceptor, the reader and the I/O thread. A client's thread starts after the
        # answer to its handshake.
        wait_for(lambda: threading.active_count() - before == 20 + 3)
        names = sorted(thread.name for thread in threading.enumerate())
        assert sum(name.startswith("syncchat 127.0.0.1:") for name in names) == 20
        assert f"syncchat-acceptor:{server.port}" in names
        assert f"syncchat-io:{server.port}" in names


def test_serve_forever_serves_until_another_thread_stops_it() -> None:
    server = serve(echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with connect(f"ws://127.0.0.1:{server.port}/") as websocket:
        websocket.send("x")
        assert websocket.recv(PATIENCE) == "x"
        server.stop(timeout=0.3)
        with pytest.raises(ConnectionClosed):
            websocket.recv(PATIENCE)
        assert websocket.close_code == 1001
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_serve_forever_of_a_started_server_waits_for_its_end() -> None:
    with serve(echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        server.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_stop_closes_all_clients_with_1001_and_joins_every_thread() -> None:
    before = set(threading.enumerate())
    with ExitStack() as stack:
        server = serve(echo).start()
        peers = [stack.enter_context(Peer.client(server.port)) for _ in range(10)]
        codes: list[int] = []

        def answer(peer: Peer) -> None:
            close = peer.expect(CloseConnection)
            peer.send(close.response())
            peer.expect_end()
            peer.close()
            codes.append(close.code)

        threads = [threading.Thread(target=answer, args=(peer,)) for peer in peers]
        for thread in threads:
            thread.start()
        server.stop()
        for thread in threads:
            thread.join(PATIENCE)
        assert codes == [1001] * 10
        assert set(threading.enumerate()) <= before


def test_a_client_that_has_just_been_answered_is_closed_with_1001(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    note_opened = Counters.note_opened

    def slowly(self: Counters) -> None:
        # Longer than the stop takes to reach the connection.
        time.sleep(0.2)
        note_opened(self)

    monkeypatch.setattr(Counters, "note_opened", slowly)
    with serve(echo) as server, Peer.client(server.port) as peer:
        stopping = InThread(server.stop)
        close = peer.expect(CloseConnection)
        assert close.code == 1001
        peer.send(close.response())
        peer.expect_end()
        stopping.result()


def test_clients_that_never_answer_do_not_delay_the_stop() -> None:
    with ExitStack() as stack:
        server = serve(echo).start()
        for _ in range(5):
            stack.enter_context(Peer.client(server.port))
        dawdling = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        dawdling.sendall(upgrade_request()[:20])
        wait_for(lambda: server.connections == 6)
        begun = time.monotonic()
        server.stop(timeout=0.2)
        assert time.monotonic() - begun < PATIENCE / 2
        assert server.connections == 0


def test_a_client_that_does_not_read_does_not_delay_the_stop() -> None:
    with ExitStack() as stack:
        server = serve(lambda websocket: websocket.send(bytes(50_000_000))).start()
        stack.enter_context(Peer.client(server.port))
        wait_for(lambda: server.connections == 1)
        server.stop(timeout=0.2)
        assert server.connections == 0


@pytest.mark.parametrize("way", ["stop", "request_stop"])
@pytest.mark.parametrize("background", [True, False])
def test_a_second_signal_during_the_stop_does_no_harm(way: str, background: bool) -> None:
    server = serve(echo)
    previous = signal.signal(signal.SIGUSR1, lambda *_: getattr(server, way)())
    me = threading.get_ident()
    stop = threading.Event()

    def send_signals() -> None:
        while not stop.wait(0.02):
            signal.pthread_kill(me, signal.SIGUSR1)

    sending = threading.Thread(target=send_signals)
    try:
        with Peer.client(server.start().port) if background else ExitStack():
            sending.start()
            server.serve_forever()
    finally:
        stop.set()
        sending.join(PATIENCE)
        signal.signal(signal.SIGUSR1, previous)
    server.stop()
    assert server.connections == 0


def test_an_interrupted_stop_is_finished_by_the_next() -> None:
    release = threading.Event()
    server = serve(lambda _: void(release.wait(PATIENCE))).start()
    me = threading.get_ident()
    with Peer.client(server.port):
        wait_for(lambda: server.connections == 1)
        interrupting = threading.Timer(0.2, lambda: signal.pthread_kill(me, signal.SIGINT))
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            server.stop(timeout=5)
        interrupting.join()
        release.set()
        server.stop()
    # CPython 3.11 considers a thread ended if its join was interrupted.
    wait_for(lambda: server.connections == 0)


def test_a_server_whose_start_failed_can_be_stopped() -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = serve(echo)
    fillers = []
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(OSError, match="Too many open files"):
            server.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for filler in fillers:
            os.close(filler)
    server.stop()


def test_a_handler_can_stop_its_server() -> None:
    def handler(websocket: WebSocket) -> None:
        websocket.recv()
        server.stop(timeout=1)

    with ExitStack() as stack:
        server = serve(handler).start()
        other = stack.enter_context(connect(f"ws://127.0.0.1:{server.port}/"))
        with connect(f"ws://127.0.0.1:{server.port}/") as websocket:
            websocket.send("stop")
            for ended in (websocket, other):
                with pytest.raises(ConnectionClosed):
                    ended.recv(PATIENCE)
                assert ended.close_code == 1001
        server.stop()


def test_a_handler_that_does_not_return_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()
    with ExitStack() as stack:
        server = serve(lambda _: void(release.wait(PATIENCE))).start()
        peer = stack.enter_context(Peer.client(server.port))
        with caplog.at_level(logging.WARNING):
            server.stop(timeout=0.1)
        port = peer.sock.getsockname()[1]
        assert f"'syncchat 127.0.0.1:{port}' has not returned" in caplog.text
        release.set()


def test_an_exception_in_a_handler_is_logged_and_closes_with_1011(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def handler(websocket: WebSocket) -> None:
        raise LookupError("the handler's own")

    with serve(handler) as server:
        with Peer.client(server.port) as peer:
            assert peer.expect(CloseConnection).code == 1011
        with connect(f"ws://127.0.0.1:{server.port}/") as websocket:
            with pytest.raises(ConnectionClosed):
                websocket.recv(PATIENCE)
    assert len(caplog.records) == 2
    assert "the handler's own" in caplog.text


def test_a_handler_that_returns_closes_with_1000() -> None:
    with serve(lambda websocket: websocket.send("bye")) as server:
        with connect(f"ws://127.0.0.1:{server.port}/") as websocket:
            assert list(websocket) == ["bye"]
            assert websocket.close_code == 1000


def test_a_handler_need_not_catch_the_end_of_its_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serve(lambda websocket: void(websocket.recv())) as server:
        Peer.client(server.port).reset()
        wait_for(lambda: server.connections == 0)
    assert not caplog.records


def test_without_free_descriptors_the_server_pauses_and_continues(
    caplog: pytest.LogCaptureFixture,
) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with serve(echo) as server, ExitStack() as stack:
        waiting = stack.enter_context(socket.socket())
        highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
        fillers = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    fillers.append(os.open(os.devnull, os.O_RDONLY))
            waiting.connect(("127.0.0.1", server.port))
            wait_for(lambda: "cannot accept" in caplog.text)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for filler in fillers:
                os.close(filler)
        with connect(f"ws://127.0.0.1:{server.port}/") as websocket:
            websocket.send("x")
            assert websocket.recv(PATIENCE) == "x"
        # It retries at most ten times per second.
        assert caplog.text.count("cannot accept") < 50


def test_many_connects_and_disconnects_leak_nothing() -> None:
    with serve(echo) as server:
        for number in range(300):
            peer = Peer.client(server.port)
            if number % 3 == 0:
                peer.reset()
            elif number % 3 == 1:
                peer.close()
            else:
                peer.send(TextMessage(data="x"), CloseConnection(code=1000))
                assert peer.expect(TextMessage).data == "x"
                assert peer.expect(CloseConnection).code == 1000
                peer.close()
        wait_for(lambda: server.connections == 0)


def test_several_servers_run_in_one_process() -> None:
    for _ in range(20):
        with serve(echo) as server, connect(f"ws://127.0.0.1:{server.port}/") as websocket:
            websocket.send("x")
            assert websocket.recv(PATIENCE) == "x"


def test_a_response_header_that_is_not_ascii_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="not ASCII"):
        serve(echo, "127.0.0.1", 0, response_headers=[("X-Name", "Zo\xeb")])


def test_a_failure_of_one_handshake_does_not_end_the_accept_loop(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_for_one(head: bytes, address: Address, *others: Any) -> Request:
        if b"/fail" in head:
            raise ZeroDivisionError
        return parse(head, address, *others)

    monkeypatch.setattr("syncchat.net.http_head.parse", fail_for_one)
    with serve(echo, "127.0.0.1", 0) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
            sock.sendall(upgrade_request("/fail"))
            assert sock.recv(100) == b""
        with connect(f"ws://127.0.0.1:{server.port}/") as websocket:
            websocket.send("x")
            assert websocket.recv(PATIENCE) == "x"
    assert "ZeroDivisionError" in caplog.text
