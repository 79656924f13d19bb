"""The house: imports point down, and nobody brings an event loop."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "syncchat"

#: From the roof to the ground. What stands on one line may not import each other.
FLOORS = [
    ["syncchat.__main__"],
    ["syncchat"],
    ["syncchat.cli"],
    ["syncchat.cli.client", "syncchat.cli.server"],
    ["syncchat.cli.config"],
    ["syncchat.cli.flags"],
    ["syncchat.terminal"],
    ["syncchat.terminal.pipe", "syncchat.terminal.screen"],
    ["syncchat.terminal.controller", "syncchat.terminal.printer"],
    ["syncchat.terminal.renderer", "syncchat.terminal.prompt"],
    ["syncchat.terminal.scrollback", "syncchat.terminal.toolbar", "syncchat.terminal.resizing"],
    ["syncchat.terminal.commands", "syncchat.terminal.completion", "syncchat.terminal.keys"],
    ["syncchat.terminal.people", "syncchat.terminal.room_cache", "syncchat.terminal.pending"],
    ["syncchat.terminal.questions"],
    [
        "syncchat.terminal.preferences",
        "syncchat.terminal.input_history",
        "syncchat.terminal.mentions",
    ],
    ["syncchat.terminal.exit_status"],
    ["syncchat.terminal.rate_limit"],
    ["syncchat.terminal.drawing"],
    ["syncchat.terminal.standard_input", "syncchat.terminal.standard_error"],
    ["syncchat.terminal.sanitize", "syncchat.terminal.style", "syncchat.terminal.wrapping"],
    ["syncchat.client", "syncchat.server"],
    ["syncchat.health", "syncchat.web"],
    ["syncchat.client.client"],
    ["syncchat.client.link"],
    ["syncchat.client.protocol"],
    ["syncchat.client.reconnect", "syncchat.client.outbox", "syncchat.client.tracker"],
    ["syncchat.client.dialect", "syncchat.client.inbox", "syncchat.client.pulse"],
    ["syncchat.client.events"],
    ["syncchat.log_writer", "syncchat.process_tuning", "syncchat.eventlog"],
    ["syncchat.reach"],
    ["syncchat.chat"],
    ["syncchat.chat.session", "syncchat.chat.token"],
    ["syncchat.chat.rooms"],
    ["syncchat.chat.room"],
    ["syncchat.chat.subscribers", "syncchat.chat.presence_batch", "syncchat.chat.history"],
    ["syncchat.chat.member", "syncchat.chat.settings"],
    ["syncchat.chat.dialects"],
    ["syncchat.chat.commands", "syncchat.chat.lines"],
    ["syncchat.chat.events", "syncchat.chat.nicks"],
    ["syncchat.chat.sanitize"],
    ["syncchat.engine"],
    ["syncchat.engine.memory", "syncchat.engine.sqlite"],
    ["syncchat.engine.local", "syncchat.engine.sqlite_file", "syncchat.engine.search_throttle"],
    ["syncchat.engine.interface", "syncchat.engine.sqlite_schema"],
    ["syncchat.net"],
    ["syncchat.net.connector", "syncchat.net.server"],
    ["syncchat.net.connection_thread", "syncchat.net.listener"],
    ["syncchat.net.group", "syncchat.net.access_policy", "syncchat.net.heartbeat"],
    ["syncchat.net.combining_queue", "syncchat.net.fanout"],
    ["syncchat.net.websocket"],
    ["syncchat.net.sender", "syncchat.net.frame_parser"],
    ["syncchat.net.messages", "syncchat.net.handshake", "syncchat.net.rate_limit"],
    ["syncchat.net.limits", "syncchat.net.stats", "syncchat.net.http"],
    ["syncchat.net.stream"],
    ["syncchat.net.outlet"],
    ["syncchat.net.io_thread", "syncchat.net.binding", "syncchat.net.backlog", "syncchat.net.tls"],
    ["syncchat.net.forwarded", "syncchat.net.origin"],
    ["syncchat.net.deadline", "syncchat.net.address"],
    ["syncchat.errors"],
    ["syncchat.closecodes", "syncchat._version", "syncchat.metrics"],
]
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names}


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found.append((".".join(parts).removesuffix(".__init__"), path))
    return found


def imports(name: str, path: Path) -> Iterator[str]:
    """The modules of ours, and the others by their first name, that a module imports."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).removesuffix(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in FLOOR else base


def test_every_module_has_a_floor_and_every_floor_its_module() -> None:
    assert {name for name, _ in modules()} == FLOOR.keys()


@pytest.mark.parametrize(("name", "path"), modules(), ids=str)
def test_imports_point_down(name: str, path: Path) -> None:
    ours = [other for other in imports(name, path) if other.split(".")[0] == "syncchat"]
    upward = [other for other in ours if FLOOR[other] <= FLOOR[name]]
    assert not upward


@pytest.mark.parametrize(("name", "path"), modules(), ids=str)
def test_there_is_no_event_loop(name: str, path: Path) -> None:
    assert not {other.split(".")[0] for other in imports(name, path)} & {"asyncio", "trio", "anyio"}
    kinds = (ast.AsyncFunctionDef, ast.AsyncWith, ast.AsyncFor, ast.Await)
    assert not [
        node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, kinds)
    ]
