#!/usr/bin/env python3
"""Tests both sides of syncchat.net with the public WebSocket conformance suite.

Tests the echo server and the echo client in tests/, and prints a table with a row per
group of cases. Groups 12 and 13 (compression) are not run, because syncchat declines
compression. The suite, autobahntestsuite, needs a Python 2.7 interpreter: the one in
PYTHON27, on the PATH, or in pyenv's folder. The suite is installed in a separate
folder. The exit code is 0 if no case failed and none was non-strict.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
AGENT = "syncchat"
GROUPS = ["1", "2", "3", "4", "5", "6", "7", "9", "10"]
#: Seconds for the test of one side.
PATIENCE = 900

#: The last releases that run on Python 2.7; the suite asks for most of them by version.
PINS = [
    "autobahntestsuite==25.10.1",
    "autobahn==0.10.9",
    "txaio==2.1.0",
    "Twisted==19.10.0",
    "zope.interface==4.6.0",
    "incremental==16.10.1",
    "constantly==15.1.0",
    "Automat==22.10.0",
    "attrs==21.4.0",
    "hyperlink==21.0.0",
    "idna==2.10",
    "typing==3.10.0.0",
    "PyHamcrest==1.10.1",
    "six==1.16.0",
    "pyOpenSSL==19.1.0",
    "cryptography==3.3.2",
    "cffi==1.15.1",
    "pycparser==2.21",
    "enum34==1.1.10",
    "ipaddress==1.0.23",
    "service-identity==18.1.0",
    "pyasn1==0.5.1",
    "pyasn1-modules==0.3.0",
    "jinja2==2.11.3",
    "markupsafe==1.1.1",
    "Werkzeug==1.0.1",
    "klein==17.10.0",
    "unittest2==1.1.0",
    "traceback2==1.4.0",
    "linecache2==1.0.0",
    "argparse==1.4.0",
]

#: Runs the suite's server on loopback; by default it listens on all interfaces.
SERVER_ON_LOOPBACK = """
from autobahntestsuite import wstest
from twisted.internet import reactor
listen = reactor.listenTCP
reactor.listenTCP = lambda port, factory, backlog=50, interface='': listen(
    port, factory, backlog, '127.0.0.1')
wstest.run()
"""


class SuiteError(Exception):
    """The suite itself cannot run."""


def find_python27() -> str | None:
    """Return the path of a Python 2.7 interpreter, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [
        os.environ.get("PYTHON27"),
        *sorted(map(str, pyenv.glob("versions/2.7*/bin/python")), reverse=True),
        shutil.which("python2.7"),
    ]
    for candidate in candidates:
        if candidate is None:
            continue
        try:
            version = subprocess.run(
                [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        except (OSError, subprocess.CalledProcessError):
            continue
        if version.strip() == "2.7":
            return candidate
    return None


def installed_suite(python27: str, folder: Path) -> Path:
    """Return the suite's interpreter. Installs the suite on the first call."""
    python = folder / "venv" / "bin" / "python"
    done = folder / "installed"
    if done.exists():
        return python
    boot = folder / "boot"
    quiet = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONWARNINGS": "ignore"}
    steps: list[tuple[list[str], dict[str, str]]] = [
        ([python27, "-m", "pip", "install", "--target", str(boot), "virtualenv==20.15.1"], {}),
        (
            [python27, "-m", "virtualenv", "--no-periodic-update", str(folder / "venv")],
            {"PYTHONPATH": str(boot), "VIRTUALENV_OVERRIDE_APP_DATA": str(boot / "data")},
        ),
        ([str(python), "-m", "pip", "install", "--no-deps", *PINS], {}),
    ]
    for command, changes in steps:
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, env=quiet | changes
        )
        if result.returncode:
            raise SuiteError(f"cannot install the suite:\n{result.stderr[-2000:]}")
    # wsaccel masks and checks text in C. Without a compiler, the suite is only slower.
    subprocess.run(
        [str(python), "-m", "pip", "install", "--no-deps", "wsaccel==0.6.6"],
        capture_output=True,
        check=False,
        env=quiet,
    )
    done.touch()
    return python


def specification(folder: Path, name: str, content: dict[str, object], groups: list[str]) -> str:
    """Write the suite's configuration to a file. Returns its path."""
    path = folder / name
    cases = {"cases": [f"{group}.*" for group in groups]}
    excluded: dict[str, object] = {"exclude-cases": [], "exclude-agent-cases": {}}
    path.write_text(
        json.dumps({"outdir": str(folder), "options": {}, **content, **cases, **excluded}), "utf-8"
    )
    return str(path)


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process, and terminate it at the end."""
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
        )
        with process:
            try:
                yield process
            finally:
                process.terminate()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_server(python: Path, folder: Path, groups: list[str]) -> None:
    """Run the suite's client against our server."""
    with subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "echo_server.py"), "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().rsplit(" ", 1)[1])
            target = {"agent": AGENT, "url": f"ws://127.0.0.1:{port}"}
            spec = specification(folder, "spec.json", {"servers": [target]}, groups)
            command = [str(python.parent / "wstest"), "-m", "fuzzingclient", "-s", spec]
            subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=PATIENCE)
        finally:
            server.terminate()


