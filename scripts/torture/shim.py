"""The library that is preloaded into servers: disks and clocks that fail (see ``shim.c``)."""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Self

__all__ = ["Shim", "cut_power", "drop_torn"]

_SOURCE = Path(__file__).with_name("shim.c")

#: The settings in the file that the library maps: the disk is full, microseconds of each
#: write, nanoseconds of the clock, more microseconds of each flush.
_CONTROL = struct.Struct("iiqq")

#: The head of a record in an undo file.
_UNDO = struct.Struct("qqq")


class Shim:
    """The library, compiled in ``folder``, and the settings for the processes that have it.

    ``files`` is the folder of the files that are meant.
    """

    def __init__(self, folder: Path, files: Path) -> None:
        library, control = folder / "shim.so", folder / "control"
        command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
        subprocess.run(command, check=True)
        control.write_bytes(bytes(_CONTROL.size))
        with control.open("r+b") as file:
            self._settings = mmap.mmap(file.fileno(), _CONTROL.size)
        #: For the environment of a process.
        self.environment = {
            "LD_PRELOAD": str(library),
            "TORTURE_CONTROL": str(control),
            "TORTURE_FILES": str(files.resolve()),
        }

    @classmethod
    def make(cls, folder: Path, files: Path) -> Self | None:
        """The library; None where there is no compiler for it."""
        return None if shutil.which("gcc") is None else cls(folder, files)

    def set(
        self,
        *,
        full: bool | None = None,
        slow: float | None = None,
        clock: float | None = None,
        flush: float | None = None,
    ) -> None:
        """Change what is given: whether the disk is full, the seconds of writes, clock, flushes."""
        values = list(_CONTROL.unpack(self._settings[:]))
        if full is not None:
            values[0] = int(full)
        if slow is not None:
            values[1] = int(slow * 1e6)
        if clock is not None:
            values[2] = int(clock * 1e9)
        if flush is not None:
            values[3] = int(flush * 1e6)
        self._settings[:] = _CONTROL.pack(*values)

    def heal(self) -> None:
        """The disk has room and is quick, and the clock is right."""
        self.set(full=False, slow=0.0, clock=0.0, flush=0.0)

    def close(self) -> None:
        """Release the settings."""
        self._settings.close()


def cut_power(folder: Path) -> int:
    """Undo all writes in ``folder`` that were not flushed. Returns how many there were.

    Only while no process writes there. Which of them survive a power cut is the disk's choice;
    that none does is the worst case for a log that was not flushed.
    """
    count = 0
    for undo in folder.glob("*.undo"):
        path = undo.with_suffix("")
        records, _ = _records(undo.read_bytes())
        if path.exists():
            with path.open("r+b") as file:
                for offset, old, size in reversed(records):
                    file.seek(offset)
                    file.write(old)
                    file.truncate(size)
        count += len(records)
        undo.unlink()
    for index in folder.glob("*-shm"):
        # Shared memory, which no disk keeps.
        index.unlink()
    return count


def drop_torn(folder: Path) -> None:
    """Drop the record of an undo file that was being written when its process was killed.

    The write that it belongs to was not begun. The next process appends to the same file.
    """
    for undo in folder.glob("*.undo"):
        _, length = _records(undo.read_bytes())
        os.truncate(undo, length)


def _records(data: bytes) -> tuple[list[tuple[int, bytes, int]], int]:
    """The whole records of an undo file: offset, old bytes, old size; and where they end."""
    records, at = [], 0
    while at + _UNDO.size <= len(data):
        offset, length, size = _UNDO.unpack_from(data, at)
        end = at + _UNDO.size + length
        if end > len(data):
            break
        records.append((offset, data[end - length : end], size))
        at = end
    return records, at
