#!/usr/bin/env python3
"""Makes the README's picture of a session, from a real server, real clients and a real screen."""

from __future__ import annotations

import html
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import pyte.graphics  # noqa: E402

from tests.processes import ServerScript, Terminal  # noqa: E402

PICTURE = ROOT / "docs" / "session.svg"

COLUMNS, ROWS = 72, 24

#: Pixels: a cell's width and height, the margin around the cells, and the title bar.
WIDTH, HEIGHT, MARGIN, BAR = 8.4, 18, 14, 34

BACKGROUND, FOREGROUND, FRAME = "#16191f", "#d5dae3", "#262b35"
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def main() -> int:
    """Write the picture."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    path.write_text(svg_of(session()), "utf-8")
    print(path)
    return 0


def session() -> list[list[Any]]:
    """Return the cells of one user's screen, in the middle of a conversation."""
    # The emulator has no faint text, so show it as blinking: no text of syncchat blinks.
    pyte.graphics.TEXT[2] = "+blink"
    with ServerScript("--rate", "0") as server:
        url = f"127.0.0.1:{server.port}/kitchen"
        with ExitStack() as stack:
            bob = stack.enter_context(Terminal(url, "--nick", "bob"))
            # Connect one after the other, so that the picture is always the same.
            bob.wait_for_last(".*1 here.*")
            ann = stack.enter_context(Terminal(url, "--nick", "ann", columns=COLUMNS, rows=ROWS))

            def says(who: Terminal, line: str, shown: str) -> None:
                who.type(f"{line}\r")
                for screen in (ann, bob):
                    screen.wait_for_line(shown)

            ann.wait_for_last(".*2 here.*")
            bob.wait_for_last(".*2 here.*")
            says(ann, "bob: is there any bread left?", "ann: bob: .*")
            says(bob, "ann: half a loaf, in the tin behind the flour", "bob: ann: half .*")
            says(bob, "/me puts the kettle on", r"\*\* bob puts .*")
            with Terminal(url, "--nick", "emil") as emil:
                ann.wait_for_line(r" \* emil joined\. .*")
                emil.wait_for_last(".*3 here.*")
                says(
                    emil,
                    "Good morning! I have brought cheese from the market, the one with the"
                    " herbs that everybody liked so much last week.",
                    "emil: Good .*",
                )
                emil.type("/msg ann keep some for Sunday\r")
                ann.wait_for_line(r"\[PM from emil\] .*")
                emil.type("/away back to the market\r")
                ann.wait_for_line(r" \* emil is away: .*")
                ann.type("/names\r")
                ann.wait_for_line("-> 3 connected: .*")
                ann.type("emil: thank you, and b\t")
                ann.wait_for_line("> emil: thank you, and bob")
                ann.wait_for_last(r" kitchen \| ann \| 3 here \| connected \| \d+ ms")
                return ann.screen()[: len(ann.lines())]


def svg_of(rows: Sequence[Sequence[Any]]) -> str:
    """Draw the cells as a window."""
    width = COLUMNS * WIDTH + 2 * MARGIN
    height = len(rows) * HEIGHT + 2 * MARGIN + BAR
    shapes = [shape for row, cells in enumerate(rows) for shape in shapes_of(row, cells)]
    lights = "".join(
        f'<circle cx="{20 + 20 * at}" cy="17" r="6" fill="{colour}"/>'
        for at, colour in enumerate(["#ec6a5e", "#f4bf4f", "#61c454"])
    )
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg"'
        f' viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' font-family="{FONT}" font-size="14">'
    )
    bar = (
        f'<path d="M0 {BAR}V10a10 10 0 0 1 10-10h{width - 20:.0f}'
        f'a10 10 0 0 1 10 10v{BAR - 10}z" fill="{FRAME}"/>'
    )
    title = "<title>A session of syncchat in a terminal</title>"
    window = f'<rect width="100%" height="100%" rx="10" fill="{BACKGROUND}"/>'
    return "\n".join([head, title, window, bar, lights, *shapes, "</svg>", ""])


def shapes_of(row: int, cells: Sequence[Any]) -> Iterator[str]:
    """Yield one row's shapes: a box for each background, a text for each run of one style."""
    top = BAR + MARGIN + row * HEIGHT
    at = 0
    for look, run in groupby(cells, key=lambda cell: cell._replace(data="")):
        text = "".join(cell.data for cell in run)
        left, size = MARGIN + at * WIDTH, len(text) * WIDTH
        at += len(text)
        colour, behind = hexadecimal(look.fg, FOREGROUND), hexadecimal(look.bg, "")
        if look.reverse:
            colour, behind = behind or BACKGROUND, colour
        if behind:
            yield (
                f'<rect x="{left:.1f}" y="{top}" width="{size:.1f}" height="{HEIGHT}"'
                f' fill="{behind}"/>'
            )
        if not text.strip():
            continue
        style = "".join(
            [
                ' font-weight="bold"' if look.bold else "",
                ' font-style="italic"' if look.italics else "",
                ' text-decoration="underline"' if look.underscore else "",
                ' opacity="0.6"' if look.blink else "",
            ]
        )
        yield (
            f'<text x="{left:.1f}" y="{top + 13}" textLength="{size:.1f}" fill="{colour}"{style}'
            f' xml:space="preserve">{html.escape(text)}</text>'
        )


def hexadecimal(colour: str, default: str) -> str:
    """Return a color of the emulator in hexadecimal. Named colors do not occur."""
    return default if colour == "default" else f"#{colour}"


if __name__ == "__main__":
    sys.exit(main())
