"""What the parent of several workers knows of one of them."""

from __future__ import annotations

import os
import socket

__all__ = ["Worker"]


class Worker:
    """What the parent knows of a worker."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"worker {number + 1}"
        #: 0: it does not run.
        self.pid = 0
        #: When it was started, and when it is to be started.
        self.born = self.due = 0.0
        #: Seconds until it is to be started again after a short life.
        self.pause = 0.0
        #: Ends when either process ends. The worker says ``ready``, or why it cannot start.
        self.link: socket.socket | None = None
        self.said = b""
        #: The reading end of the pipe for its log, and the beginning of a line.
        self.pipe: int | None = None
        self.rest = bytearray()

    @property
    def is_ready(self) -> bool:
        """Whether it has started."""
        return self.said == b"ready"

    @property
    def why(self) -> str:
        """Why it cannot start, if it has said so."""
        return "" if self.is_ready else self.said.decode("utf-8", "replace")

    def forget(self) -> None:
        """Free the descriptors of a worker that has ended."""
        if self.link is not None:
            self.link.close()
        self.link = None
        self.close_pipe()

    def close_pipe(self) -> None:
        """Read no log."""
        if self.pipe is not None:
            os.close(self.pipe)
        self.pipe = None
        # A worker that was killed may have written the beginning of a line.
        self.rest.clear()
