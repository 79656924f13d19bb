"""The opening handshake: acceptance and refusals, on both sides."""

from __future__ import annotations

import queue
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from wsproto.connection import ConnectionType
from wsproto.events import CloseConnection, TextMessage

from syncchat.errors import CannotConnect, HandshakeFailed, HandshakeRefused, InvalidURL
from syncchat.net import (
    Request,
    Response,
    Server,
    TokenCheck,
    WebSocket,
    connect,
    format_address,
    serve,
    shown_tokens,
)
from syncchat.net.connector import parse_url
from tests.peer import PATIENCE, Peer, read_all, read_head, upgrade_answer, upgrade_request

KEY = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
GOOD = upgrade_request().decode()


@pytest.fixture
def refused() -> list[str]:
    """The server's log of refusals."""
    return []


@pytest.fixture
def server(refused: list[str]) -> Iterator[Server]:
    """A server that echoes."""

    def echo(websocket: WebSocket) -> None:
        for message in websocket:
            websocket.send(message)

    with serve(
        echo,
        subprotocols=["b.v2", "b.v1"],
        open_timeout=0.5,
        on_refused=lambda address, reason: refused.append(f"{format_address(address)} {reason}"),
    ) as server:
        yield server


def ask(server: Server, request: bytes) -> bytes:
    """The whole answer to ``request``."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.sendall(request)
        return read_all(sock)


def is_served(server: Server) -> None:
    """Check that a well-behaved client is served."""
    with connect(f"ws://127.0.0.1:{server.port}/") as websocket:
        websocket.send("hello")
        assert websocket.recv(PATIENCE) == "hello"


# The server's side.


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (GOOD.replace("Version: 13", "Version: 8"), 426),
        (GOOD.replace("Sec-WebSocket-Version: 13\r\n", ""), 400),
        (GOOD.replace(KEY, ""), 400),
        (GOOD.replace(KEY, "Sec-WebSocket-Key: short\r\n"), 400),
        (GOOD.replace(KEY, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAA!==\r\n"), 400),
        (GOOD.replace(KEY, KEY + KEY), 400),
        (GOOD.replace("Host: test\r\n", ""), 400),
        (GOOD.replace("Host: test", "Host: t\xe9st"), 400),
        (GOOD.replace("Host: test", "Host: test\r\nHost: other"), 400),
        (GOOD.replace("Connection: Upgrade", "Connection: \xff"), 400),
        (GOOD.replace("Connection: Upgrade", "Connection: close"), 400),
        (GOOD.replace("Upgrade: websocket", "Upgrade: h2c"), 400),
        (GOOD.replace("Host: test", "Host: test\r\nContent-Length: 3"), 400),
        (GOOD.replace("Host: test", "Host: test\r\nTransfer-Encoding: chunked"), 400),
        (GOOD.replace("GET /", "GET ftp://test/"), 400),
        (GOOD.replace("GET", "POST"), 405),
        (GOOD.replace("HTTP/1.1", "HTTP/1.0"), 505),
        (GOOD.replace("Host: test", "Sec-WebSocket-Protocol: \xe4"), 400),
        (GOOD.replace("Host: test", "Host: test\r\nA header without a colon"), 400),
        ("hello, is this a chat?\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", 400),
        ("\r\n\r\n", 400),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", 400),
    ],
)
def test_an_invalid_handshake_gets_its_status_and_one_log_line(
    server: Server, refused: list[str], request_text: str, status: int
) -> None:
    answer = ask(server, request_text.encode("latin-1"))
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    if status == 426:
        assert b"sec-websocket-version: 13" in answer.lower()
    else:
        assert b"connection: close" in answer.lower()
    assert len(refused) == 1
    assert f" {status} " in refused[0]
    is_served(server)


@pytest.mark.parametrize(
    "request_text",
    ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", GOOD.replace("Version: 13", "Version: 8")],
    ids=["no handshake", "another version"],
)
def test_a_426_names_the_upgrade_and_closes(server: Server, request_text: str) -> None:
    """Issue 13, item 5: ``Upgrade`` requires ``Connection: Upgrade`` (RFC 9110, section 7.8)."""
    head = ask(server, request_text.encode()).partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 426 ")
    assert re.findall(rb"\r\nConnection: ([^\r]*)", head) == [b"Upgrade, close"]
    assert re.findall(rb"\r\nUpgrade: ([^\r]*)", head) == [b"websocket"]


@pytest.mark.parametrize(
    ("request_text", "said"),
    [
        (GOOD.replace("Host: test\r\n", ""), "Missing mandatory Host: header"),
        ("GET /x HTTP/1.1\r\n\r\n", "Missing mandatory Host: header"),
        ("GET /x HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n", "illegal header line"),
        ("GET /x\x01 HTTP/1.1\r\nHost: x\r\n\r\n", "illegal request line"),
        ("GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n", "illegal request line"),
        ("GET /x HTTP/1.1\r\nHost: \xff\r\n\r\n", "A header is not ASCII."),
        (GOOD.replace("Host: test", "Host: t\xe9st"), "A header is not ASCII."),
        ("GET /x HTTP/1.1\r\nHost: x\r\nContent-Length: y\r\n\r\n", "bad Content-Length"),
    ],
)
def test_the_body_of_a_refusal_is_readable(request_text: str, said: str) -> None:
    """Issue 13, item 5: neither a ``repr`` nor a message of Python's codecs is sent."""
    with serve(lambda _: None, routes={"/": lambda _: Response(b"")}) as server:
        body = ask(server, request_text.encode("latin-1")).partition(b"\r\n\r\n")[2].decode()
        assert said in body
        assert not re.search(r"bytearray|b'|\\x|codec|[<>]", body), body


