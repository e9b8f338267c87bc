"""Others have their turns between two steps, and it is told before each."""

from __future__ import annotations

import pytest
import trio

from broker.config.steps import Steps
from broker.links.in_turns import in_turns


async def test_others_have_a_turn_between_two_steps() -> None:
    order: list[str] = []

    def steps() -> Steps[int]:
        yield
        yield  # Trio draws who is the next of those who may run, and nobody twice before all had their turn
        order.append("last")
        return 3

    async def other() -> None:
        order.append("other")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert await in_turns(steps(), lambda: order.append("told")) == 3
    assert order.index("other") < order.index("last")
    assert order.count("told") == 2


async def test_what_fails_in_a_step_is_told_to_who_waits() -> None:
    def steps() -> Steps[int]:
        yield
        raise ValueError("in the second")

    with pytest.raises(ValueError, match="in the second"):
        await in_turns(steps())
