"""The health check and the metrics."""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from syncchat import ChatServer, Client, HandshakeRefused, __version__
from syncchat.chat.events import Error, Welcome
from syncchat.health import Board, Counts, Numbers, Snapshot
from syncchat.net import Request, Response
from tests.peer import PATIENCE, ask_http, read_all, wait_for
from tests.people import until, url_of
from tests.processes import ROOT, environment


def ask(
    chat: ChatServer, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], str]:
    status, told, body = ask_http(chat.port, path, method, **headers)
    return status, told, body.decode()


def metrics(chat: ChatServer) -> dict[str, float]:
    """The samples by name and labels."""
    _, _, text = ask(chat, "/metrics")
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_healthy_server_answers_200(tmp_path: Path, kind: str) -> None:
    engine = "memory:" if kind == "memory" else f"sqlite:{tmp_path / 'chat.db'}"
    before = time.monotonic()
    with ChatServer(port=0, engine=engine) as chat:
        started = time.monotonic()
        wait_for(lambda: time.monotonic() > started + 0.05)
        status, headers, text = ask(chat, "/healthz")
        assert status == 200
        assert headers["content-type"] == "application/json"
        assert headers["cache-control"] == "no-store"
        state = json.loads(text)
        # The server rounds to milliseconds.
        assert 0.05 <= state.pop("uptime") <= time.monotonic() - before + 0.001
        assert state == {"status": "ok", "version": __version__, "engine": kind}
        assert ask(chat, "/healthz", "HEAD")[::2] == (200, "")
        assert ask(chat, "/healthz", "POST")[0] == 405


def test_a_file_that_cannot_be_written_is_503_with_the_reason_until_it_can(
    tmp_path: Path, pragma: Callable[[str], None]
) -> None:
    file, elsewhere = tmp_path / "chat.db", tmp_path / "elsewhere"
    (tmp_path / "link").symlink_to(file)
    with (
        ChatServer(port=0, engine=f"sqlite:{tmp_path / 'link'}", notices=False) as chat,
        Client(url_of(chat)) as client,
    ):
        until(client, Welcome)
        pragma("max_page_count = 1")
        client.say("x" * 60_000)
        until(client, Error)
        status, _, text = ask(chat, "/healthz")
        assert status == 503
        assert json.loads(text)["reason"] == "database or disk is full"
        pragma("max_page_count = 1000000")
        # Although nobody has said anything since.
        wait_for(lambda: ask(chat, "/healthz")[0] == 200)
        client.say("there is room again")
        client.flush(PATIENCE)
        # What is written to a file that nobody finds is lost.
        for path in (file, tmp_path / "chat.db-wal"):
            path.rename(elsewhere)
            status, _, text = ask(chat, "/healthz")
            assert (status, json.loads(text)["reason"]) == (503, "the file was removed or replaced")
            client.say("lost?")
            error = until(client, Error)[-1]
            assert isinstance(error, Error)
            assert error.code == "unavailable"
            path.write_bytes(elsewhere.read_bytes())
            assert ask(chat, "/healthz")[0] == 503
            elsewhere.rename(path)
            client.say("found again")
            client.flush(PATIENCE)
            assert ask(chat, "/healthz")[0] == 200
        kept = [each.text for each in chat.history()]
        assert kept == ["there is room again", "found again", "found again"]


def test_the_metrics_are_correct_and_in_prometheus_format(tmp_path: Path) -> None:
    with ChatServer(port=0, engine=f"sqlite:{tmp_path / 'chat.db'}", rate=0) as chat:
        with Client(url_of(chat), nick="ann") as ann, Client(url_of(chat), nick="bob") as bob:
            for number in range(30):
                ann.say(str(number))
            ann.flush(PATIENCE)
            # A batch is counted when it has been delivered to all.
            wait_for(lambda: metrics(chat)["syncchat_delivery_seconds_count"] == 30)
            # The two clients and this request; the previous request may still be counted.
            wait_for(lambda: metrics(chat)["syncchat_connections"] == 3)
            found = metrics(chat)
            assert found["syncchat_connections_total"] == 2
            assert found["syncchat_messages_in_total"] == 30
            # All to ann, and some to bob, who may have joined later.
            assert found["syncchat_messages_out_total"] > 30
            assert found["syncchat_bytes_in_total"] > 30 * 20
            assert found["syncchat_bytes_out_total"] > 30 * 60
            assert found["syncchat_slow_consumers_total"] == 0
            assert found["syncchat_backlog_bytes"] == 0
            assert found["syncchat_batch_messages_sum"] == 30
            assert found["syncchat_delivery_seconds_count"] == 30
            assert found["syncchat_delivery_seconds_bucket[+Inf]"] == 30
            assert 0 < found["syncchat_delivery_seconds_sum"] < 30 * PATIENCE
            batches = found["syncchat_batch_messages_count"]
            assert found["syncchat_commit_seconds_count"] == batches
            assert found[f"syncchat_info[{__version__}]"] == 1
            assert bob.connected
        with socket.create_connection(("127.0.0.1", chat.port), timeout=PATIENCE) as sock:
            sock.sendall(b"nonsense\r\n\r\n")
            read_all(sock)
        wait_for(lambda: metrics(chat).get("syncchat_refused_total[400]") == 1)


