"""Fixtures of the tests of the terminal client."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def settings_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of the user who runs the tests."""
    for name in ("NO_COLOR", "COLORTERM", "PROMPT_TOOLKIT_COLOR_DEPTH"):
        monkeypatch.delenv(name, raising=False)
