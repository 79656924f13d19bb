"""The benchmark runs, and its figures are correct."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from syncchat.chat.events import Message, decode_from_server, encode
from tests.peer import wait_for
from tests.processes import ROOT, environment

sys.path.append(str(ROOT / "scripts"))

from benchmark import dialects, load
from benchmark.dialects import RelayedEvents
from benchmark.frames import UnequalFrames
from benchmark.registry import SERVERS
from benchmark.running import Site

BENCH = [sys.executable, str(ROOT / "scripts" / "bench.py")]
PEERS = [
    "websockets-asyncio",
    "picows",
    "websockets-threads",
    "websockets-threads-broadcast",
    "simple-websocket",
    "websocket-server",
]
FEW = ["--server", "syncchat", "--server", "websockets-asyncio", "--rounds", "1"]
WORKLOADS = [
    "fanout",
    "lone",
    "crowd",
    "echo",
    "stalled",
    "storm",
    "idle",
    "rooms",
    "large",
    "tls",
    "chat",
]


def run(*flags: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*BENCH, *flags],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
        env={**environment(), **settings},
    )


def run_json(*flags: str) -> dict[str, Any]:
    result = run(*flags, "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    data: dict[str, Any] = json.loads(result.stdout)
    return data


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_peer_serves_the_same_chat() -> None:
    outcome = run_json("--connections", "5", "--in-flight", "2", "--seconds", "0.2", "--rounds=1")
    (case,) = outcome["cases"]
    assert case["failures"] == {}
    assert case["rounds"].keys() >= {"syncchat", "bare-loop", *PEERS}
    for optional in ("node-ws", "bun", "bare-loop-c"):
        assert (optional in case["rounds"]) != (optional in outcome["missing"])
    for name, (figures,) in case["rounds"].items():
        assert figures["deliveries"] > 100, name
        assert 0 < figures["p50"] <= figures["p99"] <= figures["p999"]
        assert case["times_better"][name]["median"] > 0
    assert case["times_better"]["syncchat"]["median"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "workload",
    # Its rate is measured.
    [*WORKLOADS, pytest.param("paced", marks=pytest.mark.alone)],
)
def test_every_workload_gives_its_figures(workload: str) -> None:
    counts = {"stalled": 3, "rooms": 8, "echo": 1}
    flags = ["--workload", workload, "--connections", str(counts.get(workload, 4))]
    outcome = run_json(*flags, "--seconds", "0.2", *FEW)
    (case,) = outcome["cases"]
    assert case["failures"] == {}
    for name in ("syncchat", "websockets-asyncio"):
        (figures,) = case["rounds"][name]
        assert figures[case["headline"]] > 0 or workload in ("lone", "idle")
    if workload == "idle":
        assert case["rounds"]["syncchat"][0]["threads"] == 5
        assert case["rounds"]["websockets-asyncio"][0]["threads"] == 1
    if workload == "paced":
        assert case["rounds"]["syncchat"][0]["deliveries"] == pytest.approx(200 * 4, rel=0.2)


@pytest.mark.slow
@pytest.mark.alone
def test_flask_in_gunicorn_is_measured_against_other_libraries() -> None:
    names = ["syncchat-wsgi", "flask-sock", "flask-socketio", "picows"]
    flags = [flag for name in names for flag in ("--server", name)]
    flags += ["--connections", "20", "--seconds", "0.5", "--rounds", "1"]
    outcome = run_json("--workload", "wsgi", *flags)
    assert outcome["missing"] == {}
    for case in outcome["cases"]:
        assert case["failures"] == {}
        assert case["skipped"] == {"picows": "it is not in gunicorn"}
        better = {name: ratio["median"] for name, ratio in case["times_better"].items()}
        assert better.pop("syncchat-wsgi") == 1
        # 8 and 37 with 100 clients on a machine that has nothing else to do.
        assert min(better.values()) > 2, better


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_nodes_on_a_redis_are_measured_against_one_node() -> None:
    names = ["syncchat", "syncchat-nodes", "socket.io-nodes", "picows"]
    flags = [flag for name in names for flag in ("--server", name)]
    flags += ["--connections", "12", "--seconds", "0.2", "--rounds", "1"]
    outcome = run_json("--workload", "nodes", *flags)
    if "syncchat-nodes" in outcome["missing"]:
        pytest.skip(outcome["missing"]["syncchat-nodes"])
    cases = {case["case"]["variant"]: case for case in outcome["cases"]}
    assert cases.keys() == {"fanout", "crowd", "rooms", "paced"}
    for case in cases.values():
        assert case["failures"] == {}
        assert case["skipped"] == {"picows": "it is a single node"}
        # Socket.IO needs Node and npm.
        assert case["rounds"].keys() | {"socket.io-nodes"} == {*names[:3]}
        (figures,) = case["rounds"]["syncchat-nodes"]
        assert figures["deliveries"] > 100
        assert figures["p50_near"] > 0
        assert figures["p50_far"] > 0


@pytest.mark.slow
def test_the_chat_is_measured_on_both_engines_without_peers_that_relay_lines() -> None:
    names = ["syncchat", "syncchat-sqlite", "websockets-asyncio", "picows", "simple-websocket"]
    flags = [flag for name in names for flag in ("--server", name)]
    flags += ["--connections", "5", "--seconds", "0.2", "--rounds", "1"]
    outcome = run_json("--workload", "fanout", "--workload", "chat", *flags)
    fanout, chat = outcome["cases"]
    assert fanout["failures"] == chat["failures"] == {}
    assert fanout["skipped"] == {"syncchat-sqlite": "it runs the workload chat only"}
    assert chat["skipped"] == {"simple-websocket": "it only relays lines"}
    assert chat["headline"] == "deliveries"
    assert list(chat["rounds"]) == names[:4]
    for name, (figures,) in chat["rounds"].items():
        assert figures["deliveries"] > 100, name
        assert 0 < figures["p50"] <= figures["p99"] <= figures["p999"]


@pytest.mark.slow
def test_the_file_of_a_run_is_new_and_removed_after_it(tmp_path: Path) -> None:
    site = Site.make(tmp_path)
    for _ in range(2):
        with SERVERS["syncchat-sqlite"].running(site, None):
            (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
            database = folder / "chat.db"
            # It listens at once, but serves clients only when the file exists.
            wait_for(lambda: database.exists() and database.stat().st_size > 0)  # noqa: B023
        assert not folder.exists()


def test_the_peers_relay_the_bytes_that_our_server_delivers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        text = RelayedEvents().write(sock, b"0123456789").decode()
        event = decode_from_server(text)
        assert isinstance(event, Message)
        assert event.nick == f"127.0.0.1:{sock.getsockname()[1]}"
        assert event.nonce is not None
    assert encode(event) == text


@pytest.mark.parametrize("piece", [1, 2, 3, 50, 1000, 1_000_000])
def test_frames_are_split_however_they_arrive(piece: int) -> None:
    sizes = [1, 125, 126, 0, 65535, 65536, 7]
    stream = b"".join(map(server_frame, map(bytes, sizes)))
    frames = UnequalFrames()
    found, rest, before = 0, b"", 0
    for at in range(0, len(stream), piece):
        data = rest + stream[at : at + piece]
        ends = frames.ends(data, before - len(rest))
        found += len(ends)
        rest, before = data[ends[-1] if ends else 0 :], at + piece
    assert found == len(sizes)
    assert rest == b""
    assert frames.extent(len(sizes)) == len(stream)
    assert frames.whole(len(stream)) == len(sizes)
    assert frames.whole(len(stream) - 1) == len(sizes) - 1
    assert frames.extent(1) == 3
    assert frames.deliveries(3 * len(stream)) == 3 * len(sizes)


def server_frame(payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes([0x81, size]) + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


@pytest.mark.parametrize("dialect", ["Lines", "RelayedEvents"])
@pytest.mark.parametrize(
    ("missing", "twice", "failure"),
    [
        ([], [], None),
        # Every other client of the nine is read frame by frame.
        ([1], [], "the server stopped delivering"),
        ([0], [], "the server stopped delivering"),
        (range(9), [], "the server stopped delivering"),
        ([1], [3], "a client got"),
        ([0], [2], "a client got"),
        ([1], [2], "a client got"),
        ([2], [1], "a client got"),
        ([], range(9), "a client got"),
    ],
)
def test_every_loss_is_detected(
    monkeypatch: pytest.MonkeyPatch,
    dialect: str,
    missing: list[int],
    twice: list[int],
    failure: str | None,
) -> None:
    monkeypatch.setattr(load, "PATIENCE", 0.2)
    # So many that the frames of events grow with the number of digits.
    count = 12
    with socket.create_server(("127.0.0.1", 0)) as listening:
        clients = [socket.create_connection(listening.getsockname()) for _ in range(9)]
        served = [listening.accept()[0] for _ in clients]
    speech = getattr(dialects, dialect)()
    loading = load.Load([clients], speech, senders=1, in_flight=1, rate=None, size=20)
    try:
        for _ in range(count):
            loading.send_one()
        # The messages that a server would send.
        other = getattr(dialects, dialect)()
        payloads = [other.write(clients[0], b"%010d" % n + b"x" * 10) for n in range(count)]
        if dialect == "Lines":
            name = dialects.name_of(clients[0]).encode()
            payloads = [name + b": " + payload for payload in payloads]
        frames = [server_frame(payload) for payload in payloads]
        for number, sock in enumerate(served):
            upto = count - (number in missing)
            sock.sendall(b"".join(frames[:upto]) + frames[-1] * (number in twice))
        if failure is None:
            loading.settle()
            assert loading.deliveries == 9 * count
            assert len(loading.latencies) == 5 * count
        else:
            with pytest.raises(RuntimeError, match=failure):
                loading.settle()
    finally:
        loading.close()
        for sock in [*clients, *served]:
            sock.close()


@pytest.mark.slow
def test_a_server_that_waits_for_a_stalled_client_fails() -> None:
    names = ["--server", "syncchat", "--server", "websockets-threads"]
    flags = ["--connections", "3", "--stalled", "1", "--size", "65000", "--megabytes", "30"]
    result = run(*flags, *names, "--rounds", "1")
    assert result.returncode == 0, result.stderr
    assert "websockets-threads failed: the server stopped delivering" in result.stdout
    assert "\nsyncchat " in result.stdout


def test_a_missing_peer_is_named() -> None:
    flags = ["--connections", "2", "--seconds", "0.1", "--rounds", "1"]
    names = ["--server", "syncchat", "--server", "node-ws"]
    result = run(*flags, *names, PATH="")
    assert result.returncode == 0, result.stderr
    assert "node-ws is skipped: node is not found" in result.stdout


@pytest.mark.slow
def test_the_table_replaces_the_one_in_a_file_and_the_chart_is_a_picture(tmp_path: Path) -> None:
    document, chart = tmp_path / "benchmarks.md", tmp_path / "chart.svg"
    document.write_text("before\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nafter\n")
    flags = ["--connections", "2", "--seconds", "0.1", "--markdown", str(document)]
    result = run(*flags, "--svg", str(chart), *FEW)
    assert result.returncode == 0, result.stderr
    text = document.read_text()
    assert text.startswith("before\n<!-- benchmark -->\n")
    assert text.endswith("<!-- /benchmark -->\nafter\n")
    assert "old" not in text
    assert "python scripts/bench.py --connections 2" in text
    assert "| fanout 2 | deliveries/s |" in text
    assert ET.parse(chart).getroot().tag == "{http://www.w3.org/2000/svg}svg"


WRONG = [
    ["--size", "9"],
    ["--connections", "0"],
    ["--senders", "6", "--connections", "5"],
    ["--workload", "rooms", "--connections", "3"],
    ["--rounds", "0"],
    ["--x"],
]

#: Prints the exit code of the benchmark for each list of flags.
CODES = """
import bench, json, sys
for flags in json.loads(sys.argv[1]):
    try:
        print(bench.main(flags))
    except SystemExit as exc:
        print(exc.code)
"""


def test_wrong_flags_are_exit_code_2() -> None:
    result = subprocess.run(
        [sys.executable, "-c", CODES, json.dumps(WRONG)],
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
        env=environment(PYTHONPATH=f"{ROOT}:{ROOT / 'scripts'}"),
    )
    assert result.stdout.split() == ["2"] * len(WRONG)
    assert result.stderr.count("usage: ") == len(WRONG)


@pytest.mark.slow
def test_what_programs_do_over_http_is_compared_with_websockets() -> None:
    flags = ["--server", "syncchat", "--server", "websockets-asyncio", "--rounds", "1"]
    flags += ["--seconds", "0.3"]
    (post,) = run_json("--workload", "post", *flags)["cases"]
    (followers,) = run_json("--workload", "followers", "--connections", "20", *flags)["cases"]
    for case in (post, followers):
        assert case["failures"] == {}
        assert case["skipped"] == {"websockets-asyncio": "it has no rooms over plain HTTP"}
        (figures,) = case["rounds"]["syncchat"]
        assert figures["http_ratio"] > 0
    assert post["rounds"]["syncchat"][0]["posts"] > 100
    assert followers["rounds"]["syncchat"][0]["deliveries"] > 100
