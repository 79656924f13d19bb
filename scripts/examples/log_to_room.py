"""A program whose warnings and errors come to a room: python log_to_room.py [URL].

The program never waits for the chat: it may start before the server, and the server may restart.
"""

from __future__ import annotations

import logging
import sys

from syncchat.logging import RoomHandler

logger = logging.getLogger("backup")


def copy(name: str) -> None:
    if name.endswith(".lock"):
        raise PermissionError(f"{name} is locked")
    logger.info("copied %s", name)


def main(url: str) -> None:
    handler = RoomHandler(url, nick="backup", level=logging.WARNING, timeout=10)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    logger.addHandler(handler)
    for name in ("a.txt", "b.lock", "c.txt"):
        try:
            copy(name)
        except OSError:
            # The traceback comes with it, with its indentation.
            logger.exception("cannot copy %s", name)
    logger.warning("the backup is incomplete")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:2000/ops")
