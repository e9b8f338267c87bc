"""What the verbs of command-line tools do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from player.scenario import ScenarioError, Step
from player.tools import Tool

if TYPE_CHECKING:
    from player.play import Play

TOOL_S = 20.0


async def tool_step(play: Play, tool: Tool, step: Step) -> None:
    """`run` to the end, `start` until subscribed, `lines N`, `ended`, `signal NAME`, `input`, `end` input."""
    verb, words = step.verb, step.arguments
    if verb in ("run", "start"):
        proxy = str(await tool.listen(play.nursery, play.port()))
        direct = str(play.port())
        await tool.start(play.nursery, [play.fill(word, port=proxy, direct=direct) for word in words])
        if verb == "run":
            await tool.feed(b"")
            await _ended(play, tool)
        elif "mosquitto_pub" not in words[0] and not await tool.until_subscribed(TOOL_S):
            play.note(f"{tool.name} does not subscribe")
    elif verb == "lines":
        if not await tool.until_lines(int(words[0]), TOOL_S):
            play.note(f"{tool.name} has {len(tool.output)} lines")
    elif verb == "ended":
        await _ended(play, tool)
    elif verb == "signal":
        tool.signal(words[0])
        await _ended(play, tool)
    elif verb == "input":
        await tool.feed("".join(f"{word}\n" for word in words).encode())
    elif verb == "end":
        await tool.feed(b"")
    else:
        raise ScenarioError(f"{play.scenario.path.name}:{step.line}: unknown step {step.source!r}")


async def _ended(play: Play, tool: Tool) -> None:
    if not await tool.until_ended(TOOL_S):
        tool.kill()
    play.note(f"{tool.name} exits {tool.status}")