def test_client(python: Path, folder: Path, groups: list[str]) -> None:
    """Run our client against the suite's server."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    url = f"ws://127.0.0.1:{port}"
    spec = specification(folder, "spec.json", {"url": url}, groups)
    program = folder / "server.py"
    program.write_text(SERVER_ON_LOOPBACK, "utf-8")
    with running([str(python), str(program), "-m", "fuzzingserver", "-s", spec, "-u", "0"], folder):
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise SuiteError("the suite's server did not start") from None
                time.sleep(0.1)
        client = [sys.executable, str(ROOT / "tests" / "echo_client.py"), url, AGENT]
        subprocess.run(client, check=False, env=environment(), timeout=PATIENCE)


def verdicts(folder: Path) -> dict[str, Counter[str]]:
    """Return the suite's report: for each group, how many cases had which result."""
    try:
        report = json.loads((folder / "index.json").read_text("utf-8"))[AGENT]
    except (OSError, KeyError, ValueError) as exc:
        raise SuiteError("the suite wrote no report") from exc
    found: dict[str, Counter[str]] = {}
    for case, result in report.items():
        verdict = result["behavior"].lower()
        if result["behaviorClose"] not in ("OK", "NON-STRICT", "INFORMATIONAL"):
            verdict = "failed"
        if verdict not in ("ok", "non-strict", "informational"):
            verdict = "failed"
            print(f"case {case}: {result['behavior']}, close: {result['behaviorClose']}")
        found.setdefault(case.partition(".")[0], Counter())[verdict] += 1
    return found


def table(results: dict[str, dict[str, Counter[str]]], groups: list[str]) -> str:
    """Format the table of docs/testing.md."""
    kinds = ["ok", "informational", "non-strict", "failed"]
    sides = list(results)
    lines = [
        "| group | " + " | ".join(f"{side}: {kind}" for side in sides for kind in kinds) + " |",
        "|---" * (1 + len(sides) * len(kinds)) + "|",
    ]
    sums: Counter[tuple[str, str]] = Counter()
    for group in groups:
        cells = []
        for side in sides:
            counts = results[side].get(group, Counter())
            for kind in kinds:
                cells.append(str(counts[kind]))
                sums[side, kind] += counts[kind]
        lines.append(f"| {group} | " + " | ".join(cells) + " |")
    total = " | ".join(str(sums[side, kind]) for side in sides for kind in kinds)
    lines.append(f"| all | {total} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument(
        "groups", nargs="*", default=GROUPS, metavar="GROUP", help="group of cases (1-7, 9 and 10)"
    )
    parser.add_argument(
        "--find",
        action="store_true",
        help="only check whether a Python 2.7 interpreter is available",
    )
    options = parser.parse_args()
    unknown = set(options.groups) - set(GROUPS)
    if unknown:
        parser.error(f"unknown group {', '.join(sorted(unknown))}")
    python27 = find_python27()
    if python27 is None:
        print(
            "The suite requires a Python 2.7 interpreter: set PYTHON27 to its path.",
            file=sys.stderr,
        )
        return 1
    if options.find:
        return 0
    home = Path(tempfile.gettempdir()) / f"syncchat-conformance-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    results: dict[str, dict[str, Counter[str]]] = {}
    try:
        python = installed_suite(python27, home)
        for side, test in (("server", test_server), ("client", test_client)):
            with tempfile.TemporaryDirectory() as folder:
                test(python, Path(folder), options.groups)
                results[side] = verdicts(Path(folder))
    except (SuiteError, subprocess.TimeoutExpired) as exc:
        print(exc, file=sys.stderr)
        return 1
    print(table(results, options.groups))
    bad = sum(c["failed"] + c["non-strict"] for side in results.values() for c in side.values())
    missing = [g for g in options.groups for side in results.values() if g not in side]
    return 1 if bad or missing else 0


if __name__ == "__main__":
    sys.exit(main())
