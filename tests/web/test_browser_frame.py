"""The frame of the page: rooms, people, menus, drawers, settings, and what calls for attention."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from syncchat import ChatServer, Client
from syncchat.chat.people import add_person
from syncchat.engine import open_records
from tests.peer import PATIENCE, wait_for
from tests.people import Plain, url_of
from tests.web.pages import page_url, say, wait_for_line
from tests.windows import window

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.slow

#: The colour in which the system shows what is chosen.
SYSTEM_CHOICE = """() => {
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.backgroundColor = "SelectedItem";
  const { backgroundColor } = getComputedStyle(probe);
  probe.remove();
  return backgroundColor;
}"""


@pytest.fixture(scope="module")
def token_and_chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ChatServer]]:
    """The token of root, an operator, and a server for all tests, each in rooms of its own."""
    engine = f"sqlite:{tmp_path_factory.mktemp('frame') / 'chat.db'}"
    with closing(open_records(engine)) as records:
        token = add_person(records, "root", operator=True)
    with ChatServer(port=0, engine=engine, greeting="", rate=0) as chat:
        yield token, chat


@pytest.fixture
def chat(token_and_chat: tuple[str, ChatServer]) -> ChatServer:
    return token_and_chat[1]


def person(page: Page, nick: str) -> Locator:
    return page.locator("#names").get_by_role("button", name=re.compile(rf"^{nick}\b"))


def choose(page: Page, opener: Locator, item: str) -> None:
    opener.click()
    page.get_by_role("menuitem", name=item).click()


def draft(page: Page) -> str:
    return page.locator("#input").input_value()


def test_the_people_and_what_can_be_done_with_them(
    browser: Browser, token_and_chat: tuple[str, ChatServer]
) -> None:
    token, chat = token_and_chat
    url = url_of(chat, "/people")
    with (
        Client(url, nick="bob") as bob,
        Client(url, nick="carla"),
        window(browser, page_url(chat, f"/people?token={token}"), None) as page,
    ):
        page.get_by_role("heading", name="People — 3").wait_for()
        person(page, "root").get_by_text("you, operator").wait_for()
        bob.send_line("/away lunch")
        away = person(page, "bob").get_by_text("away")
        away.wait_for()
        assert person(page, "bob").get_attribute("title") == "bob is away: lunch"
        bob.send_line("/back")
        away.wait_for(state="detached")
        bob.send_line("/away again")
        page.reload()
        # The server tells only that, not why.
        person(page, "bob").get_by_text("away").wait_for()
        # The menu, by keyboard: it closes, and the focus returns.
        person(page, "bob").press("Enter")
        assert person(page, "bob").get_attribute("aria-expanded") == "true"
        page.keyboard.press("Escape")
        assert person(page, "bob").get_attribute("aria-expanded") == "false"
        assert person(page, "bob").evaluate("each => each === document.activeElement")
        choose(page, person(page, "bob"), "Mention")
        assert draft(page) == "@bob "
        page.locator("#input").fill("")
        choose(page, person(page, "bob"), "Private message")
        page.get_by_placeholder("Private message to bob").wait_for()
        page.get_by_role("button", name="Write to the room again").click()
        choose(page, person(page, "bob"), "Who is this?")
        wait_for_line(page, "bob has been here since")
        choose(page, person(page, "bob"), "Ignore")
        person(page, "bob").get_by_text("ignored").wait_for()
        wait_for_line(page, "You ignore bob now. /unignore bob undoes it.")
        choose(page, person(page, "bob"), "Stop ignoring")
        choose(page, person(page, "bob"), "Mute…")
        page.get_by_label("For how long").select_option("1 hour")
        page.get_by_role("button", name="Mute").click()
        wait_for_line(page, "root muted bob for 1 hour.")
        choose(page, person(page, "bob"), "Unmute")
        wait_for_line(page, "root unmuted bob.")
        choose(page, person(page, "bob"), "Remove from the room…")
        page.get_by_label("Reason").fill("too loud")
        page.get_by_label("Reason").press("Enter")
        wait_for_line(page, "root removed bob: too loud")
        page.get_by_role("heading", name="People — 2").wait_for()
        # The button that had the focus is gone.
        wait_for(lambda: page.evaluate("!!document.activeElement.closest('#names')"))
        choose(page, person(page, "carla"), "Ban…")
        page.get_by_role("button", name="Cancel").click()
        choose(page, person(page, "carla"), "Ban…")
        page.get_by_label("Reason").fill("spam")
        page.get_by_role("button", name="Ban").click()
        wait_for_line(page, "root banned carla for 10 minutes: spam")
        # The menu of the room.
        menu = page.get_by_role("button", name="Room menu")
        choose(page, menu, "Set the topic…")
        page.get_by_label("Text; empty for none").fill("Tea")
        page.get_by_role("button", name="Set", exact=True).click()
        page.locator("#topic", has_text="Tea").wait_for()
        choose(page, menu, "Let only operators speak")
        wait_for_line(page, "root made the room read-only.")
        choose(page, menu, "List the bans")
        wait_for_line(page, "carla is banned")
        page.get_by_role("button", name="Lift the ban of carla").click()
        choose(page, menu, "List the bans")
        wait_for_line(page, "There are no bans.")
        # Without the token, on the next visit.
        page.get_by_role("button", name="Settings").click()
        page.get_by_role("button", name="Forget the token").click()
        page.get_by_label("Your name").fill("ann")
        page.get_by_role("button", name="Join", exact=True).click()
        person(page, "ann").get_by_text("you").wait_for()
        person(page, "ann").click()
        assert page.get_by_role("menuitem").all_text_contents() == ["Mention", "Who is this?"]


def test_many_people_can_be_searched(browser: Browser, chat: ChatServer) -> None:
    with ExitStack() as stack, window(browser, page_url(chat, "/crowd"), "ann") as page:
        assert not page.get_by_label("Find a person").is_visible()
        for number in range(31):
            stack.enter_context(Plain(url_of(chat, f"/crowd?nick=guest{number}")))
        page.get_by_role("heading", name="People — 32").wait_for()
        page.get_by_label("Find a person").fill("GUEST30")
        wait_for(lambda: page.locator("#names .nick").all_text_contents() == ["guest30"])
        page.get_by_label("Find a person").fill("nobody")
        page.get_by_text("Nobody of that name is here.").wait_for()


def test_the_switcher_finds_rooms_and_people(browser: Browser, chat: ChatServer) -> None:
    with (
        Client(url_of(chat, "/orchard"), nick="bob"),
        Client(url_of(chat, "/start"), nick="orla"),
        window(browser, page_url(chat, "/start"), "ann") as page,
    ):
        heading = page.get_by_role("heading", level=1)
        options = page.get_by_role("option")
        page.keyboard.press("Control+K")
        field = page.get_by_role("combobox", name="Go to a room")
        field.fill("or")
        page.get_by_role("option", name="#orchard 1 here").wait_for()
        assert options.all_text_contents() == [
            "#orchard1 here", "orlaprivate message", "#orjoin or create the room",
        ]  # fmt: skip
        field.press("ArrowUp")
        field.press("ArrowUp")
        assert field.get_attribute("aria-activedescendant") == options.nth(1).get_attribute("id")
        field.press("Enter")
        page.get_by_placeholder("Private message to orla").wait_for()
        page.get_by_role("button", name="Write to the room again").click()
        page.get_by_role("button", name="+ Join a room").click()
        field.fill("#Garden")
        field.press("Enter")
        heading.get_by_text("garden").wait_for()
        for room in ("orchard", "start"):
            page.keyboard.press("Meta+K")
            field.fill(room)
            page.get_by_role("option", name=re.compile(rf"^#{room}\b")).first.click()
            heading.get_by_text(room).wait_for()
        # The last one comes first.
        page.get_by_role("button", name="Go to…").click()
        assert options.all_text_contents()[:2] == ["#orchard", "#garden"]
        page.keyboard.press("Escape")
        assert page.get_by_role("button", name="Go to…").evaluate(
            "each => each === document.activeElement"
        )
        # The menu of a room.
        chat.say("ripe", room="orchard")
        orchard = page.get_by_role("button", name="orchard 1 unread")
        orchard.hover()
        choose(page, page.get_by_role("button", name="Menu of orchard"), "Mark as read")
        orchard.wait_for(state="detached")
        choose(page, page.get_by_role("button", name="Menu of orchard"), "Leave the room")
        page.get_by_role("button", name="Menu of orchard").wait_for(state="detached")


def test_the_columns_are_drawers_on_a_phone(browser: Browser, chat: ChatServer) -> None:
    with window(browser, page_url(chat, "/phone"), "ann", 390, 844, phone=True) as page:
        rooms, people = page.get_by_role("navigation"), page.get_by_role("complementary")
        open_rooms, open_people = page.locator("#rooms-open"), page.locator("#who")

        def expanded() -> list[str | None]:
            return [each.get_attribute("aria-expanded") for each in (open_rooms, open_people)]

        assert expanded() == ["false", "false"]
        assert not rooms.is_visible()
        open_rooms.tap()
        assert expanded() == ["true", "false"]
        assert rooms.evaluate("each => each.contains(document.activeElement)")
        others = page.locator("main, header, #people")
        assert others.evaluate_all("all => all.every((each) => each.inert)")
        page.keyboard.press("Escape")
        assert expanded() == ["false", "false"]
        assert open_rooms.evaluate("each => each === document.activeElement && !each.inert")
        open_people.tap()
        assert expanded() == ["false", "true"]
        page.touchscreen.tap(10, 400)
        assert not people.is_visible()
        assert page.locator("[inert]").count() == 0
        open_people.tap()
        people.get_by_role("button", name="Close the people").tap()
        assert not people.is_visible()
        # A choice closes the drawer.
        open_people.tap()
        choose(page, person(page, "ann"), "Mention")
        assert draft(page) == "@ann "
        assert page.locator("#input").evaluate("each => each === document.activeElement")
        say(page, "/join phone2")
        page.get_by_role("heading", name="phone2").wait_for()
        chat.say("ring", room="phone")
        page.get_by_role("button", name="Rooms, 1 unread").tap()
        rooms.get_by_role("button", name=re.compile("^phone 1 unread")).tap()
        page.get_by_role("heading", name="phone", exact=True).wait_for()
        assert not rooms.is_visible()
        # Targets of 44 px, and nothing to scroll sideways, also in 320 px and in landscape.
        for width, height in ((320, 568), (390, 844), (844, 390), (320, 256)):
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            for opener in (open_rooms, open_people):
                opener.tap()
                small = page.locator("header button, nav button, aside button").evaluate_all(
                    """all => all.filter((each) => {
                      const { offsetWidth, offsetHeight } = each;
                      return offsetWidth && (offsetWidth < 44 || offsetHeight < 44);
                    }).map((each) => each.outerHTML)"""
                )
                assert small == []
                page.keyboard.press("Escape")
        # A drawer that is open when the window grows is a column.
        open_people.tap()
        page.set_viewport_size({"width": 1280, "height": 800})
        wait_for(lambda: expanded()[1] == "true")
        assert page.locator("[inert]").count() == 0
        open_people.click()
        assert expanded()[1] == "false"
        assert not people.is_visible()
        page.set_viewport_size({"width": 390, "height": 844})
        wait_for(lambda: expanded() == ["false", "false"])


def test_a_mention_calls_a_user_who_looks_elsewhere(browser: Browser, chat: ChatServer) -> None:
    with window(browser, page_url(chat, "/bells"), "ann") as page:
        offer = page.get_by_role("region", name="Notifications")
        icon = page.locator("#icon")
        say(page, "/join tower")
        page.get_by_role("heading", name="tower").wait_for()
        page.evaluate(
            """() => {
              window.rung = 0;
              window.shown = [];
              const start = OscillatorNode.prototype.start;
              OscillatorNode.prototype.start = function (at) { rung += 1; start.call(this, at); };
              window.Notification = class extends Notification {
                constructor(title, options) { super(title, options); shown.push(this); }
              };
              document.hasFocus = () => false;
            }"""
        )
        chat.say("nothing special", room="tower")
        wait_for(lambda: page.title() == "(1) tower")
        assert icon.get_attribute("href") == "-/icon.svg"
        assert not offer.is_visible()
        chat.say("Ann, look", room="bells")
        offer.wait_for()
        assert page.title() == "(2) tower"
        assert icon.get_attribute("href") == "-/icon-unread.svg"
        page.context.grant_permissions(["notifications"])
        offer.get_by_role("button", name="Turn on").click()
        offer.wait_for(state="detached")
        page.evaluate("dispatchEvent(new Event('focus'))")
        assert (page.title(), icon.get_attribute("href")) == ("tower", "-/icon.svg")
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Words that count as mentions").fill("bread, C++")
        page.get_by_label("Sound").select_option("For mentions and private messages")
        page.keyboard.press("Escape")
        with Client(url_of(chat, "/tower"), nick="bob") as bob:
            bob.say("breadth first")
            bob.say("who knows C++?")
            bob.flush(PATIENCE)
            bob.send_line("/msg ann psst")
            wait_for(lambda: page.evaluate("shown.length") == 2)
        chat.say("ann: the last", room="bells")
        wait_for(lambda: page.evaluate("shown.length") == 3)
        assert page.evaluate("shown.map(({ title, body }) => [title, body])") == [
            ["bob in tower", "who knows C++?"],
            ["bob", "psst"],
            ["server in bells", "ann: the last"],
        ]
        # Two tones for the choice of the sound, and for each of the three.
        assert page.evaluate("rung") == 8
        assert len(set(page.evaluate("shown.map(({ tag }) => tag)"))) == 3
        page.evaluate("shown[2].dispatchEvent(new Event('click'))")
        page.get_by_role("heading", name="bells").wait_for()
        wait_for_line(page, "ann: the last")
        assert page.url == page_url(chat, "/bells#2")


def test_the_settings_are_kept_for_all_tabs(browser: Browser, chat: ChatServer) -> None:
    with window(browser, page_url(chat, "/set"), "ann") as page:

        def looks(each: Page) -> list[str]:
            looks: list[str] = each.evaluate(
                """() => [getComputedStyle(document.body).backgroundColor,
                  ...Array.from(document.querySelectorAll("meta[name=theme-color]"),
                                ({ content }) => content)]"""
            )
            return looks

        light, dark = "rgb(255, 255, 255)", "rgb(20, 23, 28)"
        page.emulate_media(color_scheme="dark")
        assert looks(page) == [dark, "#ffffff", "#14171c"]
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Light").check()
        assert looks(page) == [light, "#ffffff", "#ffffff"]
        other = page.context.new_page()
        other.emulate_media(color_scheme="dark")
        other.goto(page_url(chat, "/set"))
        assert looks(other) == [light, "#ffffff", "#ffffff"]
        page.get_by_label("Dark").check()
        page.emulate_media(color_scheme="light")
        wait_for(lambda: looks(other) == [dark, "#14171c", "#14171c"])
        other.close()
        page.get_by_label("As the system").check()
        assert looks(page) == [light, "#ffffff", "#14171c"]
        page.get_by_label("Show the time").uncheck()
        assert page.evaluate("localStorage['syncchat.set.times']") == "false"
        page.get_by_role("heading", name="Keyboard shortcuts").wait_for()
        page.get_by_label("Your nick", exact=True).fill("anna")
        page.get_by_role("button", name="Change").click()
        person(page, "anna").get_by_text("you").wait_for()
        assert page.get_by_role("button", name="Settings").evaluate(
            "each => each === document.activeElement"
        )


def test_without_a_connection_nobody_is_said_to_be_here(browser: Browser) -> None:
    """Issue 20, defect 12."""
    with ExitStack() as stack:
        with ChatServer(port=0, greeting="") as chat:
            page = stack.enter_context(window(browser, page_url(chat), "ann"))
            page.get_by_role("button", name="1 here").wait_for()
            # The system's own colours: the chosen room and the chosen entry differ (defect 13).
            page.emulate_media(forced_colors="active")
            page.get_by_role("button", name="Menu of lobby").click()
            chosen = page.locator(":focus[role=menuitem], #followed .room").evaluate_all(
                "all => all.map((each) => getComputedStyle(each).backgroundColor)"
            )
            assert chosen == 2 * [page.evaluate(SYSTEM_CHOICE)]
            page.keyboard.press("Escape")
            # On paper, only the messages.
            chat.say("hello")
            wait_for_line(page, "hello")
            page.emulate_media(media="print", forced_colors="none", color_scheme="dark")
            for hidden in ("#rooms", "#people", "#composer", "#state"):
                assert not page.locator(hidden).is_visible(), hidden
            assert page.locator("#log").is_visible()
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
                "rgb(255, 255, 255)"
            )
            page.emulate_media(media="screen")
        page.get_by_role("button", name="People", exact=True).wait_for()
        wait_for(lambda: page.locator("#names > li").count() == 0)
        assert not page.get_by_text("1 here").is_visible()
        page.get_by_role("heading", name="People", exact=True).wait_for()
