"""Checks of every test: no thread or descriptor remains, and no thread dies of an exception."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from syncchat.net import WebSocket
from tests import processes
from tests.forked import start_fork_server
from tests.peer import Maker, Peer, client_side, server_side

#: Seconds until threads and descriptors of a test must be gone.
SETTLE = 15.0

#: What the tests of a folder import, besides what nearly all tests need.
NEEDED = {
    "wsgi": ("bottle", "django", "flask", "gunicorn", "httpx", "requests", "waitress"),
    "examples": ("django", "flask", "gunicorn", "redis", "requests"),
}

FDS = Path("/proc/self/fd")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=20, help="how often the kill test kills")
    parser.addoption("--fuzz-seconds", type=float, default=12, help="how long each fuzzer runs")
    parser.addoption("--full", action="store_true", help="run the slow tests, too")


def pytest_configure(config: pytest.Config) -> None:
    """Make the processes of the tests start quickly."""
    # Until the tests begin: the collection of thousands of tests leaves no garbage.
    gc.disable()
    processes.start_afresh = config.getoption("--full")
    # A shell makes a process in the background ignore Ctrl+C, and nohup makes it ignore SIGHUP.
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    if sys.dont_write_bytecode and config.pluginmanager.hasplugin("cacheprovider"):
        # Each process would compile every module anew. The workers of pytest-xdist, which
        # start after this, inherit the change.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(config.cache.mkdir("bytecode"))


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> None:
    """The process from which others are forked, with descriptors that it keeps open."""
    if not processes.start_afresh:
        start_fork_server()
    # pytest's own objects, of which there are many, need no look at each collection.
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests marked as slow, unless ``--full`` asks for them.

    With it, the tests with a load that can be reduced are slow, too.
    """
    if not config.getoption("--full"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        left_out = set(slow)
        items[:] = [item for item in items if item not in left_out]
        return
    for item in items:
        if "full" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
    # The longest come first in the share of each process, so that none begins one at the end.
    processes = int(getattr(config, "workerinput", {}).get("workercount", 1))
    longest = [item for item in items if item.path.name == "test_torture.py"]
    others = [item for item in items if item.path.name != "test_torture.py"]
    share = -(-len(others) // processes)
    items[:] = [
        item
        for at in range(processes)
        for item in (*longest[at::processes], *others[at * share : (at + 1) * share])
    ]


@pytest.fixture
def pragma(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets a pragma on every open connection of an engine of this process.

    A disk that is full, or that may only be read, is so as far as SQLite can tell.
    """
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def connecting(*args: Any, **settings: Any) -> sqlite3.Connection:
        opened.append(connect(*args, **settings))
        return opened[-1]

    def set_pragma(text: str) -> None:
        for database in opened:
            with contextlib.suppress(sqlite3.ProgrammingError):  # It is closed.
                database.execute(f"PRAGMA {text}")

    monkeypatch.setattr(sqlite3, "connect", connecting)
    return set_pragma


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether a test runs its full load instead of a reduced one."""
    return bool(request.config.getoption("--full"))


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How often the kill test kills the server."""
    return int(request.config.getoption("--kills"))


def descriptors() -> dict[str, str]:
    """The open descriptors and their targets; empty on systems without /proc."""
    found = {}
    if FDS.is_dir():
        for entry in FDS.iterdir():
            try:
                found[entry.name] = str(entry.readlink())
            except OSError:
                continue  # The one that iterdir itself uses.
    return found


@pytest.fixture
def many_files() -> Iterator[None]:
    """Raise the limit of open files, for thousands of clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread or a descriptor, or in which a thread died."""
    threads = set(threading.enumerate())
    files = descriptors()
    died: list[threading.ExceptHookArgs] = []
    original = threading.excepthook
    threading.excepthook = died.append
    try:
        yield
        deadline = time.monotonic() + SETTLE
        while True:
            left = [thread for thread in threading.enumerate() if thread not in threads]
            now = descriptors()
            new = {number: what for number, what in now.items() if files.get(number) != what}
            if not left and not new:
                break
            if time.monotonic() > deadline:
                break
            gc.collect()
            time.sleep(0.005)
        assert not left, f"threads left behind: {left}"
        assert not new, f"descriptors left behind: {new}"
        assert not died, f"threads died of exceptions: {died}"
    finally:
        threading.excepthook = original


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Fail skipped tests in CI."""
    if (
        os.environ.get("CI") == "true"
        and call.excinfo
        and call.excinfo.errisinstance(pytest.skip.Exception)
    ):
        reason = call.excinfo.value
        call.excinfo = pytest.ExceptionInfo.from_exception(
            AssertionError(f"skipped in CI: {reason}").with_traceback(reason.__traceback__)
        )


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail skipped modules in CI."""
    report = yield
    if os.environ.get("CI") == "true" and report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


class _Module(pytest.Module):
    """A module that imports packages of the extra ``test``, without which it is skipped."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        for name in NEEDED[self.path.parent.name]:
            if find_spec(name) is None:
                pytest.skip(f"there is no {name}: pip install '.[test]'", allow_module_level=True)
        return super().collect()


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    if module_path.parent.name not in NEEDED:
        return None
    module: pytest.Module = _Module.from_parent(parent, path=module_path)
    return module


@pytest.fixture(params=[server_side, client_side], ids=["server", "client"])
def pair(request: pytest.FixtureRequest) -> Iterator[Maker]:
    """Makes a WebSocket of one side and a raw peer of the other."""
    make: Callable[..., AbstractContextManager[tuple[WebSocket, Peer]]] = request.param
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(make(**settings))
