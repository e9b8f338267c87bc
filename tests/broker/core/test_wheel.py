"""What is due is found when it is: against a dictionary of times, whatever the clock does."""

from __future__ import annotations

import random

import pytest

from broker.core.wheel import TICKS_PER_S, Wheel

NAMES = [b"%d" % number for number in range(12)]


@pytest.mark.parametrize("seed", range(20))
def test_each_is_given_once_not_before_its_time_and_not_a_tick_after_it(seed: int) -> None:
    chance = random.Random(seed)
    wheel = Wheel()
    now = chance.choice((0.0, 1e6, -50.0))
    times: dict[bytes, float] = {}
    for _ in range(300):
        name = chance.choice(NAMES)
        if name in times and chance.random() < 0.7:
            wheel.remove(name, times.pop(name))
        if name not in times:
            times[name] = now + chance.choice((-3.0, 0.0, 0.1, 1.0, 7.3, 86_400.0)) * chance.random()
            wheel.put(name, times[name])
        now += chance.choice((0.0, 0.0, 0.1, 1.0, 20.0, 100_000.0))
        has_some = wheel.turn(now)
        given = set()
        while (one := wheel.take()) is not None:
            assert times.pop(one) <= now
            given.add(one)
        assert has_some is bool(given)
        assert all(due > now - 1 / TICKS_PER_S for due in times.values())
    assert len(wheel) == len(times)


def test_what_is_removed_leaves_nothing_behind() -> None:
    wheel = Wheel()
    for number in range(1000):
        wheel.put(b"often", number + 0.5)
        wheel.remove(b"often", number + 0.5)
    assert len(wheel) == 0
    assert not wheel.turn(1e9)
