"""The servers that are compared, and how to start them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar

import psutil
import trustme

from .clients import PATIENCE
from .dialects import Dialect, Events, Lines, RelayedEvents

__all__ = [
    "COMPILED_FLOOR",
    "FLOOR",
    "OURS",
    "SERVERS",
    "Certificate",
    "Ours",
    "Peer",
    "Server",
    "Site",
    "Skipped",
]

SCRIPTS = Path(__file__).resolve().parent.parent


class Skipped(Exception):
    """Raised with the reason why a server takes no part."""


@dataclass
class Certificate:
    """The certificate of a TLS server, and the context that makes its clients trust it."""

    path: str
    trust: ssl.SSLContext

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        authority = trustme.CA()
        path = folder / "certificate.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        return cls(str(path), trust)


@dataclass
class Site:
    """What the servers need: a certificate, and a folder for Node's packages."""

    certificate: Certificate
    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Site:
        return cls(Certificate.make(folder), folder)


class Server(ABC):
    """A server that runs in its own process. ``name`` is its name in the report."""

    #: Whether the path selects a room, and whether the server supports TLS.
    rooms: ClassVar[bool] = True
    tls: ClassVar[bool] = True
    #: The dialect for a chat of lines, and for a chat of events; None if the server takes no part.
    lines: ClassVar[type[Dialect] | None] = Lines
    events: ClassVar[type[Dialect] | None] = None

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def version(self, site: Site) -> str:
        """Return what is compared, as in ``websockets 16.0``. Raises :class:`Skipped`."""

    @abstractmethod
    def command(self, site: Site, certificate: Certificate | None) -> list[str]:
        """Return the command that starts the server."""

    def port(self, process: subprocess.Popen[str]) -> int:
        """Return the port, from the line that the server prints."""
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the server did not start")
        return int(line.rsplit(" ", 1)[1])

    @contextmanager
    def running(
        self, site: Site, certificate: Certificate | None
    ) -> Iterator[tuple[psutil.Process, int]]:
        """Run the server. Yields its process and its port."""
        with subprocess.Popen(
            self.command(site, certificate),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=site.folder,
        ) as process:
            try:
                _schedule(process.pid)
                port = self.port(process)
                yield psutil.Process(process.pid), port
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()


def _schedule(pid: int) -> None:
    """Give a server the scheduling policy that syncchat asks for. Its threads inherit it."""
    if sys.platform == "linux":
        # If this is not allowed, syncchat does not get the policy either.
        with suppress(OSError):
            os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))


class Ours(Server):
    events = Events

    def version(self, site: Site) -> str:  # noqa: ARG002 - the peers' way
        shown = subprocess.run(
            [sys.executable, str(SCRIPTS / "server.py"), "--version"],
            capture_output=True,
            text=True,
            check=True,
        )
        return f"{shown.stdout.strip()}, wsproto {version('wsproto')}"

    def command(self, site: Site, certificate: Certificate | None) -> list[str]:  # noqa: ARG002
        flags = ["--quiet", "--greeting=", "--rate=0", "--ping-interval=0"]
        flags += ["--no-notices", "--port=0"]
        if certificate:
            flags += ["--tls-cert", certificate.path]
        return [sys.executable, str(SCRIPTS / "server.py"), *flags]

    def port(self, process: subprocess.Popen[str]) -> int:
        """Return the port at which the process listens: with these flags it prints nothing."""
        deadline = time.monotonic() + PATIENCE
        running = psutil.Process(process.pid)
        while time.monotonic() < deadline and process.poll() is None:
            for connection in running.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    return int(connection.laddr.port)
            time.sleep(0.01)
        raise RuntimeError("the server did not start")


class OursOnDisk(Ours):
    """syncchat with the SQLite engine, and a new file for each run."""

    # The engine stores messages of both dialects, so one workload is enough to show the cost.
    lines = None

    def version(self, site: Site) -> str:
        return f"{super().version(site)}, SQLite {sqlite3.sqlite_version}"

    def command(self, site: Site, certificate: Certificate | None) -> list[str]:
        return [
            *super().command(site, certificate),
            "--engine",
            f"sqlite:{site.folder / 'chat.db'}",
        ]

    @contextmanager
    def running(
        self, site: Site, certificate: Certificate | None
    ) -> Iterator[tuple[psutil.Process, int]]:
        with (
            tempfile.TemporaryDirectory(dir=site.folder) as folder,
            super().running(replace(site, folder=Path(folder)), certificate) as running,
        ):
            yield running


class Peer(Server):
    """A chat server on another library: a script, and the distribution that it needs."""

    def __init__(self, name: str, script: str, distribution: str) -> None:
        super().__init__(name)
        self.script = str(SCRIPTS / "peers" / script)
        self.distribution = distribution

    def version(self, site: Site) -> str:  # noqa: ARG002 - Node's needs it
        try:
            return f"{self.distribution} {version(self.distribution)}"
        except PackageNotFoundError:
            raise Skipped(f"{self.distribution} is not installed") from None

    def command(self, site: Site, certificate: Certificate | None) -> list[str]:  # noqa: ARG002
        return [sys.executable, self.script, *([certificate.path] if certificate else [])]


