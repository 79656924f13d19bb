"""The command ``people``, while a server runs in another process and without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from syncchat.net import Deadline
from tests.peer import PATIENCE
from tests.people import Json
from tests.processes import SERVER, ServerScript, run
from tests.redis_server import RedisProcess


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.slow)])
def flags(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """The flags of the store, for the server and for the command."""
    with ExitStack() as stack:
        match request.param:
            case "memory":
                yield ["--people", str(tmp_path / "people")]
            case "sqlite":
                yield ["--engine", f"sqlite:{tmp_path / 'log'}"]
            case _:
                yield ["--engine", stack.enter_context(RedisProcess()).url]


def people(*arguments: str, **changes: str) -> str:
    """The output of a command that succeeds."""
    result = run([*SERVER, "people", *arguments], **changes)
    assert result.returncode == 0, result.stderr
    return result.stdout.removesuffix("\n")


def as_person(server: ServerScript, token: str) -> Json:
    """A client with that token, once the server knows it."""
    deadline = Deadline.after(PATIENCE)
    while True:
        try:
            return Json(f"{server.url}?token={token}")
        except InvalidStatus:
            # The machine may be busy.
            assert not deadline.expired


def failing(*arguments: str, code: int = 1) -> str:
    """What a command that fails says, in its last line."""
    result = run([*SERVER, "people", *arguments])
    assert (result.returncode, result.stdout) == (code, ""), result
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


def test_people_come_and_go_while_a_server_runs(flags: list[str]) -> None:
    with ServerScript(*flags, "--guests", "no", "--greeting", "") as server:
        token = people("add", "ann", "--operator", *flags)
        robots = people("add", "robot", "--robot", *flags)
        assert token != robots
        assert people("list", *flags) == "ann operator\nrobot robot"
        with as_person(server, token) as ann:
            welcome = ann.event("welcome")
            assert (welcome["person"], welcome["operator"]) == ("ann", True)
            renewed = people("renew", "ANN", *flags)
            assert ann.find("error")["text"] == "Your token is not valid any more."
            assert ann.hear_end() == 1008
        with as_person(server, renewed) as ann:
            assert ann.event("welcome")["operator"] is True
            assert people("remove", "ann", *flags) == ""
            assert ann.hear_end() == 1008
        assert people("list", *flags) == "robot robot"
        for secret in (token, robots, renewed):
            assert not any(secret in line for line in server.lines + server.errors)


def test_people_are_there_after_a_restart(flags: list[str]) -> None:
    token = people("add", "ann", *flags)
    with ServerScript(*flags) as server, Json(f"{server.url}?token={token}") as ann:
        assert ann.event("welcome")["person"] == "ann"


def test_each_flag_can_be_a_variable(tmp_path: Path) -> None:
    file = str(tmp_path / "people")
    people("add", "ann", SYNCCHAT_PEOPLE=file)
    assert people("list", "--people", file) == "ann"


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    flags = ["--people", str(tmp_path / "people")]
    people("add", "ann", *flags)
    for name, said in (
        ("ANN", "ann has a token already"),
        ("аnn", "аnn looks like ann, who has a token"),
        ("server", "The nick server is reserved."),
        ("a b", "A nick must be one word without colons or commas."),
    ):
        assert failing("add", name, *flags) == said
    for command in ("remove", "renew"):
        assert failing(command, "bob", *flags) == (
            "nobody is called bob; 'people list' shows all names"
        )
    assert "required: COMMAND" in failing(code=2)
    assert "required: NAME" in failing("add", code=2)
    assert "invalid choice: 'drop'" in failing("drop", code=2)
    assert failing("list", code=2).endswith("only with a file for them: --people FILE")
    assert "for memory: only" in failing("list", "--engine", "sqlite:x", *flags, code=2)
    assert "is not an engine" in failing("list", "--engine", "mysql:x", code=2)
    assert "does not exist" in failing("list", "--engine", "sqlite:/nonexistent/x")
    missing = tmp_path / "missing"
    assert "does not exist" in failing("list", "--people", str(missing))
    assert not missing.exists()
    foreign = tmp_path / "foreign"
    foreign.write_text("This is no database. " * 100)
    assert failing("add", "bob", "--people", str(foreign)).startswith(f"cannot use {foreign}: ")
    result = run([*SERVER, "--port", "0", "--engine", "sqlite:x", *flags])
    assert result.returncode == 2
    assert "argument --people: " in result.stderr.splitlines()[-1]
