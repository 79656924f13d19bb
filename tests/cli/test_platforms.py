"""What only some systems have is not needed: the commands without it, in real processes."""

from __future__ import annotations

import os
import signal
import socket
import sys

import pytest

from syncchat.cli.service_manager import ServiceManager
from tests.people import Plain
from tests.processes import ROOT, Script, run

#: Runs a command in a process that lacks what Windows lacks, or macOS.
WITHOUT = """
import os, select, signal, sys
for module, names in (
    (select, ["epoll", "poll", "PIPE_BUF"]),
    (os, ["SCHED_BATCH", "sched_setscheduler", "sched_getscheduler", "fork"]),
    (signal, ["SIGHUP", "SIGUSR1", "SIGCHLD"]),
):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
import socket
for name in ("MSG_DONTWAIT", "SO_REUSEPORT"):
    if hasattr(socket, name):
        delattr(socket, name)
sys.path.insert(0, sys.argv[1])
from syncchat.cli import main
sys.exit(main(sys.argv[2:]))
"""
COMMAND = [sys.executable, "-c", WITHOUT, str(ROOT)]


@pytest.mark.slow
def test_the_commands_need_nothing_that_only_linux_or_unix_has() -> None:
    refused = run([*COMMAND, "server", "--workers", "2", "--engine", "redis://127.0.0.1:1/0"])
    assert refused.returncode == 2
    assert "--workers needs a system that can fork processes" in refused.stderr
    with Script([*COMMAND, "server", "--port", "0", "--no-notices"]) as server:
        line = server.wait_for_line(r"listening on port \d+")
        port = line.rsplit(" ", 1)[1]
        with Plain(f"ws://127.0.0.1:{port}/") as other:
            other.hear()
            said = run([*COMMAND, "client", f"127.0.0.1:{port}", "--nick", "ann"], "hello\n")
            assert said.stdout.endswith("ann: hello\n"), said.stderr
            assert other.hear() == "ann: hello"
            server.signal(signal.SIGTERM)
            assert other.hear_end() == 1001
        assert server.exit_code() == 0
        assert server.errors == []


def test_without_unix_sockets_no_service_manager_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent")
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    manager = ServiceManager()
    manager.tell(READY=1)
    assert manager.wait is None
    assert "NOTIFY_SOCKET" not in os.environ
