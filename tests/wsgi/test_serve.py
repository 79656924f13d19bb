"""A WSGI application on the port of a hub or a chat."""

from __future__ import annotations

import http.client
import io
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

import httpx
import pytest
import requests
from flask import Flask, Response, request

from syncchat import ChatServer, Client
from syncchat.chat.events import Message, Welcome
from syncchat.net import Server, WebSocket, connect, serve
from tests.peer import PATIENCE, ask_http, read_all
from tests.people import messages, until, url_of
from tests.raw_http import ask as ask_raw

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

flask = Flask("site")
chat: ChatServer


@flask.get("/")
def page() -> str:
    return "the page"


@flask.route("/echo", methods=["POST", "PUT", "PATCH", "DELETE"])
def echo() -> Response:
    return Response(request.get_data(), headers={"M": request.method})


@flask.get("/slow")
def slow() -> Response:
    return Response((f"{number}\n" for number in range(1000)), mimetype="text/plain")


@flask.post("/upload")
def upload() -> dict[str, int | str]:
    file = request.files["file"]
    return {"name": file.filename or "", "size": len(file.read())}


@flask.get("/empty")
def empty() -> tuple[str, int]:
    return "", 204


@flask.get("/teapot")
def teapot() -> Response:
    return Response("short and stout", "299 Odd")


def handler(websocket: WebSocket) -> None:
    for message in websocket:
        websocket.send(message)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(handler, wsgi=flask) as server:
        yield server


def url(server: Server, path: str = "/") -> str:
    return f"http://127.0.0.1:{server.port}{path}"


def served(app: App, **settings: Any) -> Server:
    return serve(handler, wsgi=app, **settings)


# One port.


def test_one_port_is_a_site_and_websockets(server: Server) -> None:
    assert requests.get(url(server), timeout=PATIENCE).text == "the page"
    with connect(f"ws://127.0.0.1:{server.port}/") as websocket:
        websocket.send("x")
        assert websocket.recv(PATIENCE) == "x"
    assert requests.get(url(server, "/nothing"), timeout=PATIENCE).status_code == 404
    assert requests.post(url(server), timeout=PATIENCE).status_code == 405


def test_one_port_is_a_site_with_a_chat() -> None:
    site = Flask("shop")
    chat = ChatServer(port=0, greeting="", wsgi=site, routes={})

    @site.post("/orders")
    def order() -> str:
        chat.say(f"ordered: {request.form['item']}", room="orders")
        return ", ".join(chat.members("orders"))

    with chat, Client(url_of(chat, "/orders"), nick="cook") as cook:
        until(cook, Welcome)
        base = f"http://127.0.0.1:{chat.port}"
        answer = requests.post(f"{base}/orders", data={"item": "tea"}, timeout=PATIENCE)
        assert answer.text == "cook"
        assert messages(until(cook, Message)) == ["ordered: tea"]
        assert requests.get(f"{base}/orders", timeout=PATIENCE).status_code == 405
        assert requests.get(f"{base}/healthz", timeout=PATIENCE).status_code == 200
        assert requests.get(f"{base}/", timeout=PATIENCE).status_code == 404
    with pytest.raises(ValueError, match="application"):
        ChatServer(port=0, web=True, wsgi=site)


def test_a_chat_beside_a_site_takes_its_own_requests_if_it_shall() -> None:
    with ChatServer(port=0, greeting="", wsgi=flask, http=True) as chat:
        base = f"http://127.0.0.1:{chat.port}"
        answer = requests.post(f"{base}/ops?nick=cron", data="backup done", timeout=PATIENCE)
        assert answer.status_code == 201, answer.text
        assert [(each.nick, each.text) for each in chat.history("ops")] == [("cron", "backup done")]
        told = requests.get(f"{base}/ops?history=5&poll=1&format=text", timeout=PATIENCE)
        assert "cron: backup done" in told.text
        assert requests.get(base, timeout=PATIENCE).text == "the page"


