"""The two commands: flags, environment, exit codes, signals."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from wsproto.events import CloseConnection, TextMessage

from syncchat import __version__
from syncchat.eventlog import people_url
from tests.peer import PATIENCE, Peer, wait_for
from tests.people import GREETING
from tests.processes import CLIENT, SERVER, Script, ServerScript, environment, run

# Usage.


@pytest.mark.parametrize(
    "command",
    [
        SERVER,
        CLIENT,
        [sys.executable, "-m", "syncchat"],
        [sys.executable, "-m", "syncchat", "server"],
        [sys.executable, "-m", "syncchat", "client"],
    ],
    ids=lambda command: " ".join(command[1:])[-20:],
)
def test_version_and_help(command: list[str]) -> None:
    version = run([*command, "--version"])
    assert (version.returncode, version.stdout) == (0, f"syncchat {__version__}\n")
    usage = run([*command, "--help"])
    assert usage.returncode == 0
    assert usage.stdout.startswith("usage: ")


@pytest.mark.parametrize(
    ("command", "changes", "complaint"),
    [
        ([*SERVER, "--port", "65536"], {}, "must be a port number from 0 to 65535, not '65536'"),
        ([*SERVER, "--port", "-1"], {}, "port"),
        ([*SERVER, "--port", "http"], {}, "not 'http'"),
        (
            [*SERVER, "--port", "1" * 4400],
            {},
            "must be a port number from 0 to 65535, not a number of 4,400 digits (at most 9)\n",
        ),
        (
            [*SERVER, "--max-connections", "1" * 4400],
            {},
            "must be a positive integer, not a number of 4,400 digits (at most 9)\n",
        ),
        ([*SERVER, "--nonsense"], {}, "--nonsense"),
        ([*SERVER, "--format", "{name}"], {}, "must contain {text}"),
        (SERVER, {"SYNCCHAT_PORT": "x"}, "not 'x' (in SYNCCHAT_PORT)"),
        (SERVER, {"SYNCCHAT_ECHO": "maybe"}, "SYNCCHAT_ECHO"),
        (SERVER, {"SYNCCHAT_QUIET": "maybe"}, "SYNCCHAT_QUIET"),
        (SERVER, {"SYNCCHAT_FORMAT": "{"}, "must contain {text}"),
        ([*CLIENT, "http://localhost/"], {}, "ws://"),
        ([*CLIENT, "ws://localhost:99999/"], {}, "has an invalid port"),
        (CLIENT, {"SYNCCHAT_URL": "http://nowhere"}, "ws://"),
        ([*CLIENT, "host:port"], {}, "'host:port' has an invalid port"),
        ([*CLIENT, "two words"], {}, "blank"),
        ([*CLIENT, "--color", "red"], {}, "must be one of auto, always, never, not 'red'"),
        ([*CLIENT, "--bell", "loud"], {}, "must be one of off, mention, all, not 'loud'"),
        (CLIENT, {"SYNCCHAT_BELL": "loud"}, "(in SYNCCHAT_BELL)"),
        (CLIENT, {"SYNCCHAT_NICK": "a b"}, "(in SYNCCHAT_NICK)"),
        (
            CLIENT,
            {"SYNCCHAT_PORT": "x"},
            "must be a port number from 0 to 65535, not 'x' (in SYNCCHAT_PORT)",
        ),
        ([sys.executable, "-m", "syncchat", "nonsense"], {}, "nonsense"),
        ([sys.executable, "-m", "syncchat"], {}, "command"),
    ],
)
def test_wrong_usage_is_told_in_the_last_line_with_exit_code_2(
    command: list[str], changes: dict[str, str], complaint: str
) -> None:
    result = run(command, **changes)
    assert result.returncode == 2
    assert result.stdout == ""
    *usage, line = result.stderr.splitlines(keepends=True)
    assert complaint in line
    # How to write a flag is shown for one that is unknown, and not for a wrong value.
    assert bool(usage) == ("nonsense" in command or complaint in ("--nonsense", "command"))


def test_the_module_runs_both_commands() -> None:
    with Script([sys.executable, "-m", "syncchat", "server", "--port", "0"]) as server:
        port = server.wait_for_line(r"listening on port \d+").rsplit(" ", 1)[1]
        url = f"ws://127.0.0.1:{port}"
        result = run([sys.executable, "-m", "syncchat", "client", url], "hi\n")
        assert result.returncode == 0
        assert re.fullmatch(r"127\.0\.0\.1:\d+: hi\n", result.stdout)


# The server.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_cleanly(number: signal.Signals) -> None:
    with ServerScript() as server:
        stops_cleanly(server, number)


def with_hangup(handler: str) -> list[str]:
    """A command that starts the server with this handler of SIGHUP, whatever the tests have."""
    program = (
        "import os, signal, sys;"
        f" signal.signal(signal.SIGHUP, signal.{handler}); os.execv(sys.argv[1], sys.argv[1:])"
    )
    return [sys.executable, "-c", program, *SERVER, "--port", "0"]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no SIGHUP")
def test_sighup_is_ignored_under_nohup() -> None:
    """Issue 13, item 14."""
    with Script(with_hangup("SIG_IGN")) as server:
        port = port_of(server)
        server.signal(signal.SIGHUP)
        with Peer.client(port) as peer:
            assert peer.expect(TextMessage).data == GREETING
            peer.send(TextMessage(data="still here"))
            assert peer.expect(TextMessage).data.endswith(": still here")


def test_a_second_signal_ends_the_server_at_once() -> None:
    """Issue 13, item 14."""
    with ServerScript() as server, Peer.client(server.port) as peer:
        assert peer.expect(TextMessage).data == GREETING
        server.signal(signal.SIGTERM)
        # The server waits for the reply to this Close.
        assert peer.expect(CloseConnection).code == 1001
        server.signal(signal.SIGTERM)
        assert server.exit_code() == -signal.SIGTERM


def port_of(server: Script) -> int:
    """The port in the first line of the server's log."""
    return int(server.wait_for_line(r"listening on port \d+").rsplit(" ", 1)[1])


