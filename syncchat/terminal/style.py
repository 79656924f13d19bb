"""Colors that are readable on dark and on light backgrounds, and the choice of color depth."""

from __future__ import annotations

import os
from hashlib import sha1

from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Style

__all__ = ["COLOR_CHOICES", "STYLE", "color_depth", "style_of"]

#: Those of the usual 256 terminal colors that have a contrast of at least 3:1 (WCAG
#: 2.2, 1.4.11) to black, to white, and to the backgrounds of common themes.
_NICKS = (
    "#af5f5f", "#d75f5f", "#d75f00", "#af5f00", "#878700", "#5f8700", "#008700", "#00875f",
    "#008787", "#0087af", "#0087d7", "#5f87af", "#5f87d7", "#5f5fff", "#875fff", "#875fd7",
    "#af5fff", "#af5fd7", "#af5faf", "#d700af", "#d75faf", "#d75f87",
)  # fmt: skip

STYLE = Style.from_dict(
    {
        "notice": "dim",
        "time": "dim",
        "waiting": "dim italic",
        "warning": "#d75f00",
        "private": "#af5faf",
        "mention": "bold reverse",
        "match": "bold underline",
        "prompt": "bold",
        "question": "bold #d75f00",
        "toolbar": "reverse",
        "toolbar.warning": "bold",
        "candidate.current": "bold underline",
    }
)

COLOR_CHOICES = ("auto", "always", "never")


def style_of(nick: str) -> str:
    """Return the style of a nick. It depends only on the nick, ignoring case."""
    digest = sha1(nick.casefold().encode("utf-8", "replace"), usedforsecurity=False).digest()
    return _NICKS[int.from_bytes(digest[:4]) % len(_NICKS)]


def color_depth(choice: str) -> ColorDepth | None:
    """Return the color depth for one of ``COLOR_CHOICES``; None: let prompt_toolkit decide.

    In that case, prompt_toolkit obeys ``NO_COLOR`` (no-color.org).
    """
    if choice == "never":
        return ColorDepth.MONOCHROME
    if choice == "always":
        true_color = os.environ.get("COLORTERM") in ("truecolor", "24bit")
        return ColorDepth.TRUE_COLOR if true_color else ColorDepth.DEFAULT
    return None
