"""Log records in a room: nothing blocks the program, and nothing is lost silently."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import pytest

from syncchat import ChatServer
from syncchat.logging import RoomHandler
from tests.peer import PATIENCE, free_port, wait_for
from tests.people import url_of
from tests.processes import ROOT
from tests.stage import Stage

#: Seconds that a call may take on a busy machine if it waits for nothing.
_AT_ONCE = 5.0


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("app.under.test")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def server(port: int = 0, **settings: Any) -> ChatServer:
    return ChatServer(port=port, greeting="", **{"rate": 0.0, **settings})


def attached(logger: logging.Logger, url: str, **settings: Any) -> RoomHandler:
    handler = RoomHandler(url, nick="app", **settings)
    logger.addHandler(handler)
    return handler


def texts(chat: ChatServer, room: str = "lobby") -> list[str]:
    return [each.text for each in chat.history(room, 10_000)]


def test_records_come_to_the_room_in_order(logger: logging.Logger) -> None:
    with server() as chat:
        handler = attached(logger, url_of(chat, "/ops"), level="INFO")
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        logger.debug("too low")
        logger.info("one %d", 1)
        logger.warning("two")
        assert handler.drain(PATIENCE)
        assert texts(chat, "ops") == ["INFO one 1", "WARNING two"]
        assert [each.nick for each in chat.history("ops")] == ["app", "app"]
        assert handler.dropped == 0


def test_a_traceback_is_intact(logger: logging.Logger) -> None:
    def deep(depth: int) -> None:
        if depth == 0:
            raise ValueError("at the bottom\n  with an indented line")
        deep(depth - 1)

    with server() as chat:
        handler = attached(logger, url_of(chat))
        try:
            deep(3)
        except ValueError:
            logger.exception("failed")
            expected = logging.Formatter().format(
                logging.LogRecord("x", 40, "", 0, "failed", (), sys.exc_info())
            )
        assert handler.drain(PATIENCE)
        assert texts(chat) == [expected]
        assert "      ^^^^" in expected or "    deep(" in expected


def test_a_long_record_comes_in_several_messages_of_whole_lines(logger: logging.Logger) -> None:
    lines = [f"{'  ' * (number % 20)}line {number} {'é' * 60}" for number in range(3000)]
    with server() as chat:
        handler = attached(logger, url_of(chat))
        logger.info("\n".join(lines))
        logger.info("x" * 100_000)
        # Past the logger: pytest cannot report such a text.
        handler.handle(logging.makeLogRecord({"msg": chr(0xD800)}))
        assert handler.drain(PATIENCE)
        found = texts(chat)
        assert len(found) > 3
        said = "\n".join(found).split("\n")
        assert said[: len(lines)] == lines
        assert "".join(said[len(lines) : -1]) == "x" * 100_000
        assert said[-1] == "\\ud800"
        assert handler.dropped == 0


def test_a_record_is_cut_as_small_as_its_server_wants_it(logger: logging.Logger) -> None:
    with server(max_message=500) as chat:
        handler = attached(logger, url_of(chat))
        logger.info("first")
        assert handler.drain(PATIENCE)
        lines = [f"  line {number}" for number in range(200)]
        logger.info("\n".join(lines))
        assert handler.drain(PATIENCE)
        assert "\n".join(texts(chat)[1:]).split("\n") == lines


def test_a_program_may_start_before_its_server_and_outlive_it(logger: logging.Logger) -> None:
    port = free_port()
    handler = attached(logger, f"ws://127.0.0.1:{port}/")
    began = time.monotonic()
    logger.info("nobody listens")
    assert not handler.drain(0)
    assert time.monotonic() - began < _AT_ONCE
    with server(port) as chat:
        assert handler.drain(PATIENCE)
        assert texts(chat) == ["nobody listens"]
    for number in range(10):
        logger.info("away %d", number)
    with server(port) as chat:
        assert handler.drain(PATIENCE)
        assert texts(chat) == [f"away {number}" for number in range(10)]
    assert handler.dropped == 0


def test_a_full_queue_drops_records_and_tells_the_room_how_many(logger: logging.Logger) -> None:
    port = free_port()
    handler = attached(logger, f"ws://127.0.0.1:{port}/", capacity=10)
    began = time.monotonic()
    for number in range(1000):
        logger.info("%d", number)
    assert time.monotonic() - began < _AT_ONCE
    assert handler.dropped >= 989
    with server(port) as chat:
        assert handler.drain(PATIENCE)
        logger.info("1000")
        assert handler.drain(PATIENCE)
        # Each hole is told in its place.
        expected = 0
        for each in chat.history(n=1000):
            gap = re.fullmatch(
                r"has dropped (\d+) log records here: there were too many", each.text
            )
            assert (gap is not None) == (each.kind == "action")
            if gap is None:
                assert each.text == str(expected)
            expected += int(gap[1]) if gap else 1
        assert expected == 1001
        assert handler.dropped == 1001 - sum(text.isdigit() for text in texts(chat))


def test_a_server_that_acknowledges_nothing_blocks_nobody(logger: logging.Logger) -> None:
    with Stage() as stage:
        handler = attached(logger, f"ws://{stage.url}/", capacity=100, timeout=0.2)
        began = time.monotonic()
        for number in range(2000):
            logger.info("%d", number)
        assert time.monotonic() - began < 2 * _AT_ONCE
        wait_for(lambda: handler.dropped > 0)
        stage.wait_for_said(64)
        began = time.monotonic()
        logger.removeHandler(handler)
        handler.close()
        assert time.monotonic() - began < 0.2 + _AT_ONCE
        # The thread may end a moment after the handler is closed.
        wait_for(lambda: handler.dropped == 2000)


def test_records_of_syncchat_itself_are_not_sent() -> None:
    with server() as chat:
        handler = RoomHandler(url_of(chat), nick="app")
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            logging.getLogger("syncchat.net").warning("about the connection")
            logging.getLogger("syncchatter").warning("of another program")
            assert handler.drain(PATIENCE)
        finally:
            root.removeHandler(handler)
            handler.close()
        assert texts(chat) == ["of another program"]


def test_a_refusal_is_told_on_standard_error(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(token="s3cret") as chat:
        attached(logger, f"{url_of(chat)}?x=1", token="guess")
        logger.info("x")
        said = ""

        def told() -> bool:
            nonlocal said
            said += capsys.readouterr().err
            return "HTTP status 401" in said

        wait_for(told)
        assert "x=1" not in said


def test_a_message_that_the_server_refuses_counts_as_dropped(logger: logging.Logger) -> None:
    with server(on_message=lambda _: 1 / 0) as chat:
        handler = attached(logger, url_of(chat))
        logger.info("x")
        assert handler.drain(PATIENCE)
        wait_for(lambda: handler.dropped == 1)


PROGRAM = """
    import logging, os, sys
    from syncchat.logging import RoomHandler

    handler = RoomHandler(sys.argv[1], nick="app")
    logging.getLogger().addHandler(handler)
    logging.warning("parent")
    pid = os.fork()
    logging.warning("child" if pid == 0 else "parent again")
    if pid:
        os.waitpid(pid, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_end_of_a_program_sends_the_last_records_and_a_fork_is_no_harm() -> None:
    with server() as chat:
        code = textwrap.dedent(PROGRAM)
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code, url_of(chat)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        assert time.monotonic() - began < 2 * _AT_ONCE + 4
        assert done.stderr == ""
        assert sorted(texts(chat)) == ["child", "parent", "parent again"]