def test_a_chat_beside_a_site_leaves_it_all_other_requests() -> None:
    def site(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"the site"]

    stream = {"Accept": "text/event-stream"}
    preflight = {"Access-Control-Request-Method": "POST"}
    with ChatServer(port=0, wsgi=site, http=True, token="t") as chat:

        def text(method: str, path: str, headers: dict[str, str]) -> str:
            target = f"http://127.0.0.1:{chat.port}{path}"
            return requests.request(method, target, headers=headers, timeout=PATIENCE).text

        for method, path, headers in [
            ("POST", "/api/orders", {}),
            ("PUT", "/orders", {}),
            ("DELETE", "/orders/1", {}),
            ("PROPFIND", "/", {}),
            ("GET", "/orders?format=json", {}),
            ("GET", "/api/orders?poll=1", {}),
            ("GET", "/api/events", stream),
            ("OPTIONS", "/api/orders", preflight),
            ("OPTIONS", "/orders", {}),
        ]:
            assert text(method, path, headers) == "the site", (method, path)
        for method, path in [("POST", "/orders"), ("GET", "/orders?poll=1")]:
            assert "A token is required" in text(method, path, {})
        assert text("OPTIONS", "/orders", preflight) == ""


# Requests and answers.


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
def test_bodies_of_every_size_in_one_connection(server: Server, method: str, size: int) -> None:
    body = bytes(number % 251 for number in range(min(size, 1000))) * max(1, size // 1000)
    with requests.Session() as session:
        for _ in range(2):
            answer = session.request(method, url(server, "/echo"), data=body, timeout=PATIENCE)
            assert answer.content == body
            assert answer.headers["M"] == method
            assert "Connection" not in answer.headers


def test_a_chunked_body_and_a_chunked_answer(server: Server) -> None:
    with httpx.Client(timeout=PATIENCE) as client:
        pieces = [b"a" * 1000, b"b" * 70_000, b"c"]
        assert client.post(url(server, "/echo"), content=iter(pieces)).content == b"".join(pieces)
        answer = client.get(url(server, "/slow"))
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.text == "".join(f"{number}\n" for number in range(1000))


def test_expect_continue_and_an_upload(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
        sock.sendall(
            b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n"
            b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert sock.recv(25, socket.MSG_WAITALL) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hello")
        assert read_all(sock).endswith(b"\r\n\r\nhello")
    files = {"file": ("a.bin", io.BytesIO(b"x" * 500_000))}
    answer = requests.post(url(server, "/upload"), files=files, timeout=PATIENCE)
    assert answer.json() == {"name": "a.bin", "size": 500_000}


def test_head_and_statuses_without_a_body(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    for path, status in [("/", 200), ("/slow", 200), ("/empty", 204), ("/nothing", 404)]:
        connection.request("HEAD", path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (status, b"")
    connection.request("GET", "/empty")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (204, b"")
    connection.request("GET", "/teapot")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (299, b"short and stout")
    connection.close()


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
        one = b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\n\r\none"
        two = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        sock.sendall(one + two)
        answer = read_all(sock)
        assert answer.index(b"\r\n\r\none") < answer.index(b"the page")


def test_application_and_server_keep_to_pep_3333(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        seen.append(environ)
        assert environ["wsgi.input"].read(3) == b"one"
        assert environ["wsgi.input"].readline(2) == b"\n"
        assert environ["wsgi.input"].readline(2) == b"tw"
        assert environ["wsgi.input"].readline() == b"o\n"
        assert environ["wsgi.input"].readlines() == [b"three\n", b"four"]
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]

    with served(validator(app)) as server:
        sent = {"X_Forwarded_For": "1.2.3.4", "X-Two": "a", "Proxy": "evil", "Content-Type": "a/b"}
        answer = requests.post(
            url(server, "/a%20b/%C3%A9?x=%20&y"),
            data=b"one\ntwo\nthree\nfour",
            headers=sent,
            timeout=PATIENCE,
        )
    assert (answer.status_code, answer.content) == (200, b"ok"), caplog.text
    assert answer.headers["Content-Length"] == "2"
    environ = seen[0]
    assert environ["PATH_INFO"] == "/a b/Ã©"
    assert environ["QUERY_STRING"] == "x=%20&y"
    assert environ["SERVER_NAME"] == "127.0.0.1"
    assert environ["SERVER_PORT"] == str(server.port)
    assert environ["HTTP_X_TWO"] == "a"
    assert environ["CONTENT_TYPE"] == "a/b"
    assert "HTTP_PROXY" not in environ
    assert "HTTP_X_FORWARDED_FOR" not in environ


def test_the_environment_of_an_old_client_and_of_several_cookies() -> None:
    seen: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append(environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return []

    with served(validator(app)) as server:
        cookies = b"Cookie: a=1\r\nCookie: b=2\r\n"
        answer = ask_raw(server.port, b"GET / HTTP/1.0\r\n" + cookies + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert seen[0]["HTTP_COOKIE"] == "a=1; b=2"
    assert (seen[0]["SERVER_NAME"], seen[0]["SERVER_PORT"]) == ("localhost", "80")
    assert "HTTP_HOST" not in seen[0]


def test_write_and_a_late_start_response() -> None:
    closed: list[bool] = []

    class Late:
        def __init__(self, start_response: Callable[..., Any]) -> None:
            self._start = start_response

        def __iter__(self) -> Iterator[bytes]:
            yield b""
            write = self._start("200 OK", [("X-A", "1")])
            write(b"written ")
            yield b"yielded"
            write(b" late")

        def close(self) -> None:
            closed.append(True)

    with served(lambda _, start_response: Late(start_response)) as server:
        for method, body in (("GET", b"written yielded late"), ("HEAD", b"")):
            status, headers, found = ask_http(server.port, "/", method)
            assert (status, headers["x-a"], found) == (200, "1", body)
            assert "content-type" not in headers
    assert closed == [True, True]


def test_a_connection_serves_many_requests(server: Server) -> None:
    with requests.Session() as session:
        for _ in range(100):
            assert session.get(url(server), timeout=PATIENCE).text == "the page"


# Faults.


@pytest.mark.parametrize(
    "app",
    [
        lambda _environ, _start: 1 / 0,
        lambda _environ, _start: [b"no start_response"],
        lambda _environ, start: start("200 OK", []) and 1 / 0,
        lambda _environ, start: [start("twice 1", [])],
        lambda _environ, start: start("200 OK", [("Bad\r\nName", "x")]) and [b"x"],
        lambda _environ, start: start("200 OK", []) and ["text"],
        lambda _environ, start: start("101 Switching Protocols", []) and [b"x"],
        lambda _environ, start: start("1000 Many", []) and [b"x"],
        lambda _environ, start: start("200 OK", [("Content-Length", "-1")]) and [b"x"],
        lambda _environ, start: start("200 OK", [("Content-Length", "1")] * 2) and [b"x"],
    ],
)
def test_an_application_that_fails_is_a_500_and_is_logged(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    with served(app) as server:
        status, _, body = ask_http(server.port, "/")
        assert (status, body) == (500, b"Internal server error.\n")
        assert ask_http(server.port, "/", "HEAD")[::2] == (500, b"")
    assert "failed" in caplog.text


def test_a_body_is_closed_if_its_head_cannot_be_sent() -> None:
    closed: list[bool] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            yield b"x"

        def close(self) -> None:
            closed.append(True)
            raise ZeroDivisionError

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Body:
        start_response("200 OK", [("X-A", environ["QUERY_STRING"] and "a\nb")])
        return Body()

    with served(app) as server:
        # A failure of close() does not harm an answer that is sent.
        assert ask_http(server.port, "/")[::2] == (200, b"x")
        assert ask_http(server.port, "/?bad")[0] == 500
    assert closed == [True, True]


def test_an_error_after_the_head_breaks_the_answer_off() -> None:
    def app(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"begun"
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            start_response("500 Oh", [], sys.exc_info())
        yield b"an error page"

    with served(app) as server, pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(url(server), timeout=PATIENCE)


def test_an_answer_that_breaks_off_is_seen_by_the_client(caplog: pytest.LogCaptureFixture) -> None:
    def app(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"begun"
        raise ZeroDivisionError

    with served(app) as server, pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(url(server), timeout=PATIENCE)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        (b"Content-Length: 10\r\n", b"short", 400),
        (b"Transfer-Encoding: chunked\r\n", b"zz\r\n", 400),
        (b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n", 400),
        (b"Content-Length: 3\r\nContent-Length: 4\r\n", b"abc", 400),
        (b"Transfer-Encoding: gzip\r\n", b"abc", 400),
    ],
)
def test_a_body_that_is_wrong_is_a_clear_error(
    server: Server, head: bytes, body: bytes, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
        sock.sendall(b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\n" + head + b"\r\n" + body)
        sock.shutdown(socket.SHUT_WR)
        answer = read_all(sock)
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert requests.get(url(server), timeout=PATIENCE).text == "the page"


def test_a_slow_body_is_cut_off_and_harms_nobody() -> None:
    with serve(handler, wsgi=flask, open_timeout=0.5) as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
            sock.sendall(b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nx")
            began = time.monotonic()
            assert requests.get(url(server), timeout=PATIENCE).text == "the page"
            assert read_all(sock).startswith(b"HTTP/1.1 408 ")
            assert time.monotonic() - began < PATIENCE / 2
    assert server.connections == 0
