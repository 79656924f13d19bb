"""The parts of the torture test, and whole runs of it."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.peer import PATIENCE
from tests.processes import ROOT, environment
from tests.redis_server import RedisProcess
from tests.torture import scripts
from tests.torture.valid import CLIENTS, PLAIN, World

with scripts():
    from torture.figures import measure
    from torture.history import Acked, Fault, Gap, History, Line, Seen
    from torture.injector import Injector
    from torture.plan import FaultKind, Kind, PlannedFault, make_plan, steps
    from torture.plants import PLANTS
    from torture.proxy import Mode, Proxy
    from torture.redis import RedisServers, redis_program
    from torture.servers import Node, server_command
    from torture.shim import Shim, cut_power, drop_torn
    from torture.timeline import as_svg

TORTURE = [sys.executable, str(ROOT / "scripts" / "torture.py")]
CHANCE = random.Random(0)


def torture(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [*TORTURE, *flags]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env=environment()
    )


# The plan.


@pytest.mark.parametrize("engine", ["memory", "sqlite", "redis", "foreign redis"])
def test_the_same_seed_makes_the_same_plan_with_every_fault_of_the_engine(engine: str) -> None:
    plan = make_plan(7, 5, engine, 2)
    assert plan == make_plan(7, 5, engine, 2)
    assert plan != make_plan(8, 5, engine, 2)
    done = {fault.kind for cycle in plan.cycles for fault in cycle.faults}
    disk = {FaultKind.POWER_CUT, FaultKind.DISK_FULL, FaultKind.DISK_SLOW}
    redis = {kind for kind in FaultKind if kind.name.startswith("REDIS")}
    others = {
        "memory": disk | redis,
        "sqlite": redis,
        "redis": {FaultKind.POWER_CUT},
        "foreign redis": disk | redis - {FaultKind.REDIS_LINK},
    }[engine]
    assert done == set(FaultKind) - others
    assert {client.kind for client in plan.clients} == set(Kind)


def test_the_same_seed_makes_the_same_workload_and_each_text_is_unique() -> None:
    clients = make_plan(7, 1, "memory", 1).clients
    names = [client.name for client in clients]
    texts: set[str] = set()
    for client in clients:
        taken = list(islice(steps(7, client, names), 100))
        assert taken == list(islice(steps(7, client, names), 100))
        texts |= {step.text for step in taken}
    assert len(texts) == 100 * len(clients)


# The faults.


@pytest.fixture
def link() -> Iterator[tuple[Proxy, socket.socket, socket.socket]]:
    """A client and a server that are connected through a proxy."""
    with socket.create_server(("127.0.0.1", 0)) as listening, Proxy() as proxy:
        proxy.target = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", proxy.port)) as near:
            far, _ = listening.accept()
            with far:
                near.settimeout(PATIENCE)
                far.settimeout(PATIENCE)
                yield proxy, near, far


def exchange(near: socket.socket, far: socket.socket) -> None:
    near.sendall(b"there")
    assert far.recv(100) == b"there"
    far.sendall(b"back")
    assert near.recv(100) == b"back"


def test_the_proxy_passes_bytes_and_the_end(
    link: tuple[Proxy, socket.socket, socket.socket],
) -> None:
    _, near, far = link
    exchange(near, far)
    near.shutdown(socket.SHUT_WR)
    assert far.recv(100) == b""
    far.sendall(b"last")
    far.close()
    assert near.recv(100) == b"last"
    assert near.recv(100) == b""


def test_a_stalled_connection_goes_on_later(
    link: tuple[Proxy, socket.socket, socket.socket],
) -> None:
    proxy, near, far = link
    exchange(near, far)
    proxy.change(Mode.STALL, 1.0, CHANCE)
    near.sendall(b"late")
    far.settimeout(0.1)
    with pytest.raises(TimeoutError):
        far.recv(100)
    far.settimeout(PATIENCE)
    proxy.heal(Mode.STALL)
    assert far.recv(100) == b"late"


def test_a_dripping_connection_delivers_byte_by_byte(
    link: tuple[Proxy, socket.socket, socket.socket],
) -> None:
    proxy, near, far = link
    proxy.change(Mode.DRIP, 1.0, CHANCE)
    exchange_in_pieces = b""
    near.sendall(b"0123456789")
    pieces = 0
    while len(exchange_in_pieces) < 10:
        exchange_in_pieces += far.recv(100)
        pieces += 1
    assert exchange_in_pieces == b"0123456789"
    assert pieces > 1


@pytest.mark.parametrize("mode", [Mode.SWALLOW, Mode.SWALLOW_ANSWERS])
def test_a_half_open_connection_is_silent_and_then_reset(
    link: tuple[Proxy, socket.socket, socket.socket], mode: Mode
) -> None:
    proxy, near, far = link
    exchange(near, far)
    proxy.change(mode, 1.0, CHANCE)
    near.sendall(b"there")
    if mode is Mode.SWALLOW_ANSWERS:
        assert far.recv(100) == b"there"
    far.sendall(b"back")
    near.settimeout(0.1)
    with pytest.raises(TimeoutError):
        near.recv(100)
    near.settimeout(PATIENCE)
    proxy.heal(mode)
    with pytest.raises(ConnectionResetError):
        near.recv(100)


def test_connections_are_cut_and_reset(link: tuple[Proxy, socket.socket, socket.socket]) -> None:
    proxy, near, far = link
    exchange(near, far)
    proxy.reset(1.0, CHANCE)
    for sock in (near, far):
        with pytest.raises(ConnectionResetError):
            sock.recv(100)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        proxy.target = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", proxy.port)) as other:
            accepted, _ = listening.accept()
            with accepted:
                exchange(other, accepted)
                proxy.cut(1.0, CHANCE)
                assert other.recv(100) == accepted.recv(100) == b""


WRITER = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA journal_mode = WAL")
database.execute("CREATE TABLE IF NOT EXISTS numbers (number)")
print("ready", flush=True)
for line in sys.stdin:
    word = line.strip()
    try:
        if word == "clock":
            print(time.time(), flush=True)
            continue
        if word in ("FULL", "OFF"):
            database.execute(f"PRAGMA synchronous = {word}")
        else:
            database.execute("INSERT INTO numbers VALUES (?)", (word,))
        print("done", flush=True)
    except sqlite3.Error as exc:
        print(exc, flush=True)
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_power_cut_takes_what_was_not_flushed_and_a_full_disk_refuses(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    shim = Shim.make(tmp_path, files)
    assert shim is not None
    database = files / "numbers.db"

    def started() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment(), **shim.environment},
        )
        assert answer(process, "") == "ready"
        return process

    def answer(process: subprocess.Popen[str], word: str) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        if word:
            process.stdin.write(f"{word}\n")
            process.stdin.flush()
        return process.stdout.readline().strip()

    def kill(process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()

    writer = started()
    assert [answer(writer, word) for word in ("FULL", "1", "2")] == ["done"] * 3
    shim.set(full=True)
    assert "full" in answer(writer, "3")
    shim.heal()
    assert [answer(writer, word) for word in ("4", "OFF", "5", "6")] == ["done"] * 4
    before = float(answer(writer, "clock"))
    shim.set(clock=3600.0)
    assert 3590 < float(answer(writer, "clock")) - before < 3660
    shim.heal()
    kill(writer)
    assert cut_power(files) > 0
    # What is left is whole, and has what was flushed.
    with sqlite3.connect(database) as rest:
        assert [number for (number,) in rest.execute("SELECT number FROM numbers")] == [
            "1",
            "2",
            "4",
        ]
        assert rest.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    rest.close()
    writer = started()
    assert answer(writer, "7") == "done"
    kill(writer)
    # A kill without a power cut takes nothing.
    with sqlite3.connect(database) as rest:
        assert rest.execute("SELECT count(*) FROM numbers").fetchone() == (4,)
    rest.close()
    shim.close()


def test_a_record_that_is_torn_by_a_kill_is_dropped(tmp_path: Path) -> None:
    path, undo = tmp_path / "file", tmp_path / "file.undo"
    path.write_bytes(b"new new")
    whole = struct.pack("qqq", 0, 3, 3) + b"old"
    undo.write_bytes(whole + struct.pack("qqq", 4, 3, 7) + b"t")
    drop_torn(tmp_path)
    assert undo.read_bytes() == whole
    # The next process goes on behind it.
    undo.write_bytes(whole + struct.pack("qqq", 3, 0, 3))
    assert cut_power(tmp_path) == 2
    assert path.read_bytes() == b"old"
    assert not undo.exists()


@pytest.mark.slow
def test_a_node_that_cannot_start_without_redis_starts_when_it_is_back(tmp_path: Path) -> None:
    if redis_program() is None:
        pytest.skip("needs redis-server")
    history, redis = History(None), RedisServers(tmp_path, 1, {})
    node = Node(0, server_command(redis.url(0), None), tmp_path, {})
    try:
        node.start()
        injector = Injector([node], history, keeps=True, files=tmp_path, shim=None, redis=redis)
        paused = PlannedFault(0.0, FaultKind.REDIS_KILL, 0, 0.5, 1.0, 0)
        killed = PlannedFault(0.1, FaultKind.KILL, 0, 0.1, 1.0, 0)
        injector.run([paused, killed])
        assert node.is_up
        assert not node.has_died()
    finally:
        node.close()
        redis.close()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_full_disk_ends_redis_which_then_has_what_it_has_acknowledged(tmp_path: Path) -> None:
    if redis_program() is None:
        pytest.skip("needs redis-server")
    files = tmp_path / "files"
    files.mkdir()
    shim = Shim.make(tmp_path, files)
    assert shim is not None
    redis = RedisServers(files, 1, shim.environment)
    try:
        assert ask(redis, "SET", "one", "1").startswith(b"+OK")
        shim.set(full=True)
        assert not ask(redis, "SET", "two", "2").startswith(b"+OK")
        shim.heal()
        redis.restart()
        assert ask(redis, "MGET", "one", "two") == b"*2\r\n$1\r\n1\r\n$-1\r\n"
    finally:
        redis.close()
        shim.close()


def ask(redis: RedisServers, *words: str) -> bytes:
    with socket.create_connection(("127.0.0.1", redis.links[0].target), PATIENCE) as sock:
        parts = [f"${len(word)}\r\n{word}\r\n" for word in words]
        sock.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
        with contextlib.suppress(ConnectionResetError):
            return sock.recv(100)
    return b""


# The figures and the picture.


def world() -> World:
    world = World()
    world.begin()
    for _ in range(4):
        for client in CLIENTS:
            world.say(client)
    return world


def test_the_figures_of_a_perfect_history_are_zero() -> None:
    perfect = world()
    perfect.write(Line, PLAIN, "elsewhere", "end")
    figures = measure(perfect.records)
    assert figures.sent == figures.acknowledged == 12
    assert figures.deliveries == 4 * 12 + 1
    assert (figures.lost, figures.silently, figures.untold) == (0, 0, 0)
    assert (figures.repeated, figures.out_of_order) == (0, 0)


def test_the_figures_count_what_is_lost_repeated_and_out_of_order() -> None:
    records = world().records
    end = records[-1]
    seen = [each for each in records if isinstance(each, Seen) and each.client == "eve"]
    records.remove(seen[3])
    records.remove(seen[4])
    place = records.index(seen[7])
    records[place + 1 : place + 1] = [seen[7]]
    first, second = records.index(seen[9]), records.index(seen[10])
    records[first], records[second] = records[second], records[first]
    # Long enough ago that it must have arrived.
    records.append(Line(end.at + 60, PLAIN, "room", "end"))
    figures = measure(records)
    assert (figures.lost, figures.silently, figures.untold) == (2, 2, 1)
    assert (figures.repeated, figures.out_of_order) == (1, 1)
    # The same, but it was told.
    records.insert(records.index(seen[5]), Gap(seen[5].at, "eve", "room"))
    told = measure(records)
    assert (told.lost, told.silently, told.untold, told.gaps_told) == (2, 0, 0, 1)


def test_the_timeline_is_a_picture_with_every_fault() -> None:
    history = world()
    history.forget()
    history.finish()
    picture = ET.fromstring(as_svg(history.records))
    titles = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}title")]
    faults = [each for each in history.records if isinstance(each, Fault)]
    assert len(titles) == len(faults)


@pytest.mark.slow
def test_a_wrong_flag_is_a_usage_error_and_a_history_can_be_checked(tmp_path: Path) -> None:
    for flags in (["--engine", "mongo:"], ["--nodes", "2"], ["--minutes", "0"]):
        assert torture(*flags).returncode == 2
    with scripts():
        from torture.history import save  # noqa: PLC0415 - beside its use
    history = world()
    history.finish()
    path = tmp_path / "history.jsonl"
    save(path, history.records)
    assert torture("--check", str(path)).returncode == 0
    ack = next(each for each in history.records if isinstance(each, Acked))
    save(
        path,
        [each for each in history.records if getattr(each, "text", "") != ack.text or each is ack],
    )
    result = torture("--check", str(path))
    assert result.returncode == 1
    assert "Rule 1" in result.stdout


# Whole runs.


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("engine", "nodes"), [("memory:", 1), ("sqlite:", 1), ("redis:", 2)], ids=str
)
def test_nothing_is_lost_in_a_minute_of_torture(engine: str, nodes: int, tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    if engine == "redis:" and shutil.which("redis-server") is None:
        pytest.skip("needs redis-server")
    flags = ["--seed", "17", "--minutes", "1", "--engine", engine, "--nodes", str(nodes)]
    result = torture(*flags, "--report", str(report))
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^violations +0$", result.stdout, re.MULTILINE)
    assert "| 8 |" in report.read_text()
    ET.parse(tmp_path / "report.svg")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_foreign_redis_has_the_faults_of_servers_clients_and_the_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with RedisProcess("--port", f"{port}", "--appendonly", "yes", "--appendfsync", "always"):
        flags = ["--seed", "17", "--minutes", "0.5", "--nodes", "2"]
        flags += ["--engine", f"redis://127.0.0.1:{port}/0"]
        result = torture(*flags)
        assert result.returncode == 0, result.stdout + result.stderr
        assert re.search(r"^faults .* link to redis", result.stdout, re.MULTILINE)
        assert not re.search(r"redis (killed|paused|emptied|failed)", result.stdout)
        # A second run would find the messages of the first.
        again = torture(*flags)
        assert again.returncode == 2
        assert "has messages already, in arena" in again.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_bug_is_found_within_two_minutes(plant: str) -> None:
    if PLANTS[plant][0] == "sqlite" and shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    # With what is checked at the end, about two minutes.
    flags = ["--minutes", "1.5", "--engine", f"{PLANTS[plant][0]}:", "--plant", plant]
    result = torture(*flags, "--seed", "18")
    assert result.returncode == 1, result.stdout + result.stderr
    # It says how to see it again.
    assert f"--seed 18 {' '.join(flags)}" in result.stdout
    assert re.search(r"^Rule \d: ", result.stdout, re.MULTILINE)
