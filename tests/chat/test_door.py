"""The chat over plain HTTP: curl, httpx, requests and raw sockets say something, and follow."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import itertools
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest

from syncchat import ChatServer, Rejected
from syncchat.chat.hooks import Heard, Visitor
from tests.peer import PATIENCE, ask_http, wait_for
from tests.people import Json, Plain, settled, url_of
from tests.processes import ServerScript
from tests.raw_http import ask as ask_raw

CURL = shutil.which("curl")

NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    with ChatServer(port=0, rate=0) as chat:
        yield chat


class Poster:
    """A client that keeps its connection."""

    def __init__(self, chat: ChatServer) -> None:
        self.client = http.client.HTTPConnection("127.0.0.1", chat.port, timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.client.close()

    def __call__(
        self, body: bytes | str | dict[str, Any] = b"x", path: str = "/ops", **headers: str
    ) -> tuple[int, dict[str, Any]]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, dict):
            body, named = json.dumps(body), {"Content-Type": "application/json", **named}
        data = body.encode() if isinstance(body, str) else body
        self.client.request("POST", path, data, named)
        answer = self.client.getresponse()
        self.headers = answer.headers
        said = json.loads(answer.read())
        assert answer.headers["content-type"] == "application/json"
        if answer.status != 201:
            assert list(said) == ["error"]
            assert said["error"].endswith((".", ")", '"'))
        return answer.status, said


@pytest.fixture
def post(chat: ChatServer) -> Iterator[Poster]:
    with Poster(chat) as poster:
        yield poster


def post_once(chat: ChatServer, body: str = "x", path: str = "/ops", **headers: str) -> int:
    """The status of a request on a connection of its own."""
    with Poster(chat) as post:
        return post(body, path, **headers)[0]


class Lines:
    """A follower of JSON lines."""

    def __init__(self, chat: ChatServer, path: str = "/ops", **headers: str) -> None:
        self.client = http.client.HTTPConnection("127.0.0.1", chat.port, timeout=PATIENCE)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.client.request("GET", path, headers={**NDJSON, **named})
        self.answer = self.client.getresponse()
        assert self.answer.status == 200, self.answer.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.answer.close()
        self.client.close()

    def event(self) -> dict[str, Any]:
        line = self.answer.readline()
        assert line, "the answer has ended"
        event: dict[str, Any] = json.loads(line)
        return event

    def find(self, wanted: str) -> dict[str, Any]:
        """The next event of that kind; others are skipped."""
        while (event := self.event())["type"] != wanted:
            pass
        return event

    def texts(self, count: int) -> list[str]:
        return [self.find("message")["text"] for _ in range(count)]


def curl(*arguments: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    if CURL is None:
        pytest.skip("there is no curl")
    command = [CURL, "--silent", "--show-error", "--max-time", str(PATIENCE), *arguments]
    return subprocess.run(command, input=data, capture_output=True, check=False)


# Saying something.


def test_curl_says_something_that_everybody_gets(chat: ChatServer) -> None:
    with Json(url_of(chat, "/ops?nick=ann")) as ann, Plain(url_of(chat, "/ops?nick=bob")) as bob:
        epoch = ann.event("welcome")["epoch"]
        assert bob.hear()
        with Lines(chat) as follower:
            answer = curl("-d", "backup done", f"http://127.0.0.1:{chat.port}/ops?nick=cron")
            assert json.loads(answer.stdout) == {"epoch": epoch, "offset": 1}
            for listener in (ann, follower):
                message = listener.find("message")
                assert (message["nick"], message["text"]) == ("cron", "backup done")
            while (line := bob.hear()) != "cron: backup done":
                assert "joined" in line


def test_a_message_is_kept_before_it_is_answered(chat: ChatServer, post: Poster) -> None:
    status, place = post("first")
    assert status == 201
    assert post("second")[1] == {"epoch": place["epoch"], "offset": 2}
    with Json(url_of(chat, "/ops?history=5")) as client:
        assert client.event("welcome")["epoch"] == place["epoch"]
        texts = [message["text"] for message in client.event("history")["messages"]]
        assert texts == ["first", "second"]


def test_posts_count_as_messages_in_the_statistics(chat: ChatServer, post: Poster) -> None:
    assert post()[0] == post()[0] == 201
    assert post("")[0] == 400
    # Those of an open connection, and of an ended one.
    assert chat.stats().messages_in == 2
    post.client.close()
    wait_for(lambda: chat.stats().connections == 0)
    assert chat.stats().messages_in == 2


def test_the_same_key_again_is_kept_once(chat: ChatServer, post: Poster) -> None:
    with Lines(chat) as follower:
        answers = [post("once", Idempotency_Key="k 1") for _ in range(3)]
        assert answers == [(201, {"epoch": answers[0][1]["epoch"], "offset": 1})] * 3
        # Quotes as in the draft of the header; and as JSON.
        assert post("once", Idempotency_Key='"k 1"') == answers[0]
        assert post({"text": "once", "nonce": "k 1"}) == answers[0]
        assert post("last")[1]["offset"] == 2
        assert follower.texts(2) == ["once", "last"]


def test_a_client_with_a_websocket_and_one_without_share_a_nonce(
    chat: ChatServer, post: Poster
) -> None:
    with Json(url_of(chat, "/ops")) as client:
        client.ask(type="say", text="hello", nonce="n")
        assert client.find("message")["offset"] == 1
        assert post("hello", Idempotency_Key="n")[1]["offset"] == 1


def test_json_says_who_and_how(chat: ChatServer, post: Poster) -> None:
    with Lines(chat) as follower:
        post({"text": "waves", "kind": "action", "nick": "Zoë", "more": 1})
        message = follower.find("message")
        assert (message["nick"], message["kind"]) == ("Zoë", "action")
        # The URL has precedence.
        post({"text": "x", "nick": "json"}, "/ops?nick=url")
        assert follower.find("message")["nick"] == "url"


def test_texts_are_taken_as_they_are_and_sanitized(chat: ChatServer, post: Poster) -> None:
    said = {
        "a=b&c=%20": "a=b&c=%20",
        "one\ntwo\n": "one\ntwo",
        "/nick eve": "/nick eve",
        "red\x1b[31m\u202e!": "red[31m!",
        "grüß dich 👋": "grüß dich 👋",
    }
    with Lines(chat) as follower:
        for text, shown in said.items():
            form = "application/x-www-form-urlencoded"
            assert post(text, Content_Type=form)[0] == 201
            assert follower.texts(1) == [shown]
        assert post("x", Content_Type="text/plain; charset=UTF-8")[0] == 201


def test_an_unnamed_sender_has_its_address(chat: ChatServer, post: Poster) -> None:
    with Lines(chat) as follower:
        post("x")
        assert post.client.sock is not None
        host, port = post.client.sock.getsockname()
        assert follower.find("message")["nick"] == f"{host}:{port}"


def test_the_path_names_the_room(chat: ChatServer, post: Poster) -> None:
    with Lines(chat, "/") as lobby, Lines(chat, "/caf%C3%A9") as cafe:
        post("in the lobby", "/")
        post("in the café", "/CAF%C3%89/")
        assert lobby.texts(1) == ["in the lobby"]
        assert cafe.texts(1) == ["in the café"]


REFUSED: dict[str, tuple[int, bytes | str | dict[str, Any], str, dict[str, str]]] = {
    "empty": (400, "", "/ops", {}),
    "only a newline": (400, "\n", "/ops", {}),
    "only control characters": (400, "\0\x1b", "/ops", {}),
    "an empty nick": (400, "x", "/ops?nick=", {}),
    "a nick like a command": (400, "x", "/ops?nick=@ann", {}),
    "not UTF-8": (400, b"\xff", "/ops", {}),
    "not JSON": (400, "{", "/ops", {"Content-Type": "application/json"}),
    "JSON without text": (400, {"nick": "x"}, "/ops", {}),
    "JSON with a wrong kind": (400, {"text": "x", "kind": "shout"}, "/ops", {}),
    "deep JSON": (400, b"[" * 5000, "/ops", {"Content-Type": "application/json"}),
    "an empty nonce": (400, {"text": "x", "nonce": ""}, "/ops", {}),
    "an empty key": (400, "x", "/ops", {"Idempotency-Key": '""'}),
    "a long key": (400, "x", "/ops", {"Idempotency-Key": "k" * 65}),
    "a reserved nick": (400, "x", "/ops?nick=server", {}),
    "an address as nick": (400, "x", "/ops?nick=127.0.0.1:80", {}),
    "a nick in JSON": (400, {"text": "x", "nick": "a b"}, "/ops", {}),
    "a bad room": (400, "x", "/a%20b", {}),
    "no room": (404, "x", "/a/b", {}),
    "a long message": (413, "x" * 5001, "/ops", {}),
    "a long message as JSON": (413, {"text": "€" * 2000}, "/ops", {}),
    "a very long body": (413, "x" * 100_000, "/ops", {}),
    "many lines": (413, {"text": "\n" * 4096}, "/ops", {}),
    "a picture": (415, "x", "/ops", {"Content-Type": "image/png"}),
    "a form": (415, "x", "/ops", {"Content-Type": "multipart/form-data; boundary=x"}),
    "a bomb": (415, gzip.compress(b"x" * 1000), "/ops", {"Content-Encoding": "gzip"}),
    "Latin-1": (415, "x", "/ops", {"Content-Type": "text/plain; charset=latin-1"}),
    "a foreign page": (403, "x", "/ops", {"Origin": "https://evil.example"}),
    "a page in a sandbox": (403, "x", "/ops", {"Origin": "null"}),
    "another host": (403, "x", "/ops", {"Host": "evil.example"}),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_each_refusal_is_a_sentence_and_keeps_nothing(
    case: tuple[int, bytes | str | dict[str, Any], str, dict[str, str]],
) -> None:
    status, body, path, headers = case
    with ChatServer(port=0, rate=0, max_message=5000) as chat:
        with Poster(chat) as post:
            found, _ = post(body, path, **{k.replace("-", "_"): v for k, v in headers.items()})
        assert found == status
        assert chat.rooms() == []
        settled(chat, 0)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "X"])
def test_other_methods_are_405(chat: ChatServer, method: str) -> None:
    status, headers, body = ask_http(chat.port, "/ops", method)
    assert (status, headers["allow"]) == (405, "GET, HEAD, POST, OPTIONS")
    assert json.loads(body)["error"].startswith("Only GET, HEAD, POST and OPTIONS")


def test_a_nick_that_somebody_has_is_409(chat: ChatServer, post: Poster) -> None:
    with Json(url_of(chat, "/ops?nick=Cron")) as member:
        member.event("welcome")
        assert post("x", "/ops?nick=cron")[0] == 409
        assert post("x", "/other?nick=cron")[0] == 201
        assert post("x", "/ops?nick=cron2")[0] == 201
    settled(chat, 1)
    assert post("x", "/ops?nick=cron")[0] == 201


def test_a_flood_is_429_and_another_address_is_not() -> None:
    with ChatServer(port=0, rate=0.2, burst=3) as chat, Poster(chat) as post:
        assert [post()[0] for _ in range(5)] == [201, 201, 201, 429, 429]
        assert 1 <= int(post.headers["retry-after"]) <= 5
        # For each connection of the same address.
        assert post_once(chat) == 429
        request = b"POST /ops HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        request += b"Content-Length: 1\r\n\r\nx"
        assert b" 201 " in ask_raw(chat.port, request, "127.0.0.2")
        assert b" 429 " in ask_raw(chat.port, request, "127.0.0.1")
        # A poll is a request; a follower is none, since all of them come back together.
        assert ask_http(chat.port, "/ops?poll=1")[0] == 429
        with Lines(chat, history="0") as follower:
            assert follower.event()["type"] == "welcome"


def test_the_token_is_checked() -> None:
    with ChatServer(port=0, token="secret") as chat, Poster(chat) as post:
        url = f"http://127.0.0.1:{chat.port}/ops"
        assert post_once(chat) == 401
        assert post(Authorization="Bearer wrong")[0] == 401
        assert post.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert post_once(chat, Authorization="Bearer secret") == 201
        assert post_once(chat, path="/ops?token=secret") == 201
        answer = curl("-H", "Authorization: Bearer secret", "-d", "x", url)
        assert json.loads(answer.stdout)["offset"] == 3
        status, _, body = ask_http(chat.port, "/ops", Accept="text/event-stream")
        assert (status, json.loads(body)) == (401, {"error": "A token is required."})
        with Lines(chat, Authorization="Bearer secret"):
            pass


def test_a_full_server_is_503_and_followers_count() -> None:
    with ChatServer(port=0, max_connections=2) as chat, Lines(chat) as one, Lines(chat) as two:
        assert {one.event()["type"], two.event()["type"]} == {"welcome"}
        assert post_once(chat) == 503
        status, _, body = ask_http(chat.port, "/ops", Accept="application/x-ndjson")
        assert (status, json.loads(body)["error"]) == (
            503,
            "Too many clients: the operator can raise --max-connections.",
        )
        # The page and the health are answered.
        assert ask_http(chat.port, "/ops")[0] == 200
        assert ask_http(chat.port, "/healthz")[0] == 200


def test_too_many_clients_of_an_address_are_503() -> None:
    with ChatServer(port=0, max_connections_per_address=1) as chat, Lines(chat):
        assert post_once(chat) == 503
        request = b"POST /ops HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        request += b"Content-Length: 1\r\n\r\nx"
        assert b" 201 " in ask_raw(chat.port, request, "127.0.0.2")


def test_too_many_rooms_are_503() -> None:
    with ChatServer(port=0, max_rooms=1, rate=0) as chat, Poster(chat) as post:
        assert post(path="/one")[0] == 201
        assert post(path="/two")[0] == 503
        assert ask_http(chat.port, "/two?poll=1")[0] == 503


def test_chunks_and_expect_work_with_curl(chat: ChatServer) -> None:
    url = f"http://127.0.0.1:{chat.port}/ops"
    with Lines(chat) as follower:
        chunked = ("-H", "Transfer-Encoding: chunked", "--data-binary", "@-", url)
        assert b'"offset":1' in curl(*chunked, data=b"in chunks\n").stdout
        expect = ("-v", "-H", "Expect: 100-continue", "-d", "expected", url)
        answer = curl(*expect)
        assert b'"offset":2' in answer.stdout
        assert b"100 Continue" in answer.stderr
        assert follower.texts(2) == ["in chunks", "expected"]


def test_curl_keeps_its_connection(chat: ChatServer) -> None:
    url = f"http://127.0.0.1:{chat.port}/ops"
    answer = curl("-v", "-d", "x", url, url, url)
    assert [json.loads(line)["offset"] for line in answer.stdout.splitlines()] == [1, 2, 3]
    assert answer.stderr.lower().count(b"re-using existing") == 2
    assert chat.stats().connections_total == 0


def test_messages_that_arrive_together_keep_their_order(chat: ChatServer) -> None:
    with Lines(chat) as follower:
        body = [b"number %d" % number for number in range(50)]
        requests = [
            b"POST /ops HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
            % (len(text), text)
            for text in body
        ]
        with socket.create_connection(("127.0.0.1", chat.port), timeout=PATIENCE) as sock:
            sock.sendall(b"".join(requests))
            assert follower.texts(50) == [text.decode() for text in body]
            received = b""
            while received.count(b"HTTP/1.1 201") < 50:
                received += sock.recv(65536)


def test_many_publishers_at_once(chat: ChatServer) -> None:
    def publish(number: int) -> list[int]:
        with Poster(chat) as post:
            return [post(f"{number} {each}")[1]["offset"] for each in range(25)]

    with Lines(chat) as follower, ThreadPoolExecutor(8) as pool:
        offsets = list(itertools.chain(*pool.map(publish, range(8))))
        assert sorted(offsets) == list(range(1, 201))
        texts = follower.texts(200)
    for number in range(8):
        own = [text for text in texts if text.startswith(f"{number} ")]
        assert own == [f"{number} {each}" for each in range(25)]


def test_a_stop_keeps_what_it_has_answered(tmp_path: Path) -> None:
    chat = ChatServer(port=0, rate=0, engine=f"sqlite:{tmp_path / 'log.db'}")
    kept: list[str] = []
    with chat:

        def publish() -> None:
            with Poster(chat) as post, contextlib.suppress(OSError, http.client.HTTPException):
                for number in map(str, itertools.count()):
                    assert post(number)[0] == 201
                    kept.append(number)

        thread = threading.Thread(target=publish)
        thread.start()
        wait_for(lambda: len(kept) > 20)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    with chat:
        texts = [message.text for message in chat.history("ops", 100_000)]
    assert texts[: len(kept)] == kept
    assert len(texts) - len(kept) <= 1


# Following.


def test_a_follower_gets_what_a_member_gets(chat: ChatServer) -> None:
    with Lines(chat) as follower:
        welcome = follower.event()
        assert (welcome["type"], welcome["nick"], welcome["members"]) == ("welcome", "", [])
        with Json(url_of(chat, "/ops?nick=ann")) as ann:
            # Nobody is told of a follower.
            assert ann.event("welcome")["members"] == ["ann"]
            joined = follower.event()
            assert (joined["type"], joined["nick"], joined["connected"]) == ("joined", "ann", 1)
            ann.ask(type="say", text="hello")
            message = follower.event()
            assert message == ann.find("message")
            ann.ask(type="nick", nick="anna")
            assert follower.event() == ann.find("renamed")
        assert follower.event()["type"] == "left"
    assert [room.connected for room in chat.rooms()] == [0]


def test_history_and_positions(chat: ChatServer, post: Poster) -> None:
    places = [post(str(number))[1] for number in range(1, 6)]
    epoch = places[0]["epoch"]

    def get(path: str, **headers: str) -> list[dict[str, Any]]:
        status, _, body = ask_http(chat.port, path, **headers)
        assert status == 200
        return [json.loads(line) for line in body.splitlines()]

    def texts(path: str, **headers: str) -> list[str]:
        return [event["text"] for event in get(path, **headers) if event["type"] == "message"]

    assert texts("/ops?poll=1") == ["1", "2", "3", "4", "5"]
    assert texts("/ops?poll") == ["1", "2", "3", "4", "5"]
    assert texts("/ops?poll=1&history=2") == ["4", "5"]
    assert texts(f"/ops?poll=1&after={epoch}:3") == ["4", "5"]
    assert texts(f"/ops?poll=1&after={epoch}:5") == []
    # An EventSource repeats its URL.
    assert texts("/ops?poll=1&history=5", Last_Event_ID=f"{epoch}:4") == ["5"]
    welcome, gap, *_ = get("/ops?poll=1&after=other:2")
    assert (welcome["epoch"], welcome["offset"]) == (epoch, 5)
    assert gap == {"type": "history", "messages": [], "complete": False}
    assert len(texts("/ops?poll=1&after=other:2")) == 5
    assert texts("/empty?poll=1") == []
    assert [room.room for room in chat.rooms()] == ["ops"]
    with Lines(chat, f"/ops?after={epoch}:4") as follower:
        post("6")
        assert follower.texts(2) == ["5", "6"]
    for path in ("/ops?poll=1&after=x", "/ops?poll=1&history=x", "/ops?format=xml"):
        assert ask_http(chat.port, path)[0] == 400
    assert ask_http(chat.port, "/ops?poll=1", Last_Event_ID="x")[0] == 400


def test_a_long_history_is_sent_in_pieces_and_live_messages_follow(chat: ChatServer) -> None:
    big = ChatServer(port=0, rate=0, keep=None)
    with big:
        for number in range(3000):
            big.say(f"{number} {'x' * 500}", "ops")
        kept = [message.text for message in big.history("ops", 5000)]
        epoch = json.loads(ask_http(big.port, "/ops?poll=1&history=0")[2].splitlines()[0])["epoch"]
        with Lines(big, f"/ops?after={epoch}:2000") as follower:
            big.say("live", "ops")
            assert follower.texts(len(kept) + 1) == [*kept, "live"]


def test_an_event_stream_has_ids_and_types(chat: ChatServer, post: Poster) -> None:
    epoch = post("one")[1]["epoch"]
    client = http.client.HTTPConnection("127.0.0.1", chat.port, timeout=PATIENCE)
    client.request("GET", "/ops?history=9", headers={"Accept": "text/event-stream, */*;q=0.1"})
    answer = client.getresponse()
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-store"

    def block() -> dict[str, str]:
        fields = {}
        while line := answer.readline().rstrip(b"\n"):
            name, _, value = line.decode().partition(": ")
            fields[name] = value
        return fields

    first = block()
    assert (first["id"], json.loads(first["data"])["text"]) == (f"{epoch}:1", "one")
    welcome = block()
    assert (welcome["event"], welcome["id"], welcome["retry"]) == ("welcome", f"{epoch}:1", "1000")
    post("two\nlines")
    second = block()
    assert (second["id"], json.loads(second["data"])["text"]) == (f"{epoch}:2", "two\nlines")
    assert "event" not in second
    with Json(url_of(chat, "/ops?nick=ann")) as ann:
        ann.event("welcome")
        joined = block()
        assert (joined["event"], json.loads(joined["data"])["nick"]) == ("joined", "ann")
        assert "id" not in joined
    client.close()


def test_text_is_for_people(chat: ChatServer, post: Poster) -> None:
    post("one", "/ops?nick=ann")
    if CURL is None:
        pytest.skip("there is no curl")
    url = f"http://127.0.0.1:{chat.port}/ops?format=text&history=1"
    command = [CURL, "--silent", "--no-buffer", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"-> This is ops.\n"
        assert process.stdout.readline() == b"ann: one\n"
        post("two\nlines", "/ops?nick=ann")
        assert process.stdout.readline() == b"ann: two\n"
        assert process.stdout.readline() == b"    lines\n"
        chat.stop()
        # The stop is orderly.
        assert process.wait(PATIENCE) == 0


def test_the_page_and_other_views_stay(chat: ChatServer) -> None:
    for accept in ("text/html,application/xhtml+xml,*/*;q=0.8", "*/*", ""):
        status, headers, _ = ask_http(chat.port, "/ops", Accept=accept)
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert ask_http(chat.port, "/healthz", Accept="text/event-stream")[0] == 200
    assert ask_http(chat.port, "/-/app.js", Accept="text/event-stream")[0] == 200
    assert ask_http(chat.port, "/-/app.js", "POST")[0] == 405
    assert ask_http(chat.port, "/healthz", "POST")[0] == 405


def test_head_has_the_type_and_enters_no_room(chat: ChatServer) -> None:
    status, headers, body = ask_http(chat.port, "/ops", "HEAD", Accept="text/event-stream")
    assert (status, headers["content-type"], body) == (200, "text/event-stream", b"")
    assert ask_http(chat.port, "/ops?poll=1", "HEAD")[0] == 200
    assert chat.rooms() == []


def test_without_http_there_is_only_the_page() -> None:
    with ChatServer(port=0, http=False) as chat:
        status, headers, _ = ask_http(chat.port, "/ops", "POST")
        assert (status, headers["allow"]) == (405, "GET, HEAD")
        status, headers, _ = ask_http(chat.port, "/ops", Accept="text/event-stream")
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    with ChatServer(port=0, web=False) as chat:
        assert ask_http(chat.port, "/ops")[0] == 426
        assert post_once(chat) == 201


def test_a_page_of_an_allowed_origin_may_use_the_chat() -> None:
    origin = "https://site.example"
    with ChatServer(port=0, origins=[origin], token="secret") as chat, Poster(chat) as post:
        ask = {"Access_Control_Request_Method": "POST", "Origin": origin}
        status, headers, _ = ask_http(chat.port, "/ops", "OPTIONS", **ask)
        assert (status, headers["access-control-allow-origin"]) == (204, origin)
        assert "POST" in headers["access-control-allow-methods"]
        allowed = headers["access-control-allow-headers"].lower()
        assert {"authorization", "idempotency-key", "content-type"} <= set(allowed.split(", "))
        foreign = {**ask, "Origin": "https://evil.example"}
        assert ask_http(chat.port, "/ops", "OPTIONS", **foreign)[0] == 403
        assert ask_http(chat.port, "/ops", "OPTIONS", Origin=origin)[0] == 401
        assert post("x", "/ops?token=secret", Origin=origin)[0] == 201
        assert post.headers["access-control-allow-origin"] == origin
        assert post("", "/ops?token=secret", Origin=origin)[0] == 400
        assert post.headers["access-control-allow-origin"] == origin
        with Lines(chat, "/ops?token=secret", Origin=origin) as follower:
            assert follower.answer.headers["access-control-allow-origin"] == origin
            assert follower.answer.headers["vary"] == "Origin"


def test_followers_are_cut_off_when_the_log_begins_anew_or_the_server_stops(
    chat: ChatServer,
) -> None:
    with Lines(chat) as follower, Lines(chat, "/other") as other:
        assert follower.event()["type"] == other.event()["type"] == "welcome"
        chat.stop()
        assert follower.answer.readline() == other.answer.readline() == b""


def test_a_slow_follower_is_told_and_cut_off_and_harms_nobody() -> None:
    lines: list[str] = []
    settings: Any = {"max_backlog": 100_000, "close_timeout": 0.5, "log": lines.append}
    with ChatServer(port=0, rate=0, **settings) as chat, Lines(chat, "/ops") as quick:
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.settimeout(PATIENCE)
            slow.connect(("127.0.0.1", chat.port))
            slow.sendall(
                b"GET /ops HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
            )
            wait_for(lambda: chat.stats().connections == 2)
            received = slow.recv(100)
            for number in itertools.count():
                chat.say(f"{number} {'x' * 10_000}", "ops")
                assert quick.texts(1)
                if chat.stats().slow_consumers:
                    break
            while data := slow.recv(65536):
                received += data
        assert b'event: failure\ndata: {"type":"error"' in received
        # The answer breaks off.
        assert not received.endswith(b"0\r\n\r\n")
        settled(chat, 1)
        chat.say("still here", "ops")
        assert quick.texts(1) == ["still here"]
    assert any("too slow" in line for line in lines)


def test_a_nick_that_somebody_takes_during_on_message_is_409() -> None:
    def on_message(_heard: Heard) -> None:
        member.append(stack.enter_context(Json(url_of(chat, "/ops?nick=ann"))))
        # A member gets answers; a client gets its welcome just before it becomes one.
        member[0].ask(type="names")
        member[0].find("names")

    member: list[Json] = []
    with ChatServer(port=0, rate=0, on_message=on_message) as chat, Poster(chat) as post:
        with contextlib.ExitStack() as stack:
            assert post("hello", "/ops?nick=ann")[0] == 409
            assert chat.history("ops") == []


def test_hooks_apply_to_programs_without_a_websocket() -> None:
    seen: list[str] = []

    def on_message(heard: Heard) -> str | None:
        seen.append(f"{heard.nick} in {heard.room}: {heard.text}")
        if "spam" in heard.text:
            raise Rejected("No spam.")
        return heard.text.upper()

    def on_join(visitor: Visitor) -> None:
        if visitor.room == "private":
            raise Rejected("This room is private.")
        seen.append(f"join {visitor.nick!r}")

    def on_leave(visitor: Visitor) -> None:
        seen.append(f"leave {visitor.nick!r}")

    hooks: Any = {"on_message": on_message, "on_join": on_join, "on_leave": on_leave}
    with ChatServer(port=0, rate=0, **hooks) as chat, Poster(chat) as post:
        with Lines(chat) as follower:
            assert post("hello", "/ops?nick=ann")[0] == 201
            assert follower.texts(1) == ["HELLO"]
            assert post("spam") == (403, {"error": "No spam."})
        for path in ("/private", "/private?poll=1"):
            status, _, body = ask_http(chat.port, path, Accept="application/x-ndjson")
            assert (status, json.loads(body)) == (403, {"error": "This room is private."})
        wait_for(lambda: seen[-1] == "leave ''")
        assert seen[:2] == ["join ''", "ann in ops: hello"]


def test_idle_followers_need_no_threads(chat: ChatServer, post: Poster) -> None:
    def connections() -> list[str]:
        names = [thread.name for thread in threading.enumerate()]
        return [name for name in names if name.startswith("syncchat 127.")]

    followers = [Lines(chat, "/ops?history=1") for _ in range(50)]
    try:
        wait_for(lambda: not connections())
        post("x")
        for follower in followers:
            assert follower.texts(1) == ["x"]
        assert len(connections()) <= 1
        assert chat.stats().connections == 51
    finally:
        for follower in followers:
            follower.__exit__()
    settled(chat, 1)


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_followers_leave_nothing(engine: str, tmp_path: Path) -> None:
    name = "memory:" if engine == "memory" else f"sqlite:{tmp_path / 'log.db'}"
    with ChatServer(port=0, engine=name) as chat:
        for _ in range(5):
            followers = [Lines(chat, f"/room{number}") for number in range(10)]
            assert len(chat.rooms()) == 10
            for follower in followers:
                follower.__exit__()
            settled(chat, 0)
            assert chat.rooms() == []
    assert not [each.name for each in threading.enumerate() if each.name.startswith("syncchat")]


def test_the_log_tells_of_followers_and_posts() -> None:
    with ServerScript() as server:
        url = f"http://127.0.0.1:{server.port}/ops"
        curl("-d", "hello\x1b", f"{url}?nick=cron")
        server.wait_for_line(r"Received from 127\.0\.0\.1:\d+: hello\\x1b")
        curl(f"{url}?poll=1")
        server.wait_for_line(r"New connection from 127\.0\.0\.1:\d+")
        server.wait_for_line(r"Client 127\.0\.0\.1:\d+ disconnected")
        curl("-d", "", url)
        server.wait_for_line(r"Refused 127\.0\.0\.1:\d+: 400 The message is empty\.")


# Other libraries.


def test_httpx_publishes_and_follows(chat: ChatServer) -> None:
    httpx = pytest.importorskip("httpx", reason="pip install '.[test]'")
    url = f"http://127.0.0.1:{chat.port}/ops"
    with httpx.Client(timeout=PATIENCE) as client:
        epoch = client.post(url, json={"text": "one", "nick": "x"}).json()["epoch"]
        with client.stream("GET", url, params={"after": f"{epoch}:0"}, headers=NDJSON) as answer:
            events = (json.loads(line) for line in answer.iter_lines() if line)
            assert next(events)["type"] == "welcome"
            assert next(events)["text"] == "one"
            assert client.post(url, content=b"two").status_code == 201
            assert next(events)["text"] == "two"


def test_requests_publishes_and_follows(chat: ChatServer) -> None:
    requests = pytest.importorskip("requests", reason="pip install '.[test]'")
    url = f"http://127.0.0.1:{chat.port}/ops"
    with requests.Session() as session, requests.Session() as other:
        with session.get(url, headers=NDJSON, stream=True, timeout=PATIENCE) as answer:
            events = (json.loads(line) for line in answer.iter_lines(chunk_size=1) if line)
            assert next(events)["type"] == "welcome"
            assert other.post(url, data="one", timeout=PATIENCE).json()["offset"] == 1
            assert other.post(url, data=iter([b"t", b"wo"]), timeout=PATIENCE).status_code == 201
            assert [next(events)["text"] for _ in range(2)] == ["one", "two"]
