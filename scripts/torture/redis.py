"""Redis with a proxy for each node: the run's own, with a replica, or a foreign one."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from .proxy import Proxy
from .servers import clean_environment, wait_until
from .shim import cut_power, drop_torn

__all__ = ["ForeignRedis", "RedisServers", "redis_program"]

_START_SECONDS, _ANSWER_SECONDS = 20.0, 5.0


def redis_program() -> str | None:
    """The path of redis-server; None: it is not installed."""
    return shutil.which("redis-server")


class _Redis:
    """One Redis in a process, which writes each command to its disk before it answers."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        folder.mkdir()
        self._folder = folder
        self._environment = {**clean_environment(), **environment}
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.port = int(sock.getsockname()[1])
        #: The folder of the log of commands.
        self.log_folder = folder / "appendonlydir"
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def start(self, master: int | None) -> None:
        """Start it, as the replica of the Redis at the port ``master``, unless that is None."""
        if self._process is not None:
            if self._process.poll() is None and (self._is_stopped or self.answers()):
                return
            # It is about to end, after an error of its disk.
            self.kill()
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "repl-diskless-sync-delay": "0",
            "logfile": str(self._folder / "log"),
        }
        command = [str(redis_program())]
        for name, setting in settings.items():
            command += [f"--{name}", setting]
        if master is not None:
            command += ["--replicaof", "127.0.0.1", str(master)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environment,
        )
        if not wait_until(self.answers, _START_SECONDS):
            self.kill()
            raise RuntimeError(f"Redis does not start: see {self._folder / 'log'}")

    def ask(self, *words: str) -> bytes:
        """The beginning of the reply to a command. Raises :class:`OSError`."""
        with socket.create_connection(("127.0.0.1", self.port), _ANSWER_SECONDS) as sock:
            parts = [b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words]
            sock.sendall(b"*%d\r\n" % len(words) + b"".join(parts))
            return sock.recv(65536)

    def answers(self) -> bool:
        """Whether it serves commands."""
        try:
            return self.ask("PING").startswith(b"+PONG")
        except OSError:
            return False

    def is_in_step(self) -> bool:
        """Whether this replica has its master's data."""
        try:
            return b"master_link_status:up" in self.ask("INFO", "replication")
        except OSError:
            return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._is_stopped = False

    def signal(self, number: signal.Signals) -> None:
        self._is_stopped = number is signal.SIGSTOP
        if self._process is not None:
            self._process.send_signal(number)


class ForeignRedis:
    """A Redis that somebody else runs; ``links`` has a proxy per node.

    ``url`` must begin with ``redis://``: over TLS, a proxy has not the name of the certificate.
    """

    def __init__(self, url: str, nodes: int) -> None:
        self._url = urlsplit(url)
        host, port = self._url.hostname or "127.0.0.1", self._url.port or 6379
        self.links = [Proxy(port, host) for _ in range(nodes)]

    def url(self, node: int) -> str:
        """The engine for a node."""
        user, at, _ = self._url.netloc.rpartition("@")
        place = f"{user}{at}127.0.0.1:{self.links[node].port}"
        return urlunsplit(self._url._replace(netloc=place))

    def close(self) -> None:
        """End the proxies."""
        for link in self.links:
            link.close()


class RedisServers(ForeignRedis):
    """A master and a replica of the run's own, which may change their roles."""

    def __init__(self, folder: Path, nodes: int, environment: Mapping[str, str]) -> None:
        self._all = [_Redis(folder / f"redis{number}", environment) for number in range(2)]
        self._master = 0
        try:
            self.restart()
        except BaseException:
            self._end()
            raise
        super().__init__(f"redis://127.0.0.1:{self._all[0].port}/0", nodes)

    def kill(self, *, power_cut: bool) -> None:
        """End the master with SIGKILL; with a power cut, what it has not flushed is lost."""
        master = self._all[self._master]
        master.kill()
        if power_cut:
            cut_power(master.log_folder)
        else:
            drop_torn(master.log_folder)

    def restart(self) -> None:
        """Start what does not run."""
        master = self._all[self._master]
        master.start(None)
        self._all[1 - self._master].start(master.port)

    def pause(self) -> None:
        """Stop the master's process."""
        self._all[self._master].signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let every process go on."""
        for each in self._all:
            each.signal(signal.SIGCONT)

    def empty(self) -> None:
        """Delete all keys."""
        self._all[self._master].ask("FLUSHALL")

    def fail_over(self) -> None:
        """Kill the master, and promote the replica, as a sentinel does."""
        self.resume()
        replica = self._all[1 - self._master]
        wait_until(replica.is_in_step, _START_SECONDS)
        self.kill(power_cut=False)
        replica.ask("REPLICAOF", "NO", "ONE")
        self._master = 1 - self._master
        for link in self.links:
            link.target = replica.port
            link.reset(1.0, random.Random(0))
        self.restart()

    def close(self) -> None:
        """End everything."""
        super().close()
        self._end()

    def _end(self) -> None:
        for each in self._all:
            each.kill()
