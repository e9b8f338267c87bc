"""What is due some time, found when it is, at the same price however much else waits.

Invariant: a name stands in the tick of its time, until that is taken or the name is removed.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

TICKS_PER_S: Final = 4
"""How exact times are: nothing is taken before its time, nor a quarter of a second after it."""


class Wheel:
    """Names by when they are due, in seconds of one clock, which may begin anywhere.

    The time of each is known to the owner; one that is to be due at another time is removed before.
    """

    def __init__(self) -> None:
        self._ticks: dict[int, dict[bytes, None]] = {}
        self._due: deque[dict[bytes, None]] = deque()
        self._passed = 0
        """Nothing stands in a tick up to this one."""

    def put(self, name: bytes, due: float) -> None:
        """`take` gives it once that time has come."""
        tick = _tick(due)
        names = self._ticks.get(tick)
        if names is None:
            names = self._ticks[tick] = {}
        names[name] = None
        if tick <= self._passed:
            self._passed = tick - 1

    def remove(self, name: bytes, due: float) -> None:
        """It is not due any more at the time that was given to `put`; `take` may still give what is due by now."""
        tick = _tick(due)
        names = self._ticks.get(tick)
        if names is not None:
            names.pop(name, None)
            if not names:
                del self._ticks[tick]

    def turn(self, now: float) -> bool:
        """It is so late; whether there is anything to take."""
        last = math.floor(now * TICKS_PER_S)
        ticks = self._ticks
        if ticks:
            if 0 <= last - self._passed < len(ticks):
                passed = [tick for tick in range(self._passed + 1, last + 1) if tick in ticks]
            else:
                passed = sorted([tick for tick in ticks if tick <= last])
            for tick in passed:
                self._due.append(ticks.pop(tick))
        self._passed = last
        return len(self._due) > 0

    def take(self) -> bytes | None:
        """One that was due at the last `turn`; None if there is none left.  It is not here any more."""
        due = self._due
        while due:
            names = due[0]
            if names:
                return names.popitem()[0]
            due.popleft()
        return None

    def __len__(self) -> int:
        return sum([len(names) for names in self._ticks.values()]) + sum([len(names) for names in self._due])


def _tick(due: float) -> int:
    return math.ceil(due * TICKS_PER_S)
