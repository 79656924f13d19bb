"""The systems that can be compared: how their servers start, and what clients they have."""

from __future__ import annotations

import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from ..clients import Actor, OurClient
from ..foreign import JsonClient
from ..history import History
from ..plan import ClientPlan, Step
from ..servers import Node, server_command
from .actors import NchanClient, SocketIoBridge, SocketIoClient, WebsocketsClient

__all__ = ["PEERS", "Peer", "Skipped"]

_FOLDER = Path(__file__).parent

_NCHAN = Path("usr/lib/nginx/modules/ngx_nchan_module.so")


class Skipped(Exception):
    """A system cannot take part here, for this reason."""


class Peer(ABC):
    """A system with so many ``nodes``; more than one share a Redis."""

    def __init__(self, name: str, nodes: int) -> None:
        self.name = name
        self.nodes = nodes

    @property
    def keeps(self) -> bool:
        """Whether messages outlive a server, as far as it promises."""
        return self.nodes > 1

    @abstractmethod
    def versions(self) -> str:
        """What takes part, with versions. After :meth:`prepare`."""

    def prepare(self, folder: Path, stack: ExitStack) -> None:
        """Fetch and start what all nodes need. Raises :class:`Skipped`."""
        del folder, stack  # Nothing, unless it says so.

    @abstractmethod
    def command(self, redis: int | None) -> list[str]:
        """The command of a node, which reaches Redis at this port."""

    @abstractmethod
    def actor(
        self, plan: ClientPlan, steps: Iterator[Step], nodes: Sequence[Node], history: History
    ) -> Actor:
        """A client."""


class _Ours(Peer):
    """syncchat: half of the clients are its own, half speak JSON on another library."""

    def versions(self) -> str:
        return f"syncchat {version('syncchat')}"

    def command(self, redis: int | None) -> list[str]:
        engine = "memory:" if redis is None else f"redis://127.0.0.1:{redis}/0"
        return server_command(engine, None)

    def actor(
        self, plan: ClientPlan, steps: Iterator[Step], nodes: Sequence[Node], history: History
    ) -> Actor:
        kind = OurClient if int(plan.name.strip("abcdefghijklmnopqrstuvwxyz")) % 2 else JsonClient
        return kind(plan, steps, nodes, history)


class _SocketIo(Peer):
    """Socket.IO with connection state recovery, and with its adapter for Redis Streams."""

    def prepare(self, folder: Path, stack: ExitStack) -> None:
        for tool in ("node", "npm"):
            if shutil.which(tool) is None:
                raise Skipped(f"there is no {tool}")
        packages = [
            "socket.io@4",
            "socket.io-client@4",
            "redis",
            "@socket.io/redis-streams-adapter",
        ]
        command = ["npm", "install", "--no-audit", "--no-fund", *packages]
        fetched = subprocess.run(command, cwd=folder, capture_output=True, check=False)
        if fetched.returncode != 0:
            raise Skipped("npm could not fetch Socket.IO")
        for script in ("socket_io.js", "socket_io_clients.js"):
            shutil.copy(_FOLDER / script, folder)
        self._folder = folder
        self._bridge = SocketIoBridge(folder / "socket_io_clients.js")
        stack.callback(self._bridge.close)

    def versions(self) -> str:
        words = ["node", "-p", "require('socket.io/package.json').version"]
        adapter = ["node", "-p", "require('@socket.io/redis-streams-adapter/package.json').version"]
        found = [
            subprocess.run(
                each, cwd=self._folder, capture_output=True, text=True, check=True
            ).stdout.strip()
            for each in (words, adapter, ["node", "--version"])
        ]
        streams = f", Streams adapter {found[1]}" if self.nodes > 1 else ""
        return f"Socket.IO {found[0]}{streams}, Node {found[2]}"

    def command(self, redis: int | None) -> list[str]:
        script = str(self._folder / "socket_io.js")
        return ["node", script, *([] if redis is None else [str(redis)])]

    def actor(
        self, plan: ClientPlan, steps: Iterator[Step], nodes: Sequence[Node], history: History
    ) -> Actor:
        return SocketIoClient(plan, steps, nodes, history, self._bridge)


class _Websockets(Peer):
    """websockets, whose nodes are joined by Redis Pub/Sub."""

    def versions(self) -> str:
        return f"websockets {version('websockets')}, redis-py {version('redis')}"

    def command(self, redis: int | None) -> list[str]:
        return [sys.executable, str(_FOLDER / "websockets_redis.py"), str(redis)]

    def actor(
        self, plan: ClientPlan, steps: Iterator[Step], nodes: Sequence[Node], history: History
    ) -> Actor:
        return WebsocketsClient(plan, steps, nodes, history)


class _Nchan(Peer):
    """nchan, the module of nginx, which is fetched with apt if it is not installed."""

    def prepare(self, folder: Path, stack: ExitStack) -> None:
        del stack
        if shutil.which("nginx") is None and not Path("/usr/sbin/nginx").exists():
            raise Skipped("there is no nginx")
        self._folder, self._module = folder, Path("/") / _NCHAN
        if not self._module.exists():
            apt = shutil.which("apt-get") or "apt-get"
            download = [apt, "download", "libnginx-mod-nchan"]
            subprocess.run(download, cwd=folder, capture_output=True, check=False)
            found = list(folder.glob("libnginx-mod-nchan_*.deb"))
            if not found:
                raise Skipped("apt-get could not fetch libnginx-mod-nchan")
            subprocess.run([shutil.which("dpkg") or "dpkg", "-x", found[0], folder], check=True)
            self._module = folder / _NCHAN

    def versions(self) -> str:
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        shown = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True).stderr
        debs = [path.name.split("_")[1] for path in self._folder.glob("libnginx-mod-nchan_*.deb")]
        if not debs:
            query = ["dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan"]
            debs = [subprocess.run(query, capture_output=True, text=True, check=False).stdout]
        return f"nchan {debs[0].replace('%3a', ':')}, {shown.split(': ')[1].strip()}"

    def command(self, redis: int | None) -> list[str]:
        del redis
        return [sys.executable, str(_FOLDER / "nchan.py"), str(self._module), str(self._folder)]

    def actor(
        self, plan: ClientPlan, steps: Iterator[Step], nodes: Sequence[Node], history: History
    ) -> Actor:
        return NchanClient(plan, steps, nodes, history)


#: The systems by their names.
PEERS: dict[str, Peer] = {
    each.name: each
    for each in (
        _Ours("syncchat", 1),
        _SocketIo("socket.io", 1),
        _Nchan("nchan", 1),
        _Ours("syncchat-redis", 2),
        _SocketIo("socket.io-redis", 2),
        _Websockets("websockets-redis", 2),
    )
}
