"""Play random, often hostile sequences to Mosquitto and to Rowcast, and show what differs, cut down to a scenario.

    .venv/bin/python mosquitto-compat/wander.py --from 2000000 --count 250000
    .venv/bin/python mosquitto-compat/wander.py --from 3000000 --count 250000 --rules    users with rules, a mount point
    .venv/bin/python mosquitto-compat/wander.py --from 1764 --count 1                    the one that was printed, again
    .venv/bin/python mosquitto-compat/wander.py --from 5000000 --wide bytes,five,share    more is drawn, see --help

Together the first two are what a day of one sequence after another plays.  It says every minute how far it is, and at
its end, also by Ctrl-C: it goes on with `--from` there.  Both brokers begin anew every 4 000 sequences.

What differs is played again by itself, closely, before it is counted; what does not differ then is printed, too.
Exit status 0: nothing differed.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Final

import trio

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from player import closely, lanes  # noqa: E402
from player.broker import COMMANDS  # noqa: E402
from player.drawing import STEPS  # noqa: E402
from player.manner import GROUPS, Manner  # noqa: E402

LEG: Final = 4000
"""Sequences for one pair of processes."""
TELL_S: Final = 60.0


class Tour:
    """Sequences with seeds that follow one another, a leg at a time."""

    def __init__(self, first_seed: int, manner: Manner, side_by_side: int) -> None:
        self.seed = first_seed
        """Every one before it has been played."""
        self.played = 0
        self.differed = 0
        self.once = 0
        """How many differed, and did not when they were played again."""
        self._found: list[tuple[lanes.Sequence, list[str]]] = []
        self._manner = manner
        self._lanes = side_by_side
        self._began = self._told = time.monotonic()

    def tell(self) -> None:
        """How far it is."""
        self._told = time.monotonic()
        pace = self.played / (self._told - self._began)
        print(
            f"{self.played} sequences of {STEPS} steps, {self.differed} differed, {self.once} did once and not again;"
            f" {pace:.1f} a second; next: --from {self.seed}",
            flush=True,
        )

    def leg(self, count: int) -> None:
        """Play so many, then again what differed."""
        first, behind = self.seed, set[int]()
        hall = lanes.Hall(self._manner, self._lanes)
        try:
            for sequence, lines in hall.play(
                lanes.Sequence(first + number, self._manner) for number in range(count)
            ):
                self.played += 1
                behind.add(sequence.seed)
                while self.seed in behind:
                    behind.remove(self.seed)
                    self.seed += 1
                if lines:
                    self._found.append((sequence, lines))
                if time.monotonic() - self._told > TELL_S:
                    self.tell()
        finally:
            wrong = hall.close()
        if wrong:
            self.differed += 1
            print(f"[seeds {first} to {first + count - 1}]", *wrong, "", sep="\n", flush=True)
        while self._found:
            self._again(*self._found[0])
            del self._found[0]

    def tell_found(self) -> None:
        """What differed and could not be played again."""
        for sequence, lines in self._found:
            self.differed += 1
            print(f"[seed {sequence.seed}] interrupted:", *lines, "", sep="\n")

    def _again(self, sequence: lanes.Sequence, lines: list[str]) -> None:
        closer = [] if self._manner.groups else trio.run(closely.differing, sequence.steps(), self._manner)
        fewer, still = lanes.shrunk(sequence, lines, self._lanes)
        if not closer and not still:
            self.once += 1
            print(f"[seed {sequence.seed}] not again:", *lines, "", sep="\n", flush=True)
            return
        self.differed += 1
        how = still or closer
        note = [] if closer or self._manner.groups else ["only beside others' fences:"]
        print(f"[seed {sequence.seed}]", "steps:", *(f"  {step}" for step in fewer.steps()), sep="\n")
        print(*note, *how, "", sep="\n", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="example: wander.py --from 2000000 --count 250000 --rules"
    )
    parser.add_argument(
        "--from", dest="first", type=int, default=int(time.time()), help="the seed of the first sequence"
    )
    parser.add_argument(
        "--count", type=int, default=1 << 40, help="so many sequences, each with the next seed"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no leg begins after so long")
    parser.add_argument("--rules", action="store_true", help="users with rules, and a mount point")
    parser.add_argument("--wide", default="", help=f"groups of wider draws, with commas: {', '.join(GROUPS)}")
    parser.add_argument("--lanes", type=int, default=128, help="sequences at the same time (128)")
    parser.add_argument("--rowcast", help="the command to play instead of this checkout's")
    arguments = parser.parse_args()
    groups = frozenset(filter(None, arguments.wide.split(",")))
    try:
        arguments.manner = Manner(arguments.rules, groups)
    except ValueError as error:
        parser.error(str(error))
    return arguments


def main() -> int:
    arguments = parse()
    if arguments.rowcast:
        COMMANDS["rowcast"] = shlex.split(arguments.rowcast)
    tour = Tour(arguments.first, arguments.manner, arguments.lanes)
    until = time.monotonic() + arguments.seconds
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # the first is ignored by what a script puts into the background
        signal.signal(number, signal.default_int_handler)
    try:
        while tour.played < arguments.count and time.monotonic() < until:
            tour.leg(min(LEG, arguments.count - tour.played))
    except KeyboardInterrupt:
        tour.tell_found()
    tour.tell()
    return 1 if tour.differed else 0


if __name__ == "__main__":
    sys.exit(main())
