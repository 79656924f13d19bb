"""A real Redis in a process of its own, on a socket in a folder."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import pytest

from tests.peer import PATIENCE

__all__ = ["REDIS", "RedisProcess"]

REDIS = shutil.which("redis-server")


class RedisProcess:
    """A Redis that can be killed, stopped for a while, and started again with its data.

    Skips the test if there is no redis-server.
    """

    def __init__(self, *flags: str) -> None:
        if REDIS is None:
            pytest.skip("needs redis-server")
        # Not the folder of the test: the path of a socket has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="redis"))
        self.path = self.folder / "socket"
        self.url = f"redis+unix://{self.path}"
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = [str(REDIS), "--port", "0", "--unixsocket", str(self.path), "--save", ""]
        command += ["--dir", str(self.folder), "--appendonly", "no", *self._flags]
        self.path.unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log)
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if time.monotonic() >= deadline:
                self.kill()
                raise AssertionError((self.folder / "log").read_text())
            time.sleep(0.005)

    def ask(self, *words: str) -> bytes:
        """The beginning of the reply to a command."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(self.path))
            sock.sendall(b"".join([b"*%d\r\n" % len(words), *map(_bulk, words)]))
            return sock.recv(65536)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def commands(self) -> int:
        """How many commands it has carried out."""
        (line,) = [
            line
            for line in self.ask("INFO", "stats").decode().splitlines()
            if line.startswith("total_commands_processed:")
        ]
        return int(line.partition(":")[2])

    def calls(self, command: str) -> int:
        """How often it has carried out one command."""
        stats = self.ask("INFO", "commandstats").decode()
        found = re.search(rf"cmdstat_{command}:calls=(\d+)", stats)
        return int(found[1]) if found else 0

    def _answers(self) -> bool:
        try:
            return self.ask("PING").startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.go_on()
        self.kill()
        shutil.rmtree(self.folder)


def _bulk(word: str) -> bytes:
    data = word.encode()
    return b"$%d\r\n%s\r\n" % (len(data), data)
