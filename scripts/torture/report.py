"""The results of a run: a table, a report in Markdown, and a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .checker import RULES, Violation, excerpt
from .history import Acked, Begin, Gap, Record, Refused
from .runner import Outcome
from .timeline import as_svg

__all__ = ["Report", "as_text", "write_report"]


@dataclass(frozen=True)
class Report:
    """A run, and what the checker says of it."""

    command: str
    records: Sequence[Record]
    violations: Sequence[Violation]
    outcome: Outcome


def _figures(report: Report) -> list[tuple[str, str]]:
    """The rows of the summary."""
    kinds = Counter(type(record) for record in report.records)
    recoveries = report.outcome.recoveries or [0.0]
    begin = report.records[0]
    assert isinstance(begin, Begin)
    faults = ", ".join(f"{count} {name}" for name, count in sorted(report.outcome.faults.items()))
    return [
        ("engine, nodes", f"{begin.engine}, {begin.nodes}"),
        ("seconds", f"{report.records[-1].at:.0f}"),
        ("faults", f"{sum(report.outcome.faults.values())}: {faults}"),
        ("messages sent", str(report.outcome.messages)),
        ("acknowledgements", str(kinds[Acked])),
        ("refused", str(kinds[Refused])),
        ("deliveries", str(report.outcome.deliveries)),
        ("gaps told", str(kinds[Gap])),
        ("recovery, median and worst", _seconds(recoveries)),
        ("violations", str(len(report.violations))),
    ]


def _seconds(recoveries: Sequence[float]) -> str:
    return f"{sorted(recoveries)[len(recoveries) // 2]:.1f} s, {max(recoveries):.1f} s"


def as_text(report: Report) -> str:
    """The summary as a table for the terminal."""
    rows = _figures(report)
    width = max(len(name) for name, _ in rows)
    broken = Counter(violation.rule for violation in report.violations)
    lines = [f"{name:<{width}}  {figure}" for name, figure in rows]
    lines += [f"rule {rule} broken {count} times: {RULES[rule]}" for rule, count in broken.items()]
    return "\n".join(lines)


def write_report(report: Report, path: Path) -> None:
    """Write the report in Markdown to ``path``, and its picture beside it."""
    picture = path.with_suffix(".svg")
    picture.write_text(as_svg(report.records), "utf-8")
    lines = ["# Torture test", "", "```console", f"$ {report.command}", "```", ""]
    lines += [f"![Faults over deliveries]({picture.name})", ""]
    lines += [
        "| | |",
        "|---|---|",
        *(f"| {name} | {text} |" for name, text in _figures(report)),
        "",
    ]
    broken = Counter(violation.rule for violation in report.violations)
    lines += ["| rule | | violations |", "|---|---|---|"]
    lines += [f"| {rule} | {text} | {broken[rule]} |" for rule, text in RULES.items()]
    for violation in report.violations[:10]:
        lines += ["", f"Rule {violation.rule}: {violation.text}", "", "```json"]
        lines += [excerpt(report.records, violation), "```"]
    path.write_text("\n".join(lines) + "\n", "utf-8")
