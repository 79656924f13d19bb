"""What is kept for people with a token: the places that they have seen, and private messages."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncchat import ChatServer
from syncchat.chat.dialects import LineFormat, lines_of
from syncchat.chat.events import PrivateMessage
from syncchat.chat.people import add_person
from syncchat.engine import open_records
from tests.people import Json, Plain, url_of


@pytest.fixture(params=["memory", "sqlite"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "chat.db"
    if request.param == "memory":
        return {"people": str(path)}
    return {"engine": f"sqlite:{path}"}


@contextlib.contextmanager
def serving(settings: dict[str, Any]) -> Iterator[ChatServer]:
    with ChatServer(port=0, greeting="", **settings) as chat:
        yield chat


def token_of(name: str, settings: dict[str, Any]) -> str:
    records = open_records(settings.get("engine", "memory:"), settings.get("people"))
    with contextlib.closing(records):
        return add_person(records, name)


def test_private_messages_wait_for_a_person_over_a_restart(settings: dict[str, Any]) -> None:
    token = token_of("ann", settings)
    before = time.time()
    with serving(settings) as chat, Json(url_of(chat, "/?nick=bob")) as bob:
        bob.event("welcome")
        for text in ("one", "two"):
            bob.ask(type="private", to="Ann", text=text)
            done = bob.event("done")
            assert done["command"] == "private"
            assert done["text"] == "ann is not here: your message is kept until ann comes."
    with serving(settings) as chat:
        with Json(url_of(chat, f"/ops?token={token}")) as ann:
            assert ann.event("welcome")["person"] == "ann"
            found = [ann.event("private") for _ in range(2)]
            assert [(each["nick"], each["to"], each["text"]) for each in found] == [
                ("bob", "ann", "one"),
                ("bob", "ann", "two"),
            ]
            assert all(before <= each["time"] <= time.time() for each in found)
            # The answer to a ping says that they have arrived.
            ann.ask(type="names")
            ann.event("names")
    with serving(settings) as chat:
        with Plain(url_of(chat, f"/?token={token}")) as ann, Json(url_of(chat, "/dev")) as bob:
            bob.event("welcome")
            # It is there, in another room.
            bob.ask(type="private", to="ann", text="three")
            assert bob.event("private")["to"] == "ann"
            # The first two have not come again.
            assert ann.hear() == f"[PM from {bob.address}] three"


def test_a_hundred_private_messages_wait_at_most(settings: dict[str, Any]) -> None:
    token = token_of("ann", settings)
    with (
        ChatServer(port=0, rate=0, **settings) as chat,
        Json(url_of(chat, "/?nick=bob")) as bob,
    ):
        bob.event("welcome")
        for number in range(101):
            bob.ask(type="private", to="ann", text=str(number))
        for _ in range(100):
            bob.event("done")
        assert bob.event("error")["code"] == "unavailable"
        with Json(url_of(chat, f"/?token={token}")) as ann:
            ann.event("welcome")
            heard = [ann.find("private")["text"] for _ in range(100)]
            assert heard == [str(number) for number in range(100)]


def test_a_person_finds_the_places_on_another_device(settings: dict[str, Any]) -> None:
    token = token_of("ann", settings)
    with serving(settings) as chat:
        with Json(url_of(chat, f"/?token={token}")) as phone:
            epoch = phone.event("welcome")["epoch"]
            with Json(url_of(chat, f"/ops?token={token}")) as laptop:
                welcome = laptop.event("welcome")
                assert "places" not in welcome
                ops = welcome["epoch"]
                phone.ask(type="seen", room="lobby", place=f"{epoch}:7")
                phone.ask(type="seen", room="Lobby", place=f"{epoch}:5")
                phone.ask(type="seen", room="nowhere", place=f"{epoch}:5")
                assert phone.event("error")["code"] == "room"
                laptop.ask(type="seen", room="ops", place=f"{ops}:3")
                laptop.ask(type="names")
                laptop.event("names")
        with Json(url_of(chat, f"/?token={token}")) as tablet:
            assert tablet.event("welcome")["places"] == {"lobby": f"{epoch}:7", "ops": f"{ops}:3"}
    with serving(settings) as chat, Json(url_of(chat, f"/?token={token}")) as phone:
        assert phone.event("welcome")["places"] == {"lobby": f"{epoch}:7", "ops": f"{ops}:3"}


def test_a_line_tells_when_a_private_message_was_sent_that_was_kept() -> None:
    form = LineFormat("{sender}: {text}")
    now = time.time()
    ago = time.strftime("%Y-%m-%d %H:%M", time.localtime(now - 3600))
    for sent, shown in ((now, ""), (now - 3600, f", {ago}")):
        message = PrivateMessage("bob", "ann", "hello", sent)
        assert lines_of(message, form, "ann") == [f"[PM from bob{shown}] hello"]
