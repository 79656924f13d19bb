"""Checks the accessibility of a page with axe-core (https://github.com/dequelabs/axe-core)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from tests.web.both import Window

__all__ = ["violations"]

#: WCAG 2.2 at the levels A and AA, and axe-core's best practices.
_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"]


def violations(window: Window) -> list[str]:
    """The rules that the page breaks as it is, each with the first elements that break it."""
    # The script of the driver is not subject to the page's Content-Security-Policy.
    if not window.evaluate("'axe' in window"):
        window.evaluate(f"(() => {{ {_script()}; window.axe = axe; }})()")
    found = window.evaluate(f"axe.run({{runOnly: {_TAGS}}}).then((it) => it.violations)")
    return [
        f"{each['id']} ({each['impact']}): "
        + " | ".join(f"{node['html'][:120]} {node['failureSummary']}" for node in each["nodes"][:3])
        for each in found
    ]


@cache
def _script() -> str:
    # The package's own runner is for Playwright only.
    return files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
