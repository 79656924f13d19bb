"""The benchmark runs, and counts what it says it counts."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ROOT, environment

BENCH = [sys.executable, str(ROOT / "scripts" / "bench.py")]
PEERS = [
    "websockets-asyncio",
    "picows",
    "websockets-threads",
    "websockets-threads-broadcast",
    "simple-websocket",
    "websocket-server",
]
FEW = ["--server", "syncchat", "--server", "websockets-asyncio", "--rounds", "1"]
WORKLOADS = [
    "fanout",
    "lone",
    "crowd",
    "paced",
    "echo",
    "stalled",
    "storm",
    "idle",
    "rooms",
    "large",
    "tls",
]


def run(*flags: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*BENCH, *flags],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        env={**environment(), **settings},
    )


def run_json(*flags: str) -> dict[str, Any]:
    result = run(*flags, "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    data: dict[str, Any] = json.loads(result.stdout)
    return data


@pytest.mark.timeout(200)
def test_every_peer_serves_the_same_chat() -> None:
    outcome = run_json("--connections", "5", "--in-flight", "2", "--seconds", "0.2", "--rounds=1")
    (case,) = outcome["cases"]
    assert case["failures"] == {}
    assert case["rounds"].keys() >= {"syncchat", "bare-loop", *PEERS}
    assert ("node-ws" in case["rounds"]) != ("node-ws" in outcome["missing"])
    for name, (figures,) in case["rounds"].items():
        assert figures["deliveries"] > 100, name
        assert 0 < figures["p50"] <= figures["p99"] <= figures["p999"]
        assert case["times_better"][name]["median"] > 0
    assert case["times_better"]["syncchat"]["median"] == 1


@pytest.mark.parametrize("workload", WORKLOADS)
def test_every_workload_gives_its_figures(workload: str) -> None:
    counts = {"stalled": 3, "rooms": 8, "echo": 1}
    flags = ["--workload", workload, "--connections", str(counts.get(workload, 4))]
    outcome = run_json(*flags, "--seconds", "0.2", *FEW)
    (case,) = outcome["cases"]
    assert case["failures"] == {}
    for name in ("syncchat", "websockets-asyncio"):
        (figures,) = case["rounds"][name]
        assert figures[case["headline"]] > 0 or workload in ("lone", "idle")
    if workload == "idle":
        assert case["rounds"]["syncchat"][0]["threads"] == 4 + 2
        assert case["rounds"]["websockets-asyncio"][0]["threads"] == 1
    if workload == "paced":
        assert case["rounds"]["syncchat"][0]["deliveries"] == pytest.approx(200 * 4, rel=0.2)


def test_a_server_that_waits_for_one_who_does_not_read_is_said_to_fail() -> None:
    names = ["--server", "syncchat", "--server", "websockets-threads"]
    flags = ["--connections", "3", "--stalled", "1", "--size", "65000", "--megabytes", "30"]
    result = run(*flags, *names, "--rounds", "1")
    assert result.returncode == 0, result.stderr
    assert "websockets-threads failed: the server delivers no more" in result.stdout
    assert "\nsyncchat " in result.stdout


def test_a_peer_that_is_missing_is_named() -> None:
    flags = ["--connections", "2", "--seconds", "0.1", "--rounds", "1"]
    names = ["--server", "syncchat", "--server", "node-ws"]
    result = run(*flags, *names, PATH="")
    assert result.returncode == 0, result.stderr
    assert "node-ws is skipped: node is not found" in result.stdout


def test_the_table_replaces_that_of_a_readme_and_the_chart_is_a_picture(tmp_path: Path) -> None:
    readme, chart = tmp_path / "README.md", tmp_path / "chart.svg"
    readme.write_text("before\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nafter\n")
    flags = ["--connections", "2", "--seconds", "0.1", "--markdown", str(readme)]
    result = run(*flags, "--svg", str(chart), *FEW)
    assert result.returncode == 0, result.stderr
    text = readme.read_text()
    assert text.startswith("before\n<!-- benchmark -->\n")
    assert text.endswith("<!-- /benchmark -->\nafter\n")
    assert "old" not in text
    assert "python scripts/bench.py --connections 2" in text
    assert "| fanout 2 | deliveries/s |" in text
    assert ET.parse(chart).getroot().tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize(
    "flags",
    [
        ["--size", "9"],
        ["--connections", "0"],
        ["--senders", "6", "--connections", "5"],
        ["--workload", "rooms", "--connections", "3"],
        ["--rounds", "0"],
        ["--x"],
    ],
)
def test_wrong_flags_are_exit_code_2(flags: list[str]) -> None:
    result = run(*flags)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
