"""Several processes on one port: ``--workers``."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.engine.test_kill import Talker, check
from tests.peer import PATIENCE, InThread, ask_http, free_port, wait_for
from tests.people import Json, Plain
from tests.processes import SERVER, Script, ServerScript, environment, run
from tests.redis_server import RedisProcess

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@contextmanager
def workers(*flags: str, count: int = 2, redis: tuple[str, ...] = ()) -> Iterator[ServerScript]:
    """A server of so many workers, none of which is left at the end."""
    with RedisProcess(*redis) as process:
        server = ServerScript(
            "--engine", process.url, "--rate", "0", "--workers", str(count), *flags
        )
        with server:
            yield server
            parent = psutil.Process(server.process.pid) if server.process.poll() is None else None
            left = parent.children() if parent is not None else []
            server.signal(signal.SIGTERM)
            begin = time.monotonic()
            server.exit_code()
            assert time.monotonic() - begin < 5
            assert not any(map(is_alive, left))


def is_alive(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


def children(server: Script) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def metrics(server: ServerScript) -> dict[str, float]:
    _, _, body = ask_http(server.port, "/metrics")
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize("engine", [["--engine", "memory:"], ["--engine", "sqlite:x.db"], []])
def test_an_engine_that_is_not_shared_is_refused_in_one_line(engine: list[str]) -> None:
    result = run([*SERVER, "--port", "0", "--workers", "2", *engine])
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.endswith(
        "error: --workers needs an engine that processes can share: --engine redis://HOST:PORT/DB"
    )


def test_the_number_of_workers_is_bounded() -> None:
    for number in ("0", "101", "9" * 9):
        result = run([*SERVER, "--workers", number, "--engine", "redis://127.0.0.1:1/0"])
        assert result.returncode == 2
        assert "argument --workers: must be " in result.stderr


@pytest.mark.slow
def test_workers_that_cannot_start_make_the_parent_say_so_in_one_line_and_exit_1() -> None:
    redis = ["--engine", "redis://127.0.0.1:1/0"]
    result = run([*SERVER, "--port", "0", "--workers", "3", *redis])
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("cannot use redis://127.0.0.1:1/0: ")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        result = run([*SERVER, "--port", str(port), "--workers", "2", *redis])
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"cannot listen on 127.0.0.1:{port}: address already in use\n"


def test_a_port_of_other_workers_is_in_use() -> None:
    with workers() as server:
        second = ["--port", str(server.port), "--workers", "2", "--engine", "redis://127.0.0.1:1/0"]
        result = run([*SERVER, *second])
        assert result.returncode == 1
        assert "address already in use" in result.stderr


def test_all_workers_share_the_port_that_the_first_line_tells() -> None:
    with workers(count=3) as server, ExitStack() as stack:
        assert server.lines[0] == f"listening on port {server.port}"
        pids = {process.pid for process in children(server)}
        assert len(pids) == 3
        people = [stack.enter_context(Json(f"{server.url}?nick=n{number}")) for number in range(60)]
        for each in people:
            each.event("welcome")
        # The kernel spreads the clients: each has a thread of its own.
        wait_for(lambda: metrics(server)["syncchat_connections"] >= 60)
        threads = [process.num_threads() for process in children(server)]
        assert min(threads) > 8, threads
        people[0].ask(type="say", text="hello")
        assert {each.find("message")["text"] for each in people} == {"hello"}
        assert sum("listening" in line for line in server.lines) == 1


@pytest.mark.parametrize("often", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.timeout(0)
def test_a_killed_worker_is_restarted_and_its_clients_lose_nothing(*, often: bool) -> None:
    rounds = 10 if often else 1
    talkers: list[Talker] = []
    # Whoever is away for long misses more than Redis keeps by default, and is told a gap.
    with workers("--keep", "1000000", redis=DURABLE) as server:
        try:
            talkers += [Talker(f"talker{number}", f"{server.url}room") for number in range(8)]
            wait_for(lambda: all(talker.heard for talker in talkers))
            for turn in range(rounds):
                for process in children(server):
                    time.sleep(0.3)
                    process.kill()
                    process.wait(PATIENCE)
                    wait_for(lambda: len(children(server)) == 2, "the restarted worker")
                server.wait_for_line(
                    r"worker [12] was ended by signal 9 \(Killed\); it is started again.*",
                    errors=True,
                    times=2 * turn + 2,
                )
            wait_for(lambda: ask_http(server.port, "/healthz")[0] == 200)
            check(talkers, rounds)
            # What the dead workers have counted, but for their last second, still counts.
            wait_for(lambda: metrics(server)["syncchat_messages_in_total"] > 0)
        finally:
            for talker in talkers:
                talker.close()


def test_clients_that_connect_while_a_worker_is_down_are_served_by_its_successor() -> None:
    with workers(count=2) as server, ExitStack() as stack:
        parent = psutil.Process(server.process.pid)
        before = {process.pid for process in children(server)}
        parent.suspend()
        try:
            children(server)[0].kill()
            waiting = [
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                for _ in range(40)
            ]
        finally:
            parent.resume()
        for sock in waiting:
            sock.settimeout(PATIENCE)
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for sock in waiting:
            assert sock.recv(12).startswith(b"HTTP/1.1 ")
        assert len(before & {process.pid for process in children(server)}) == 1


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_stops_all_workers_in_order_within_5_seconds(name: str) -> None:
    with workers() as server, ExitStack() as stack:
        people = [stack.enter_context(Plain(server.url)) for _ in range(10)]
        for each in people:
            each.hear()
        processes = children(server)
        begin = time.monotonic()
        server.signal(signal.Signals[name])
        assert {each.hear_end() for each in people} == {1001}
        assert server.exit_code() == 0
        assert time.monotonic() - begin < 5
        assert not any(map(is_alive, processes))
        assert server.errors == [line for line in server.errors if "appendonly" in line]


@pytest.mark.slow
def test_all_workers_reload_and_open_the_log_anew(tmp_path: Path) -> None:
    token, log = tmp_path / "token", tmp_path / "log"
    token.write_text("first")
    notify = str(tmp_path / "notify")
    own = {"XDG_RUNTIME_DIR": str(tmp_path), "NOTIFY_SOCKET": notify, "WATCHDOG_USEC": "500000"}
    port = str(free_port())
    with RedisProcess() as redis, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(notify)
        manager.settimeout(PATIENCE)
        heard: list[bytes] = []

        def hear() -> None:
            while b"STOPPING=1" not in heard:
                heard.append(manager.recv(4096))

        # A full queue would make the server wait.
        listener = threading.Thread(target=hear)
        listener.start()
        flags = ["--workers", "2", "--token-file", str(token), "--log-file", str(log)]
        flags += ["--port", port, "--engine", redis.url]
        with Script([*SERVER, *flags], **own) as server:
            wait_for(lambda: b"WATCHDOG=1" in heard)
            assert heard[0] == b"READY=1"
            token.write_text("second")
            done = run([*SERVER, "do", "--port", port, "reload"], **own)
            assert done.stdout.startswith("token changed; "), done.stderr
            wait_for(lambda: log.read_text().count("\nReloaded: token changed; ") == 2)
            for _ in range(8):
                with Plain(f"ws://127.0.0.1:{port}/?token=second") as client:
                    client.hear()
            log.rename(tmp_path / "old")
            server.signal(signal.SIGUSR1)
            wait_for(log.exists)
            server.signal(signal.SIGHUP)
            wait_for(lambda: "Reloaded: no setting changed" in log.read_text())
            server.signal(signal.SIGTERM)
            assert server.exit_code() == 0
            listener.join(PATIENCE)
            assert heard[-1] == b"STOPPING=1"


def test_a_signal_to_all_processes_of_a_terminal_stops_them_in_order() -> None:
    with workers() as server, Plain(server.url) as ann:
        ann.hear()
        for process in [*children(server), psutil.Process(server.process.pid)]:
            process.send_signal(signal.SIGINT)
        assert ann.hear_end() == 1001
        assert server.exit_code() == 0


@pytest.mark.slow
def test_a_worker_that_does_not_stop_is_killed_within_5_seconds() -> None:
    with workers() as server:
        stuck = children(server)[1]
        stuck.suspend()
        begin = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0
        assert time.monotonic() - begin < 5
        assert server.errors[-1] == "worker 2 has not stopped in time, and is killed"
        assert not is_alive(stuck)


def test_the_same_signal_again_ends_all_processes_at_once() -> None:
    with workers() as server:
        processes = children(server)
        for process in processes:
            process.suspend()
        server.signal(signal.SIGTERM)
        begin = time.monotonic()
        while server.process.poll() is None and time.monotonic() - begin < 3:
            server.signal(signal.SIGTERM)
            time.sleep(0.05)
        assert server.exit_code() == -signal.SIGTERM
        assert not any(map(is_alive, processes))


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_a_worker_that_is_stopped_alone_is_replaced() -> None:
    with workers() as server, ExitStack() as stack:
        people = [stack.enter_context(Plain(server.url)) for _ in range(10)]
        for each in people:
            each.hear()
        first, other = children(server)
        first.terminate()
        server.wait_for_line(r"worker \d has ended with exit code 0; .*", errors=True)
        wait_for(lambda: len(children(server)) == 2)
        assert other in children(server)
        assert first not in children(server)
        # The parent forks, so that it must have a single thread.
        assert psutil.Process(server.process.pid).num_threads() == 1


def test_no_worker_outlives_a_parent_that_is_killed() -> None:
    with workers() as server, Plain(server.url) as ann:
        ann.hear()
        processes = children(server)
        server.signal(signal.SIGKILL)
        assert ann.hear_end() == 1001
        wait_for(lambda: not any(map(is_alive, processes)))


def test_the_metrics_are_sums_and_never_go_back() -> None:
    with workers() as server, ExitStack() as stack:
        people = [stack.enter_context(Json(f"{server.url}?nick=n{number}")) for number in range(20)]
        for number, each in enumerate(people):
            each.event("welcome")
            each.ask(type="say", text=str(number))
        threads = Counter(process.num_threads() for process in children(server))
        assert threads
        wait_for(lambda: metrics(server)["syncchat_messages_in_total"] == 20)
        wait_for(lambda: metrics(server)["syncchat_batch_messages_sum"] >= 20)
        # Each asks one of the workers, which one the kernel decides.
        for _ in range(20):
            found = metrics(server)
            assert found["syncchat_messages_in_total"] == 20
            assert found["syncchat_connections"] >= 20
            assert found["syncchat_connections_total"] == 20
            bound = found["syncchat_delivery_seconds_bucket[+Inf]"]
            assert bound == found["syncchat_delivery_seconds_count"]
        for process in children(server):
            process.kill()
            wait_for(lambda process=process: process not in children(server))  # type: ignore[misc]
            wait_for(lambda: len(children(server)) == 2)
            assert metrics(server)["syncchat_messages_in_total"] == 20
        wait_for(lambda: metrics(server)["syncchat_connections"] < 5)
        assert metrics(server)["syncchat_messages_in_total"] == 20


@pytest.mark.slow
def test_healthz_is_the_worst_of_the_workers_whoever_answers() -> None:
    with workers() as server:
        wait_for(lambda: ask_http(server.port, "/healthz")[0] == 200)
        stuck = children(server)[1]
        stuck.suspend()
        try:
            reason = ""
            begin = time.monotonic()
            while not reason:
                assert time.monotonic() - begin < 20
                reason = _reason_of_one(server.port)
            assert reason == "worker 2 does not answer"
        finally:
            stuck.resume()
        wait_for(lambda: ask_http(server.port, "/healthz")[0] == 200)


def _reason_of_one(port: int) -> str:
    """The reason that a worker tells; empty if it is healthy, or does not answer for 1 s."""
    with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        data = b""
        try:
            while more := sock.recv(4096):
                data += more
        except TimeoutError:
            return ""
    state = json.loads(data.partition(b"\r\n\r\n")[2])
    assert data.startswith(b"HTTP/1.1 503") or state["status"] == "ok"
    return str(state.get("reason", ""))


@pytest.mark.slow
def test_while_redis_is_away_every_worker_says_so() -> None:
    with RedisProcess() as redis:
        flags = ["--engine", redis.url, "--workers", "2"]
        with ServerScript(*flags) as server:
            redis.kill()
            wait_for(lambda: ask_http(server.port, "/healthz")[0] == 503)
            # A worker that is killed now cannot start.
            children(server)[0].kill()
            server.wait_for_line(
                r"worker [12] cannot start: cannot use redis.*; it is started again in 0.5 s",
                errors=True,
            )
            redis.start()
            wait_for(lambda: ask_http(server.port, "/healthz")[0] == 200)
            assert len(children(server)) == 2


def test_the_logs_are_one_of_whole_lines() -> None:
    with RedisProcess(*DURABLE) as redis, ExitStack() as stack:
        port = free_port()
        flags = ["--engine", redis.url, "--workers", "2", "--rate", "0", "--port", str(port)]
        server = stack.enter_context(Script([*SERVER, *flags, "--log-json"]))
        wait_for(lambda: _listens(port))
        people = [
            stack.enter_context(Json(f"ws://127.0.0.1:{port}/?nick=n{number}"))
            for number in range(10)
        ]
        for each in people:
            each.event("welcome")

        def talk(each: Json, name: int) -> None:
            for number in range(30):
                each.ask(type="say", text=f"{name} {number} " + "x" * 1000)

        talking = [InThread(lambda e=e, n=n: talk(e, n)) for n, e in enumerate(people)]  # type: ignore[misc]
        for done in talking:
            done.result()
        wait_for(lambda: sum('"received"' in line for line in server.lines) == 300)
        # Killed in the middle of its lines.
        victim = children(server)[0]
        for each in people:
            each.ask(type="say", text="y" * 20_000)
        victim.kill()
        wait_for(lambda: len(children(server)) == 2 and victim not in children(server))
        server.signal(signal.SIGTERM)
        server.exit_code()
        events = Counter(json.loads(line)["event"] for line in server.lines)
        assert events["listening"] == 1
        texts = [json.loads(line).get("text", "") for line in server.lines]
        for name in range(10):
            mine = [text.split(" ")[1] for text in texts if text.startswith(f"{name} ")]
            assert mine == [str(number) for number in range(30)]


@pytest.mark.slow
@pytest.mark.parametrize("is_gone", [False, True])
def test_a_log_that_nobody_reads_holds_up_nothing(*, is_gone: bool) -> None:
    port = free_port()
    with RedisProcess(*DURABLE) as redis:
        flags = ["--port", str(port), "--workers", "2", "--rate", "0", "--engine", redis.url]
        with (
            subprocess.Popen(
                [*SERVER, *flags],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment(),
            ) as process,
            ExitStack() as stack,
        ):
            stack.callback(process.kill)
            assert process.stdout is not None
            if is_gone:
                process.stdout.close()
            wait_for(lambda: _listens(port))
            with ExitStack() as there:
                people = [there.enter_context(Plain(f"ws://127.0.0.1:{port}/")) for _ in range(4)]
                for each in people:
                    each.send(*["x" * 10_000] * 100)
                for each in people:
                    each.send("done")
                for each in people:
                    for _ in people:
                        while not each.hear().endswith(": done"):
                            pass
            before = psutil.Process(process.pid).children()
            before[0].kill()
            wait_for(
                lambda: set(psutil.Process(process.pid).children()) - set(before),
                "the restarted worker",
            )
            wait_for(lambda: ask_http(port, "/healthz")[0] == 200)
            begin = time.monotonic()
            process.terminate()
            assert process.wait(PATIENCE) == 0
            assert time.monotonic() - begin < 5


def test_a_quiet_server_of_workers_prints_nothing() -> None:
    with RedisProcess(*DURABLE) as redis:
        port = free_port()
        flags = ["--engine", redis.url, "--workers", "2", "--quiet", "--port", str(port)]
        with Script([*SERVER, *flags]) as server:
            wait_for(lambda: _listens(port))
            server.signal(signal.SIGTERM)
            assert server.exit_code() == 0
            assert server.lines == []
            assert not re.search("Traceback", "".join(server.errors))


def test_without_the_option_of_linux_the_workers_share_one_socket() -> None:
    program = (
        "import sys; sys.platform = 'other'\nfrom syncchat.cli import server_main\n"
        "sys.exit(server_main())"
    )
    with RedisProcess(*DURABLE) as redis, ExitStack() as stack:
        flags = ["--port", "0", "--workers", "2", "--engine", redis.url]
        server = stack.enter_context(Script([sys.executable, "-c", program, *flags]))
        port = int(server.wait_for_line(r"listening on port \d+").rsplit(" ", 1)[1])
        people = [stack.enter_context(Plain(f"ws://127.0.0.1:{port}/")) for _ in range(20)]
        for each in people:
            each.hear()
        victim = children(server)[0]
        victim.kill()
        wait_for(lambda: len(children(server)) == 2 and victim not in children(server))
        wait_for(lambda: ask_http(port, "/healthz")[0] == 200)
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 1), (1, 2)])
def test_workers_hand_their_port_over_and_take_it(tmp_path: Path, before: int, after: int) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    own = {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
    refused: list[str] = []
    over = threading.Event()

    def ask(port: int) -> None:
        while not over.is_set():
            try:
                socket.create_connection(("127.0.0.1", port), PATIENCE).close()
            except OSError as exc:
                refused.append(repr(exc))
            time.sleep(0.01)

    with RedisProcess(*DURABLE) as redis:
        flags = ["--engine", redis.url, "--connect-rate", "0"]
        with ServerScript(*flags, "--workers", str(before), **own) as old, ExitStack() as stack:
            people = [stack.enter_context(Json(f"{old.url}?nick=n{n}")) for n in range(6)]
            for each in people:
                each.event("welcome")
            people[0].ask(type="say", text="kept", nonce="n1")
            people[0].find("message", text="kept")
            port = ["--port", str(old.port), "--take-over"]
            asking = InThread(lambda: ask(old.port))
            try:
                new = Script([*SERVER, *flags, *port, "--workers", str(after)], **own)
                stack.enter_context(new)
                new.wait_for_line(f"listening on port {old.port}")
                assert old.exit_code() == 0
            finally:
                over.set()
                asking.result()
            assert refused == []
            for each in people:
                assert each.hear_end() == 1001
            # All workers accept, and have the log; `do` reaches the new server.
            for number in range(12):
                with Json(f"{old.url}?nick=m{number}&history=1") as client:
                    assert client.find("history")["messages"][0]["text"] == "kept"
            assert run([*SERVER, "do", "--port", str(old.port), "bans"], **own).returncode == 0
            new.signal(signal.SIGTERM)
            assert new.exit_code() == 0
