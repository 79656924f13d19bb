"""The servers that are compared, and how to start them."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from .clients import PATIENCE
from .dialects import Events, RelayedEvents
from .running import SCRIPTS, Certificate, OneProcess, Running, Site, Skipped, ask, npm_install

__all__ = [
    "Bun",
    "CompiledFloor",
    "Floor",
    "Node",
    "Ours",
    "OursOnDisk",
    "Peer",
    "Relay",
    "WebsocketServer",
    "listening_port",
]


def listening_port(process: subprocess.Popen[str]) -> int:
    """Return the port at which a process listens that does not print it."""
    deadline = time.monotonic() + PATIENCE
    running = psutil.Process(process.pid)
    while time.monotonic() < deadline and process.poll() is None:
        for connection in running.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return int(connection.laddr.port)
        time.sleep(0.01)
    raise RuntimeError("the server did not start")


class Ours(OneProcess):
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
        return listening_port(process)


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
    def running(self, site: Site, certificate: Certificate | None) -> Iterator[Running]:
        with (
            tempfile.TemporaryDirectory(dir=site.folder) as folder,
            super().running(replace(site, folder=Path(folder)), certificate) as running,
        ):
            yield running


class Peer(OneProcess):
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


class CompiledFloor(OneProcess):
    """The same loop in C, which is compiled for the run if a compiler is found."""

    tls = False

    def version(self, site: Site) -> str:
        compiler = shutil.which("cc")
        if compiler is None or sys.platform != "linux":
            raise Skipped("there is no C compiler" if compiler is None else "it needs Linux")
        source = SCRIPTS / "peers" / "bare_loop.c"
        compiled = ask(
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
        modules = npm_install(site, ["ws@8"], "ws", "node")
        # Node looks for packages beside the script.
        shutil.copy(self.script, site.folder)
        of_ws = json.loads((modules / "package.json").read_text("utf-8"))["version"]
        of_node = ask("node", "--version", cwd=site.folder)
        return f"ws {of_ws}, Node {of_node.stdout.strip().removeprefix('v')}"

    def command(self, site: Site, certificate: Certificate | None) -> list[str]:
        script = str(site.folder / Path(self.script).name)
        return ["node", script, *([certificate.path] if certificate else [])]


class Bun(Relay):
    """Bun, whose server is uWebSockets. It is fetched for the run if it is not installed."""

    def version(self, site: Site) -> str:
        shown = ask(self._bun(site), "--version", cwd=site.folder)
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
        npm_install(site, ["bun@1"], "bun")
        return str(site.folder / "node_modules" / ".bin" / "bun")