def stops_cleanly(server: Script, number: signal.Signals) -> None:
    """Send the signal: clients get a Close with 1001, and the exit code is 0."""
    with Peer.client(port_of(server)) as peer:
        assert peer.expect(TextMessage).data == GREETING
        server.signal(number)
        close = peer.expect(CloseConnection)
        assert close.code == 1001
        peer.send(close.response())
        assert peer.expect_end() == b""
    assert server.exit_code() == 0
    assert server.errors == []
    assert server.lines[-1].endswith("disconnected")


def test_a_port_in_use_prints_one_line_with_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = str(sock.getsockname()[1])
        result = run([*SERVER, "--port", port])
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == f"cannot listen on 127.0.0.1:{port}: address already in use\n"


def test_an_unknown_host_prints_one_line_with_exit_code_1() -> None:
    result = run([*SERVER, "--host", "no-such-host.invalid", "--port", "0"])
    assert result.returncode == 1
    assert result.stderr.startswith("cannot listen on no-such-host.invalid:0: ")
    assert result.stderr.count("\n") == 1


def test_ipv6_addresses_are_shown_in_brackets() -> None:
    with Script([*SERVER, "--host", "::1", "--port", "0"]) as server:
        port = int(server.wait_for_line(r"listening on port \d+").rsplit(" ", 1)[1])
        with Peer.client(port, host="::1") as peer:
            who = f"[::1]:{peer.sock.getsockname()[1]}"
            server.wait_for_line(re.escape(f"New connection from {who}"))
            assert peer.expect(TextMessage).data == GREETING
            peer.send(TextMessage(data="hi"))
            assert peer.expect(TextMessage).data == f"{who}: hi"
            server.wait_for_line(re.escape(f"Received from {who}: hi"))
        server.wait_for_line(re.escape(f"Client {who} disconnected"))
        result = run([*CLIENT, f"ws://[::1]:{port}/"], "hello\n")
        assert result.returncode == 0
        assert re.search(r"^\[::1\]:\d+: hello$", result.stdout, re.MULTILINE)