def test_a_server_without_room_for_clients_still_answers_http() -> None:
    with ChatServer(port=0, max_connections=1) as chat, Client(url_of(chat)) as client:
        wait_for(lambda: client.connected)
        assert ask(chat, "/healthz")[0] == 200
        assert ask(chat, "/")[0] == 200
        with pytest.raises(HandshakeRefused) as refused:
            Client(url_of(chat)).connect()
        assert refused.value.status == 503


def test_an_unknown_version_of_the_metrics_format_is_no_error() -> None:
    with ChatServer(port=0) as chat:
        accept = "application/openmetrics-text; version=abc"
        assert ask(chat, "/metrics", Accept=accept)[0] == 200


def test_a_request_from_another_machine_needs_the_token() -> None:
    # A request through a proxy on this machine comes from loopback, too.
    elsewhere = {"X_Forwarded_For": "192.0.2.1"}
    with ChatServer(port=0, token="s3cret") as chat:
        for path in ("/healthz", "/metrics"):
            assert ask(chat, path)[0] == 200
            assert ask(chat, path, **elsewhere)[0] == 401
            assert ask(chat, path, Authorization="Bearer wrong", **elsewhere)[0] == 401
            assert ask(chat, path, Authorization="Bearer s3cret", **elsewhere)[0] == 200
    with ChatServer(host="0.0.0.0", port=0) as chat:
        for path in ("/healthz", "/metrics"):
            # A web page that uses DNS rebinding, and an invalid name.
            assert ask(chat, path, Host="evil.example")[0] == 403
            assert ask(chat, path, Host="[")[0] == 403
            assert ask(chat, path, Host="localhost:80")[0] == 200
            status, _, text = ask(chat, path, **elsewhere)
            assert (status, text) == (403, "This is available on the server's own machine only.\n")


def test_without_prometheus_client_metrics_are_404_with_a_hint() -> None:
    program = """if True:
        import sys, urllib.error, urllib.request
        sys.modules["prometheus_client"] = None
        from syncchat import ChatServer
        with ChatServer(port=0) as chat:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{chat.port}/metrics")
            except urllib.error.HTTPError as exc:
                print(exc.code, exc.read().decode())
    """
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
        cwd=ROOT,
        env=environment(),
    )
    assert result.stdout.startswith("404 Metrics are not available. Install them")


def test_an_embedding_program_can_add_routes() -> None:
    def hello(request: Request) -> Response:
        return Response(f"<p>Hello from {request.path}".encode(), "text/html; charset=utf-8")

    with ChatServer(port=0, routes={"/hello": hello}) as chat:
        status, headers, text = ask(chat, "/hello")
        assert (status, text) == (200, "<p>Hello from /hello")
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert ask(chat, "/healthz")[0] == 200


def test_a_server_tells_the_worst_and_the_sum_of_its_siblings() -> None:
    siblings: list[Snapshot] = []
    with ChatServer(port=0, siblings=lambda: siblings) as chat, Client(url_of(chat)) as client:
        client.say("hello")
        client.flush(PATIENCE)
        assert chat.snapshot().failure is None
        wait_for(lambda: metrics(chat)["syncchat_batch_messages_sum"] == 1)
        numbers = chat.snapshot().numbers
        numbers = replace(numbers, stats=dataclasses.replace(numbers.stats, connections=100))
        siblings += [Snapshot(numbers), Snapshot(numbers)]
        found = metrics(chat)
        assert found["syncchat_messages_in_total"] == 3
        assert found["syncchat_batch_messages_sum"] == 3
        assert found["syncchat_batch_messages_bucket[+Inf]"] == 3
        assert 200 < found["syncchat_connections"] < 210
        assert ask(chat, "/healthz")[0] == 200
        siblings.append(Snapshot(failure="its disk is full"))
        status, _, text = ask(chat, "/healthz")
        assert (status, json.loads(text)["reason"]) == (503, "its disk is full")
        # The numbers of one that has ended still count, but its clients do not.
        siblings[0] = Snapshot(numbers.ended())
        found = metrics(chat)
        assert found["syncchat_messages_in_total"] == 3
        assert 100 < found["syncchat_connections"] < 110


def test_workers_read_each_others_snapshots_from_the_board() -> None:
    with closing(Board(3)) as board:
        assert board.read(0) is None
        assert [each.failure for each in board.others(0)] == [
            "worker 2 is starting",
            "worker 3 is starting",
        ]
        numbers = Numbers(batch=Counts([1, 2], 3.0))
        for uptime in range(1, 4):
            board.write(1, Snapshot(numbers, "x" * 5000, uptime), [Snapshot(numbers)])
        second, third = board.others(0)
        assert second.numbers.batch == Counts([2, 4], 6.0)
        assert (second.failure, second.uptime) == ("x" * 1000, 3)
        board.note_end(1)
        assert next(board.others(0)).numbers == second.numbers
        assert next(board.others(0)).failure == "worker 2 is not running"
        assert third.failure == "worker 3 is starting"
