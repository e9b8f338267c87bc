"""Bars on a logarithmic scale as SVG, drawn by hand: no library is worth a dependency for two pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Final

from benchmarks.arithmetic import median
from benchmarks.peers.rowcast import EARLIER
from benchmarks.results import Results
from benchmarks.workloads.catalogue import BY_NAME

_COLOURS: Final = ("#1a7f5a", "#8fc9b0", "#3b6ea8", "#c98a1b", "#b0524a", "#7a5ea8", "#666666")
_LEFT: Final = 340
_WIDTH: Final = 900
_BAR: Final = 13
_HEAD: Final = 64


def draw(results: Results, directory: Path) -> None:
    """Write cpu.svg and latency.svg, and cpu.md, which says the same as the first.

    Earlier versions of Rowcast are left out of what the README shows: its readers ask for other brokers.
    """
    directory.mkdir(parents=True, exist_ok=True)
    shown = {name: title for name, title in _SHOWN.items() if name in results.workloads()}
    peers = _peers(results, shown)
    cpu = [(title, [results.cpu_us(name, peer) for peer in peers]) for name, title in shown.items()]
    title = "Broker CPU per message, in the last row per client, µs (shorter is better)"
    (directory / "cpu.svg").write_text(svg(title, peers, cpu))
    (directory / "cpu.md").write_text(as_text(title, peers, cpu))
    timed = [name for name in ("ping-pong", "paced-100") if name in results.workloads()]
    peers = _peers(results, timed)
    latency = [(BY_NAME[name].title, [_p99(results, name, peer) for peer in peers]) for name in timed]
    (directory / "latency.svg").write_text(svg("p99 latency, µs (shorter is better)", peers, latency))


def _peers(results: Results, workloads: Iterable[str]) -> list[str]:
    """Those that were measured in one of these workloads."""
    others = [peer for peer in results.peers() if not peer.startswith(EARLIER)]
    return [peer for peer in others if any(results.measured(name, peer) for name in workloads)]


Bars = list[tuple[str, list[float | None]]]
"""Per group its title and a value for each series, None where there is none."""


_SHOWN: Final = {
    "burst-1": "1 → 1, publisher batches 200",
    "single-1": "1 → 1, one packet per write",
    "burst-100": "1 → 100",
    "fan-in-100": "100 → 1, one packet per write",
    "qos1-100": "1 → 100, QoS 1",
    "qos2-1": "1 → 1, QoS 2",
    "tls-burst-100": "1 → 100 over TLS, 5 at a time",
    "connect-turn": "a client connects and subscribes",
}
"""What of all the workloads a reader cares about, in few words."""


def as_text(title: str, series: Sequence[str], groups: Bars) -> str:
    """The picture's figures as a table, for who can't see it."""
    lines = [["", *series], ["---", *("---:" for _ in series)]]
    lines += [[name, *("–" if value is None else _number(value) for value in row)] for name, row in groups]
    return f"{title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _number(value: float) -> str:
    """Three digits that matter, and never an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _p99(results: Results, workload: str, peer: str) -> float | None:
    known = [m.latency.p99_us for m in results.measured(workload, peer) if m.latency]
    return median(known) if known else None


def svg(title: str, series: Sequence[str], groups: Bars) -> str:
    """One picture: a group of horizontal bars for each title, a bar for each series that has a value."""
    values = [value for _, row in groups for value in row if value]
    low, high = _decades(values)
    lines, top = [], float(_HEAD)
    groups = [group for group in groups if any(group[1])]
    for name, row in groups:
        shown = [(i, value) for i, value in enumerate(row) if value]
        middle = top + len(shown) * _BAR / 2 + 4
        lines.append(f'<text x="{_LEFT - 8}" y="{middle:.0f}" text-anchor="end">{escape(name)}</text>')
        for i, value in shown:
            length = max(_position(value, low, high) - _LEFT, 1)
            lines.append(
                f'<rect x="{_LEFT}" y="{top:.0f}" width="{length:.1f}" height="{_BAR - 2}" fill="{_colour(i)}"/>'
                f'<text x="{_LEFT + length + 4:.1f}" y="{top + 10:.0f}" class="value">{_number(value)}</text>'
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
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {_WIDTH} {bottom + 24:.0f}">',
        f"<title>{escape(title)}</title>",
        f"<style>{style}</style>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="12" y="22" class="title">{escape(title)}</text>',
        *legend,
        *scale,
        *bars,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