def test_the_server_listens_on_all_addresses_of_a_host_name() -> None:
    with Script([*SERVER, "--host", "localhost", "--port", "0"]) as server:
        port = server.wait_for_line(r"listening on port \d+").rsplit(" ", 1)[1]
        result = run([*CLIENT, f"ws://localhost:{port}/"], "hello\n")
        assert result.returncode == 0
        assert result.stdout.endswith(": hello\n")


def test_server_settings_come_from_environment_variables() -> None:
    with Script(
        SERVER,
        SYNCCHAT_HOST="127.0.0.2",
        SYNCCHAT_PORT="0",
        SYNCCHAT_GREETING="Hej",
        SYNCCHAT_ECHO="no",
        SYNCCHAT_FORMAT="<{text}>",
        SYNCCHAT_NOTICES="no",
    ) as server:
        port = int(server.wait_for_line(r"listening on port \d+").rsplit(" ", 1)[1])
        with (
            Peer.client(port, host="127.0.0.2") as one,
            Peer.client(port, host="127.0.0.2") as two,
        ):
            assert one.expect(TextMessage).data == two.expect(TextMessage).data == "Hej"
            two.send(TextMessage(data="I am in"))
            assert one.expect(TextMessage).data == "<I am in>"
            one.send(TextMessage(data="x"))
            assert two.expect(TextMessage).data == "<x>"


@pytest.mark.parametrize(
    ("flag", "changes"), [("--quiet", {}), ("--echo", {"SYNCCHAT_QUIET": "1"})]
)
def test_quiet_prints_nothing(flag: str, changes: dict[str, str]) -> None:
    with Script([*SERVER, "--port", "0", flag], **changes) as server:
        process = psutil.Process(server.process.pid)

        def port() -> int:
            listening = [c for c in process.net_connections("tcp") if c.status == "LISTEN"]
            return listening[0].laddr.port if listening else 0

        wait_for(port)
        with Peer.client(port()) as peer:
            assert peer.expect(TextMessage).data == GREETING
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0
        assert server.lines == server.errors == []


def test_idle_clients_take_no_threads() -> None:
    with ServerScript() as server:
        peers = [Peer.client(server.port) for _ in range(10)]
        for peer in peers:
            assert peer.expect(TextMessage).data == GREETING
        # The main thread, the acceptor, the reader, the I/O thread, the log and the console.
        assert psutil.Process(server.process.pid).num_threads() == 6
        for peer in peers:
            peer.close()


def test_an_output_without_a_reader_does_not_block_clients() -> None:
    command = [*SERVER, "--port", "0", "--greeting", "", "--rate", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rsplit(b" ", 1)[1])
        with Peer.client(port) as peer:
            # Far more than fits into the pipe and the queue of the log.
            for number in range(60):
                peer.send(TextMessage(data=f"{number} " + "x" * 60_000))
                text = ""
                while not (event := peer.expect(TextMessage)).message_finished:
                    text += event.data
                assert f": {number} " in (text + event.data)[:40]
        process.terminate()
        output = process.stdout.read().decode()
        assert process.wait(PATIENCE) == 0
        assert f"Received from 127.0.0.1:{peer_port(output)}: 0 x" in output


def peer_port(output: str) -> str:
    found = re.search(r"New connection from 127\.0\.0\.1:(\d+)", output)
    assert found is not None
    return found[1]


