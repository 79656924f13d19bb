"""The server as a service: reload, logs, systemd, and a restart that refuses nobody."""

from __future__ import annotations

import argparse
import contextlib
import os
import pty
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from syncchat.cli.reload import Reloader
from syncchat.cli.server_configuration import ServerConfiguration
from syncchat.cli.service_manager import inherited_sockets
from syncchat.errors import ConnectionClosed
from syncchat.net import WebSocket, bearer, connect
from tests.peer import PATIENCE, wait_for
from tests.people import Json, Plain
from tests.processes import ROOT, SERVER, Script, ServerScript, environment, run

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="for systems with signals")


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """The environment with a folder for the sockets of this user."""
    (tmp_path / "run").mkdir(mode=0o700)
    return {"XDG_RUNTIME_DIR": str(tmp_path / "run")}


def issue(authority: trustme.CA, folder: Path) -> None:
    """Write a new certificate, as an ACME client does: first the one file, then the other."""
    certificate = authority.issue_cert("localhost")
    (folder / "cert.pem").write_bytes(
        b"".join(each.bytes() for each in certificate.cert_chain_pems)
    )
    (folder / "key.pem").write_bytes(certificate.private_key_pem.bytes())


def serial(port: int, context: ssl.SSLContext) -> str:
    """The serial number of the server's certificate."""
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as secured,
    ):
        found = secured.getpeercert()
        assert found is not None
        return str(found["serialNumber"])


def test_a_reload_takes_up_what_can_change_and_drops_nobody(
    tmp_path: Path, own: dict[str, str]
) -> None:
    authority = trustme.CA()
    issue(authority, tmp_path)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    token, config = tmp_path / "token", tmp_path / "server.toml"
    token.write_text("first")
    settings = f'tls-cert = "{tmp_path}/cert.pem"\ntls-key = "{tmp_path}/key.pem"\n'
    settings += f'token-file = "{token}"\n'
    config.write_text(settings)
    flags = ["--config", str(config), "--no-notices", "--no-log-messages"]
    with ServerScript(*flags, **own) as server:
        url = f"wss://localhost:{server.port}/"
        ask = [*SERVER, "do", "--port", str(server.port), "reload"]
        with connect(url, ssl_context=context, headers=[bearer("first")]) as client:
            client.recv(PATIENCE)
            before = serial(server.port, context)
            issue(authority, tmp_path)
            token.write_text("second")
            config.write_text(f'{settings}origin = "https://chat.example.org"\nrate = 3\n')
            server.signal(signal.SIGHUP)
            told = server.wait_for_line("Reloaded: .*")
            assert told == (
                "Reloaded: token, origin changed; the files of the certificate and tokens are read"
                " again; a restart is needed for rate"
            )
            assert serial(server.port, context) != before
            with connect(url, ssl_context=context, headers=[bearer("second")]) as other:
                other.recv(PATIENCE)
            # A wrong setting changes nothing, and is told.
            config.write_text("rat = 3")
            wrong = run(ask, **own)
            assert (wrong.returncode, wrong.stdout) == (1, "")
            assert "unknown key 'rat'; did you mean rate?" in wrong.stderr
            server.wait_for_line("Warning: not reloaded: .*unknown key.*")
            config.write_text(f"x = {'[' * 100_000}")
            server.signal(signal.SIGHUP)
            server.wait_for_line("Warning: not reloaded: .*nested too deeply")
            config.write_text(settings)
            right = run(ask, **own)
            assert (right.returncode, right.stderr) == (0, "")
            assert right.stdout.startswith("origin changed; ")
            client.send("still here")
            assert str(client.recv(PATIENCE)).endswith(": still here")
            server.wait_for_line("Received a message from .*")


