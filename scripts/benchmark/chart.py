"""Draws the results of a run as a bar chart of the ratios."""

from __future__ import annotations

import pygal
from pygal.style import Style

from .registry import COMPILED_FLOOR, FLOOR, OURS
from .rounds import Outcome

__all__ = ["as_svg"]

_STYLE = Style(
    background="white",
    plot_background="white",
    font_family="sans-serif",
    colors=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#555555"),
)


def as_svg(outcome: Outcome) -> str:
    """Draw how many times better syncchat is: a group of bars per workload, a bar per peer."""
    chart = pygal.HorizontalBar(
        style=_STYLE,
        js=(),
        logarithmic=True,
        title=f"How many times better {OURS} is ({outcome.date})",
        legend_at_bottom=True,
        truncate_legend=-1,
        print_values=True,
        # Bars begin at 1: to the right if syncchat is better, to the left if not.
        zero=1,
        height=180 + 150 * len(outcome.cases),
        width=900,
    )
    # pygal draws from the bottom, so this puts the first case at the top.
    cases = outcome.cases[::-1]
    chart.x_labels = [measured.case.name for measured in cases]
    for name in outcome.versions:
        if name not in (OURS, FLOOR, COMPILED_FLOOR):
            ratios = [m.ratio(OURS, name, m.headline) for m in cases]
            chart.add(name, [ratio and round(ratio.median, 2) for ratio in ratios])
    rendered: str = chart.render(is_unicode=True)
    return rendered
