"""How a server is run for the benchmark: its process, its certificate, its packages."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psutil
import trustme

from .clients import PATIENCE
from .dialects import Dialect, Lines

__all__ = [
    "SCRIPTS",
    "Certificate",
    "OneProcess",
    "Running",
    "Server",
    "Site",
    "Skipped",
    "ask",
    "npm_install",
    "schedule",
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


@dataclass(frozen=True)
class Running:
    """A server that runs: the ports of its nodes, and all its processes, those of its Redis too."""

    ports: list[int]
    processes: list[psutil.Process]


class Server(ABC):
    """A server in processes of its own. ``name`` is its name in the report."""

    #: Whether the path selects a room, and whether the server supports TLS.
    rooms: ClassVar[bool] = True
    tls: ClassVar[bool] = True
    #: The dialect for a chat of lines, and for a chat of events; None if the server takes no part.
    lines: ClassVar[type[Dialect] | None] = Lines
    events: ClassVar[type[Dialect] | None] = None
    #: Whether it is several nodes, for the workload ``nodes``.
    is_cluster: ClassVar[bool] = False
    #: Whether it is a Flask application in gunicorn, for the workload ``wsgi``.
    under_wsgi: ClassVar[bool] = False

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def version(self, site: Site) -> str:
        """Return what is compared, as in ``websockets 16.0``. Raises :class:`Skipped`."""

    @abstractmethod
    def running(
        self, site: Site, certificate: Certificate | None
    ) -> AbstractContextManager[Running]:
        """Run the server."""


class OneProcess(Server):
    """A server that is one process."""

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
    def running(self, site: Site, certificate: Certificate | None) -> Iterator[Running]:
        """Run the server."""
        with subprocess.Popen(
            self.command(site, certificate),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=site.folder,
        ) as process:
            try:
                schedule(process.pid)
                port = self.port(process)
                yield Running([port], [psutil.Process(process.pid)])
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()


def schedule(pid: int) -> None:
    """Give a server the scheduling policy that syncchat asks for. Its threads inherit it."""
    if sys.platform == "linux":
        # If this is not allowed, syncchat does not get the policy either.
        with suppress(OSError):
            os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))


def npm_install(site: Site, packages: Sequence[str], name: str, *tools: str) -> Path:
    """Install npm packages for this run, once. Returns the folder of the one called ``name``.

    Raises :class:`Skipped`.
    """
    for tool in (*tools, "npm"):
        if shutil.which(tool) is None:
            raise Skipped(f"{tool} is not found")
    folder = site.folder / "node_modules" / name
    if not folder.is_dir():
        fetched = ask("npm", "install", "--no-audit", "--no-fund", *packages, cwd=site.folder)
        if fetched.returncode or not folder.is_dir():
            raise Skipped(f"npm could not fetch {name}")
    return folder


def ask(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. Raises :class:`Skipped` if that takes too long."""
    try:
        return subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120
        )
    except subprocess.TimeoutExpired:
        raise Skipped(f"{Path(command[0]).name} did not answer") from None
