"""Key sets are kept fresh for as long as some listener's rules have them, each once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from broker.core.counters import Counters
from broker.process.token_keys import LOOK_INTERVAL_S, keep_tokens_fresh


class Verifier:
    """Notes for how often it is being kept fresh."""

    def __init__(self) -> None:
        self.now = 0
        self.begun = 0

    async def keep_fresh(self, counters: Counters) -> None:
        self.begun += 1
        self.now += 1
        try:
            await trio.sleep_forever()
        finally:
            self.now -= 1


def door(verifier: Verifier | None) -> Any:
    return SimpleNamespace(rules=SimpleNamespace(tokens=verifier))


async def test_what_a_reload_brings_is_kept_and_what_it_takes_away_is_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shared, other, later = Verifier(), Verifier(), Verifier()
    doors = [door(shared), door(shared), door(other), door(None)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_tokens_fresh, doors, Counters())
        await trio.sleep(LOOK_INTERVAL_S / 2)
        assert (shared.now, other.now, later.now) == (1, 1, 0)
        doors[0].rules = SimpleNamespace(tokens=None)
        doors[2].rules = SimpleNamespace(tokens=later)
        await trio.sleep(LOOK_INTERVAL_S)
        assert (shared.now, other.now, later.now) == (1, 0, 1)
        doors[1].rules = SimpleNamespace(tokens=other)
        await trio.sleep(LOOK_INTERVAL_S)
        assert (shared.now, other.now, later.now) == (0, 1, 1)
        nursery.cancel_scope.cancel()
    assert (shared.begun, other.begun, later.begun) == (1, 2, 1)
    assert (shared.now, other.now, later.now) == (0, 0, 0)
