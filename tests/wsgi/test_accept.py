"""WebSockets inside WSGI servers: a view takes over the socket of its request."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from wsgiref.simple_server import make_server

import psutil
import pytest

from syncchat.errors import ConnectionClosed, HandshakeRefused
from syncchat.net import Refusal, WebSocket, connect
from syncchat.wsgi import accept, close_all
from tests.peer import PATIENCE, ask_http, wait_for
from tests.wsgi import plain_app
from tests.wsgi.servers import APPS, WsgiServer

SERVERS = ["gunicorn", "waitress", "werkzeug"]

#: The environment of a valid handshake.
HANDSHAKE = {
    "REQUEST_METHOD": "GET",
    "HTTP_HOST": "localhost",
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
    "PATH_INFO": "/",
    "wsgi.multithread": True,
}


#: Each server and each framework once; the other pairs are slow.
FEW = list(zip(SERVERS, APPS, strict=False))
PAIRS = [
    pytest.param((s, a), id=f"{s}-{a}", marks=[] if (s, a) in FEW else pytest.mark.slow)
    for s in SERVERS
    for a in APPS
]


@pytest.fixture(scope="module", params=PAIRS)
def server(request: pytest.FixtureRequest) -> Iterator[WsgiServer]:
    with WsgiServer(*request.param) as server:
        yield server


def join(server: WsgiServer, path: str = "/live") -> WebSocket:
    websocket = connect(f"ws://127.0.0.1:{server.port}{path}")
    assert str(websocket.recv(PATIENCE)).startswith("hello from")
    return websocket


def test_a_view_is_a_websocket_and_another_a_page(server: WsgiServer) -> None:
    with join(server) as ann, join(server) as bob:
        ann.send("one")
        assert ann.recv(PATIENCE) == bob.recv(PATIENCE) == "one"
        bob.send(b"\x00\x01")
        assert ann.recv(PATIENCE) == bob.recv(PATIENCE) == b"\x00\x01"
        pong = ann.ping()
        ann.send("two")
        assert ann.recv(PATIENCE) == "two"
        assert pong.result(PATIENCE) > 0
        status, _, body = ask_http(server.port, "/")
        assert (status, body) == (200, b"page")


def test_nothing_of_the_views_answer_reaches_the_client(server: WsgiServer) -> None:
    before = len(server.log())
    with join(server) as ann:
        ann.close(1000, "bye")
        assert ann.close_code == 1000
    new = server.log()[before:]
    assert "Traceback" not in new
    assert "rror" not in new
    # The server goes on.
    status, _, _ = ask_http(server.port, "/")
    assert status == 200


def test_a_view_that_fails_closes_its_client(server: WsgiServer) -> None:
    with join(server) as ann, join(server) as bob:
        ann.send("fail")
        with pytest.raises(ConnectionClosed) as caught:
            ann.recv(PATIENCE)
        assert caught.value.code == 1011
        bob.send("still here")
        assert bob.recv(PATIENCE) == "still here"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 426),
        ({"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "8"}, 426),
        (
            {
                "Upgrade": "websocket",
                "Connection": "Upgrade",
                "Sec_WebSocket_Version": "13",
                "Sec_WebSocket_Key": "short",
            },
            400,
        ),
    ],
)
def test_a_request_that_is_no_handshake_is_refused(
    server: WsgiServer, headers: dict[str, str], status: int
) -> None:
    answered, _, body = ask_http(server.port, "/live", **headers)
    # Flask refuses what is no handshake itself.
    assert answered == (400 if server.app == "flask" and not headers else status), body


def test_a_foreign_page_is_refused(server: WsgiServer) -> None:
    url = f"ws://127.0.0.1:{server.port}/live"
    with pytest.raises(HandshakeRefused, match="403"):
        connect(url, headers=[("Origin", "https://evil.example")])
    with connect(url, headers=[("Origin", f"http://127.0.0.1:{server.port}")]) as websocket:
        assert str(websocket.recv(PATIENCE)).startswith("hello")


@pytest.mark.parametrize("server", [(s, "plain") for s in SERVERS], ids="-".join, indirect=True)
def test_settings_and_the_request(server: WsgiServer) -> None:
    url = f"ws://127.0.0.1:{server.port}/live/a%20b/%C3%A9?x=%2F1"
    with connect(
        url,
        subprotocols=["b"],
        headers=[("Origin", "https://friend.example")],
    ) as websocket:
        assert websocket.recv(PATIENCE) == "/live/a%20b/%C3%A9?x=%2F1 127.0.0.1"
        assert websocket.subprotocol == "b"
        assert websocket.response_headers["x-app"] == "1"
        websocket.send("x" * 101)
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                websocket.recv(PATIENCE)
        assert caught.value.code == 1009


@pytest.mark.parametrize("server", [(s, "flask") for s in SERVERS], ids="-".join, indirect=True)
def test_a_stalled_client_harms_nobody(server: WsgiServer) -> None:
    with join(server) as ann:
        with join(server) as stalled:
            began = time.monotonic()
            for _ in range(300):
                ann.send("x" * 60_000)
                assert len(str(ann.recv(PATIENCE))) == 60_000
            assert time.monotonic() - began < PATIENCE
            # It has read nothing, and is too slow.
            with pytest.raises(ConnectionClosed):
                while True:
                    stalled.recv(PATIENCE)


# Waitress has no orderly end at SIGTERM.
@pytest.mark.parametrize("name", [pytest.param("gunicorn", marks=pytest.mark.slow), "werkzeug"])
def test_a_stop_closes_every_client_in_time(name: str) -> None:
    with WsgiServer(name, "flask") as server:
        with join(server) as ann, join(server) as bob:
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            for websocket in (ann, bob):
                with pytest.raises(ConnectionClosed) as caught:
                    websocket.recv(PATIENCE)
                assert caught.value.code == 1001
            server.process.wait(PATIENCE)
            # Gunicorn itself waits for 2 seconds; without the Close for 30.
            assert time.monotonic() - began < 10
        assert "Traceback" not in server.log()


@pytest.mark.slow
def test_many_clients_leave_nothing_behind() -> None:
    with WsgiServer("gunicorn", "flask") as server:
        with join(server) as ann:
            for _ in range(50):
                join(server).close()
                sock = socket.create_connection(("127.0.0.1", server.port))
                sock.close()
            ann.send("x")
            assert ann.recv(PATIENCE) == "x"
            # With ann's connection, and the dead socket of its view.
            workers = psutil.Process(server.process.pid).children()
            before = sum(worker.num_fds() for worker in workers)
            for _ in range(20):
                join(server).close()
            wait_for(lambda: sum(worker.num_fds() for worker in workers) <= before + 2)
        wait_for(lambda: ask_http(server.port, "/")[0] == 200)


def test_a_handshake_with_a_body_is_refused() -> None:
    with pytest.raises(Refusal, match="must not have a body"):
        accept({**HANDSHAKE, "CONTENT_LENGTH": "4"})


def test_a_lost_connection_ends_the_block_and_another_exception_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        for fails in (False, True):
            client = pool.submit(connect, f"ws://127.0.0.1:{listening.getsockname()[1]}/")
            sock, _ = listening.accept()
            found = re.search(rb"Sec-WebSocket-Key: (\S+)", sock.recv(65536))
            assert found
            key = {"HTTP_SEC_WEBSOCKET_KEY": found[1].decode(), "werkzeug.socket": sock}
            with ExitStack() as stack:
                if fails:
                    stack.enter_context(pytest.raises(ZeroDivisionError))
                with accept({**HANDSHAKE, **key}) as websocket:
                    peer = client.result(PATIENCE)
                    peer.abort()
                    peer.close()
                    with pytest.raises(ConnectionClosed):
                        websocket.recv(PATIENCE)
                    if fails:
                        raise ZeroDivisionError
                    websocket.recv(PATIENCE)
            assert websocket.close_code == 1006
            sock.close()
    close_all()


def test_close_all_ends_what_accept_has_begun() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(3) as pool:
        for code in (1001, 1006):
            client = pool.submit(connect, f"ws://127.0.0.1:{listening.getsockname()[1]}/")
            sock, _ = listening.accept()
            found = re.search(rb"Sec-WebSocket-Key: (\S+)", sock.recv(65536))
            assert found
            key = {"HTTP_SEC_WEBSOCKET_KEY": found[1].decode(), "werkzeug.socket": sock}
            websocket = accept({**HANDSHAKE, **key})
            # The server's own socket is a dead one.
            assert sock.recv(1) == b""
            with pytest.raises(BrokenPipeError):
                sock.sendall(b"x")
            sock.close()
            with client.result(PATIENCE) as peer:
                websocket.send("hello")
                assert peer.recv(PATIENCE) == "hello"
                told = pool.submit(peer.recv, PATIENCE)
                if code == 1001:
                    reading = pool.submit(list, websocket)
                # Without a thread that reads, nobody handles the client's answer.
                close_all(PATIENCE if code == 1001 else 0.1)
                with pytest.raises(ConnectionClosed) as caught:
                    told.result(PATIENCE)
                assert caught.value.code == 1001
                # Each side waits for the end of the other's stream.
                closing = pool.submit(websocket.close)
            closing.result(PATIENCE)
            assert websocket.close_code == code
        assert reading.result(PATIENCE) == []
        assert not any(each.name == "syncchat-io:wsgi" for each in threading.enumerate())
    close_all()


# Servers that cannot.


def test_a_server_without_sockets_gets_a_clear_error() -> None:
    with make_server("127.0.0.1", 0, plain_app.app) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(HandshakeRefused, match="500"):
            connect(f"ws://127.0.0.1:{server.server_port}/live")
        thread.join()
    with pytest.raises(RuntimeError, match=r"this WSGI server \(WSGIServer/.*hands out no socket"):
        accept({**HANDSHAKE, "SERVER_SOFTWARE": "WSGIServer/0.2"})


@pytest.mark.parametrize(
    ("name", "more"),
    [("gunicorn", ["--worker-class", "sync", "--threads", "1"]), ("werkzeug", ["--single"])],
    ids=["gunicorn", "werkzeug"],
)
def test_a_server_with_one_thread_gets_a_clear_error(name: str, more: list[str]) -> None:
    with WsgiServer(name, "flask", *more) as server:
        with pytest.raises(HandshakeRefused, match="500"):
            connect(f"ws://127.0.0.1:{server.port}/live")
        wait_for(lambda: "this WSGI server has one thread" in server.log())


def test_a_socket_with_tls_gets_a_clear_error() -> None:
    class Encrypted(socket.socket):
        pass

    with Encrypted() as sock, pytest.raises(RuntimeError, match=r"Encrypted.*cannot be taken over"):
        accept({**HANDSHAKE, "gunicorn.socket": sock})