def test_the_log_goes_to_a_file_without_texts_and_is_opened_anew(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    flags = ["--log-file", str(log), "--mask-addresses", "--port", "0", "--no-notices"]
    with Script([*SERVER, *flags], SYNCCHAT_LOG_MESSAGES="") as server:
        wait_for(lambda: log.exists() and "Storage: memory:" in log.read_text())
        found = re.search(r"^listening on port (\d+)\nOpen http", log.read_text())
        assert found is not None
        with Plain(f"ws://127.0.0.1:{found[1]}/") as client:
            client.hear()
            client.send("secret")
            client.hear()
            wait_for(lambda: "Received a message from 127.0.0.0:" in log.read_text())
            assert "secret" not in log.read_text()
            assert "127.0.0.1:" not in log.read_text().partition("Storage")[2]
            log.rename(tmp_path / "old.log")
            server.signal(signal.SIGUSR1)
            wait_for(log.exists)
        wait_for(lambda: re.fullmatch(r"Client 127.0.0.0:\d+ disconnected\n", log.read_text()))
        assert server.lines == []
    unwritable = run([*SERVER, "--log-file", "/nonexistent/log"])
    assert (unwritable.returncode, unwritable.stderr) == (
        1,
        "cannot write the log to /nonexistent/log: no such file or directory\n",
    )


def test_a_terminal_shows_the_messages_and_its_end_stops_the_server() -> None:
    master, slave = pty.openpty()
    # In a session of its own: the terminal is not that of the tests.
    program = (
        "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(1, termios.TIOCSCTTY, 0);"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )

    with subprocess.Popen(
        [sys.executable, "-c", program, *SERVER, "--port", "0", "--log-level", "info"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(SYNCCHAT_LOG_MESSAGES=""),
    ) as process:
        os.close(slave)
        shown = b""

        def read_until(pattern: bytes) -> re.Match[bytes]:
            nonlocal shown
            deadline = time.monotonic() + PATIENCE
            while (found := re.search(pattern, shown)) is None:
                assert select.select([master], [], [], deadline - time.monotonic())[0], shown
                shown += os.read(master, 65536)
            return found

        try:
            port = int(read_until(rb"listening on port (\d+)\r")[1])
            with Plain(f"ws://127.0.0.1:{port}/") as client:
                client.hear()
                client.send("hello")
                read_until(rb"Received from 127.0.0.1:\d+: hello")
                os.close(master)
                assert client.hear_end() == 1001
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def test_levels_and_priorities_are_those_of_the_journal(tmp_path: Path) -> None:
    # The journal is a socket; a file has a device and an inode, too.
    with (tmp_path / "journal").open("w") as journal:
        found = os.fstat(journal.fileno())
        stream = f"{found.st_dev}:{found.st_ino}"

        process = subprocess.Popen(
            [*SERVER, "--host", "0.0.0.0", "--port", "0"],
            stdout=journal,
            stderr=journal,
            env=environment(JOURNAL_STREAM=stream),
        )
        written = tmp_path / "journal"
        wait_for(lambda: "Storage" in written.read_text())
        process.terminate()
        assert process.wait(PATIENCE) == 0
    lines = written.read_text().splitlines()
    assert [line[:3] for line in lines] == ["<6>", "<6>", "<4>", "<6>"]
    assert lines[2].startswith("<4>Warning: everyone who can reach port")


@contextlib.contextmanager
def manager(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The notify socket of a service manager."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.settimeout(PATIENCE)
        yield sock, path


def told(sock: socket.socket, name: str) -> dict[str, str]:
    """The next message of the service that has this field."""
    while True:
        fields = dict(line.split("=", 1) for line in sock.recv(4096).decode().splitlines())
        if name in fields:
            return fields


def test_the_service_manager_is_told_and_passes_the_socket(tmp_path: Path) -> None:
    """sd_notify and socket activation, with a process that systemd could have started."""

    program = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3, inheritable=True);"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    engine = f"sqlite:{tmp_path / 'chat.db'}"
    with manager(tmp_path) as (sock, path), socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def start() -> subprocess.Popen[bytes]:
            number = str(listening.fileno())
            return subprocess.Popen(
                [sys.executable, "-c", program, number, *SERVER, "--engine", engine, "--quiet"],
                pass_fds=[listening.fileno()],
                env=environment(NOTIFY_SOCKET=path, WATCHDOG_USEC="400000"),
            )

        with start() as process:
            assert told(sock, "READY") == {"READY": "1"}
            with Plain(f"ws://127.0.0.1:{port}/") as client:
                client.hear()
                assert told(sock, "WATCHDOG") == {"WATCHDOG": "1"}
                assert "clients" in told(sock, "STATUS")["STATUS"]
                began = time.monotonic_ns() // 1000
                process.send_signal(signal.SIGHUP)
                assert int(told(sock, "RELOADING")["MONOTONIC_USEC"]) >= began
                assert told(sock, "READY") == {"READY": "1"}
                process.terminate()
                assert told(sock, "STOPPING") == {"STOPPING": "1"}
                assert client.hear_end() == 1001
            assert process.wait(PATIENCE) == 0
        # Nobody serves, and nobody is refused: a client waits for the next server.
        waiting = socket.create_connection(("127.0.0.1", port), PATIENCE)
        waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with start() as process:
            waiting.settimeout(PATIENCE)
            assert waiting.recv(12) == b"HTTP/1.1 200"
            waiting.close()
            # A server whose engine hangs is not healthy: no watchdog.
            process.send_signal(signal.SIGSTOP)
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while sock.recv(4096):
                    pass
            assert not select.select([sock], [], [], 0.6)[0]
            process.send_signal(signal.SIGCONT)
            process.terminate()
            assert process.wait(PATIENCE) == 0


CONTRIB = ROOT / "contrib"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_the_units_are_valid_and_hardened(tmp_path: Path) -> None:
    for name in ("syncchat.service", "syncchat.socket"):
        text = (CONTRIB / name).read_text().replace("/usr/local/bin/syncchat-server", "/bin/true")
        (tmp_path / name).write_text(text)
    units = [str(tmp_path / name) for name in ("syncchat.service", "syncchat.socket")]
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", units[0]],
        check=True,
        capture_output=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="needs systemd")
def test_systemd_itself_passes_the_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", *SERVER, "--port=1"]
    with Script(command) as activated:
        activated.wait_for_line(r"Listening on .*", errors=True)
        # The first client starts the server.
        with Plain(f"ws://127.0.0.1:{port}/") as client:
            client.hear()
        activated.wait_for_line(f"listening on port {port}")
        activated.signal(signal.SIGTERM)
        assert activated.exit_code() == 0


def test_what_is_passed_must_be_a_tcp_socket_that_listens() -> None:
    assert inherited_sockets() is None
    program = (
        "import os, sys; os.dup2(1, 3, inheritable=True);"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    result = run([sys.executable, "-c", program, *SERVER])
    assert result.returncode == 1
    assert result.stderr.startswith("descriptor 3 of LISTEN_FDS")


def test_a_certificate_that_changes_on_disk_is_taken_up_under_load(tmp_path: Path) -> None:
    authority = trustme.CA()
    issue(authority, tmp_path)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    config = tmp_path / "server.toml"
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    config.write_text(f'port = 0\ntls-cert = "{cert}"\ntls-key = "{key}"\nrate = 0\n')
    configuration = ServerConfiguration(argparse.ArgumentParser(), ["--config", str(config)])
    lines: list[str] = []
    with configuration.make(None, log=lines.append) as chat, contextlib.ExitStack() as stack:
        reloader = Reloader(configuration, chat, None)
        url = f"wss://localhost:{chat.port}/"
        clients = [stack.enter_context(connect(url, ssl_context=trust)) for _ in range(5)]
        over = threading.Event()
        failures: list[str] = []

        def talk(client: WebSocket) -> None:
            client.recv(PATIENCE)
            while not over.is_set():
                client.send("x")
                try:
                    client.recv(PATIENCE)
                except (TimeoutError, ConnectionClosed) as exc:
                    failures.append(repr(exc))

        threads = [threading.Thread(target=talk, args=[client]) for client in clients]
        for thread in threads:
            thread.start()
        try:
            first = serial(chat.port, trust)
            # Half of a renewal: the key does not belong to the certificate.
            issue(authority, tmp_path)
            old_key = key.read_bytes()
            issue(authority, tmp_path)
            key.write_bytes(old_key)
            for _ in range(4):
                reloader.look(at_once=True)
            told = [line for line in lines if "the earlier certificate stays in use" in line]
            assert len(told) == 1, lines
            assert f"the key in {key} does not match the certificate" in told[0]
            assert serial(chat.port, trust) == first
            issue(authority, tmp_path)
            reloader.look(at_once=True)
            reloader.look(at_once=True)
            assert "Reloaded: the certificate has changed" in lines
            assert serial(chat.port, trust) != first
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert failures == []
        assert all(client.close_code is None for client in clients)


def test_a_successor_takes_the_port_over_and_refuses_nobody(
    tmp_path: Path, own: dict[str, str]
) -> None:
    engine = f"sqlite:{tmp_path / 'chat.db'}"
    with ServerScript("--engine", engine, **own) as old:
        flags = ["--engine", engine, "--port", str(old.port), "--take-over"]
        with Json(f"{old.url}?nick=ann") as ann:
            ann.event("welcome")
            ann.ask(type="say", text="kept", nonce="n1")
            ann.event("message")
            with Script([*SERVER, *flags], **own) as new:
                assert ann.hear_end() == 1001
                # Connected at once, whoever serves.
                with Json(f"{old.url}?nick=bob&history=1") as bob:
                    bob.event("welcome")
                    assert bob.event("history")["messages"][0]["text"] == "kept"
                    assert old.exit_code() == 0
                    new.wait_for_line(f"listening on port {old.port}")
                # It can be taken over in its turn, and has the console.
                assert run([*SERVER, "do", "--port", str(old.port), "bans"], **own).returncode == 0
    # Without a predecessor it just starts.
    with ServerScript("--take-over", **own):
        pass
