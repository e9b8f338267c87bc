"""What the verbs of the broker process and of files do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import trio

from player import logs
from player.broker import RUNNING, BrokerProcess
from player.client import PATIENCE_S
from player.scenario import ScenarioError, Step

if TYPE_CHECKING:
    from player.play import Play

LOG_S = 2.0
RUN_S = 40.0


async def broker_step(play: Play, step: Step) -> None:
    """Play one step of the broker process."""
    verb, words, broker = step.verb, [play.fill(word) for word in step.arguments], play.broker
    options = {name: play.fill(value) for name, value in step.options.items()}
    if verb == "start":
        await _start(play, words or ["-c", play.fill("{dir}/conf")])
    elif verb in ("run", "status"):
        await _run(play, verb, words)
    elif verb in ("stop", "restart", "kill"):
        broker.signal("KILL" if verb == "kill" else "TERM")
        status = await broker.ended()
        if verb != "kill":
            play.note(f"broker exits {status}")
        await _all_closed(play)
        if verb == "restart":
            await _start(play, ["-c", play.fill("{dir}/conf")])
    elif verb == "signal":
        since = len(broker.lines)
        broker.signal(words[0])
        if words[0] in ("INT", "TERM"):
            play.note(f"broker exits {await broker.ended()}")
            await _all_closed(play)
        if len(words) > 1 and not await broker.until_logged(words[1], LOG_S, since):
            play.note(f"no log line {words[1]!r}")
    elif verb == "ended":
        status = await broker.ended(float(options.get("within", "5")))
        play.note("broker goes on" if status is None else f"broker exits {status}")
        if status is not None:
            await _all_closed(play)
    elif verb == "log":
        await _log(play, words[0], int(options.get("count", "1")))
    elif verb == "pass":
        await trio.sleep(float(words[0]))
    else:
        raise ScenarioError(f"{play.scenario.path.name}:{step.line}: unknown step {step.source!r}")


async def _start(play: Play, arguments: list[str]) -> None:
    """Start, and wait for what the configuration file and the arguments say will be open."""
    await play.broker.start(play.nursery, arguments)
    files = [play.folder / "conf", *sorted(play.folder.glob("*/*.conf"))] if "-c" in arguments else []
    text = "\n".join(path.read_text() for path in files)
    found = re.findall(r"^\s*listener\s+(\d+)(?:\s+(/\S+))?", text, re.M)
    ports = [int(port) for port, _ in found if port != "0"]
    ports += [int(port) for port in re.findall(r"^\s*port\s+(\d+)\s*$", text, re.M)]
    if not found and "-p" in arguments:
        ports = [int(arguments[arguments.index("-p") + 1])]
    paths = [path for port, path in found if port == "0"]
    says_so = not re.search(r"^\s*log_(dest|type)", text, re.M) and "-q" not in arguments
    if not await play.broker.until_listening(ports, paths, says_so):
        status = await play.broker.ended()
        play.note(f"broker does not start: {status}")
        for line in play.broker.lines:
            if line_shown := logs.error_line(line):
                play.note(f"broker prints {line_shown}")


async def _run(play: Play, verb: str, words: list[str]) -> None:
    """Run the command to its end; `status` shows only the exit status."""
    short = BrokerProcess(play.kind, play.folder)
    await short.start(play.nursery, words)
    status = None
    with trio.move_on_after(RUN_S):
        while (status := await short.ended(0.2)) is None and not any(map(RUNNING.search, short.lines)):
            pass
    short.kill()
    play.note("still running" if status is None else f"exit {status}")
    if verb == "run":
        for line in short.lines:
            play.note(f"prints {logs.normal(line, play.kind)}")


async def _all_closed(play: Play) -> None:
    for client in play.clients.values():
        await client.until(lambda client=client: client.closed, PATIENCE_S)  # type: ignore[misc]


async def _log(play: Play, pattern: str, count: int) -> None:
    """Note the lines that match, once there are `count`."""
    broker = play.broker

    def found() -> list[str]:
        lines = [logs.normal(line, play.kind) for line in broker.lines]
        return [line for line in lines if re.search(pattern, line)]

    with trio.move_on_after(LOG_S):
        while len(found()) < count and broker.running:
            await broker.next_line()
    for line in found() or ["nothing"]:
        play.note(f"log {line}")


def file_step(play: Play, step: Step) -> None:
    """`use NEW NAME` writes the text of one file into another; `exists`, `remove`, `show`."""
    words = [play.fill(word) for word in step.arguments]
    path = play.folder / words[-1]
    if step.verb == "use":
        path.write_bytes((play.folder / words[0]).read_bytes())
    elif step.verb == "exists":
        path = play.folder / words[0]
        play.note(
            f"{words[0]} {'exists' if path.exists() and path.stat().st_size else 'is missing or empty'}"
        )
    elif step.verb == "remove":
        path.unlink(missing_ok=True)
    elif step.verb == "show":
        for line in path.read_text().splitlines() if path.exists() else ["missing"]:
            play.note(f"file {logs.normal(line, play.kind)}")
    else:
        raise ScenarioError(f"{play.scenario.path.name}:{step.line}: unknown step {step.source!r}")
