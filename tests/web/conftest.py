"""The browsers for the tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.web.both import AnyBrowser
from tests.web.firefox import FIREFOX, run_firefox
from tests.windows import CHROMIUM, FLAGS

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: Debian's package of that name has it")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install '.[test]'")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=["chromium", "firefox"])
def any_browser(request: pytest.FixtureRequest) -> Iterator[AnyBrowser]:
    """Each browser after the other."""
    if request.param == "chromium":
        yield AnyBrowser(request.getfixturevalue("browser"))
    elif FIREFOX is None:
        pytest.skip("there is no Firefox: Debian's package firefox-esr has it")
    else:
        with run_firefox() as firefox:
            yield AnyBrowser(firefox)
