"""The garbage collector, kept out of the way of messages.

What the broker makes for a message or a connection is freed by reference counting.  The collector is only needed
for what others leave in cycles, but a full collection walks every session there is: tens of milliseconds with
10 000 of them.  So the young objects are looked through every second or a few thousand at a time, all of them when
it is quiet.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Final

import trio

from broker.core.counters import Counters

YOUNG_INTERVAL_S: Final = 1.0
YOUNG_MANY: Final = 4_000
"""So many new objects are looked through without waiting for the second to end, in 2 ms or so."""

NEVER: Final = 1 << 30

FULL_INTERVAL_S: Final = 60
"""At the earliest, and only after a second without traffic."""

FULL_INTERVAL_S_MAX: Final = 3600
"""At the latest, however busy the broker is."""


def traffic(counters: Counters) -> int:
    """Grows with all that comes from MQTT clients, and with all that goes to anybody, rows and WebSockets' answers."""
    return counters.packets_received + counters.bytes_sent


async def collect_when_quiet(traffic: Callable[[], int]) -> None:
    """Take the collector over until cancelled; for a process that is a broker and nothing else.

    Args:
        traffic: a number that grows with it; unchanged for a second means quiet.
    """
    gc.freeze()  # what was imported stays for good; to look through it now would keep the first client waiting
    before = gc.get_threshold()
    # Each second time with those that were kept the time before, so that they never become many.
    gc.set_threshold(YOUNG_MANY, 1, NEVER)
    try:
        await _collect(traffic)
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _clear_after_importing() -> None:
    """Throw away what importing has left behind, a megabyte; what is there then is not looked through again."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


async def _collect(traffic: Callable[[], int]) -> None:
    before = traffic()
    seconds = 0
    is_clear = False
    while True:
        await trio.sleep(YOUNG_INTERVAL_S)
        seconds += 1
        now = traffic()
        is_quiet, before = now == before, now
        if is_quiet and not is_clear:
            _clear_after_importing()
            is_clear = True
        elif seconds >= FULL_INTERVAL_S_MAX or (is_quiet and seconds >= FULL_INTERVAL_S):
            gc.collect()
            seconds = 0
        else:
            gc.collect(1)
