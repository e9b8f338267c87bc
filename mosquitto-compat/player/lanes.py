"""Plays many random sequences at the same time to Mosquitto and Rowcast, each in its lane."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from player import evening, rules, wide
from player.drawing import LANE
from player.manner import NARROW, Manner
from player.scenario import Step, parse_step
from player.side import Side
from player.stage import Stage
from player.wire import Poll

MARKS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
IN_LANE = re.compile(r"'\w{3}/")
KINDS = ("mosquitto", "rowcast")
STUCK_S = 120.0
CHECK_S = 5.0


@dataclass(frozen=True)
class Sequence:
    """What is drawn from a seed, or some steps of it."""

    seed: int
    manner: Manner = NARROW
    kept: tuple[int, ...] | None = None

    def steps(self, lane: str = LANE) -> list[str]:
        steps = wide.wanderer(self.seed, self.manner, lane).steps()
        return steps if self.kept is None else [steps[at] for at in self.kept]


@dataclass
class _Lane:
    name: str
    look: list[Step] = field(default_factory=list)
    sequence: Sequence | None = None
    stages: dict[str, Stage] = field(default_factory=dict)
    sides: dict[str, Side] = field(default_factory=dict)


class Hall:
    """A pair of brokers with lanes, or one for each lane where names begin at the root of the tree."""

    def __init__(self, manner: Manner, lanes: int) -> None:
        self._manner = manner
        self._poll = Poll()
        names = [""] * lanes if manner.is_at_root else lane_names(lanes)
        self._lanes = [_Lane(name, [_parsed(text) for text in rules.look(name)]) for name in names]
        self._sides: list[Side] = []
        for some in [[lane] for lane in self._lanes] if manner.is_at_root else [self._lanes]:
            sides = {kind: Side(kind, self._poll, [lane.name for lane in some], manner) for kind in KINDS}
            self._sides += sides.values()
            for lane in some:
                lane.sides = sides
        for side in self._sides:
            side.start()

    def play(self, sequences: Iterable[Sequence]) -> Iterator[tuple[Sequence, list[str]]]:
        """Each with the lines that differ, as they end."""
        coming = iter(sequences)
        running = [lane for lane in self._lanes if self._begin(lane, next(coming, None))]
        checked = time.monotonic()
        while running:
            if not self._turn():
                if time.monotonic() - checked <= CHECK_S:
                    continue
                checked = time.monotonic()
                _give_up_stuck(running)
            for lane in [lane for lane in running if all(stage.done for stage in lane.stages.values())]:
                assert lane.sequence is not None
                theirs, ours = (lane.stages[kind].transcript for kind in KINDS)
                yield lane.sequence, evening.what_differs(theirs, ours)
                if not self._begin(lane, next(coming, None)):
                    running.remove(lane)

    def _begin(self, lane: _Lane, sequence: Sequence | None) -> bool:
        lane.sequence = sequence
        if sequence is None:
            return False
        steps = [*map(_parsed, sequence.steps(lane.name)), *lane.look]
        for kind, side in lane.sides.items():
            lane.stages[kind] = Stage(side, lane.name, steps, self._manner)
            side.waiting.add(lane.stages[kind])
        return True

    def _turn(self) -> bool:
        """Take what came; whether a stage has come to its end."""
        for side in self._sides:
            side.want_tick()
        self._poll.turn(1.0)
        has_ended = False
        for side in self._sides:
            has_ended = side.advance() or has_ended
            side.together()
            if side.gone:
                raise RuntimeError(f"a broker has ended: {side.stop()}")
        return has_ended

    def differing(self, sequences: list[Sequence]) -> list[list[str]]:
        """Play few; the lines of each."""
        found = dict(self.play(sequences))
        return [found[sequence] for sequence in sequences]

    def close(self) -> list[str]:
        """End both; what is wrong with how they ended."""
        return [f"{side.kind}: {line}" for side in self._sides for line in side.stop()]


def lane_names(count: int) -> list[str]:
    """At most 1 296; each two differ in two characters or more."""
    size = len(MARKS)
    pairs = [(number % size, number // size) for number in range(count)]
    return [MARKS[first] + MARKS[second] + MARKS[(first + second) % size] for first, second in pairs]


def _give_up_stuck(lanes: list[_Lane]) -> None:
    now = time.monotonic()
    for lane in lanes:
        for stage in lane.stages.values():
            if not stage.done and now - stage.since > STUCK_S:
                stage.give_up()


def _parsed(text: str) -> Step:
    return parse_step(text, 0, "wander")


def shrunk(sequence: Sequence, lines: list[str], lanes: int) -> tuple[Sequence, list[str]]:
    """Fewer steps that still differ in some of the lines, and how; no lines if they do not by themselves."""
    hall = Hall(sequence.manner, lanes)
    try:
        return _shrunk(hall, sequence, set(map(_anywhere, lines)))
    finally:
        hall.close()


def _shrunk(hall: Hall, sequence: Sequence, wanted: set[str]) -> tuple[Sequence, list[str]]:

    def same(found: list[str]) -> bool:
        """Nothing else: fewer steps may well show a difference that is known, and which is not drawn."""
        return bool(found) and wanted.issuperset(map(_anywhere, found))

    kept = tuple(range(len(sequence.steps())))
    [found] = hall.differing([sequence])
    size = len(kept) // 2 if same(found) else 0
    while size:
        fewer = [kept[:at] + kept[at + size :] for at in range(0, len(kept), size)]
        tried = [Sequence(sequence.seed, sequence.manner, one) for one in fewer if one]
        results = hall.differing(tried)
        still = next((at for at, lines in enumerate(results) if same(lines)), None)
        if still is None:
            size //= 2
        else:
            sequence, kept, found = tried[still], fewer[still], results[still]
            size = min(size, len(kept) // 2)
    return sequence, found


def _anywhere(line: str) -> str:
    """The line as any client in any lane would have it."""
    return IN_LANE.sub("'", line[:1] + line[3:])
