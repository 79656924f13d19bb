"""The colours of the page can be told apart (WCAG 2.2, 1.4.3 and 1.4.11)."""

from __future__ import annotations

import re

import pytest

from tests.processes import ROOT

_STYLE = (ROOT / "syncchat" / "web" / "page" / "style.css").read_text("utf-8")
_GROUNDS = ("ground", "raised", "hover", "mark")
_INKS = ("text", "faint", "accent", "alarm", *(f"nick-{number}" for number in range(16)))
#: Texts need 4.5:1, borders and signs 3:1. What lies on what:
_TEXTS = [
    *((text, ground) for text in _INKS for ground in _GROUNDS),
    ("on-accent", "accent"),
    # The number of unread messages.
    ("raised", "faint"),
]
_SIGNS = [(sign, ground) for sign in ("edge", "ok", "accent") for ground in ("ground", "raised")]


def palette(css: str) -> list[dict[str, str]]:
    """The light and the dark colours of a rule, by name."""
    pairs = re.findall(r"--([a-z0-9-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", css)
    return [{name: pair[theme] for name, *pair in pairs} for theme in (0, 1)]


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, two: str) -> float:
    dark, light = sorted((luminance(one), luminance(two)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("more", [False, True], ids=["usual", "more contrast"])
def test_texts_and_signs_stand_out_in_both_themes(more: bool) -> None:
    usual, increased = _STYLE.split("@media (prefers-contrast: more)", 1)
    themes = palette(usual)
    assert len(themes[0]) >= 27
    if more:
        increased = increased.split("\n}", 1)[0]
        themes = [
            theme | changed for theme, changed in zip(themes, palette(increased), strict=True)
        ]
    for theme in themes:
        for pairs, least in ((_TEXTS, 4.5), (_SIGNS, 3.0)):
            for one, two in pairs:
                assert contrast(theme[one], theme[two]) >= least, (one, two, theme)


def test_the_browser_is_told_the_colours_of_the_style_sheet() -> None:
    grounds = [theme["ground"] for theme in palette(_STYLE.split("@media", 1)[0])]
    page = ROOT / "syncchat" / "web" / "page"
    told = re.findall(r'theme-color" content="(#\w+)', (page / "index.html").read_text("utf-8"))
    switched = re.findall(r'"(#\w{6})"', (page / "theme.js").read_text("utf-8"))
    assert grounds == told == switched