class Relay(Peer):
    events = RelayedEvents


class WebsocketServer(Peer):
    # The library does not keep the path, and its TLS uses a function that Python 3.12 has removed.
    rooms = False
    tls = False


class Floor(Peer):
    tls = False

    def version(self, site: Site) -> str:  # noqa: ARG002
        return "socket.send in a loop"


class CompiledFloor(Server):
    """The same loop in C, which is compiled for the run if a compiler is found."""

    tls = False

    def version(self, site: Site) -> str:
        compiler = shutil.which("cc")
        if compiler is None or sys.platform != "linux":
            raise Skipped("there is no C compiler" if compiler is None else "it needs Linux")
        source = SCRIPTS / "peers" / "bare_loop.c"
        compiled = _ask(
            compiler, "-O2", "-o", str(self._program(site)), str(source), cwd=site.folder
        )
        if compiled.returncode:
            raise Skipped("the C compiler failed")
        return "the same loop in C"

    def command(self, site: Site, certificate: Certificate | None) -> list[str]:  # noqa: ARG002
        return [str(self._program(site))]

    @staticmethod
    def _program(site: Site) -> Path:
        return site.folder / "bare_loop"


class Node(Relay):
    """Node's ws, which is fetched for the run if ``node`` and ``npm`` are found."""

    def version(self, site: Site) -> str:
        modules = _npm_install(site, "ws@8", "ws", "node")
        # Node looks for packages beside the script.
        shutil.copy(self.script, site.folder)
        of_ws = json.loads((modules / "package.json").read_text("utf-8"))["version"]
        of_node = _ask("node", "--version", cwd=site.folder)
        return f"ws {of_ws}, Node {of_node.stdout.strip().removeprefix('v')}"

    def command(self, site: Site, certificate: Certificate | None) -> list[str]:
        script = str(site.folder / Path(self.script).name)
        return ["node", script, *([certificate.path] if certificate else [])]


class Bun(Relay):
    """Bun, whose server is uWebSockets. It is fetched for the run if it is not installed."""

    def version(self, site: Site) -> str:
        shown = _ask(self._bun(site), "--version", cwd=site.folder)
        if shown.returncode:
            raise Skipped("bun does not run here")
        return f"Bun {shown.stdout.strip()} (uWebSockets)"

    def command(self, site: Site, certificate: Certificate | None) -> list[str]:
        return [self._bun(site), self.script, *([certificate.path] if certificate else [])]

    @staticmethod
    def _bun(site: Site) -> str:
        """Return the path of the program. Raises :class:`Skipped`."""
        installed = shutil.which("bun")
        if installed is not None:
            return installed
        _npm_install(site, "bun@1", "bun")
        return str(site.folder / "node_modules" / ".bin" / "bun")


def _npm_install(site: Site, package: str, name: str, *tools: str) -> Path:
    """Install an npm package for this run, once. Returns its folder. Raises :class:`Skipped`."""
    for tool in (*tools, "npm"):
        if shutil.which(tool) is None:
            raise Skipped(f"{tool} is not found")
    folder = site.folder / "node_modules" / name
    if not folder.is_dir():
        fetched = _ask("npm", "install", "--no-audit", "--no-fund", package, cwd=site.folder)
        if fetched.returncode or not folder.is_dir():
            raise Skipped(f"npm could not fetch {name}")
    return folder


def _ask(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. Raises :class:`Skipped` if that takes too long."""
    try:
        return subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120
        )
    except subprocess.TimeoutExpired:
        raise Skipped(f"{Path(command[0]).name} did not answer") from None


OURS = "syncchat"
#: The servers that are no chat but a lower bound.
FLOOR, COMPILED_FLOOR = "bare-loop", "bare-loop-c"

SERVERS: dict[str, Server] = {
    server.name: server
    for server in (
        Ours(OURS),
        OursOnDisk("syncchat-sqlite"),
        Relay("websockets-asyncio", "websockets_asyncio.py", "websockets"),
        Relay("picows", "picows_asyncio.py", "picows"),
        Peer("websockets-threads", "websockets_threads.py", "websockets"),
        Peer("websockets-threads-broadcast", "websockets_threads_broadcast.py", "websockets"),
        Peer("simple-websocket", "simple_websocket_threads.py", "simple-websocket"),
        WebsocketServer("websocket-server", "websocket_server_threads.py", "websocket-server"),
        Node("node-ws", "node_ws.js", "ws"),
        Bun("bun", "bun.js", "bun"),
        Floor(FLOOR, "bare_loop.py", ""),
        CompiledFloor(COMPILED_FLOOR),
    )
}
