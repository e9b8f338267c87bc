"""The garbage collector, kept out of the way of messages.

What the broker makes for a message or a connection is freed by reference counting.  The collector is only needed
for what others leave in cycles, but a full collection walks every session there is: tens of milliseconds with
10 000 of them.  So it runs when a timer says so: the young objects every second, all of them when it is quiet.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import trio

YOUNG_INTERVAL_S = 1.0
FULL_INTERVAL_S = 60.0
"""At the earliest, and only after a second without packets."""

FULL_INTERVAL_S_MAX = 3600.0
"""At the latest, however busy the broker is."""


async def collect_when_quiet(packets: Callable[[], int]) -> None:
    """Take the collector over until cancelled; for a process that is a broker and nothing else.

    Args:
        packets: how many have been received; unchanged for a second means quiet.
    """
    gc.collect()
    gc.freeze()  # what was imported stays for good
    gc.disable()
    try:
        await _collect(packets)
    finally:
        gc.enable()
        gc.unfreeze()


async def _collect(packets: Callable[[], int]) -> None:
    before = packets()
    collected_at = trio.current_time()
    while True:
        await trio.sleep(YOUNG_INTERVAL_S)
        waited = trio.current_time() - collected_at
        is_quiet = packets() == before
        before = packets()
        if waited >= FULL_INTERVAL_S_MAX or (is_quiet and waited >= FULL_INTERVAL_S):
            gc.collect()
            collected_at = trio.current_time()
        else:
            gc.collect(1)
