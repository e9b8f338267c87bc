"""Turns that are wanted though nothing comes, for an engine without a pump that runs."""

from __future__ import annotations

import trio

from broker.core.engine import Engine
from broker.core.turn import NEVER


async def make_due_turns(engine: Engine) -> None:
    """As the pump does, until cancelled."""
    wanted = trio.Event()

    def look() -> None:
        if engine.turn.due != NEVER:
            wanted.set()

    engine.turn.on_settled(look)
    look()
    while True:
        await wanted.wait()
        wanted = trio.Event()
        due = engine.turn.due
        if due != NEVER:
            await trio.sleep_until(due)
            with engine.turn:
                pass
