"""What operators do, on the page: their commands, topics, hidden messages; and personal tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from syncchat import ChatServer, Client
from syncchat.chat.people import add_person
from syncchat.engine import open_records
from tests.peer import PATIENCE
from tests.people import url_of
from tests.web.pages import lines, page_url, say, wait_for_line
from tests.windows import window

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


@contextmanager
def pages(browser: Browser, path: Path) -> Iterator[tuple[ChatServer, Page, Page, str]]:
    """A server, the page of root, who is an operator, that of the guest ann, and root's URL."""
    engine = f"sqlite:{path / 'chat.db'}"
    with closing(open_records(engine)) as records:
        token = add_person(records, "root", operator=True)
        add_person(records, "ed")
    with ChatServer(port=0, engine=engine, greeting="", rate=0) as chat:
        url = page_url(chat, f"/?token={token}")
        # The server knows the name of a person.
        with window(browser, url, None) as root, window(browser, page_url(chat), "ann") as ann:
            root.locator("#state", has_text="root").wait_for()
            assert root.url == page_url(chat)
            yield chat, root, ann, url


def test_commands_of_operators(browser: Browser, tmp_path: Path) -> None:
    with pages(browser, tmp_path) as (chat, root, ann, _):
        say(root, "/topic Tea at four: https://example.org <b>")
        for page in (root, ann):
            wait_for_line(page, "Topic: Tea at four: https://example.org <b> (set by root)")
            assert page.locator("#topic").text_content() == "Tea at four: https://example.org <b>"
            assert page.locator("#topic a").count() == 1
        say(ann, "/topic coffee")
        wait_for_line(ann, "operator")
        ann.locator("#input").fill("")
        say(root, "/read-only on")
        wait_for_line(ann, "root made the room read-only.")
        ann.get_by_placeholder("You cannot speak in this room").wait_for()
        say(root, "/read-only off")
        wait_for_line(ann, "root lets everybody speak again.")
        ann.get_by_placeholder(re.compile("^Message #")).wait_for()
        with Client(url_of(chat), nick="bob") as bob:
            bob.say("hello")
            bob.flush(PATIENCE)
            for line, notice in [
                ("/mute bob 10m", "root muted bob for 10 minutes."),
                ("/unmute bob", "root unmuted bob."),
                ("/op ed", "root made ed an operator of this room."),
                ("/deop ed", "root made ed an ordinary member again."),
                ("/kick bob too loud", "root removed bob: too loud"),
            ]:
                say(root, line)
                wait_for_line(ann, notice)
        # Names and reasons keep their own direction.
        removed = ann.locator("#log > .notice", has_text="root removed bob").locator("bdi")
        assert removed.all_text_contents() == ["root", "bob", "too loud"]
        say(root, "/ban 192.0.2.0/24 2h spam")
        say(root, "/bans")
        wait_for_line(root, "192.0.2.0/24 is banned everywhere until")
        say(root, "/unban 192.0.2.0/24")
        say(root, "/bans")
        wait_for_line(root, "There are no bans.")
        say(root, "/whois root")
        wait_for_line(root, "root has a token of their own and is an operator here.")
        say(root, "/motd Be kind")
        wait_for_line(root, "message of the day")
        ann.reload()
        wait_for_line(ann, "Be kind")
        assert ann.locator("#topic").text_content() == "Tea at four: https://example.org <b>"
        # Who is kicked does not come back.
        say(root, "/kick ann bye")
        ann.locator("#state", has_text="The server closed the connection").wait_for()
        ann.locator("#state", has_text="bye").wait_for()


def test_a_redaction_hides_the_text_everywhere(browser: Browser, tmp_path: Path) -> None:
    with pages(browser, tmp_path) as (chat, root, ann, _):
        for text in ("one", "my secret", "/me has a secret", "two"):
            say(ann, text)
            wait_for_line(root, text.removeprefix("/me "))
        say(ann, "/search secret")
        wait_for_line(ann, "ann: my secret")
        number = root.locator("#log > .said time").nth(1).get_attribute("title") or ""
        assert number.endswith(", message 2")
        hidden = [
            "ann: one",
            "ann: message removed",
            "ann: message removed",
            "ann: two",
        ]
        for offset in (2, 3):
            say(root, f"/redact {offset}")
            for page in (root, ann):
                wait_for_line(page, f"root removed message {offset}.")
        for page in (root, ann):
            assert lines(page) == hidden
            assert "secret" not in (page.locator("#log").text_content() or "")
        # Also for those who come later, and for those who come back.
        ann.reload()
        wait_for_line(ann, "root removed message 3.")
        assert lines(ann)[1] == "ann: message removed"
        assert "secret" not in (ann.locator("#log").text_content() or "")
        with window(browser, page_url(chat), "carla") as carla:
            wait_for_line(carla, "root removed message 3.")
            assert "secret" not in (carla.locator("#log").text_content() or "")


def test_a_person_has_one_place_on_all_devices(browser: Browser, tmp_path: Path) -> None:
    with pages(browser, tmp_path) as (_, root, ann, url):
        say(ann, "one")
        wait_for_line(root, "one")
        with window(browser, url, None) as phone:
            wait_for_line(phone, "one")
            # The same person, shown once.
            phone.get_by_role("button", name="2 here").wait_for()
            say(phone, "from the phone")
            wait_for_line(ann, "root: from the phone")
        root.goto("about:blank")
        say(ann, "two")
        wait_for_line(ann, "two")
        with window(browser, url, None) as tablet:
            wait_for_line(tablet, "1 new message since your last visit.")
            mark = tablet.locator("#log > .mark + .said").text_content() or ""
            assert mark.endswith("ann: two")
