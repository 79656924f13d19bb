"""Plain HTTP on the port of the WebSocket: routes and refusals."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import pytest
import trustme

from syncchat.net import Refusal, Request, Response, Server, View, WebSocket, connect, serve
from tests.peer import PATIENCE, ask_http, read_all, upgrade_request


def page(request: Request) -> Response:
    text = f"{request.method} {request.path} {request.query} {request.headers.get('x-a', '-')}"
    return Response(text.encode(), headers=[("Cache-Control", "no-cache")])


def failing(_request: Request) -> Response:
    raise ZeroDivisionError


def refusing(_request: Request) -> Response:
    raise Refusal(HTTPStatus.PAYMENT_REQUIRED, "Not for free.")


def unchanged(_request: Request) -> Response:
    return Response(b"", status=HTTPStatus.NOT_MODIFIED, headers=[("ETag", '"x"')])


def splitting(_request: Request) -> Response:
    return Response(b"", headers=[("X-A", "b\r\nX-C: d")])


def large(_request: Request) -> Response:
    return Response(b"x" * 8_000_000, "application/octet-stream")


ROUTES = {
    "/page": page,
    "/files/*": page,
    "/failing": failing,
    "/refusing": refusing,
    "/unchanged": unchanged,
    "/large": large,
    "/splitting": splitting,
}


#: The headers of a request after whose answer the server closes the connection.
LAST = b"Host: localhost\r\nConnection: close\r\n\r\n"


def echo(websocket: WebSocket) -> None:
    for message in websocket:
        websocket.send(message)


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(echo, routes=ROUTES, open_timeout=1.0) as server:
        yield server


def ask(
    server: Server, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    return ask_http(server.port, path, method, **headers)


def raw(server: Server, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.sendall(request)
        return read_all(sock)


def test_a_view_answers(server: Server) -> None:
    status, headers, body = ask(server, "/page?q=1", X_A="b")
    assert (status, body) == (200, b"GET /page q=1 b")
    assert headers.pop("date")
    assert headers == {
        "content-type": "text/plain; charset=utf-8",
        "content-length": "15",
        "x-content-type-options": "nosniff",
        "cache-control": "no-cache",
    }


def test_a_route_can_be_a_prefix(server: Server) -> None:
    assert ask(server, "/files/a/b.txt")[2] == b"GET /files/a/b.txt  -"
    assert ask(server, "/files")[0] == 404


def test_head_is_answered_without_a_body(server: Server) -> None:
    status, headers, body = ask(server, "/page", "HEAD")
    assert (status, body) == (200, b"")
    assert headers["content-length"] == str(len("HEAD /page  -"))
    assert raw(server, b"HEAD /page HTTP/1.1\r\n" + LAST).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "X"])
def test_other_methods_are_405(server: Server, method: str) -> None:
    status, headers, _ = ask(server, "/page", method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


UPLOADS = {
    "no body": b"\r\n",
    "a body": b"Content-Length: 5\r\n\r\nhello",
    "a large body": b"Content-Length: 1000000\r\n\r\n" + b"x" * 1_000_000,
    "a chunked body": b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "a body that waits": b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    "an upgrade to HTTP/2": b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "a handshake": upgrade_request().partition(b"Host: test\r\n")[2],
}


@pytest.mark.parametrize("upload", UPLOADS.values(), ids=UPLOADS)
@pytest.mark.parametrize(
    ("path", "status"), [("/page", 405), ("/", 404), ("*", 405)], ids=["page", "nothing", "star"]
)
def test_a_post_is_405_at_a_page_and_404_elsewhere(
    server: Server, path: str, status: int, upload: bytes
) -> None:
    """Issue 13, item 5: the answer has ``Allow`` and arrives complete, even if the request has a
    body.
    """
    answer = raw(server, f"POST {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + upload)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert (b"\r\nAllow: GET, HEAD" in head) == (status == 405)
    assert b"\r\nContent-Length: %d\r\n" % len(body) in head


def test_every_answer_has_a_date(server: Server) -> None:
    """Issue 13, item 5: RFC 9110, section 6.6.1."""
    begin = int(time.time())
    for request in (
        b"GET /page HTTP/1.1\r\n" + LAST,
        b"HEAD /page HTTP/1.1\r\n" + LAST,
        b"GET /unchanged HTTP/1.1\r\n" + LAST,
        b"GET /nothing HTTP/1.1\r\n" + LAST,
        b"GET /failing HTTP/1.1\r\n" + LAST,
        b"POST /page HTTP/1.1\r\n" + LAST,
        b"GET / HTTP/2.0\r\n\r\n",
    ):
        dates = re.findall(rb"\r\nDate: ([^\r]*GMT)\r\n", raw(server, request))
        assert len(dates) == 1, request
        said = parsedate_to_datetime(dates[0].decode()).timestamp()
        assert begin <= said <= time.time()


def test_a_date_of_the_view_replaces_the_default() -> None:
    """Issue 13, item 5."""
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    view = Response(b"", headers=[("date", date)])
    with serve(echo, routes={"/": lambda _: view}) as server:
        answer = raw(server, b"GET / HTTP/1.1\r\n" + LAST)
        assert re.findall(rb"(?i)\r\ndate: ([^\r]*)", answer) == [date.encode()]


@pytest.mark.parametrize("path", ["/", "/nothing", "/page/", "/PAGE", "//page", "/files"])
def test_other_paths_are_404(server: Server, path: str) -> None:
    assert ask(server, path)[0] == 404


def test_a_refused_head_request_has_no_body(server: Server) -> None:
    for path in ("/nothing", "/failing", "/refusing"):
        answer = raw(server, f"HEAD {path} HTTP/1.1\r\n".encode() + LAST)
        assert answer.endswith(b"\r\n\r\n")


def test_an_invalid_header_of_a_view_is_500(server: Server) -> None:
    assert ask(server, "/splitting")[0] == 500


def test_an_exception_in_a_view_is_500_and_a_refusal_has_its_status(server: Server) -> None:
    assert ask(server, "/failing")[0] == 500
    status, _, body = ask(server, "/refusing")
    assert (status, body) == (402, b"Not for free.\n")


@pytest.mark.parametrize(
    ("response", "content_type"),
    [
        (Response("grüß dich €"), "text/plain; charset=utf-8"),
        (Response("grüß dich €", "text/html"), "text/html; charset=utf-8"),
        (Response("grüß dich €", "text/html; charset=UTF-8"), "text/html; charset=UTF-8"),
        (Response("grüß dich €", "application/json"), "application/json"),
        (Response("grüß dich €".encode(), "text/html"), "text/html"),
    ],
)
def test_a_body_can_be_text(response: Response, content_type: str) -> None:
    """Issue 13, item 19: the text is sent as UTF-8, with that charset in the content type."""
    with serve(echo, routes={"/": lambda _: response}) as server:
        status, headers, body = ask(server, "/")
        assert (status, body.decode()) == (200, "grüß dich €")
        assert headers["content-type"] == content_type
        assert headers["content-length"] == str(len(body))
        assert ask(server, "/", "HEAD")[1]["content-length"] == str(len(body))


@pytest.mark.parametrize("returned", [None, "text", b"bytes", ("text", 200)])
def test_a_view_that_returns_no_response_is_500_and_one_log_line(
    returned: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue 13, item 19: the log line names the route and the type of the result."""
    with serve(echo, routes={"/x": lambda _: returned}) as server:
        assert ask(server, "/x?y=1")[0] == 500
    (record,) = caplog.records
    kind = type(returned).__name__
    assert record.getMessage() == f"the view of /x returned {kind} instead of a Response"
    assert record.exc_info is None


