"""Answers over HTTP that do not end."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import pytest
import trustme

from syncchat.net import (
    Follower,
    Following,
    Refusal,
    Request,
    Response,
    Route,
    Server,
    encode_chunk,
    serve,
)
from tests.peer import PATIENCE, read_all, wait_for


class Followers:
    """The view, and the followers that it has."""

    def __init__(self) -> None:
        self.present: list[Follower] = []
        self.gone = 0
        self.blocks = False
        self.refuses = False

    def view(self, request: Request) -> Response:
        mine: list[Follower] = []

        def begin(follower: Follower) -> None:
            if self.refuses:
                raise Refusal(HTTPStatus.CONFLICT, "Not now.")
            mine.append(follower)
            self.present.append(follower)
            follower.write_frames(self.frame(request, b"welcome\n"), 1)

        def end() -> None:
            for follower in mine:
                self.present.remove(follower)
                self.gone += 1

        return Following(
            begin=begin,
            end=end,
            blocks=self.blocks,
            content_type="text/plain",
            keep_alive=b".",
            farewell=lambda reason: f"bye: {reason}\n".encode(),
        )

    @staticmethod
    def frame(request: Request, data: bytes) -> bytes:
        return encode_chunk(data) if request.http_version == "1.1" else data


GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextmanager
def following(**settings: Any) -> Iterator[tuple[Server, Followers, Callable[..., socket.socket]]]:
    followers = Followers()
    with serve(lambda _: None, routes={"/": followers.view}, **settings) as server:
        socks: list[socket.socket] = []

        def follow(request: bytes = GET) -> socket.socket:
            sock = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
            socks.append(sock)
            sock.sendall(request)
            return sock

        try:
            yield server, followers, follow
        finally:
            for sock in socks:
                sock.close()


def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        received = sock.recv(65536)
        assert received, data
        data += received
    return data


def connection_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("syncchat 127.")]


@pytest.mark.parametrize("blocks", [False, True])
def test_a_follower_needs_no_thread_and_leaves(blocks: bool) -> None:
    with following() as (server, followers, follow):
        followers.blocks = blocks
        socks = [follow() for _ in range(20)]
        for sock in socks:
            head = read_until(sock, b"welcome\n\r\n")
            assert b"\r\nTransfer-Encoding: chunked\r\n" in head
        wait_for(lambda: not connection_threads())
        assert server.connections == 20
        for follower in followers.present:
            assert follower.write_frames(encode_chunk(b"x"), 1)
        for sock in socks:
            assert read_until(sock, b"x\r\n") == b"1\r\nx\r\n"
            sock.close()
        wait_for(lambda: server.connections == 0)
        assert (followers.present, followers.gone) == ([], 20)
        assert server.stats().messages_out == 40


def test_what_a_follower_sends_is_dropped() -> None:
    with following() as (server, followers, follow):
        sock = follow(GET + GET)
        read_until(sock, b"welcome\n\r\n")
        sock.sendall(b"x" * 100_000)
        followers.present[0].write_frames(encode_chunk(b"still\n"), 1)
        assert read_until(sock, b"still\n\r\n") == b"6\r\nstill\n\r\n"
        assert server.connections == 1


def test_a_follower_that_floods_is_cut_off() -> None:
    with following() as (server, _, follow):
        sock = follow()
        read_until(sock, b"welcome\n\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(40):
                sock.sendall(b"x" * 1_000_000)
        wait_for(lambda: server.connections == 0)


def test_http_1_0_is_not_chunked() -> None:
    with following() as (_, followers, follow):
        sock = follow(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        data = read_until(sock, b"welcome\n")
        assert data.endswith(b"\r\n\r\nwelcome\n")
        followers.present[0].write_frames(b"more\n", 1)
        assert read_until(sock, b"more\n") == b"more\n"


def test_a_refusal_is_an_ordinary_answer_and_the_connection_stays() -> None:
    with following() as (_, followers, follow):
        followers.refuses = True
        sock = follow(GET)
        assert read_until(sock, b"Not now.\n").startswith(b"HTTP/1.1 409 ")
        followers.refuses = False
        sock.sendall(GET)
        assert read_until(sock, b"welcome\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_head_begins_nothing() -> None:
    with following() as (server, followers, follow):
        sock = follow(b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert read_all(sock).endswith(b"\r\n\r\n")
        wait_for(lambda: server.connections == 0)
        assert (followers.present, followers.gone) == ([], 0)


def test_a_stop_ends_the_answer_in_order() -> None:
    with following() as (server, followers, follow):
        socks = [follow() for _ in range(5)]
        for sock in socks:
            read_until(sock, b"welcome\n\r\n")
        # Until then, a stop aborts the connection.
        wait_for(lambda: server.stats().connections_total == 5)
        stopper = threading.Thread(target=server.stop, args=(PATIENCE,))
        stopper.start()
        for sock in socks:
            assert read_all(sock) == b"0\r\n\r\n"
            sock.close()
        stopper.join(PATIENCE)
        assert not stopper.is_alive()
        assert followers.gone == 5


def test_a_stop_does_not_wait_for_a_follower_that_stays() -> None:
    with following() as (server, followers, follow):
        sock = follow()
        read_until(sock, b"welcome\n\r\n")
        begin = time.monotonic()
        server.stop(0.2)
        assert time.monotonic() - begin < 5
        assert followers.gone == 1


def test_keep_alive_is_sent_in_silence() -> None:
    with following(ping_interval=0.1, ping_timeout=0.1) as (server, _, follow):
        sock = follow()
        read_until(sock, b"welcome\n\r\n")
        assert read_until(sock, b"1\r\n.\r\n" * 3).startswith(b"1\r\n.\r\n")
        # It is not aborted for its silence.
        assert server.connections == 1


@pytest.mark.parametrize("reads", [False, True])
def test_a_slow_follower_is_told_and_cut_off(reads: bool) -> None:
    slow: list[Any] = []
    settings: Any = {
        "max_backlog": 100_000,
        "close_timeout": 0.5,
        "stall_timeout": 0.5,
        "on_slow": slow.append,
    }
    with following(**settings) as (server, followers, follow):
        sock = follow()
        data = read_until(sock, b"welcome\n\r\n")
        (follower,) = followers.present
        while follower.write_frames(encode_chunk(b"x" * 50_000), 1):
            pass
        wait_for(lambda: slow == [follower])
        assert server.stats().slow_consumers == 1
        assert follower.close_code == 1013
        if reads:
            data = read_all(sock)
            assert data.endswith(b"bye: too slow: the backlog is full\n\r\n")
        wait_for(lambda: server.connections == 0)
        assert followers.gone == 1


def test_a_follower_that_stalls_is_cut_off() -> None:
    with following(stall_timeout=0.2) as (server, followers, follow):
        sock = follow()
        read_until(sock, b"welcome\n\r\n")
        followers.present[0].write_frames(encode_chunk(b"x" * 8_000_000), 1)
        wait_for(lambda: server.connections == 0)
        assert server.stats().slow_consumers == 1


def test_followers_use_tls() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with following(ssl_context=server_context) as (server, followers, _):
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        with context.wrap_socket(raw, server_hostname="localhost") as sock:
            sock.sendall(GET)
            read_until(sock, b"welcome\n\r\n")
            wait_for(lambda: not connection_threads())
            followers.present[0].write_frames(encode_chunk(b"x" * 100_000), 1)
            read_until(sock, b"x\r\n")
        wait_for(lambda: server.connections == 0)
        assert followers.gone == 1


def test_followers_come_and_go_while_the_server_stops() -> None:
    for _ in range(10):
        with following() as (server, followers, follow):

            def come(follow: Callable[[], socket.socket] = follow) -> None:
                try:
                    for _ in range(50):
                        follow().close()
                except OSError:
                    return

            threads = [threading.Thread(target=come) for _ in range(3)]
            for thread in threads:
                thread.start()
            wait_for(lambda: followers.gone > 10)
            server.stop()
            for thread in threads:
                thread.join(PATIENCE)
            assert followers.present == []
            assert not connection_threads()


def test_a_route_with_followers_can_have_other_answers() -> None:
    followers = Followers()

    def view(request: Request) -> Response:
        return Response("said") if request.method == "POST" else followers.view(request)

    routes = {"/": Route(view, ("GET", "HEAD", "POST"))}
    with serve(lambda _: None, routes=routes) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            assert read_until(sock, b"said").startswith(b"HTTP/1.1 200 ")
            sock.sendall(GET)
            assert read_until(sock, b"welcome\n\r\n").startswith(b"HTTP/1.1 200 ")
