"""The garbage collector, kept out of the way of messages.

What the broker makes for a message or a connection is freed by reference counting.  The collector is only needed
for what others leave in cycles, but a full collection walks every session there is: tens of milliseconds with
10 000 of them.  So it runs when a timer says so: the young objects every second or a few thousand at a time, all of
them when it is quiet.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import trio

from broker.core.counters import Counters

YOUNG_INTERVAL_S = 1.0
YOUNG_MANY = 4_000
"""So many new objects are looked through without waiting for the second to end, in 2 ms or so."""

LOOKS_PER_YOUNG = 20
FULL_INTERVAL_S = 60
"""At the earliest, and only after a second without traffic."""

FULL_INTERVAL_S_MAX = 3600
"""At the latest, however busy the broker is."""


def traffic(counters: Counters) -> int:
    """Grows with all that comes from MQTT clients, and with all that goes to anybody, rows and WebSockets' answers."""
    return counters.packets_received + counters.bytes_sent


async def collect_when_quiet(traffic: Callable[[], int]) -> None:
    """Take the collector over until cancelled; for a process that is a broker and nothing else.

    Args:
        traffic: a number that grows with it; unchanged for a second means quiet.
    """
    gc.collect()
    gc.freeze()  # what was imported stays for good
    gc.disable()
    try:
        await _collect(traffic)
    finally:
        gc.enable()
        gc.unfreeze()


async def _collect(traffic: Callable[[], int]) -> None:
    before = traffic()
    seconds = 0
    while True:
        for _ in range(LOOKS_PER_YOUNG):
            await trio.sleep(YOUNG_INTERVAL_S / LOOKS_PER_YOUNG)
            if gc.get_count()[0] > YOUNG_MANY:
                gc.collect(1)
        seconds += 1
        now = traffic()
        is_quiet, before = now == before, now
        if seconds >= FULL_INTERVAL_S_MAX or (is_quiet and seconds >= FULL_INTERVAL_S):
            gc.collect()
            seconds = 0
        else:
            gc.collect(1)
