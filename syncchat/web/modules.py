"""Joins the modules of the page into one script.

A browser has six connections to a server of HTTP/1.1, so that dozens of modules take it several
round trips; and one text is compressed better than its parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["joined"]

#: The forms of imports and exports that the modules use; a test holds them to these.
_IMPORT = re.compile(r'^import (?:\{.*\} from )?"\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(
    r"^export (?=(?:async )?(?:function|class|const) ([A-Za-z_]\w*))", re.MULTILINE
)

#: What a reader of the modules needs, and a browser does not: comments with lines of their own,
#: blank lines and indentation. No string and no template of the modules has several lines.
_COMMENT = re.compile(r"^[ \t]*(?:/\*.*?\*/[ \t]*|//[^\n]*)$", re.MULTILINE | re.DOTALL)
_SPACE = re.compile(r"\n\s*")


def joined(first: str, read: Callable[[str], str]) -> str:
    """The text of the module ``first`` with all that it imports.

    ``read`` gives the text of a module. Each becomes a function that returns its exports, in the
    order in which a browser would run them (ECMAScript, section 16.2.1.5: what a module imports
    comes before it, and circles are cut). So what it exports has the same name everywhere.
    """
    order: list[str] = []
    texts: dict[str, str] = {}

    def visit(name: str) -> None:
        texts[name] = text = read(name)
        for needed in _IMPORT.findall(text):
            if needed not in texts:
                visit(needed)
        order.append(name)

    visit(first)
    return "".join(map(_scope, (texts[name] for name in order)))


def _scope(text: str) -> str:
    names = ", ".join(_EXPORT.findall(text))
    body = _EXPORT.sub("", _IMPORT.sub("", text))
    body = _SPACE.sub("\n", _COMMENT.sub("", body)).strip()
    exported = f"const {{ {names} }} = " if names else ""
    returned = f"\nreturn {{ {names} }};" if names else ""
    return f"{exported}(() => {{\n{body}{returned}\n}})();\n"
