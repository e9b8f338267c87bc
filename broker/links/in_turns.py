"""Long work in steps, between which all others have their turns; `broker.config.steps.finished` does it at once."""

from __future__ import annotations

from collections.abc import Callable

import trio

from broker.config.steps import Steps, T
from broker.core.outbox import nothing


async def in_turns(steps: Steps[T], on_step: Callable[[], None] = nothing) -> T:
    """What comes of it.

    Args:
        on_step: called before others have their turns.
    """
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        on_step()
        await trio.lowlevel.checkpoint()
