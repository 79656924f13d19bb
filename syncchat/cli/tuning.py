"""Tuning of the server's process: only the command does it, never the library."""

from __future__ import annotations

import contextlib
import gc
import os
import sys

__all__ = ["SWITCH_INTERVAL", "tune"]

#: Descriptors to request: the preferred number, then the number that macOS always grants.
_FILES = (65_536, 10_240)

#: Seconds after which a thread that waits for the interpreter lock requests it
#: (5 ms by default). Every waiting thread wakes up once per interval to do so. If
#: 10,000 clients leave at the same time, 10,000 threads wait: with 50 ms, their
#: wake-ups alone fill both cores, and no thread makes progress. The server's
#: threads release the lock at every read and write. A search does neither, so it
#: pauses explicitly.
SWITCH_INTERVAL = 1.0

#: New container objects after which the garbage collector examines them.
_NEW_OBJECTS = 2_000


def tune() -> None:
    """Set up this process to serve many clients.

    Call it from the main thread, before other threads start.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    # Imported objects stay alive, so the garbage collector need not examine them.
    gc.freeze()
    # The usual 700 new objects are those of 20 connections: while many clients connect, the
    # collector would take an eighth of the CPU time. Much rarer collections would leave
    # the memory of ended connections occupied.
    gc.set_threshold(_NEW_OBJECTS, 10, 5)
    _allow_files()
    _let_threads_finish()


def _allow_files() -> None:
    """Raise the limit of descriptors: each client needs one."""
    try:
        import resource  # noqa: PLC0415 - Unix only
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in _FILES:
        wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            return
        # macOS may refuse a number that is below its reported limit.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return


def _let_threads_finish() -> None:
    """On Linux, prevent a thread that wakes up from preempting a running thread.

    The running thread mostly holds the interpreter lock, so the other thread
    could only go back to sleep. Does not change a scheduling policy that was
    chosen for this process.
    """
    if sys.platform == "linux" and hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):
            if os.sched_getscheduler(0) == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
