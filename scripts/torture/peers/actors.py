"""Clients of other systems, with the interface of ours; all are in one room."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from websockets.sync.client import ClientConnection

from ..clients import Actor
from ..foreign import ForeignClient, open_websocket
from ..history import Acked, Entered, Gap, History, Line, Sent, short
from ..plan import ROOMS, ClientPlan, Step
from ..servers import Node, wait_until

__all__ = ["NchanClient", "SocketIoBridge", "SocketIoClient", "WebsocketsClient"]

_ROOM = ROOMS[0]

#: Seconds for a connection, a pong and an answer.
_PATIENCE = 5.0


class _Outbox:
    """The texts that are not acknowledged. From any thread."""

    def __init__(self) -> None:
        #: Guards the texts.
        self._lock = threading.Lock()
        self._texts: dict[str, None] = {}

    def add(self, text: str) -> None:
        with self._lock:
            self._texts[text] = None

    def resolve(self, text: str) -> bool:
        """Remove a text. False: it was acknowledged before."""
        with self._lock:
            return self._texts.pop(text, self) is None

    def texts(self) -> list[str]:
        with self._lock:
            return list(self._texts)


class _PeerClient(ForeignClient):
    """A client on a WebSocket, which sends until it is acknowledged."""

    def __init__(
        self, plan: ClientPlan, steps: Iterator[Step], nodes: Sequence[Node], history: History
    ) -> None:
        super().__init__(plan, steps, nodes, history)
        self._outbox = _Outbox()
        self._entered = False

    def wait_acknowledged(self, timeout: float) -> bool:
        return wait_until(lambda: not self._outbox.texts(), timeout)

    def _note_opened(self, *, resumes: bool) -> None:
        """Note a connection. ``resumes``: the server sends what was missed."""
        self._history.write(Entered, self.name, _ROOM, resumed=self._entered)
        if self._entered and not resumes:
            # The client knows that it was away, and can tell its user.
            self._history.write(Gap, self.name, _ROOM)
        self._entered = True

    def _note_acked(self, text: str) -> None:
        if self._outbox.resolve(text):
            self._history.write(Acked, self.name, _ROOM, short(text), "", 0)


class WebsocketsClient(_PeerClient):
    """Of ``websockets_redis.py``: an acknowledgement per message, and no history."""

    def _open(self, url: str) -> ClientConnection:
        return open_websocket(url)

    def _opened_locked(self) -> None:
        self._note_opened(resumes=False)
        for text in self._outbox.texts():
            self._history.write(Sent, self.name, _ROOM, short(text), again=True)
            self._send_locked(json.dumps({"id": text, "text": text}))

    def _take(self, step: Step) -> None:
        with self._lock:
            self._history.write(Sent, self.name, _ROOM, short(step.text))
            self._outbox.add(step.text)
            self._send_locked(json.dumps({"id": step.text, "text": step.text}))

    def _hear(self, text: str) -> None:
        event = json.loads(text)
        if "seen" in event:
            self._history.write(Line, self.name, _ROOM, short(event["seen"]))
        else:
            self._note_acked(event["acked"])


class NchanClient(_PeerClient):
    """Of nchan: publishes by POST, and subscribes from the id of the last message on."""

    #: The id of the last message. Only the listener uses it.
    _after = ""

    def _open(self, url: str) -> ClientConnection:
        after = f"?after={quote(self._after)}" if self._after else ""
        return open_websocket(f"{url}/subscribe{after}", "ws+meta.nchan")

    def _opened_locked(self) -> None:
        self._note_opened(resumes=bool(self._after))

    def _hear(self, text: str) -> None:
        head, _, body = text.partition("\n\n")
        self._after = head.split("\n", 1)[0].removeprefix("id: ")
        self._history.write(Line, self.name, _ROOM, short(body))

    def _take(self, step: Step) -> None:
        self._outbox.add(step.text)
        node = self._nodes[self.plan.node]
        again = False
        while not self._silent.is_set() or not again:
            self._history.write(Sent, self.name, _ROOM, short(step.text), again=again)
            if _posted(node, step.text):
                self._note_acked(step.text)
                return
            again = True
            self._silent.wait(0.5)
        # It gives up at the end of the run: nothing was promised.
        self._outbox.resolve(step.text)


def _posted(node: Node, text: str) -> bool:
    """Whether a POST was answered with success."""
    port = urlsplit(node.url).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("POST", "/publish", text.encode(), {"Content-Type": "text/plain"})
        return connection.getresponse().status < 300
    except (http.client.HTTPException, OSError):
        return False
    finally:
        connection.close()


class SocketIoBridge:
    """The process of the clients of Socket.IO; its thread ``socket.io`` reads what they tell."""

    def __init__(self, script: Path) -> None:
        self._process = subprocess.Popen(
            [shutil.which("node") or "node", script.name],
            cwd=script.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        #: Guards the input of the process, and the clients.
        self._lock = threading.Lock()
        self._clients: dict[str, Callable[[dict[str, Any]], None]] = {}
        self._thread = threading.Thread(target=self._read, name="socket.io", daemon=True)
        self._thread.start()

    def open(self, name: str, url: str, told: Callable[[dict[str, Any]], None]) -> None:
        """Open a client; ``told`` is called for each line about it, on the bridge's thread."""
        with self._lock:
            self._clients[name] = told
        self.write(client=name, url=url)

    def write(self, **order: str) -> None:
        """Give the process an order."""
        assert self._process.stdin is not None
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """End the process and the thread."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join()
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            with self._lock:
                told = self._clients[event["client"]]
            told(event)


class SocketIoClient(Actor):
    """Of Socket.IO: sends until it is acknowledged, and recovers its state after a break."""

    def __init__(
        self,
        plan: ClientPlan,
        steps: Iterator[Step],
        nodes: Sequence[Node],
        history: History,
        bridge: SocketIoBridge,
    ) -> None:
        super().__init__(plan, steps, nodes, history)
        self._bridge = bridge
        self._outbox = _Outbox()
        self._entered = False

    def start(self) -> None:
        url = self._nodes[self.plan.node].url.replace("ws:", "http:")
        self._bridge.open(self.name, url, self._told)
        self._talker.start()

    def wait_acknowledged(self, timeout: float) -> bool:
        return wait_until(lambda: not self._outbox.texts(), timeout)

    def close(self) -> None:
        """Nothing: the process of all clients ends with the bridge."""

    def _take(self, step: Step) -> None:
        self._outbox.add(step.text)
        self._history.write(Sent, self.name, _ROOM, short(step.text))
        self._bridge.write(client=self.name, text=step.text)

    def _told(self, event: dict[str, Any]) -> None:
        match event["what"]:
            case "seen":
                self._history.write(Line, self.name, _ROOM, short(event["text"]))
            case "acked":
                if self._outbox.resolve(event["text"]):
                    self._history.write(Acked, self.name, _ROOM, short(event["text"]), "", 0)
            case what:
                self._history.write(Entered, self.name, _ROOM, resumed=self._entered)
                if self._entered and what != "recovered":
                    self._history.write(Gap, self.name, _ROOM)
                self._entered = True