def test_a_body_that_cannot_be_encoded_is_500(caplog: pytest.LogCaptureFixture) -> None:
    """Issue 13, item 19."""
    views: dict[str, View] = {
        "/surrogate": lambda _: Response("\udc80"),
        "/number": lambda _: Response(5),  # type: ignore[arg-type]
    }
    with serve(echo, routes=views) as server:
        for path in views:
            assert ask(server, path)[0] == 500
    assert [record.getMessage() for record in caplog.records] == [
        "the view of /surrogate failed",
        "the view of /number failed",
    ]


def test_a_304_has_no_body_and_no_length(server: Server) -> None:
    status, headers, body = ask(server, "/unchanged")
    assert (status, body) == (304, b"")
    assert "content-length" not in headers
    assert headers["etag"] == '"x"'


def test_a_large_answer_arrives_whole(server: Server) -> None:
    assert len(ask(server, "/large")[2]) == 8_000_000


def test_a_view_and_a_websocket_share_a_path(server: Server) -> None:
    with connect(f"ws://127.0.0.1:{server.port}/page") as websocket:
        websocket.send("hello")
        assert websocket.recv(PATIENCE) == "hello"


def test_an_invalid_websocket_handshake_is_refused_at_a_view(server: Server) -> None:
    broken = upgrade_request().replace(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 7")
    assert b" 426 " in raw(server, broken).split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /page HTTP/1.0\r\nHost: localhost\r\n\r\n", 200),
        (b"GET /page HTTP/1.0\r\n\r\n", 200),
        (b"GET /page HTTP/1.1\r\n\r\n", 400),
        (b"GET /page HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /page HTTP/1.1\r\nHost: \xff\r\n\r\n", 400),
        (b"GET /page HTTP/1.1\r\nHost: localhost\r\nBad Header: x\r\n\r\n", 400),
        (b"GET http://localhost/page HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"GET HTTP://localhost/page HTTP/1.1\r\nHost: evil.example\r\n\r\n", 200),
        (b"GET http://evil.example/page HTTP/1.1\r\nHost: localhost\r\n\r\n", 403),
        (b"GET http://localhost?page HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /page HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (b"GET /page HTTP/1.2\r\nHost: localhost\r\n\r\n", 505),
        # What HTTP/2 clients offer is ignored.
        (
            b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            200,
        ),
        (b"GET ftp://localhost/page HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET page HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /page HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", 200),
        (b"GET /page\r\n\r\n", 400),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"\x16\x03\x01\x00\xa5\x01", 400),
    ],
)
def test_requests_of_all_kinds_get_their_status(
    server: Server, request_bytes: bytes, status: int
) -> None:
    assert raw(server, request_bytes).split(b" ")[1] == str(status).encode()
    # The server continues.
    assert ask(server, "/page")[0] == 200