def test_a_closed_output_does_not_end_the_server() -> None:
    with subprocess.Popen(
        [*SERVER, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        port = int(process.stdout.readline().rsplit(b" ", 1)[1])
        process.stdout.close()
        for _ in range(3):
            with Peer.client(port) as peer:
                assert peer.expect(TextMessage).data == GREETING
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == b""


# The client.


def catches_interrupts(pid: int) -> bool:
    """Whether the process has a handler for SIGINT."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask, 16) & 1 << (signal.SIGINT - 1))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_ctrl_c_during_the_start_prints_no_traceback() -> None:
    with ServerScript() as server:
        for step in range(8):
            with subprocess.Popen(
                [*CLIENT, server.url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
                text=True,
            ) as client:
                # Python itself handles signals until it has started.
                wait_for(lambda: catches_interrupts(client.pid))
                wait_for(lambda: not catches_interrupts(client.pid))
                time.sleep(step / 25)
                client.send_signal(signal.SIGINT)
                _, errors = client.communicate(timeout=PATIENCE)
                assert "Traceback" not in errors
                assert client.returncode in (0, 1, -signal.SIGINT)


def test_closed_standard_error_leaves_standard_output_clean() -> None:
    with ServerScript("--no-notices") as server:
        for url in (server.url, "ws://127.0.0.1:1/"):
            command = f"echo hi | {shlex.join([*CLIENT, '--json', url])} 2>&-"
            result = run(["sh", "-c", command])
            assert all(line.startswith("{") for line in result.stdout.splitlines())


def test_closed_standard_streams_cause_no_traceback() -> None:
    with ServerScript() as server:
        for closed in ("<&-", ">&-"):
            result = run(["sh", "-c", f"exec {' '.join([*CLIENT, server.url])} {closed}"])
            assert result.returncode == 1
            assert result.stderr == "standard input and output must be open\n"
    with Script(["sh", "-c", f"exec {' '.join(SERVER)} --port 0 >&-"]) as silent:
        wait_for(lambda: psutil.Process(silent.process.pid).net_connections("tcp"))
        silent.signal(signal.SIGTERM)
        assert silent.exit_code() == 0
        assert silent.errors == []


def test_log_json_prints_the_log_as_json() -> None:
    with ServerScript("--no-notices") as plain:
        assert plain.lines[0] == f"listening on port {plain.port}"
    with Script([*SERVER, "--port", "0", "--log-json"]) as server:
        line = server.wait_for_line(".*")
        assert json.loads(line).keys() == {"time", "event", "port", "url"}
    with Script([*SERVER, "--port", "0"], SYNCCHAT_LOG_JSON="yes") as server:
        assert server.wait_for_line(".*").startswith("{")


# The lines of the log before the first client.


def first_lines(*flags: str) -> tuple[int, list[str]]:
    """The port of a server, and the lines of its log between that and the first client."""
    with ServerScript(*flags) as server, Peer.client(server.port) as peer:
        assert peer.expect(TextMessage)
        # All lines before this one have arrived.
        server.wait_for_line("New connection from .*")
        lines = server.lines[: [line[:3] for line in server.lines].index("New")]
        assert lines[0] == f"listening on port {server.port}"
        assert lines[-1] == "Storage: memory: until the server stops"
        return server.port, lines[1:-1]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "Open http://127.0.0.1:{port}/ in a browser, or join with: syncchat 127.0.0.1:{port}"),
        (
            ["--host", "localhost"],
            "Open http://localhost:{port}/ in a browser, or join with: syncchat localhost:{port}",
        ),
        (["--no-web"], "Join with: syncchat 127.0.0.1:{port}"),
        (
            ["--public-url", "https://chat.example.org"],
            ("Open https://chat.example.org/ in a browser,"
             " or join with: syncchat wss://chat.example.org/"),
        ),
        (
            ["--public-url", "http://example.org:8080/chat"],
            ("Open http://example.org:8080/chat/ in a browser,"
             " or join with: syncchat ws://example.org:8080/chat/"),
        ),
        (
            ["--public-url", "https://chat.example.org", "--no-web"],
            "Join with: syncchat wss://chat.example.org/",
        ),
    ],
)  # fmt: skip
def test_the_log_shows_how_to_join(flags: list[str], told: str) -> None:
    """Issue 13, item 17."""
    port, lines = first_lines(*flags)
    assert lines == [told.format(port=port)]


def test_the_shown_command_joins_the_chat() -> None:
    """Issue 13, item 17: with an IPv6 address in brackets."""
    with Script([*SERVER, "--host", "::1", "--port", "0"]) as server:
        line = server.wait_for_line(r"Open http://\[::1\]:\d+/ in a browser, or join with: .*")
        _, where = line.rsplit(" ", 1)
        result = run([*CLIENT, where], "hello\n")
        assert result.stdout.endswith(": hello\n")


def test_a_server_on_all_interfaces_shows_an_address_and_warns() -> None:
    """Issue 13, item 17: the warning: there is neither a token nor TLS."""
    port, lines = first_lines("--host", "0.0.0.0")
    found = re.fullmatch(
        rf"Open http://(.+):{port}/ in a browser, or join with: syncchat \1:{port}", lines[0]
    )
    assert found is not None
    assert found[1] != "0.0.0.0"
    (warning,) = lines[1:]
    assert warning == (
        f"Warning: everyone who can reach port {port} of this machine can read and write here,"
        " and nothing is encrypted. Set --token-file and --tls-cert, or --host 127.0.0.1."
    )


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
def test_with_tls_a_server_on_all_interfaces_shows_its_host_name(wildcard: str) -> None:
    """Issue 13, item 17: most certificates are for host names, not for addresses."""
    told = people_url(None, [(wildcard, 2000)], secure=True, web=True, public_url=None)
    assert told == f"https://{socket.gethostname()}:2000/"


def test_a_server_with_a_token_warns_only_that_nothing_is_encrypted() -> None:
    """Issue 13, item 17."""
    with Script([*SERVER, "--port", "0", "--host", "0.0.0.0", "--token", "s3cret"]) as server:
        with Peer.client(port_of(server), "/?token=s3cret") as peer:
            assert peer.expect(TextMessage)
            server.wait_for_line("New connection from .*")
        (warning,) = (line for line in server.lines if line.startswith("Warning"))
        assert warning == (
            "Warning: what people say and their tokens are not encrypted. Set --tls-cert,"
            " or --host 127.0.0.1."
        )


@pytest.mark.parametrize(
    ("flags", "url", "warns"),
    [
        ([], "http://127.0.0.1:{port}/", False),
        (["--no-web"], "ws://127.0.0.1:{port}/", False),
        (["--host", "0.0.0.0", "--public-url", "https://a.test/x"], "https://a.test/x/", True),
    ],
)
def test_the_url_and_the_warning_are_events_of_the_json_log(
    flags: list[str], url: str, warns: bool
) -> None:
    """Issue 13, item 17."""
    with Script([*SERVER, "--port", "0", "--log-json", *flags]) as server:
        listening = json.loads(server.wait_for_line(r'.*"listening".*'))
        assert listening["url"] == url.format(port=listening["port"])
        with Peer.client(listening["port"]) as peer:
            assert peer.expect(TextMessage)
            server.wait_for_line(r'.*"connected".*')
        warnings = [json.loads(line) for line in server.lines if '"warning"' in line]
        assert [warning.keys() for warning in warnings] == [{"time", "event", "text"}] * warns
        assert all(warning["text"].startswith("everyone who can reach") for warning in warnings)


def test_a_refusal_by_the_server_prints_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        url = f"ws://127.0.0.1:{listening.getsockname()[1]}/"
        with Script([*CLIENT, url]) as client:
            sock, _ = listening.accept()
            with sock:
                sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\n\x1b[2Jgo!\n\n")
            assert client.exit_code() == 1
            assert client.lines == []
            assert client.errors == [rf"cannot join the chat at {url}: HTTP status 403: \x1b[2Jgo!"]
