"""The demo's one page as lines of text, and as one line where there is no terminal.  Pure: draws nothing.

Invariant: no line is wider than the page, but for the commands to copy, which wrap and so stay whole.
"""

from __future__ import annotations

import json
from typing import Any, Final

from attrs import frozen

from broker.demo.measure import Summary

BOLD: Final = "\x1b[1m"
DIM: Final = "\x1b[2m"
RED: Final = "\x1b[31m"
GREEN: Final = "\x1b[32m"
CYAN: Final = "\x1b[36m"
PLAIN: Final = "\x1b[0m"

COLUMNS: Final = "  {:<10}{:>11}{:>11}{:>8}{:>8}{:>10}{:>10}{:>10}"
PLACE_COLUMNS: Final = 34
NOTES: Final = (
    "due: what the committed rows call for.  p50, p99: from COMMIT's return to the",
    "simulator until the client has read the message, by one clock.",
)
WAYS: Final = {
    "wal": "from the write-ahead log",
    "outbox": "from an outbox table",
    "listen": "as notifications",
}
"""How rows come, by the feed's kind."""
INVITATION: Final = "  Join in from another terminal"
HINT: Final = "   Ctrl-C here ends and removes everything"


@frozen
class Transport:
    """What one way to clients has delivered, and at which rate (messages per second)."""

    name: str
    summary: Summary
    rate: float


@frozen
class Figures:
    """All that the page shows at one moment."""

    postgres_version: str
    elapsed_s: float
    events: int
    transactions: int
    events_rate: float
    transports: tuple[Transport, ...]
    arrived: tuple[tuple[str, str, str], ...]
    """Latest (transport, topic or channel, text), for a glance."""
    invitations: tuple[str, ...]
    """Commands to copy into another terminal."""
    kind: str = "wal"
    """Of the feed."""
    warning: str = ""
    """The latest line of the log that somebody should look at."""

    def as_json(self) -> dict[str, Any]:
        """Its figures by name, as `--json` prints them."""
        return {
            "elapsed_s": round(self.elapsed_s, 2),
            "events": self.events,
            "transactions": self.transactions,
            "postgres": self.postgres_version,
            **{transport.name.lower(): transport.summary.as_json() for transport in self.transports},
        }


def page(snapshot: Figures, width: int, height: int) -> list[str]:
    """The page for a terminal of that size, without the messages that just arrived if it is too low."""
    heading = _ends(
        "Rowcast demo", f"Postgres {snapshot.postgres_version}   {_clock(snapshot.elapsed_s)}", width
    )
    top = [
        f"{BOLD}{heading}{PLAIN}",
        "",
        _cut("  A simulated exchange commits orders and fills to Postgres.  Rowcast reads them", width),
        _cut(f"  {WAYS[snapshot.kind]}, and sends them to an MQTT and a WebSocket client.", width),
        "",
        *_balance(snapshot, width),
        *(f"{DIM}{_cut('  ' + note, width)}{PLAIN}" for note in NOTES),
    ]
    hint = _cut(HINT, width - len(INVITATION))
    bottom = ["", f"{BOLD}{INVITATION}{PLAIN}{DIM}{hint}{PLAIN}"]
    bottom += [f"  {invitation}" for invitation in snapshot.invitations]
    if snapshot.warning:
        bottom += [f"{RED}{_cut('  ' + snapshot.warning, width)}{PLAIN}"]
    room = height - sum(rows_of(line, width) for line in top + bottom) - 2
    arrived = [_arrival(*arrival, width) for arrival in snapshot.arrived[: max(room, 0)]]
    middle = ["", f"{BOLD}  Just arrived{PLAIN}", *arrived] if arrived else []
    return top + middle + bottom


def report(snapshot: Figures) -> str:
    """One line for a log or a pipe."""
    parts = [f"{_clock(snapshot.elapsed_s)}  {snapshot.events:>8,} events {snapshot.events_rate:>6,.0f}/s"]
    for transport in snapshot.transports:
        summary = transport.summary
        parts.append(
            f"{transport.name} {summary.received:,}/{summary.expected:,}"
            f" lost {summary.lost} twice {summary.duplicated}"
            f" p50 {_latency(summary.p50_s)} p99 {_latency(summary.p99_s)}"
        )
    return "  |  ".join(parts)


def final_words(snapshot: Figures) -> list[str]:
    """What is left on the terminal when the page has gone."""
    return [
        f"{snapshot.events:,} events committed in {snapshot.transactions:,} transactions"
        f" within {snapshot.elapsed_s:.1f} s; stopped and removed.",
        *(
            f"{transport.name}: {transport.summary.received:,} of {transport.summary.expected:,} messages,"
            f" {transport.summary.lost} lost, {transport.summary.duplicated} twice;"
            f" p50 {_latency(transport.summary.p50_s)}, p99 {_latency(transport.summary.p99_s)}"
            for transport in snapshot.transports
        ),
    ]


def json_line(snapshot: Figures, **more: Any) -> str:
    """The snapshot's figures, and `more`, as a line of JSON."""
    return json.dumps({**snapshot.as_json(), **more})


def rows_of(line: str, width: int) -> int:
    """Rows of the terminal that a line takes."""
    return max(1, -(-_visible(line) // width))


def _balance(snapshot: Figures, width: int) -> list[str]:
    committed = (
        f"  committed {snapshot.events:>11,} events in {snapshot.transactions:,} transactions,"
        f" {snapshot.events_rate:,.0f}/s"
    )
    header = COLUMNS.format("", "due", "received", "lost", "twice", "rate", "p50", "p99")
    lines = [_cut(committed, width), "", f"{DIM}{_cut(header, width)}{PLAIN}"]
    for transport in snapshot.transports:
        summary = transport.summary
        line = COLUMNS.format(
            transport.name,
            f"{summary.expected:,}",
            f"{summary.received:,}",
            summary.lost,
            summary.duplicated,
            f"{transport.rate:,.0f}/s",
            _latency(summary.p50_s),
            _latency(summary.p99_s),
        )
        colour = RED if summary.lost or summary.duplicated else GREEN
        lines.append(f"{colour}{_cut(line, width)}{PLAIN}")
        if summary.unexpected:
            lines.append(_cut(f"  {'':<10}{summary.unexpected:>22,} more, of rows that others wrote", width))
    return lines


def _arrival(transport: str, place: str, text: str, width: int) -> str:
    shown = f"{_cut(_shorten(place), PLACE_COLUMNS):<{PLACE_COLUMNS}}"
    rest = _cut(f"  {transport:<11}{shown}  {text}", width)[13 + PLACE_COLUMNS :]
    return f"  {transport:<11}{CYAN}{shown}{PLAIN}{rest}"


def _shorten(topic: str) -> str:
    # Addresses have up to 66 characters, whose ends tell them apart.
    levels = topic.split("/")
    return "/".join(
        f"{level[:6]}…{level[-3:]}" if level.startswith("0x") and len(level) > 12 else level
        for level in levels
    )


def _latency(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.2f} ms"


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"


def _ends(left: str, right: str, width: int) -> str:
    return _cut(f"  {left}{right:>{max(0, width - len(left) - 4)}}", width)


def _cut(text: str, width: int) -> str:
    printable = "".join(character if character.isprintable() else " " for character in text)
    return printable if len(printable) <= width else printable[: width - 1] + "…"


def _visible(line: str) -> int:
    length = len(line)
    for style in (BOLD, DIM, RED, GREEN, CYAN, PLAIN):
        length -= line.count(style) * len(style)
    return length
