"""Sequences that are played side by side: a fault is found in its lane, and what is right differs in none."""

from __future__ import annotations

import signal
import sys
from itertools import combinations

import pytest
from player import kernel, lanes
from player.broker import COMMANDS
from player.manner import NARROW, Manner

WITHOUT_RETAINED = """\
import sys
with open(sys.argv[-1], "a") as conf:
    conf.write("retain_available false\\n")
from broker.cli.start import main
sys.exit(main())
"""
AS_IT_IS = [sys.executable, "-m", "broker"]


def differing(count: int, manner: Manner = NARROW) -> list[int]:
    hall = lanes.Hall(manner, lanes=2 if manner.is_at_root else 8)
    try:
        played = hall.play(lanes.Sequence(seed, manner) for seed in range(count))
        found = [sequence.seed for sequence, lines in played if lines]
    finally:
        wrong = hall.close()
    assert wrong == []
    return found


@pytest.mark.parametrize(
    "manner",
    [
        NARROW,
        Manner(with_rules=True),
        Manner(groups=frozenset({"root"})),
        Manner(groups=frozenset({"bytes", "five", "share", "listeners", "websocket", "slow", "queue0"})),
        Manner(groups=frozenset({"restart", "five", "small"})),
        Manner(True, frozenset({"reload", "noretain", "upgrade"})),
    ],
    ids=lambda manner: "+".join(sorted(manner.groups)) or f"rules {manner.with_rules}",
)
def test_a_broker_does_not_differ_from_itself(monkeypatch: pytest.MonkeyPatch, manner: Manner) -> None:
    monkeypatch.setitem(COMMANDS, "mosquitto", AS_IT_IS)
    monkeypatch.setitem(COMMANDS, "rowcast", AS_IT_IS)
    assert differing(16, manner) == []


def test_a_fault_is_found_and_cut_down_to_the_steps_that_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "mosquitto", AS_IT_IS)
    monkeypatch.setitem(COMMANDS, "rowcast", [sys.executable, "-c", WITHOUT_RETAINED])
    seed, *_ = differing(8)
    sequence = lanes.Sequence(seed)
    hall = lanes.Hall(NARROW, 1)
    try:
        [lines] = hall.differing([sequence])
    finally:
        hall.close()
    fewer, still = lanes.shrunk(sequence, lines, 8)
    assert still
    assert len(fewer.steps()) <= 4


def test_a_step_that_does_not_end_is_given_up_and_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "mosquitto", AS_IT_IS)
    monkeypatch.setitem(COMMANDS, "rowcast", AS_IT_IS)
    monkeypatch.setattr(kernel, "tcp_state", lambda *_: kernel.CLOSE_WAIT)
    monkeypatch.setattr(lanes, "STUCK_S", 1.0)
    monkeypatch.setattr(lanes, "CHECK_S", 0.0)
    assert differing(1) == [0]


def test_a_broker_that_answers_nothing_any_more_is_given_up_and_differs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(COMMANDS, "mosquitto", AS_IT_IS)
    monkeypatch.setitem(COMMANDS, "rowcast", AS_IT_IS)
    monkeypatch.setattr(lanes, "STUCK_S", 2.0)  # by then the other has come to its end
    monkeypatch.setattr(lanes, "CHECK_S", 0.0)
    hall = lanes.Hall(NARROW, 1)
    hangs = hall._sides[1]._process
    try:
        hangs.send_signal(signal.SIGSTOP)
        [lines] = hall.differing([lanes.Sequence(0)])
    finally:
        hangs.send_signal(signal.SIGCONT)
        hall.close()
    assert lines


def test_lanes_differ_in_two_characters_at_least() -> None:
    for one, other in combinations(lanes.lane_names(300), 2):
        assert sum(a != b for a, b in zip(one, other, strict=True)) >= 2