@pytest.mark.parametrize(
    ("target", "host"),
    [("http://test/a?b=c", "test"), ("HTTPS://other:1/a?b=c", "other:1"), ("/a?b=c", "test")],
)
def test_a_target_may_be_absolute_for_a_page_and_a_websocket_alike(target: str, host: str) -> None:
    """RFC 9112, section 3.2.2: a server must accept the absolute form, and ignore Host then."""
    seen: queue.Queue[Request] = queue.Queue()

    def view(request: Request) -> Response:
        seen.put(request)
        return Response(b"")

    with serve(lambda websocket: seen.put(websocket.request), routes={"/a": view}) as server:
        for headers in ("", GOOD.partition("Host: test\r\n")[2].removesuffix("\r\n")):
            asked = f"GET {target} HTTP/1.1\r\nHost: test\r\n{headers}\r\n"
            status = 101 if headers else 200
            with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
                sock.sendall(asked.encode())
                assert read_head(sock)[0].startswith(b"HTTP/1.1 %d " % status)
            request = seen.get(timeout=PATIENCE)
            assert (request.target, request.path, request.host) == ("/a?b=c", "/a", host)


def test_a_request_head_of_a_megabyte_is_431(server: Server, refused: list[str]) -> None:
    request = GOOD.replace("Host: test", "Host: test\r\nX: " + "x" * 1_000_000).encode()
    assert ask(server, request).startswith(b"HTTP/1.1 431 ")
    assert len(refused) == 1
    is_served(server)


def test_a_request_head_without_an_end_is_431(server: Server) -> None:
    assert ask(server, b"x" * 1_000_000).startswith(b"HTTP/1.1 431 ")


def test_a_silent_client_gets_408(server: Server, refused: list[str]) -> None:
    assert ask(server, b"").startswith(b"HTTP/1.1 408 ")
    assert len(refused) == 1


def test_a_slow_handshake_gets_408_at_the_deadline(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        stop = threading.Event()

        def dawdle() -> None:
            for byte in GOOD.encode()[:-1]:
                if stop.wait(0.02):
                    return
                sock.sendall(bytes([byte]))

        thread = threading.Thread(target=dawdle)
        thread.start()
        answer = read_all(sock)
        stop.set()
        thread.join()
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_leaves_before_its_request_is_not_logged(
    server: Server, refused: list[str]
) -> None:
    socket.create_connection(("127.0.0.1", server.port)).close()
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"GET / HT")
    is_served(server)
    assert len(refused) <= 1


