"""The benchmark runs, and counts what it says it counts."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.processes import ROOT, environment

BENCH = [sys.executable, str(ROOT / "scripts" / "bench.py")]


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*BENCH, *flags], capture_output=True, text=True, check=False, timeout=60, env=environment()
    )


@pytest.mark.parametrize(
    "flags",
    [
        ["--connections", "5", "--in-flight", "2", "--size", "10"],
        ["--connections", "4", "--senders", "0", "--in-flight", "9", "--size", "300"],
        ["--connections", "3", "--stalled", "1", "--size", "65000"],
    ],
)
def test_it_measures_every_server(flags: list[str]) -> None:
    result = run(*flags, "--megabytes", "1", "--rounds", "1")
    assert result.returncode == 0, result.stderr
    rows = result.stdout.splitlines()
    assert flags[1] + " clients" in rows[0]
    names = ["syncchat", "websockets-asyncio", "websockets-threads"]
    if "--stalled" in flags:
        # It sends to each in turn, and waits for the one that does not read.
        assert "websockets-threads failed: the server delivers no more" in result.stdout
        names.pop()
    for name in names:
        row = next(row for row in rows if row.startswith(name))
        cells = row.split()[1:]
        assert len(cells) == 9
        assert float(cells[0].replace(",", "")) > 0
    ours = next(row for row in rows if row.startswith("syncchat"))
    assert re.search(r" 1\.00 +(1\.00|-)$", ours)
    assert ours.split()[5] == str(int(flags[1]) + 2)


@pytest.mark.parametrize(
    "flags",
    [["--size", "9"], ["--connections", "0"], ["--senders", "6", "--connections", "5"], ["--x"]],
)
def test_wrong_flags_are_exit_code_2(flags: list[str]) -> None:
    result = run(*flags)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
