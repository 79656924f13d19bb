"""The terminal client in the test's process, with keys from a pipe and an emulated screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncchat.terminal import Preferences
from tests.screen import Screen
from tests.stage import Stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.fixture
def client(stage: Stage) -> Iterator[Screen]:
    with Screen(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        yield client


def test_a_message_is_pending_until_the_server_answers(stage: Stage, client: Screen) -> None:
    client.type("hello\r")
    client.wait_for_line("… hello")
    (said,) = stage.wait_for_said()
    assert said.nonce is not None
    stage.say(said.text, "ann", nonce=said.nonce)
    client.wait_for_line("ann: hello")
    client.wait_for_last(r" lobby \| ann \| 2 here \| connected .*")
    assert client.lines()[:2] == ["Connected to the chat!", "ann: hello"]
    assert "… hello" not in client.lines()
    client.type("\x04")
    assert client.exit_code() == 0


def test_several_clients_share_a_process(stage: Stage, client: Screen) -> None:
    with Screen(stage.url, columns=40, preferences=Preferences(prefix="> ")) as other:
        stage.wait_for_client(2)
        other.wait_for_line(">.*")
        client.type("/bel\t")
        other.type("/cl\t")
        client.wait_for_line("> /bell")
        other.wait_for_line("> /clear")
        stage.say("for the second")
        other.wait_for_line("> bob: for the second")


def test_the_end_of_the_connection_is_told_on_standard_error(stage: Stage) -> None:
    with Screen(stage.url, reconnect=False) as client:
        client.wait_for_line(">.*")
        client.type("half a line")
        client.wait_for_line("> half a line")
        stage.close(1008, "go away")
        assert client.exit_code() == 1
        assert client.lines()[-1] == "Not sent: half a line"
        assert "go away" in client.lines()[-2]


def test_lines_with_the_token_are_not_stored(stage: Stage, tmp_path: Path) -> None:
    typed = tmp_path / "history"
    with Screen(stage.url, token="s3cret", typed=typed) as client:
        client.type("my word is s3cret\rharmless\r")
        client.wait_for_line("… harmless")
    stored = typed.read_text()
    assert [line for line in stored.splitlines() if line.startswith("+")] == ["+harmless"]


def test_only_people_who_are_known_can_be_ignored(stage: Stage, client: Screen) -> None:
    """A speaker who has left can still be ignored."""
    stage.say("hello", "Cy")
    client.wait_for_line("Cy: hello")
    for typed, answer in [
        ("/ignore typo", "-> typo is not in this room and has sent no message."),
        ("/ignore", "-> You ignore nobody."),
        ("/ignore ANN", "-> You cannot ignore yourself."),
        ("/ignore two words", "-> Usage: /ignore NAME"),
        ("/ignore BOB", "-> You ignore BOB now. .*"),
        ("/ignore cy", "-> You ignore cy now. .*"),
        ("/ignore", "-> You ignore BOB, cy."),
        ("/Bell ALL", "-> The bell is all."),
    ]:
        client.type(f"{typed}\r")
        client.wait_for_line(answer)
    stage.say("unheard", "bob")
    stage.say("heard", "dan")
    client.wait_for_line("dan: heard")
    assert "bob: unheard" not in client.lines()
