"""Formats the results of a run: for the terminal, for programs, and for docs/benchmarks.md."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

from .registry import COMPILED_FLOOR, FLOOR, OURS
from .rounds import Measured, Outcome, Spread
from .workloads import FIGURES

__all__ = ["as_json", "as_markdown", "as_text"]

#: The lines around the generated block of docs/benchmarks.md.
_BEGIN, _END = "<!-- benchmark -->", "<!-- /benchmark -->"


def as_text(outcome: Outcome) -> str:
    """Format each case with a row per server. ``x`` is how many times better syncchat is."""
    parts = ["\n".join(_head(outcome))]
    parts += ["\n".join(_case_rows(measured)) for measured in outcome.cases]
    legend = (
        f"x: how many times better {OURS} is, the median of the rounds' ratios (and their spread)"
    )
    return "\n\n".join([*parts, legend])


def as_json(outcome: Outcome) -> str:
    """Format every figure of every round, and the ratios."""
    data = asdict(outcome)
    for entry, measured in zip(data["cases"], outcome.cases, strict=True):
        entry["name"] = measured.case.name
        entry["headline"] = measured.headline
        entry["times_better"] = {
            name: ratio and asdict(ratio)
            for name in measured.rounds
            for ratio in [measured.ratio(measured.ours, name, measured.headline)]
        }
    return json.dumps(data, indent=1) + "\n"


def as_markdown(outcome: Outcome, command: str, place: str) -> str:
    """Format the table with the command above it.

    If the file ``place`` already has such a block, returns the file's text with the
    block replaced.
    """
    table = "\n".join(_markdown_lines(outcome, command))
    path = Path(place)
    if place != "-" and path.exists():
        text = path.read_text("utf-8")
        if _BEGIN in text and _END in text:
            between = re.compile(f"(?<={_BEGIN}\n).*?(?={_END})", re.DOTALL)
            return between.sub(lambda _: table + "\n", text)
    return table + "\n"


def _head(outcome: Outcome) -> list[str]:
    lines = [
        f"{outcome.date}, {outcome.machine}",
        "; ".join(f"{name}: {shown}" for name, shown in outcome.versions.items()),
        f"medians of {outcome.rounds} rounds in turn",
    ]
    lines += [f"{name} is skipped: {reason}" for name, reason in outcome.missing.items()]
    return lines


def _case_rows(measured: Measured) -> list[str]:
    shown = [key for key in FIGURES if any(key in r[0] for r in measured.rounds.values())]
    rows = [["", *(FIGURES[key].title for key in shown), "spread %", "x"]]
    for name in measured.rounds:
        headline = measured.spread(name, measured.headline)
        ratio = measured.ratio(measured.ours, name, measured.headline)
        rows.append(
            [
                name,
                *(
                    FIGURES[key].form.format(measured.spread(name, key).median)
                    if key in measured.rounds[name][0]
                    else "-"
                    for key in shown
                ),
                f"{_width(headline):.0f}",
                f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})" if ratio else "-",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{measured.case.name}: {measured.case.describe()}"]
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    lines += [f"{name} is skipped: {reason}" for name, reason in measured.skipped.items()]
    lines += [f"{name} failed: {reason}" for name, reason in measured.failures.items()]
    return lines


def _short(ratio: float) -> str:
    """Format a ratio with two digits, or as an integer from 10 on."""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"


def _width(spread: Spread) -> float:
    """Return the distance between the rounds, in per cent of their median."""
    return (spread.high - spread.low) / spread.median * 100 if spread.median else 0.0


def _markdown_lines(outcome: Outcome, command: str) -> list[str]:
    others = [name for name in outcome.versions if name != OURS]
    # The lower bounds come last.
    others.sort(key=lambda name: name in (FLOOR, COMPILED_FLOOR))
    titles = ["", "figure", OURS, *others]
    lines = [
        "```console",
        f"$ {command}",
        "```",
        "",
        f"| {' | '.join(titles)} |",
        "|---" * len(titles) + "|",
    ]
    lines += [f"| {' | '.join(_markdown_row(measured, others))} |" for measured in outcome.cases]
    lines += [
        "",
        f"A peer's column: how many times better {OURS} is, the median of the rounds' ratios"
        f" and their spread. {outcome.rounds} rounds in turn; {outcome.date}, {outcome.machine}; "
        + "; ".join(outcome.versions.values())
        + ".",
    ]
    for name, reason in outcome.missing.items():
        lines.append(f"Skipped: {name}, {reason}.")
    lines += ["", "<details><summary>Every figure</summary>", "", "```", as_text(outcome), "```"]
    return [*lines, "", "</details>"]


def _markdown_row(measured: Measured, others: list[str]) -> list[str]:
    figure = FIGURES[measured.headline]
    row = [measured.case.name, figure.title]
    if measured.ours in measured.rounds:
        spread = measured.spread(measured.ours, measured.headline)
        row.append(f"**{figure.form.format(spread.median)}**")
    else:
        row.append("failed")
    for name in others:
        ratio = measured.ratio(measured.ours, name, measured.headline)
        if ratio:
            row.append(f"{_short(ratio.median)} ({_short(ratio.low)}-{_short(ratio.high)})")
        else:
            row.append("failed" if name in measured.failures else "-")
    return row
