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

#: Seconds after which a thread that waits for the interpreter asks for it (5 ms
#: by default). Each that waits wakes up so often to ask: with some hundred
#: connections busy at a time, that alone would fill a core. Connection threads
#: let go of the interpreter at every read and write anyway.
SWITCH_INTERVAL = 0.05


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
