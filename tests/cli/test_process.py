"""The server's command sets its process up to serve; the library leaves that to others."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import psutil
import pytest

from syncchat import ChatServer
from syncchat.cli.process_tuning import SWITCH_INTERVAL
from tests.processes import ServerScript, environment

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells of other processes")


@linux
def test_the_servers_threads_let_each_other_finish() -> None:
    with ServerScript() as server:
        assert os.sched_getscheduler(server.process.pid) == os.SCHED_BATCH


@linux
def test_the_server_may_have_as_many_descriptors_as_its_user() -> None:
    with ServerScript() as server:
        soft, hard = psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE)
        assert soft >= min(hard, 65_536)


def test_a_process_is_tuned_by_nothing_but_the_command() -> None:
    before = sys.getswitchinterval(), gc.get_freeze_count()
    with ChatServer(port=0):
        assert (sys.getswitchinterval(), gc.get_freeze_count()) == before
        if sys.platform == "linux":
            assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_tuning_lengthens_the_switch_interval() -> None:
    program = (
        "import sys; from syncchat.cli.process_tuning import tune; tune();"
        " print(sys.getswitchinterval())"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert float(shown.stdout) == pytest.approx(SWITCH_INTERVAL)
