"""Bars on a logarithmic scale as SVG, drawn by hand: no library is worth a dependency for two pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Final

from benchmarks.arithmetic import median
from benchmarks.results import Results
from benchmarks.workloads.catalogue import BY_NAME

_COLOURS: Final = ("#1a7f5a", "#8fc9b0", "#3b6ea8", "#c98a1b", "#b0524a", "#7a5ea8", "#666666")
_LEFT: Final = 290
_WIDTH: Final = 900
_BAR: Final = 13
_HEAD: Final = 64


def draw(results: Results, directory: Path) -> None:
    """Write cpu.svg and latency.svg."""
    directory.mkdir(parents=True, exist_ok=True)
    cpu = _bars(
        results, lambda workload, peer: results.cpu_us(workload, peer), skip={"start-up", "idle", "ws-idle"}
    )
    latency = _bars(
        results, lambda workload, peer: _p99(results, workload, peer), only={"ping-pong", "paced-100"}
    )
    (directory / "cpu.svg").write_text(
        svg("Broker CPU per message, µs (shorter is better)", results.peers(), cpu)
    )
    (directory / "latency.svg").write_text(
        svg("p99 latency, µs (shorter is better)", results.peers(), latency)
    )


Bars = list[tuple[str, list[float | None]]]
"""Per group its title and a value for each series, None where there is none."""


def _bars(
    results: Results,
    value_of: Callable[[str, str], float | None],
    skip: set[str] | None = None,
    only: set[str] | None = None,
) -> Bars:
    names = [name for name in BY_NAME if name in results.workloads()]
    names = [name for name in names if name not in (skip or set()) and (only is None or name in only)]
    return [(BY_NAME[name].title, [value_of(name, peer) for peer in results.peers()]) for name in names]


def _p99(results: Results, workload: str, peer: str) -> float | None:
    known = [m.latency.p99_us for m in results.measured(workload, peer) if m.latency]
    return median(known) if known else None


def svg(title: str, series: Sequence[str], groups: Bars) -> str:
    """One picture: a group of horizontal bars for each title, a bar for each series that has a value."""
    values = [value for _, row in groups for value in row if value]
    low, high = _decades(values)
    lines, top = [], float(_HEAD)
    for name, row in groups:
        shown = [(i, value) for i, value in enumerate(row) if value]
        middle = top + len(shown) * _BAR / 2 + 4
        lines.append(f'<text x="{_LEFT - 8}" y="{middle:.0f}" text-anchor="end">{escape(name)}</text>')
        for i, value in shown:
            length = max(_position(value, low, high) - _LEFT, 1)
            lines.append(
                f'<rect x="{_LEFT}" y="{top:.0f}" width="{length:.1f}" height="{_BAR - 2}" fill="{_colour(i)}"/>'
                f'<text x="{_LEFT + length + 4:.1f}" y="{top + 10:.0f}" class="value">{value:.3g}</text>'
            )
            top += _BAR
        top += 9
    return _picture(title, series, lines, _scale(low, high, top), top)


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten that enclose all values."""
    if not values:
        return 0, 1
    low = math.floor(math.log10(min(values)))
    return low, max(math.ceil(math.log10(max(values))), low + 1)


def _position(value: float, low: int, high: int) -> float:
    return _LEFT + (math.log10(value) - low) / (high - low) * (_WIDTH - _LEFT - 60)


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _scale(low: int, high: int, bottom: float) -> list[str]:
    lines = []
    for power in range(low, high + 1):
        x = _position(10.0**power, low, high)
        lines.append(f'<line x1="{x:.1f}" y1="{_HEAD - 6}" x2="{x:.1f}" y2="{bottom:.0f}" stroke="#dddddd"/>')
        lines.append(
            f'<text x="{x:.1f}" y="{bottom + 14:.0f}" text-anchor="middle" class="value">{10.0**power:g}</text>'
        )
    return lines


def _picture(title: str, series: Sequence[str], bars: list[str], scale: list[str], bottom: float) -> str:
    legend, x = [], 12
    for i, name in enumerate(series):
        legend.append(f'<rect x="{x}" y="34" width="11" height="11" fill="{_colour(i)}"/>')
        legend.append(f'<text x="{x + 16}" y="44">{escape(name)}</text>')
        x += 34 + 7 * len(name)
    style = "text{font:12px sans-serif;fill:#222} .value{font-size:10px;fill:#555} .title{font-size:15px}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + 24:.0f}">',
        f"<style>{style}</style>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="12" y="22" class="title">{escape(title)}</text>',
        *legend,
        *scale,
        *bars,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
