"""The settings of the server command's process, which the library does not touch."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import sysconfig

import psutil
import pytest

from syncchat import ChatServer
from syncchat.cli.tuning import SWITCH_INTERVAL
from tests.processes import ServerScript, environment

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads settings of another process")


@linux
def test_the_server_runs_with_the_batch_scheduling_policy() -> None:
    with ServerScript() as server:
        assert os.sched_getscheduler(server.process.pid) == os.SCHED_BATCH


@linux
def test_the_server_raises_its_limit_of_descriptors() -> None:
    with ServerScript() as server:
        soft, hard = psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE)
        assert soft >= min(hard, 65_536)


def test_the_library_changes_no_process_settings() -> None:
    interval, frozen = sys.getswitchinterval(), gc.get_freeze_count()
    with ChatServer(port=0):
        assert sys.getswitchinterval() == interval
        # Frozen objects of the tests' own process may have been freed meanwhile.
        assert gc.get_freeze_count() <= frozen
        if sys.platform == "linux":
            assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_tuning_lengthens_the_switch_interval() -> None:
    program = (
        "import sys; from syncchat.cli.tuning import tune; tune(); print(sys.getswitchinterval())"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert float(shown.stdout) == pytest.approx(SWITCH_INTERVAL)


def test_no_module_turns_the_gil_on() -> None:
    program = (
        "import pkgutil, sys, syncchat\n"
        "for module in pkgutil.walk_packages(syncchat.__path__, 'syncchat.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        __import__(module.name)\n"
        "print(getattr(sys, '_is_gil_enabled', lambda: True)())"
    )
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    assert shown.stdout == f"{not free_threaded}\n"
