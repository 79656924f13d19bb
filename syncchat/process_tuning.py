"""Settings of a whole process that does nothing but serve.

For the server's command only, never for the library: what embeds it decides
about itself. Each is measured by ``scripts/bench.py``.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys

__all__ = ["SWITCH_INTERVAL", "tune"]

#: Descriptors to ask for, and what macOS grants at the least.
_FILES = (65_536, 10_240)

#: Seconds after which a thread that waits for the interpreter lock requests it
#: (5 ms by default). Every waiting thread wakes up once per interval to do so. If
#: 10,000 clients leave at the same time, 10,000 threads wait: with 50 ms, their
#: wake-ups alone fill both cores, and no thread makes progress. Threads of the
#: server release the lock at every read and write; a search, which does neither,
#: pauses by itself.
SWITCH_INTERVAL = 1.0


def tune() -> None:
    """Set up this process to serve many clients. From the main thread, before others start."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    # What was imported stays; the garbage collector need not look through it.
    gc.freeze()
    _allow_files()
    _let_threads_finish()


def _allow_files() -> None:
    """Enough descriptors for as many clients as threads can serve; one a client."""
    try:
        import resource  # noqa: PLC0415 - Unix only
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in _FILES:
        wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            return
        # macOS may grant less than it says.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return


def _let_threads_finish() -> None:
    """Let a thread that wakes up wait its turn instead of pushing aside one that works (Linux).

    The one that works has the interpreter, mostly, so that the other could
    only go back to sleep. Whoever has chosen a policy for this process keeps it.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            if os.sched_getscheduler(0) == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
