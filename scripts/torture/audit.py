"""After the run: reads the logs of all rooms at all nodes, and counts what is left over."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from websockets.sync.client import ClientConnection

from .clients import stamp_of
from .foreign import open_json
from .history import Audit, History, LogEnd, Logged, short
from .plan import ROOMS
from .servers import Node, Remains, wait_until

__all__ = ["audit_names", "audit_nodes", "audit_present", "baseline", "read_logs", "used_rooms"]

#: Seconds within which everything must be gone, and between two looks at the names.
_SETTLE_SECONDS, _LEASE_SECONDS, _LOOK = 15.0, 60.0, 0.5

#: Seconds within which the names of visitors are gone.
_LEAVE_SECONDS = 10.0

#: Threads and descriptors more than at the start: for caches and connections that stay.
_SPARE = 4

_PAGE = 1000
_PATIENCE = 15.0


def baseline(nodes: Sequence[Node]) -> list[Remains]:
    """What each node has after a first client has come and gone."""
    found = []
    for node in nodes:
        with open_json(f"{node.url}/{ROOMS[0]}?nick=auditor") as observer:
            _next(observer, "welcome")
        time.sleep(0.5)
        found.append(node.remains())
    return found


def used_rooms(node: Node) -> list[str]:
    """The rooms that have messages."""
    used = []
    for room in ROOMS:
        with open_json(f"{node.url}/{quote(room)}?nick=auditor") as observer:
            if _next(observer, "welcome")["offset"]:
                used.append(room)
    return used


def read_logs(nodes: Sequence[Node], history: History) -> None:
    """Read the log of each room, page by page from its end, at each node."""
    for node in nodes:
        for room in ROOMS:
            with open_json(f"{node.url}/{quote(room)}?nick=auditor") as reader:
                welcome = _next(reader, "welcome")
                before, complete = welcome["offset"] + 1, False
                while not complete:
                    reader.send(json.dumps({"type": "history", "before": before, "limit": _PAGE}))
                    page = _next(reader, "history")
                    complete = page["complete"]
                    for each in reversed(page["messages"]):
                        stamp = stamp_of(each["nick"], each["time"], each.get("nonce"))
                        at = (node.number, room, welcome["epoch"], each["offset"])
                        history.write(Logged, *at, short(each["text"]), stamp)
                        before = each["offset"]
                    if not page["messages"]:
                        break
                end = (node.number, room, welcome["epoch"], before, welcome["offset"])
                history.write(LogEnd, *end, complete=complete)


def audit_names(nodes: Sequence[Node], history: History, *, leases: bool) -> None:
    """Count the names in each room when all clients have left.

    ``leases``: the names of a node that was killed stay until its lease has ended.
    """
    deadline = time.monotonic() + (_LEASE_SECONDS if leases else _SETTLE_SECONDS)
    for node in nodes:
        for room in ROOMS:
            while (names := _names(node, room)) and time.monotonic() < deadline:
                time.sleep(_LOOK)
            history.write(Audit, node.number, "names", 0, len(names), f"{room}: {names}")


def audit_present(nodes: Sequence[Node], clients: Sequence[str], history: History) -> None:
    """Count the names in all rooms while the clients are there, and nobody else is."""
    for node in nodes:
        deadline = time.monotonic() + _LEAVE_SECONDS
        while True:
            names = [name for room in ROOMS for name in _names(node, room)]
            if len(names) <= len(clients) or time.monotonic() >= deadline:
                break
            time.sleep(_LOOK)
        history.write(Audit, node.number, "names", len(clients), len(names), f"{names}")


def _names(node: Node, room: str) -> list[str]:
    """The names in a room, without that of this visitor."""
    with open_json(f"{node.url}/{quote(room)}?nick=auditor") as observer:
        welcome = _next(observer, "welcome")
    return sorted(set(welcome["members"]) - {welcome["nick"]})


def audit_nodes(nodes: Sequence[Node], before: Sequence[Remains], history: History) -> None:
    """Count threads and descriptors; stop each node, and see what is left of it."""
    for node, first in zip(nodes, before, strict=True):

        def is_settled(node: Node = node, first: Remains = first) -> bool:
            now = node.remains()
            return now.threads <= first.threads and now.descriptors <= first.descriptors

        wait_until(is_settled, _SETTLE_SECONDS)
        now, pid = node.remains(), node.pid
        for what, allowed, found in (
            ("threads", first.threads + _SPARE, now.threads),
            ("descriptors", first.descriptors + _SPARE, now.descriptors),
            ("processes", first.children, now.children),
        ):
            history.write(Audit, node.number, what, allowed, found)
        code = node.stop()
        detail = "it had to be killed" if code is None else f"exit code {code}"
        history.write(Audit, node.number, "stops out of order", 0, int(code != 0), detail)
        strays = node.strays(pid)
        history.write(Audit, node.number, "stray processes", 0, len(strays), f"{strays}")
        defects = node.defects()
        detail = "; ".join(defects[:3])
        history.write(Audit, node.number, "defects in its log", 0, len(defects), detail)


def _next(connection: ClientConnection, kind: str) -> dict[str, Any]:
    """The next event of this kind."""
    while True:
        event: dict[str, Any] = json.loads(connection.recv(_PATIENCE))
        if event["type"] == kind:
            return event