def test_the_head_may_come_byte_by_byte(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in GOOD.encode():
            sock.sendall(bytes([byte]))
        head, _ = read_head(sock)
        assert head.startswith(b"HTTP/1.1 101 ")


def test_frames_in_one_packet_with_the_request_are_not_lost(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        early = b"\x81\x85\x00\x00\x00\x00early"
        sock.sendall(GOOD.encode() + early)
        head, rest = read_head(sock)
        assert head.startswith(b"HTTP/1.1 101 ")
        with Peer(sock, ConnectionType.CLIENT, rest) as peer:
            assert peer.expect(TextMessage).data == "early"


def test_the_handler_sees_the_request() -> None:
    seen: queue.Queue[WebSocket] = queue.Queue()
    with serve(seen.put) as server:
        with connect(
            f"ws://localhost:{server.port}/a%20room/b?nick=x&y=z",
            headers=[("X-One", "1"), ("x-one", "2"), ("Authorization", "Bearer t")],
        ) as websocket:
            request = seen.get(timeout=PATIENCE).request
            assert websocket.request.path == request.path
        assert request.path == "/a%20room/b"
        assert request.query == "nick=x&y=z"
        assert request.target == "/a%20room/b?nick=x&y=z"
        assert request.headers["host"] == f"localhost:{server.port}"
        assert request.headers["x-one"] == "1, 2"
        assert request.headers["authorization"] == "Bearer t"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [([], None), (["b.v1"], "b.v1"), (["b.v1", "b.v2"], "b.v2"), (["other"], None)],
)
def test_the_server_chooses_the_subprotocol_it_prefers(
    server: Server, offered: list[str], chosen: str | None
) -> None:
    with connect(f"ws://127.0.0.1:{server.port}/", subprotocols=offered) as websocket:
        assert websocket.subprotocol == chosen


def test_compression_is_not_negotiated(server: Server) -> None:
    with Peer.client(
        server.port, headers="Sec-WebSocket-Extensions: permessage-deflate\r\n"
    ) as peer:
        peer.send(TextMessage(data="plain"))
        assert peer.expect(TextMessage).data == "plain"


@pytest.mark.parametrize("params", ["client_max_window_bits=abc", "=;,\xe4", ";" * 500])
def test_unknown_extensions_are_ignored(server: Server, params: str) -> None:
    header = f"Sec-WebSocket-Extensions: permessage-deflate; {params}\r\n"
    request = GOOD.replace("Host: test\r\n", "Host: test\r\n" + header).encode("latin-1")
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.sendall(request)
        head, _ = read_head(sock)
        assert head.split(b" ")[1] in (b"101", b"400")
    is_served(server)


# The client's side.


Answer = Callable[[bytes], bytes]


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """The URL of a server that sends this answer to one request and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)

        def serve_one() -> None:
            sock, _ = listening.accept()
            with sock:
                head, _ = read_head(sock)
                sock.sendall(answer(head))

        thread = threading.Thread(target=serve_one)
        thread.start()
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}/"
        thread.join()


def test_a_refusal_shows_status_and_body() -> None:
    with (
        answering(lambda _: b"HTTP/1.1 403 Forbidden\r\nContent-Length: 8\r\n\r\nGo away!") as url,
        pytest.raises(HandshakeRefused, match="403: Go away!") as caught,
    ):
        connect(url)
    assert (caught.value.status, caught.value.body) == (403, "Go away!")


def test_a_refusal_without_a_length_ends_with_the_connection() -> None:
    answer = b"HTTP/1.1 502 Bad Gateway\r\n\r\n" + b"<html>" * 10_000
    with answering(lambda _: answer) as url, pytest.raises(HandshakeRefused) as caught:
        connect(url)
    assert caught.value.status == 502
    assert len(caught.value.body) == 1024


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: b"",
        lambda _: b"SSH-2.0-OpenSSH_9.2\r\n",
        lambda _: b"HTTP/1.1 101 \xff\xfe\r\n\r\n",
        lambda head: upgrade_answer(head).replace(b"Accept: ", b"Accept: x"),
        lambda head: upgrade_answer(head).replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        lambda head: upgrade_answer(head, "Sec-WebSocket-Protocol: unasked\r\n"),
        lambda head: upgrade_answer(head, "Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        lambda head: upgrade_answer(head, "X: " + "x" * 100_000 + "\r\n"),
    ],
)
def test_an_invalid_answer_to_the_handshake_is_an_error(answer: Answer) -> None:
    with answering(answer) as url, pytest.raises(HandshakeFailed):
        connect(url)


def test_connecting_to_a_silent_server_ends_at_the_deadline() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        pytest.raises(TimeoutError),
    ):
        connect(f"ws://127.0.0.1:{listening.getsockname()[1]}/", open_timeout=0.1)


def test_frames_in_one_packet_with_the_answer_are_not_lost() -> None:
    early = b"\x81\x05early\x88\x02\x03\xe8"
    with (
        answering(lambda head: upgrade_answer(head) + early) as url,
        connect(url) as websocket,
    ):
        assert list(websocket) == ["early"]
        assert websocket.close_code == 1000


def test_a_refused_connection_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with pytest.raises(CannotConnect, match=rf"^cannot connect to 127.0.0.1:{port}: .*refused"):
        connect(f"ws://127.0.0.1:{port}/")


def test_an_unknown_host_is_one_clear_error() -> None:
    with pytest.raises(CannotConnect, match="name cannot be resolved"):
        connect("ws://no-such-host.invalid:1/")


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost", "http://x/", "wsx://x/", "ws:///x", "ws://", "ws://x:99999/", "ws://x:y/",
        "ws://x:0/", "ws://u:p@x/", "ws://x/#f", "ws://x/ y", "ws://x/\n", "ws://[::1/",
        f"ws://{'x' * 64}.y/", "ws://a..b/",
    ],
)  # fmt: skip
def test_an_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidURL):
        connect(url)


def test_urls_are_parsed() -> None:
    target = parse_url("ws://Example.org/caf\xe9/%20?q=\xfc")
    assert (target.host, target.port) == ("example.org", 80)
    assert target.resource == "/caf%C3%A9/%20?q=%C3%BC"
    assert target.host_header == "example.org"
    target = parse_url("ws://[::1]:2000")
    assert (target.host, target.port, target.resource) == ("::1", 2000, "/")
    assert target.host_header == "[::1]:2000"
    assert parse_url("ws://[::1]").host_header == "[::1]"


def test_the_server_sends_its_close_before_it_disconnects(server: Server) -> None:
    with Peer.client(server.port) as peer:
        peer.send_bytes(b"\x81\x05plain")
        assert peer.expect(CloseConnection).code == 1002
        assert peer.expect_end() == b""


# A token in a subprotocol entry, from browsers.


@pytest.mark.parametrize(
    ("offered", "chosen", "shown"),
    [
        ("chat, syncchat.token.s3cret", "chat", ["s3cret"]),
        ("syncchat.token.a%2Fb%28%29%25, chat", "chat", ["a/b()%"]),
        ("syncchat.token.s3cret", None, ["s3cret"]),
        ("chat, syncchat.token.one, syncchat.token.two", "chat", ["one", "two"]),
        ("chat, syncchat.token.", "chat", []),
        ("chat, syncchat.token.a%0D%0AX:y", "chat", []),
        ("chat, syncchat.tokens3cret", "chat", []),
    ],
)
def test_a_token_in_a_subprotocol_entry_is_shown_and_never_sent_back(
    offered: str, chosen: str | None, shown: list[str]
) -> None:
    seen: list[Request] = []
    request = GOOD.replace("Host: test", f"Host: test\r\nSec-WebSocket-Protocol: {offered}")
    with (
        serve(lambda _: None, subprotocols=["chat"], authorize=seen.append) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock,
    ):
        sock.sendall(request.encode())
        head, _ = read_head(sock)
    assert head.startswith(b"HTTP/1.1 101 ")
    found = re.findall(rb"(?i)sec-websocket-protocol: ([^\r]*)", head)
    assert found == ([] if chosen is None else [chosen.encode()])
    assert b"s3cret" not in head
    assert [token for request in seen for token in shown_tokens(request)] == shown


def test_a_token_check_takes_the_token_of_a_subprotocol_entry() -> None:
    lines: list[str] = []
    with serve(
        lambda websocket: websocket.send("x"),
        subprotocols=["chat"],
        authorize=TokenCheck("s3cret"),
        on_refused=lambda _address, text: lines.append(text),
    ) as server:
        url = f"ws://127.0.0.1:{server.port}"
        with connect(url, subprotocols=["chat", "syncchat.token.s3cret"]) as websocket:
            assert websocket.subprotocol == "chat"
        with pytest.raises(HandshakeRefused, match="401: The token is wrong"):
            connect(url, subprotocols=["chat", "syncchat.token.wr0ng"])
    assert lines == ["401 The token is wrong."]
