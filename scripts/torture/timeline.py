"""A picture of a run: the faults over the deliveries of each half second, as SVG."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from .history import Fault, FaultEnd, Gap, Healed, Line, Record, Seen

__all__ = ["as_svg"]

#: Pixels: the width, the margins, a row of faults, the height of the deliveries.
_WIDTH, _LEFT, _RIGHT, _ROW, _CURVE = 960, 190, 16, 16, 110

#: Seconds of a bar of deliveries.
_STEP = 0.5

_FAULT, _FORGETS, _BAR, _GAP, _HEALED = "#d55e00", "#cc79a7", "#0072b2", "#009e73", "#bbbbbb"


def as_svg(records: Sequence[Record]) -> str:
    """Draw the history: a row for each kind of fault, and below them the deliveries."""
    end = records[-1].at or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT) / end
    names = sorted({record.name for record in records if isinstance(record, Fault)})
    top = 24 + _ROW * len(names)
    height = top + _CURVE + 40
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="11"',
        f'  viewBox="0 0 {_WIDTH} {height}">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        *_axis(end, scale, top),
        *_faults(records, names, scale, end),
        *_deliveries(records, scale, top),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _axis(end: float, scale: float, top: int) -> Iterator[str]:
    step = next(each for each in (1, 5, 10, 30, 60, 300, 600, 3600) if end / each <= 15)
    for second in range(0, int(end) + 1, step):
        x = _LEFT + second * scale
        yield f'<line x1="{x:.1f}" y1="16" x2="{x:.1f}" y2="{top + _CURVE}" stroke="#eeeeee"/>'
        yield f'<text x="{x:.1f}" y="{top + _CURVE + 14}" text-anchor="middle">{second} s</text>'


def _faults(
    records: Sequence[Record], names: Sequence[str], scale: float, end: float
) -> Iterator[str]:
    ends = {each.number: each for each in records if isinstance(each, FaultEnd)}
    for number, name in enumerate(names):
        y = 28 + _ROW * number
        yield f'<text x="{_LEFT - 8}" y="{y}" text-anchor="end">{escape(name)}</text>'
    for record in records:
        if not isinstance(record, Fault):
            continue
        over = ends.get(record.number)
        if over is not None and over.skipped:
            continue
        x = _LEFT + record.at * scale
        width = max(3.0, ((over.at if over else end) - record.at) * scale)
        y = 19 + _ROW * names.index(record.name)
        title = f"{record.name}, {record.target}, {record.at:.1f} s"
        yield (
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_ROW - 5}"'
            f' fill="{_FORGETS if record.forgets else _FAULT}">'
            f"<title>{escape(title)}</title></rect>"
        )


def _deliveries(records: Sequence[Record], scale: float, top: int) -> Iterator[str]:
    counts = Counter(int(each.at / _STEP) for each in records if isinstance(each, Seen | Line))
    most = max(counts.values(), default=1)
    base = top + _CURVE
    for step, count in sorted(counts.items()):
        x, height = _LEFT + step * _STEP * scale, count / most * (_CURVE - 12)
        yield (
            f'<rect x="{x:.1f}" y="{base - height:.1f}" width="{max(0.5, _STEP * scale - 0.5):.1f}"'
            f' height="{height:.1f}" fill="{_BAR}"/>'
        )
    for record in records:
        if isinstance(record, Gap | Healed):
            color, length = (_GAP, 6) if isinstance(record, Gap) else (_HEALED, _CURVE)
            x = _LEFT + record.at * scale
            yield (
                f'<line x1="{x:.1f}" y1="{base}" x2="{x:.1f}" y2="{base - length}"'
                f' stroke="{color}" stroke-dasharray="{"none" if length == 6 else "3 3"}"/>'
            )
    yield f'<text x="{_LEFT - 8}" y="{top + 14}" text-anchor="end">{most / _STEP:.0f} per s</text>'
    yield (
        f'<text x="{_LEFT}" y="{base + 30}">deliveries per second; green: a gap is told;'
        " dashed: all faults are over; violet: a fault that forgets</text>"
    )