def test_requests_that_arrive_together_are_answered_in_order(server: Server) -> None:
    requests = [b"GET /page?%d HTTP/1.1\r\nHost: localhost\r\n" % number for number in range(4)]
    requests[1] += b"Content-Length: 0\r\n"
    requests[2] += b"Connection: x , Close\r\n"
    answer = raw(server, b"".join(request + b"\r\n" for request in requests))
    assert re.findall(rb"GET /page (\d)", answer) == [b"0", b"1", b"2"]
    assert answer.count(b"Connection: close") == 1


def test_a_slow_request_gets_408(server: Server) -> None:
    assert raw(server, b"GET /page HTTP/1.1\r\n").startswith(b"HTTP/1.1 408 ")


def test_a_client_that_does_not_read_its_answer_is_cut_off(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        # Until all connections have ended.
        ended = threading.Event()
        while not ended.wait(0.01) and server.connections:
            pass
        assert server.connections == 0


def test_dns_rebinding_is_refused(server: Server) -> None:
    """DNS rebinding: the name of another site that resolves to this machine."""
    assert ask(server, "/page", Host="evil.example")[0] == 403


def test_without_routes_there_are_no_pages() -> None:
    with serve(echo) as server:
        assert ask(server, "/")[0] == 426
        status, headers, _ = ask(server, "/", "POST")
        assert (status, headers["allow"]) == (405, "GET")


def test_pages_are_served_over_tls() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with serve(echo, routes=ROUTES, ssl_context=server_context) as server:
        client = http.client.HTTPSConnection(
            "localhost", server.port, timeout=PATIENCE, context=context
        )
        client.request("GET", "/large")
        assert len(client.getresponse().read()) == 8_000_000
        client.close()
