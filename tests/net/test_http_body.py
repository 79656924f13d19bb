"""The bodies of requests and answers: their length, chunks, keep-alive, and hostile ones."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from syncchat.net import Refusal, Request, Response, Route, Server, serve
from tests.peer import PATIENCE, read_all, wait_for

LIMIT = 100_000


def upload(request: Request) -> Response:
    return Response(b"<%b>" % request.read_body(LIMIT))


def piecemeal(request: Request) -> Response:
    assert request.body is not None
    pieces = []
    while piece := request.body.read(3):
        pieces.append(piece)
    return Response(b"|".join(pieces))


def unread(_request: Request) -> Response:
    return Response(b"unread")


def counted(request: Request) -> Response:
    return Response(b"%d," % number for number in range(int(request.query)))


def announced(request: Request) -> Response:
    return Response([b"abc", b"", b"de"], headers=[("Content-Length", request.query)])


def broken(_request: Request) -> Response:
    def pieces() -> Iterator[bytes]:
        yield b"abc"
        raise ZeroDivisionError

    return Response(pieces())


BOTH = ("GET", "HEAD", "POST")
ROUTES = {
    "/upload": Route(upload, BOTH),
    "/piecemeal": Route(piecemeal, BOTH),
    "/unread": Route(unread, BOTH),
    "/counted": Route(counted),
    "/announced": Route(announced),
    "/broken": Route(broken),
}


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(lambda _: None, routes=ROUTES, open_timeout=1.0) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[http.client.HTTPConnection]:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    yield client
    client.close()


def raw(server: Server, *pieces: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        for piece in pieces:
            sock.sendall(piece)
        return read_all(sock)


def post(headers: bytes, body: bytes = b"", path: bytes = b"/upload") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n%b" % (path, headers, body)


END = b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def test_a_connection_is_used_for_several_requests(client: http.client.HTTPConnection) -> None:
    client.connect()
    assert client.sock is not None
    own = client.sock.getsockname()
    for number in range(5):
        client.request("POST", "/upload", b"x" * number * 1000)
        assert client.getresponse().read() == b"<%b>" % (b"x" * number * 1000)
        client.request("POST", "/upload", iter([b"a", b"b" * 5000, b"c"]))
        assert client.getresponse().read() == b"<a%bc>" % (b"b" * 5000)
        client.request("GET", "/counted?3")
        assert client.getresponse().read() == b"0,1,2,"
        client.request("GET", "/nothing")
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (404, b"Not found.\n")
    assert client.sock is not None
    assert client.sock.getsockname() == own


def test_a_body_is_read_in_pieces(client: http.client.HTTPConnection) -> None:
    client.request("POST", "/piecemeal", b"abcdefgh")
    assert client.getresponse().read() == b"abc|def|gh"
    client.request("POST", "/piecemeal", iter([b"abcd", b"e"]))
    assert client.getresponse().read() == b"abc|d|e"


def test_a_client_is_told_to_send_the_body_it_announces(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.sendall(post(b"Content-Length: 2\r\nExpect: 100-continue\r\n"))
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"ok" + END)
        assert b"<ok>" in read_all(sock)


def test_http_1_0_knows_no_100(server: Server) -> None:
    request = b"POST /upload HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok"
    assert statuses(raw(server, request)) == [200]


def test_a_body_that_nobody_wants_is_not_asked_for(server: Server) -> None:
    answer = raw(server, post(b"Content-Length: 2\r\nExpect: 100-continue\r\n", path=b"/unread"))
    assert statuses(answer) == [200]
    assert b"Connection: close" in answer
    answer = raw(server, post(b"Content-Length: 200000\r\nExpect: 100-continue\r\n"))
    assert statuses(answer) == [413]


def test_requests_after_an_unread_body_are_not_taken_from_it(server: Server) -> None:
    body = b"GET /upload HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = raw(server, post(b"Content-Length: %d\r\n" % len(body), body, b"/unread"))
    assert statuses(answer) == [200]


@pytest.mark.parametrize(
    ("framing", "status"),
    [
        (b"Content-Length: 5\r\nContent-Length: 5\r\n", 400),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        (b"Content-Length: 5\r\nX: y\r\ncontent-length: 5\r\n", 400),
        (b"Content-Length: 5, 6\r\n", 400),
        (b"Content-Length: 5, 5\r\n", 400),
        (b"Content-Length: +5\r\n", 400),
        (b"Content-Length: 0x5\r\n", 400),
        (b"Content-Length: -5\r\n", 400),
        (b"Content-Length : 5\r\n", 400),
        (b"Content-Length:\r\n", 400),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", 400),
        (b"Transfer-Encoding: gzip, chunked\r\n", 400),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"Transfer-Encoding: xchunked\r\n", 400),
        (b"Transfer-Encoding: chunked, identity\r\n", 400),
        (b"Transfer-Encoding:\x0bchunked\r\n", 400),
        (b"Transfer-Encoding\r\n : chunked\r\n", 400),
        (b"X: y\r\n Content-Length: 5\r\n", 400),
        (b"X: y\r\n\tz\r\n", 400),
        (b" X: y\r\n", 400),
        (b"X: y\rContent-Length: 5\r\n", 400),
        (b"X: y\0\r\n", 400),
    ],
    ids=repr,
)
def test_what_a_proxy_may_read_differently_is_refused(
    server: Server, framing: bytes, status: int
) -> None:
    answer = raw(server, post(framing, b"0\r\n\r\n" + END))
    assert statuses(answer) == [status]
    assert b"Connection: close" in answer
    assert b'{"error": "' in answer


def test_http_1_0_has_no_chunks(server: Server) -> None:
    request = b"POST /upload HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert statuses(raw(server, request + b"0\r\n\r\n")) == [400]
    answer = raw(server, b"GET /counted?3 HTTP/1.0\r\n\r\n")
    assert b"chunked" not in answer
    assert answer.endswith(b"\r\n\r\n0,1,2,")


@pytest.mark.parametrize(
    "chunks",
    [
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"x\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5" * 30 + b"\r\n",
        b"0\r\nX : y\r\n\r\n",
    ],
    ids=lambda chunks: repr(chunks[:20]),
)
def test_broken_chunks_are_refused(server: Server, chunks: bytes) -> None:
    assert statuses(raw(server, post(b"Transfer-Encoding: chunked\r\n", chunks + END))) == [400]


def test_a_large_body_is_refused_before_it_is_read(server: Server) -> None:
    assert statuses(raw(server, post(b"Content-Length: 100001\r\n"))) == [413]
    chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    assert statuses(raw(server, post(b"Transfer-Encoding: chunked\r\n", chunk * 11))) == [413]
    answer = raw(server, post(b"Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n" * 2000))
    assert statuses(answer) == [413]


def test_refusals_of_a_head_are_json_for_a_program(server: Server) -> None:
    for head, status in {
        b"POST / HTTP/1.1\r\nX: y": 408,
        b"POST / HTTP/1.1\r\nX: " + b"y" * 20_000: 431,
        b"POST / HTTP/1.1\r\n\r\n": 400,
    }.items():
        answer = raw(server, head)
        assert statuses(answer) == [status]
        assert b'\r\n\r\n{"error": "' in answer


def test_a_body_that_does_not_come_is_408(server: Server) -> None:
    assert statuses(raw(server, post(b"Content-Length: 5\r\n", b"abc"))) == [408]
    assert statuses(raw(server, post(b"Transfer-Encoding: chunked\r\n", b"5\r\nabc"))) == [408]


def test_a_body_that_drips_is_408(server: Server) -> None:
    """All of a body that is read at once must be there in time."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.sendall(post(b"Content-Length: 100000\r\n"))
        ended = threading.Event()

        def drip() -> None:
            while not ended.wait(0.05):
                try:
                    sock.sendall(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert statuses(sock.recv(1000)) == [408]
        finally:
            ended.set()
            thread.join()


def test_a_body_that_breaks_off_is_400(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.sendall(post(b"Content-Length: 5\r\n", b"abc"))
        sock.shutdown(socket.SHUT_WR)
        assert statuses(read_all(sock)) == [400]
    wait_for(lambda: server.connections == 0)


def test_an_idle_connection_is_closed_without_a_word(server: Server) -> None:
    answer = raw(server, post(b"Content-Length: 2\r\n", b"ok"))
    assert statuses(answer) == [200]
    wait_for(lambda: server.connections == 0)
    assert server.stats().refused == {}


def test_a_later_head_that_is_slow_is_408(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.sendall(post(b"Content-Length: 2\r\n", b"ok"))
        assert statuses(sock.recv(1000)) == [200]
        # The connection is no longer idle.
        sock.sendall(b"GET /page HTTP/1.1\r\n")
        assert statuses(read_all(sock)) == [408]


def test_an_empty_line_after_a_body_is_skipped(server: Server) -> None:
    answer = raw(server, post(b"Content-Length: 2\r\n", b"ok\r\n"), b"", END)
    assert statuses(answer) == [200, 404]
    # Empty lines do not keep the connection open.
    assert statuses(raw(server, post(b"Content-Length: 2\r\n", b"ok\r\n"))) == [200]
    wait_for(lambda: server.connections == 0)
    assert "408" not in server.stats().refused


def test_a_request_after_a_request_can_be_a_handshake(server: Server) -> None:
    handshake = (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = raw(server, post(b"Content-Length: 2\r\n", b"ok") + handshake + b"\x88\x80abcd")
    assert statuses(answer) == [200, 101]
    assert answer.endswith(b"\r\n\r\n\x88\x02\x03\xe8")


def test_the_announced_length_of_an_answer_is_kept(
    server: Server, client: http.client.HTTPConnection
) -> None:
    client.request("GET", "/announced?5")
    assert client.getresponse().read() == b"abcde"
    client.request("HEAD", "/announced?5")
    assert client.getresponse().headers["content-length"] == "5"
    for wrong in (4, 6):
        answer = raw(server, b"GET /announced?%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % wrong)
        assert len(answer.partition(b"\r\n\r\n")[2]) != wrong


def test_an_answer_that_fails_breaks_off(server: Server) -> None:
    answer = raw(server, b"GET /broken HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.endswith(b"3\r\nabc\r\n")
    assert not answer.endswith(b"0\r\n\r\n")


def test_the_refusal_of_a_guarded_request_is_json() -> None:
    def refuse(_request: Request) -> Response:
        raise Refusal(HTTPStatus.CONFLICT, 'Not "so".')

    routes = {"/": Route(refuse, guarded=lambda request: request.query == "guarded")}
    with serve(lambda _: None, routes=routes) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        client.request("GET", "/?guarded")
        answer = client.getresponse()
        assert answer.headers["content-type"] == "application/json"
        assert (answer.status, answer.read()) == (409, b'{"error": "Not \\"so\\"."}\n')
        client.request("GET", "/")
        assert client.getresponse().read() == b'Not "so".\n'
        client.request("GET", "/?guarded", headers={"Origin": "https://evil.example"})
        answer = client.getresponse()
        assert answer.status == 403
        assert answer.read().startswith(b'{"error": "Origin not allowed: ')
        client.close()
