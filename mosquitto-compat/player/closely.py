"""Plays one sequence by itself, with two rounds of fences over all clients after each step, as scenarios are."""

from __future__ import annotations

from pathlib import Path

import trio

from player import evening, rules
from player.drawing import LANE
from player.manner import Manner
from player.play import play
from player.scenario import Scenario, parse_step

PLAY_S = 600.0


async def differing(steps: list[str], manner: Manner) -> list[str]:
    """Play one sequence to both, alone; the lines that differ."""
    scenario = Scenario("wandering", Path("wander"))
    scenario.conf, scenario.files = rules.configuration([LANE], manner)
    steps = [*(step.replace(" port=port2", f" port=port2{LANE}") for step in steps), *rules.look(LANE)]
    scenario.steps = [parse_step(text, number, "wander") for number, text in enumerate(steps)]
    transcripts: dict[str, list[str]] = {}

    async def one(kind: str) -> None:
        transcripts[kind], _ = await play(scenario, kind, Path("/nonexistent"), within_s=PLAY_S)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "mosquitto")
        nursery.start_soon(one, "rowcast")
    return evening.what_differs(transcripts["mosquitto"], transcripts["rowcast"])
