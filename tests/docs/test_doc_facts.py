"""The documents are correct: tables match the code, links have targets."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import typing
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import msgspec
import pytest
import yaml

import syncchat
from syncchat import errors
from syncchat.chat import events
from syncchat.chat.commands import COMMANDS
from syncchat.cli import client, server
from syncchat.cli.settings import Setting
from syncchat.net import Limits
from tests.documents import ALL_DOCUMENTS, DOCS, README, blocks_of, codes_in, prose_of, rows_of
from tests.peer import ask_http
from tests.processes import ROOT, ServerScript


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 150


# Links.


def anchors_of(path: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    text = prose_of(path)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).strip().replace(" ", "-") for each in headings}


@pytest.mark.parametrize("path", ALL_DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    text = prose_of(path)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:href|src)="([^"]+)"', text)
    for target in targets:
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        other = (path.parent / name).resolve() if name else path
        assert other.is_file(), f"{path.name}: {target}"
        if anchor:
            assert anchor in anchors_of(other), f"{path.name}: {target}"


# Tables.


def usage_of(setting: Setting) -> str:
    """A flag as written in the tables of docs/configuration.md."""
    match setting.kind:
        case "argument":
            return f"`{setting.metavar}`"
        case "switch":
            return f"`--{setting.name}`"
        case "no-switch":
            return f"`--{setting.name}`, `--no-{setting.name}`"
        case _:
            return f"`--{setting.name} {setting.metavar or setting.dest.upper()}`"


def default_of(setting: Setting) -> str:
    if setting.is_switch and setting.default is not None:
        return {"yes": "on", "no": "off"}[str(setting.default)]
    if setting.default is None:
        return "none"
    return f"`{setting.default}`" if setting.default else "empty"


@pytest.mark.parametrize(
    ("heading", "groups"),
    [("## Server", server.SETTINGS), ("## Client", client.SETTINGS)],
    ids=["server", "client"],
)
def test_the_configuration_lists_every_flag_with_its_default(
    heading: str, groups: dict[str, list[Setting]]
) -> None:
    documented = {row[0]: row[1:-1] for row in rows_of(DOCS / "configuration.md", heading)}
    columns = 2 if heading == "## Server" else 3
    expected = {"`--version`": [""] * columns, "`-h`, `--help`": [""] * columns}
    for group in groups.values():
        for setting in group:
            cells = [default_of(setting), f"`{setting.variable}`", f"`{setting.name}`"]
            expected[usage_of(setting)] = cells[:columns]
    assert documented == expected


def members_of(kind: type) -> set[str]:
    return set(typing.cast("type[msgspec.Struct]", kind).__struct_fields__)


@pytest.mark.parametrize(
    ("heading", "union"),
    [
        ("### Events to the server", events.FromClient),
        ("### Events from the server", events.FromServer),
    ],
)
def test_the_protocol_lists_every_event_with_its_members(heading: str, union: object) -> None:
    rows = rows_of(DOCS / "protocol.md", heading)
    documented = {codes_in(row[0])[0]: row[1] for row in rows}
    kinds = {kind.__struct_config__.tag: kind for kind in typing.get_args(union)}
    assert documented.keys() == kinds.keys()
    for tag, kind in kinds.items():
        members = {name: f"`{name}`?" in documented[tag] for name in codes_in(documented[tag])}
        fields = msgspec.structs.fields(kind)
        assert members == {each.name: not each.required for each in fields}, tag


def test_the_protocol_lists_every_error_code() -> None:
    rows = rows_of(DOCS / "protocol.md", "### Error codes")
    assert {codes_in(row[0])[0] for row in rows} == set(typing.get_args(events.ErrorCode))


def test_the_example_events_of_the_protocol_are_valid() -> None:
    (block,) = (b for b in blocks_of(DOCS / "protocol.md") if "events" in b.words)
    decode = {"<": events.decode_from_server, ">": events.decode_from_client}
    for line in block.text.splitlines():
        side, text = line.split(" ", 1)
        event = decode[side](text)
        assert events.encode(event) == text


def test_the_user_guide_lists_every_command() -> None:
    rows = rows_of(DOCS / "user-guide.md", "### Commands")
    usages = [code for row in rows for code in codes_in(row[0])]
    for name, command in COMMANDS.items():
        assert f"/{name} {command.arguments}".rstrip() in usages


def test_the_limits_of_the_library_are_listed_with_their_defaults() -> None:
    rows = rows_of(DOCS / "embedding.md", "### Limits")
    documented = {codes_in(row[0])[0]: row[1] for row in rows}
    assert documented == {each.name: str(each.default) for each in dataclasses.fields(Limits)}


def test_every_exception_is_listed_with_its_built_in_base() -> None:
    rows = rows_of(DOCS / "embedding.md", "### Errors")
    documented = {codes_in(row[0])[0]: codes_in(row[1]) for row in rows}
    expected = {}
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, errors.SyncchatError)
        built_in = next(each for each in kind.__mro__ if each.__module__ == "builtins")
        expected[name] = [] if built_in is Exception else [built_in.__name__]
    del expected["SyncchatError"]
    assert documented == expected


def test_every_exception_is_exported() -> None:
    assert set(errors.__all__) <= set(syncchat.__all__)


def test_the_figures_of_the_readme_are_those_of_the_benchmark() -> None:
    head = next(
        line
        for line in (DOCS / "benchmarks.md").read_text("utf-8").splitlines()
        if line.startswith("|  | figure |")
    )
    titles = [cell.strip() for cell in head.split("|")[1:-1]]
    rows = {row[0]: row for row in rows_of(DOCS / "benchmarks.md", "## Results")}
    names = ["syncchat", "websockets-asyncio", "picows", "websockets-threads", "node-ws", "bun"]
    for row in rows_of(README, "## How fast"):
        (name,) = codes_in(row[0])
        figures = rows[name]
        assert figures[1] == "deliveries/s"
        expected = [figures[titles.index(each)].split(" (")[0] for each in names]
        assert row[1:] == expected, name


# Architecture.


def test_the_module_map_lists_every_file_of_the_package() -> None:
    rows = rows_of(DOCS / "architecture.md", "## Module map")
    listed = [codes_in(row[0])[0] for row in rows]
    package = ROOT / "syncchat"
    there = {
        str(path.relative_to(ROOT))
        for path in package.rglob("*")
        if path.is_file() and path.name != "py.typed" and "__pycache__" not in path.parts
    }
    assert sorted(listed) == sorted(there)


def locks_of(path: Path) -> Iterator[str]:
    """Each lock that a module makes: ``Class._lock``, or the name of a global one."""
    tree = ast.parse(path.read_text("utf-8"))
    scopes = [("", tree), *((n.name, n) for n in ast.walk(tree) if isinstance(n, ast.ClassDef))]
    for name, scope in scopes:
        nodes = ast.walk(scope) if name else ast.iter_child_nodes(scope)
        for node in nodes:
            targets = node.targets if isinstance(node, ast.Assign) else []
            if isinstance(node, ast.Assign) and "Lock(" in ast.unparse(node.value):
                yield from (ast.unparse(each).replace("self", name) for each in targets)


def test_the_lock_table_lists_every_lock() -> None:
    rows = rows_of(DOCS / "architecture.md", "## Lock order")
    listed = {(codes_in(row[1])[0], codes_in(row[2])[0]) for row in rows}
    there = {
        (lock, str(path.relative_to(ROOT)))
        for path in (ROOT / "syncchat").rglob("*.py")
        for lock in locks_of(path)
    }
    assert listed == there
    levels = [int(row[0]) for row in rows]
    assert levels == sorted(levels)


def shared_names_of(path: Path) -> tuple[set[str], set[str]]:
    """The fields (``Class.field``) and global names of a module, and its cached functions."""
    tree = ast.parse(path.read_text("utf-8"))
    names: set[str] = set()
    cached: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=kind):
                fields = (each for each in ast.walk(node) if isinstance(each, ast.Attribute))
                names |= {
                    f"{kind}.{field.attr}"
                    for field in fields
                    if isinstance(field.ctx, ast.Store) and ast.unparse(field.value) == "self"
                }
            case ast.FunctionDef(name=name):
                if any("cache" in ast.unparse(each) for each in node.decorator_list):
                    cached.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return names | cached, cached


def test_what_is_shared_without_a_lock_is_there_and_every_cache_is_listed() -> None:
    rows = rows_of(DOCS / "architecture.md", "## Without the GIL")
    listed = {(codes_in(row[1])[0], name) for row in rows for name in codes_in(row[0])}
    assert len(listed) > 50
    caches = set()
    for path in (ROOT / "syncchat").rglob("*.py"):
        module = str(path.relative_to(ROOT))
        names, cached = shared_names_of(path)
        caches |= {(module, name) for name in cached}
        missing = {name for there, name in listed if there == module} - names
        assert not missing, f"{module}: {missing}"
    assert {module for module, _ in listed} <= {
        str(path.relative_to(ROOT)) for path in (ROOT / "syncchat").rglob("*.py")
    }
    assert caches <= listed


def test_testing_lists_every_test_file() -> None:
    rows = rows_of(DOCS / "testing.md", "## What the tests stand for")
    listed = [name for row in rows for name in codes_in(row[0])]
    there = [str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(listed) == sorted(there)


def test_every_file_named_in_the_documents_exists() -> None:
    for path in ALL_DOCUMENTS:
        for name in re.findall(
            r"`((?:syncchat|tests|scripts|docs)/[\w./-]+\.(?:py|js|md))`", prose_of(path)
        ):
            assert (ROOT / name).exists(), f"{path.name}: {name}"


def test_the_incident_list_has_every_close_code_and_error_code() -> None:
    for heading, document in [("### Close codes", "## Close codes"), ("### Error codes",) * 2]:
        rows = rows_of(DOCS / "operations.md", heading)
        told = {word for row in rows for word in re.findall(r"\w+", row[0])}
        protocol = rows_of(DOCS / "protocol.md", document)
        assert told == {word for row in protocol for word in re.findall(r"\w+", row[0])}


def test_operations_and_monitoring_name_every_metric_as_it_is() -> None:
    rows = rows_of(DOCS / "operations.md", "### Metrics")
    listed = {code for row in rows for code in codes_in(row[0])}
    with ServerScript() as server:
        status, _, body = ask_http(server.port, "/metrics")
    assert status == HTTPStatus.OK
    types = re.findall(r"^# TYPE (\w+) (\w+)$", body.decode(), re.MULTILINE)
    assert listed == {name for name, _ in types}
    monitoring = ROOT / "contrib" / "monitoring"
    alerts = yaml.safe_load((monitoring / "alerts.yml").read_text("utf-8"))
    dashboard = json.loads((monitoring / "grafana.json").read_text("utf-8"))
    rules = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    samples = set(re.findall(r"^(syncchat_\w+)", body.decode(), re.MULTILINE))
    samples |= {
        f"{name}_{part}"
        for name, kind in types
        if kind == "histogram"
        for part in ("bucket", "sum", "count")
    }
    used = set(re.findall(r"\bsyncchat_\w+", " ".join(rules + panels)))
    # No sample has this label before the first refusal.
    samples.add("syncchat_refused_total")
    assert used <= samples
    # The dashboard shows every metric.
    shown = set(re.findall(r"\bsyncchat_\w+", " ".join(panels)))
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert bases == listed
