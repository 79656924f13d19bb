"""Servers that are two nodes on one Redis, which runs for them alone."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from .clients import PATIENCE
from .dialects import SocketIo
from .running import (
    SCRIPTS,
    Certificate,
    Running,
    Server,
    Site,
    Skipped,
    ask,
    npm_install,
    schedule,
)
from .servers import Ours, Peer

__all__ = ["OurNodes", "SocketIoNodes"]

_NODES = 2


class _Nodes(Server, ABC):
    """Some nodes on one Redis. Clients connect to them in turn."""

    is_cluster = True
    tls = False

    def version(self, site: Site) -> str:
        program = shutil.which("redis-server")
        if program is None:
            raise Skipped("redis-server is not found")
        # Redis server v=7.0.15 sha=...
        shown = ask(program, "--version", cwd=site.folder).stdout.partition("v=")[2]
        return f"{_NODES} nodes, Redis {shown.split(' ')[0]}"

    @abstractmethod
    def node(self, site: Site, redis: Path) -> Server:
        """Return a node on the Redis that listens at that path."""

    @contextmanager
    def running(self, site: Site, certificate: Certificate | None) -> Iterator[Running]:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=site.folder)))
            process = stack.enter_context(_redis(folder))
            node = self.node(site, folder / "socket")
            nodes = [stack.enter_context(node.running(site, certificate)) for _ in range(_NODES)]
            yield Running(
                [port for each in nodes for port in each.ports],
                [process, *(one for each in nodes for one in each.processes)],
            )


@contextmanager
def _redis(folder: Path) -> Iterator[psutil.Process]:
    """Run a Redis that keeps nothing on the disk, and listens at ``socket`` in the folder."""
    command = ["redis-server", "--port", "0", "--unixsocket", str(folder / "socket"), "--save", ""]
    with subprocess.Popen(
        [*command, "--dir", str(folder), "--appendonly", "no"], stdout=subprocess.DEVNULL
    ) as process:
        try:
            schedule(process.pid)
            deadline = time.monotonic() + PATIENCE
            while not _answers(folder / "socket"):
                if time.monotonic() >= deadline or process.poll() is not None:
                    raise RuntimeError("Redis did not start")
                time.sleep(0.01)
            yield psutil.Process(process.pid)
        finally:
            process.kill()


def _answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(path))
            sock.sendall(b"PING\r\n")
            return sock.recv(64).startswith(b"+PONG")
    except OSError:
        return False


class _OurNode(Ours):
    def __init__(self, redis: Path) -> None:
        super().__init__("node")
        self._redis = redis

    def command(self, site: Site, certificate: Certificate | None) -> list[str]:
        return [*super().command(site, certificate), "--engine", f"redis+unix://{self._redis}"]


class OurNodes(_Nodes):
    def version(self, site: Site) -> str:
        return f"{Ours(self.name).version(site)}, {super().version(site)}"

    def node(self, site: Site, redis: Path) -> Server:  # noqa: ARG002 - the other's need
        return _OurNode(redis)


class _SocketIoNode(Peer):
    def __init__(self, redis: Path) -> None:
        super().__init__("node", "socket_io.js", "socket.io")
        self._redis = redis

    def command(self, site: Site, certificate: Certificate | None) -> list[str]:  # noqa: ARG002
        return ["node", str(site.folder / Path(self.script).name), str(self._redis)]


class SocketIoNodes(_Nodes):
    """Socket.IO on Node with its adapter for Redis Streams, fetched for the run."""

    lines = SocketIo

    def version(self, site: Site) -> str:
        on_redis = super().version(site)
        packages = ["socket.io@4", "@socket.io/redis-streams-adapter", "redis"]
        modules = npm_install(site, packages, "socket.io", "node")
        # Node looks for packages beside the script.
        shutil.copy(SCRIPTS / "peers" / "socket_io.js", site.folder)
        shown = [
            json.loads((folder / "package.json").read_text("utf-8"))["version"]
            for folder in (modules, modules.parent / "@socket.io" / "redis-streams-adapter")
        ]
        of_node = ask("node", "--version", cwd=site.folder).stdout.strip().removeprefix("v")
        return f"Socket.IO {shown[0]}, Streams adapter {shown[1]}, Node {of_node}, {on_redis}"

    def node(self, site: Site, redis: Path) -> Server:  # noqa: ARG002
        return _SocketIoNode(redis)
