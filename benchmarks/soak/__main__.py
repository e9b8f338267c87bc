"""Does memory grow?  An hour of constant load of every kind, with RSS after the first minute and at the end.

    python -m benchmarks.soak                       an hour
    python -m benchmarks.soak --minutes 5
    python -m benchmarks.soak --ticks 15            at a third of the pace, beside other work
    python -m benchmarks.soak --interpreted --results benchmarks/.cache/RESULTS.json

The load, plain and under TLS: QoS 0 and QoS 1 fan-out at a fixed pace, retained messages that come and go, clients
that come (with new and resumed TLS sessions, and over WebSocket), subscribe and go, sessions of clients that come
back for what they missed, rows of a table to MQTT and WebSocket clients, topics that are never seen again.  Whoever
does not get exactly what is theirs ends it.  After the load nobody and nothing of it may be left in the broker.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.goals import OURS
from benchmarks.machine import cpu_seconds, pin_generator, resident_bytes
from benchmarks.peers import rowcast
from benchmarks.results import load, save
from benchmarks.soak.load import Part, all_parts
from benchmarks.soak.world import World, running_world

TICKS_PER_S: Final = 50.0
FIRST_MINUTE_S: Final = 60.0
GROWTH_MAX: Final = 0.05


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    if options.results and not options.results.is_file():
        parser.error(
            f"{options.results} is not there; python -m benchmarks writes benchmarks/.cache/RESULTS.json"
        )
    kind = "interpreted" if options.interpreted else "compiled"
    print(f"{rowcast.install(kind)}, commit {rowcast.commit_installed(kind)}", flush=True)
    pin_generator()
    with (
        tempfile.TemporaryDirectory(prefix="rowcast-soak-") as name,
        running_world(kind, Path(name)) as world,
    ):
        growth, left = _soak(world, options.minutes * 60, 1 / options.ticks)
    if options.results:
        results = load(options.results)
        results.micro.setdefault(OURS, {})["soak growth"] = growth
        results.micro[OURS]["soak minutes"] = options.minutes
        save(results, options.results)
    return 0 if growth <= GROWTH_MAX and not left else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--minutes", type=float, default=60, help="how long (60); exit status 1 when RSS grew by 5 %%"
    )
    parser.add_argument("--ticks", type=float, default=TICKS_PER_S, help="the pace: ticks a second (50)")
    parser.add_argument("--interpreted", action="store_true", help="the interpreted install")
    parser.add_argument("--results", type=Path, metavar="FILE", help="add the growth to these results (JSON)")
    return parser


def _soak(world: World, seconds: float, tick_s: float) -> tuple[float, list[str]]:
    """Load the broker that long.

    Returns:
        the share by which RSS grew since the first minute (or half of a short run), and what was left of the load.
    """
    before = world.standing()
    parts = all_parts(world)
    pid = world.plain.pid
    settled = _run(world, parts, seconds, tick_s)
    final = resident_bytes(pid)
    growth = final / settled - 1
    for part in parts:
        part.close()
    left = world.mistakes() + world.left_of(before)
    print(
        f"RSS {settled / 1e6:.1f} MB after {min(FIRST_MINUTE_S, seconds / 2):.0f} s, {final / 1e6:.1f} MB "
        f"after {seconds:.0f} s: {growth:+.1%}; {_delivered(parts)} messages delivered, each that was owed; "
        f"left when all had gone: {', '.join(left) or 'nothing'}"
    )
    return growth, left


def _run(world: World, parts: Sequence[Part], seconds: float, tick_s: float) -> int:
    """Tick after tick at an even pace; RSS after the first minute."""
    began = time.perf_counter()
    settled_at = min(FIRST_MINUTE_S, seconds / 2)
    settled = 0
    said = 0.0
    for number in itertools.count():
        elapsed = time.perf_counter() - began
        if not settled and elapsed >= settled_at:
            settled = resident_bytes(world.plain.pid)
        if elapsed >= seconds:
            return settled
        if elapsed >= said:
            _say(world, elapsed, parts)
            said += 30
        for part in parts:
            if number % part.every == 0:
                part.tick(number)
        time.sleep(max(began + (number + 1) * tick_s - time.perf_counter(), 0))
    raise AssertionError("itertools.count ends")


def _say(world: World, elapsed: float, parts: Sequence[Part]) -> None:
    pid = world.plain.pid
    print(
        f"{elapsed:7.0f} s  RSS {resident_bytes(pid) / 1e6:7.1f} MB  CPU {cpu_seconds(pid):7.1f} s  "
        f"{world.open_files()} files  {_delivered(parts)} delivered",
        file=sys.stderr,
        flush=True,
    )


def _delivered(parts: Sequence[Part]) -> int:
    return sum(part.delivered for part in parts)


if __name__ == "__main__":
    raise SystemExit(main())
