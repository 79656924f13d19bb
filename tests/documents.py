"""The documents as data: their fenced blocks, and the rows of their tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ROOT

__all__ = [
    "ALL_DOCUMENTS",
    "DOCS",
    "DOCUMENTS",
    "README",
    "Block",
    "blocks_of",
    "codes_in",
    "prose_of",
    "rows_of",
]

README, DOCS = ROOT / "README.md", ROOT / "docs"
#: The documents whose examples are run.
DOCUMENTS = [README, *sorted(DOCS.glob("*.md"))]
ALL_DOCUMENTS = [*DOCUMENTS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]

_FENCE = re.compile(r"^```(\w+)?([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, and the words of its first line."""

    place: str
    language: str
    words: frozenset[str]
    text: str


def blocks_of(path: Path) -> Iterator[Block]:
    text = path.read_text("utf-8")
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        place = f"{path.relative_to(ROOT)}:{line}"
        yield Block(place, found[1] or "", frozenset((found[2] or "").split()), found[3])


def prose_of(path: Path) -> str:
    """The document without its fenced blocks."""
    return _FENCE.sub("", path.read_text("utf-8"))


def rows_of(path: Path, heading: str | None = None) -> list[list[str]]:
    """The cells of every table row of a document, or of one section of it; without head rows."""
    text = prose_of(path)
    if heading is not None:
        _, _, text = text.partition(f"\n{heading}\n")
        level = len(heading.split(" ", 1)[0])
        text = re.split(rf"^#{{1,{level}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]
    rows = []
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if not line.startswith("|") or line.startswith("|--"):
            continue
        if at + 1 < len(lines) and lines[at + 1].startswith("|--"):
            continue
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        rows.append([cell.strip().replace("\\|", "|") for cell in cells])
    return rows


def codes_in(cell: str) -> list[str]:
    """The texts in backticks."""
    return re.findall(r"`([^`]*)`", cell)
