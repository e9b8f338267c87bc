"""RESULTS.md from results: what was not reached first, then the verdicts, then every table."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.arithmetic import Latency, Spread, median, ratios, spread
from benchmarks.goals import INTERPRETED, OURS, THEIRS, Verdict, verdicts
from benchmarks.measurement import Measurement
from benchmarks.peers.rowcast import EARLIER
from benchmarks.results import Results
from benchmarks.workloads.catalogue import BY_NAME

NOTICED: Final = 1.03
"""A row that takes so many times as much CPU as before is named."""
HERE: Final = Path(__file__).parent
FINDINGS: Final = HERE / "findings.toml"
"""What the profile showed for goals that are not reached, by the goal's key, written by hand."""

Cell = Callable[[list[Measurement]], str]
Figure = Callable[[Measurement], float | None]
_COMPARED: Final[dict[str, Figure]] = {
    "CPU per message": lambda measured: measured.cpu_us,
    "p50": lambda measured: measured.latency.p50_us if measured.latency else None,
    "bytes per connection": lambda measured: measured.bytes_per_connection,
}


def render(results: Results) -> str:
    judged = verdicts(results)
    parts = [
        "# Results",
        _first_table(results),
        _summary(judged),
        _disturbance(results),
        _circumstances(results),
        *(_since(results, peer) for peer in results.peers() if peer.startswith(EARLIER)),
        "## Verdicts",
        _verdict_table(judged),
        "## Throughput and broker CPU",
        "Messages delivered per second, and microseconds of the broker's CPU for each; medians of the rounds. "
        "**g**: the generator was busy all the time and the broker was not, so the rate is a lower bound. "
        "**d**: neither was busy, because something else took the cores; read the CPU figure.",
        _peer_table(results, _rates, _rows(results)),
        "![CPU per message](plots/cpu.svg)",
        "## Ratios",
        "How many times as good as the peer Rowcast is in the same round: rate, then CPU per message; "
        "median (lowest – highest).",
        _ratio_table(results),
        "## Latency",
        "p50 / p99 / p99.9 in µs, from writing a group of messages until everybody has all of it. "
        "In a closed loop at full speed that is mostly the queue; ping-pong and the paced row show the broker itself.",
        _peer_table(results, _latencies, _rows(results)),
        "![Latency](plots/latency.svg)",
        "## Memory, starts and other figures",
        _peer_table(results, _others, _rows(results)),
        _micro_table(results),
        _failures(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _rows(results: Results) -> list[str]:
    return [name for name in BY_NAME if name in results.workloads()]


def _rivals(results: Results) -> list[str]:
    """The peers that are no Rowcast, of whatever version."""
    return [
        peer for peer in results.peers() if peer not in {OURS, INTERPRETED} and not peer.startswith(EARLIER)
    ]


def _first_table(results: Results) -> str:
    """CPU per message beside Mosquitto's, what is behind it first; and what the others take."""
    others = [peer for peer in _rivals(results) if peer != THEIRS]
    rows: list[tuple[float, list[str]]] = []
    for workload in _rows(results):
        ratio = results.cpu_ratio(workload, OURS, THEIRS)
        if ratio is None:
            continue
        share = 1 / ratio.median
        figures = [_number(results.cpu_us(workload, peer)) for peer in (OURS, THEIRS, *others)]
        shown = f"**{_number(share)}**" if share > 1 else _number(share)
        rows.append((share, [BY_NAME[workload].title, shown, *figures]))
    if not rows:
        return ""
    rows.sort(key=lambda row: -row[0])
    said = (
        f"The broker's CPU per message in µs, and {OURS}'s as a share of {THEIRS}'s in the same rounds: "
        "what is behind comes first, in bold."
    )
    table = _table(["workload", f"share of {THEIRS}'s", OURS, THEIRS, *others], [row for _, row in rows])
    return f"{said}\n\n{table}"


def _since(results: Results, before: str) -> str:
    """What became of each row since an earlier version: what takes more CPU now comes first."""
    rows: list[tuple[float, list[str]]] = []
    for workload in _rows(results):
        shares = [_share(results, workload, before, figure) for figure in _COMPARED.values()]
        if shares[0] is not None:
            cells = ["–" if share is None else _marked(share) for share in shares]
            rows.append((shares[0].median, [BY_NAME[workload].title, *cells]))
    if not rows:
        return ""
    rows.sort(key=lambda row: -row[0])
    more = sum(share > NOTICED for share, _ in rows)
    said = (
        "This version by the earlier one in the same round, median (lowest – highest); more than "
        f"{NOTICED:g} is in bold: {more} of {len(rows)} rows by CPU."
    )
    return f"## Beside {before}\n\n{said}\n\n" + _table(["workload", *_COMPARED], [row for _, row in rows])


def _share(results: Results, workload: str, before: str, figure: Figure) -> Spread | None:
    """Ours by the earlier version's, of a figure that is better when smaller."""
    each = [
        [None if measured is None else figure(measured) for measured in results.of(workload, peer)]
        for peer in (OURS, before)
    ]
    return spread(ratios(*each))


def _marked(share: Spread) -> str:
    return f"**{_spread(share)}**" if share.median > NOTICED else _spread(share)


def _summary(judged: Sequence[Verdict]) -> str:
    """What is not reached, a line for each, with what the profile shows."""
    findings = tomllib.loads(FINDINGS.read_text()) if FINDINGS.exists() else {}
    missed = [verdict for verdict in judged if verdict.value is not None and not verdict.reached]
    measured = sum(verdict.value is not None for verdict in judged)
    if not missed:
        return f"All {measured} goals that this run measured are reached."
    said = [
        f"- {verdict.promise} (measured {_number(verdict.value)})"
        + (f": {findings[verdict.key]}" if verdict.key in findings else "")
        for verdict in missed
    ]
    return f"Not reached, {len(missed)} of the {measured} goals that this run measured:\n\n" + "\n".join(said)


def _disturbance(results: Results) -> str:
    """A warning where other processes took the cores: at full speed, broker or generator should be busy."""
    busiest = [
        max(measured.broker_share, measured.generator_share)
        for workload in ("burst-1", "burst-100", "burst-900", "single-1", "fan-in-100", "qos1-100")
        for peer in results.peers()
        for measured in results.measured(workload, peer)
    ]
    if not busiest or median(busiest) >= 0.8:
        return ""
    return (
        f"**Other processes used the cores during this run**: in the median row at full speed the broker had "
        f"{median(busiest):.0%} of its core. Rates are that much too low and latencies too long, for every peer "
        "alike; CPU per message and the ratios within a round are what to read."
    )


def _circumstances(results: Results) -> str:
    lines = [
        f"- machine: {results.machine}; the broker alone on one core, the generator on the others, loopback",
        f"- commit {results.commit}, {results.date}; {_rounds(results)} of {results.seconds:g} s",
        f"- command: `{results.command}`",
        *(f"- {name}: {version}" for name, version in results.versions.items()),
        "- payload 64 bytes; closed loops, so nothing is dropped; brokers run in turn within each round",
    ]
    return "\n".join(lines)


def _rounds(results: Results) -> str:
    """How often each row was measured, which a run that was cut short did not do alike."""
    fewest, most = results.rounds_taken()
    if fewest == most:
        return "1 round" if most == 1 else f"{most} rounds"
    return f"{fewest} to {most} rounds of each row, the first rows the most,"


def _verdict_table(judged: Sequence[Verdict]) -> str:
    rows = [
        [
            v.promise,
            _number(v.value),
            _number(v.by_cpu),
            f"**{v.word}**" if v.word == "not reached" else v.word,
        ]
        for v in judged
    ]
    return _table(["goal", "measured", "by CPU per message", ""], rows)


def _peer_table(results: Results, cell: Cell, workloads: Sequence[str]) -> str:
    peers = results.peers()
    rows = []
    for workload in workloads:
        cells = [cell(results.measured(workload, peer)) for peer in peers]
        if any(text != "–" for text in cells):
            rows.append([BY_NAME[workload].title, *cells])
    return _table(["workload", *peers], rows)


def _rates(measured: list[Measurement]) -> str:
    if not measured:
        return "–"
    rate, cpu = median([m.rate for m in measured]), median([m.cpu_us for m in measured])
    marks = ""
    if any(m.generator_bound for m in measured):
        marks = " **g**"
    elif all(max(m.broker_share, m.generator_share) < 0.8 for m in measured):
        marks = " **d**"
    return f"{_amount(rate)}/s, {_number(cpu)} µs{marks}"


def _latencies(measured: list[Measurement]) -> str:
    known: list[Latency] = [m.latency for m in measured if m.latency is not None]
    if not known:
        return "–"
    middles = [
        median(values) for values in zip(*((k.p50_us, k.p99_us, k.p999_us) for k in known), strict=True)
    ]
    return " / ".join(f"{value:,.0f}".replace(",", " ") for value in middles)


def _others(measured: list[Measurement]) -> str:
    parts = []
    sizes = [m.bytes_per_connection for m in measured if m.bytes_per_connection is not None]
    if sizes:
        parts.append(f"{median(sizes):,.0f} bytes per connection".replace(",", " "))
    for name in measured[0].extra if measured else ():
        parts.append(f"{name} {_number(median([m.extra[name] for m in measured]))}")
    return ", ".join(parts) or "–"


def _ratio_table(results: Results) -> str:
    theirs = _rivals(results)
    ours = [peer for peer in (OURS, INTERPRETED) if peer in results.peers()]
    rows = []
    for workload in _rows(results):
        for one in ours:
            cells = [_ratio_cell(results, workload, one, other) for other in theirs]
            if any(text != "–" for text in cells):
                rows.append([BY_NAME[workload].title, one, *cells])
    return _table(["workload", "", *theirs], rows)


def _ratio_cell(results: Results, workload: str, ours: str, theirs: str) -> str:
    rate, cpu = results.rate_ratio(workload, ours, theirs), results.cpu_ratio(workload, ours, theirs)
    return "–" if rate is None or cpu is None else f"{_spread(rate)}; CPU {_spread(cpu)}"


def _spread(value: Spread) -> str:
    return f"{_number(value.median)}× ({_number(value.lowest)} – {_number(value.highest)})"


def _micro_table(results: Results) -> str:
    if not results.micro:
        return ""
    installs = list(results.micro)
    names = list(dict.fromkeys(name for figures in results.micro.values() for name in figures))
    rows = [[name, *(_number(results.micro[one].get(name)) for one in installs)] for name in names]
    return "## Parts alone\n\n" + _table(["", *installs], rows)


def _failures(results: Results) -> str:
    failed = [
        f"- {BY_NAME[workload].title}, {peer}: {results.failure(workload, peer).strip().splitlines()[-1]}"
        for workload in _rows(results)
        for peer in results.peers()
        if results.failure(workload, peer)
    ]
    return "## Not measured, and why\n\n" + "\n".join(failed) if failed else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _amount(value: float) -> str:
    """1234567 → 1.23 M."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{_number(value / size)}{letter}"
    return _number(value)


def _number(value: float | None) -> str:
    """Three digits that matter."""
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
