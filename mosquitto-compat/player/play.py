"""One scenario against one broker: the steps in order, each followed by a fence, and the transcript."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import trio

from player import broker_steps, client_steps, logs, tool_steps
from player.broker import BrokerProcess, free_port
from player.client import Client
from player.scenario import DEFAULT_CONF, Scenario, ScenarioError, Step
from player.tools import Tool

SCENARIO_S = 120.0
ROUNDS_MAX = 200
CALM_ROUNDS = 2


class Play:
    """What the steps of one scenario share."""

    def __init__(
        self, scenario: Scenario, kind: str, folder: Path, certificates: Path, within_s: float
    ) -> None:
        self.scenario = scenario
        self._within_s = within_s
        self.kind = kind
        self.folder = folder
        self.transcript: list[str] = []
        self.notes: list[str] = []
        self.clients: dict[str, Client] = {}
        self.tools: dict[str, Tool] = {}
        self.broker = BrokerProcess(kind, folder)
        self.nursery: trio.Nursery
        self._names = {"dir": str(folder), "certs": str(certificates)}

    def fill(self, text: str, **more: str) -> str:
        """Replace {dir}, {certs}, {port}, {port2}, … in a text of the scenario."""

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name in more:
                return more[name]
            if name.startswith("port") and name not in self._names:
                self._names[name] = str(free_port())
            return self._names.get(name, match[0])

        return re.sub(r"\{(\w+)\}", value, text)

    def port(self, name: str = "port") -> int:
        return int(self.fill("{" + name + "}"))

    def note(self, line: str) -> None:
        self.notes.append(line)

    def client(self, name: str) -> Client:
        return self.clients.setdefault(name, Client(name))

    def tool(self, name: str) -> Tool:
        return self.tools.setdefault(name, Tool(name, self.folder))

    async def run(self) -> list[str]:
        """Play; the transcript, with ports and paths replaced by their names."""
        self._write_files()
        with trio.move_on_after(self._within_s) as scope:
            async with trio.open_nursery() as nursery:
                self.nursery = nursery
                try:
                    await self._play_all()
                finally:
                    self.broker.kill()
                    for tool in self.tools.values():
                        tool.kill()
                nursery.cancel_scope.cancel()
        if scope.cancelled_caught:
            self.transcript.append("   scenario took too long")
        return [self._normal(line) for line in self.transcript]

    def _write_files(self) -> None:
        files = {"conf": self.scenario.conf or DEFAULT_CONF, **self.scenario.files}
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.fill(content).encode())
            path.chmod(0o644)

    async def _play_all(self) -> None:
        steps = self.scenario.steps
        own = [step.verb for step in steps if step.actor == "broker"][:1]
        if not set(own) & {"start", "run", "status"}:
            await broker_steps.broker_step(self, Step("broker", "start", [], {}, True, "", 0))
            self._flush("", steps[0])
        for step in steps:
            try:
                await self._play(step)
            except (ValueError, IndexError) as error:
                where = f"{self.scenario.path.name}:{step.line}"
                raise ScenarioError(f"{where}: {error} in {step.source!r}") from error
            if step.fenced:
                await self.quiet()
            self._flush(f"-- {step.source}", step)
        if self.broker.running:
            self.broker.signal("TERM")
            status = await self.broker.ended()
            if status != 0:
                self.transcript.append(f"   broker ends with {status}")
        self._complain()

    async def _play(self, step: Step) -> None:
        if step.actor == "broker":
            await broker_steps.broker_step(self, step)
        elif step.actor == "files":
            broker_steps.file_step(self, step)
        elif step.actor in self.tools or step.verb in ("run", "start"):
            await tool_steps.tool_step(self, self.tool(step.actor), step)
        else:
            await client_steps.client_step(self, self.client(step.actor), step)

    async def quiet(self) -> None:
        """Return when two rounds of fences over all connections brought nothing new."""
        calm = 0
        for _ in range(ROUNDS_MAX):
            before = self._activity()
            asked = [client for client in self.clients.values() if client.fenceable]
            for client in asked:
                await client.ping(noted=False)
            for client in asked:
                await client.fenced()
            for tool in list(self.tools.values()):
                await tool.fence()
            calm = calm + 1 if self._activity() == before else 0
            if calm == CALM_ROUNDS:
                return
        self.note("never quiet")

    def _activity(self) -> int:
        links: list[Client | Tool] = [*self.clients.values(), *self.tools.values()]
        return sum(link.activity for link in links)

    def _flush(self, head: str, step: Step) -> None:
        """Move what happened into the transcript; a tool's part when the tool has ended."""
        if head:
            self.transcript.append(head)
        self.transcript += [f"   {line}" for line in self.notes]
        self.notes.clear()
        if not step.fenced:
            return  # what came so far shows with the next step: how far it came is chance
        for name in sorted(self.clients):
            self.transcript += [f"   {name} < {line}" for line in self.clients[name].lines]
            self.clients[name].lines.clear()
        if step.actor in self.tools and step.verb in ("run", "ended", "signal"):
            self.transcript += [f"   {step.actor} {line}" for line in self.tools[step.actor].take_lines()]

    def _complain(self) -> None:
        """A traceback is a difference whatever the scenario looks at."""
        if any("Traceback (most recent call last)" in line for line in self.broker.lines):
            self.transcript.append("   broker wrote a traceback")

    def _normal(self, line: str) -> str:
        for name, value in sorted(self._names.items(), key=lambda item: -len(item[1])):
            line = re.sub(rf"(?<![0-9]){re.escape(value)}(?![0-9])", "{" + name + "}", line)
        line = logs.VERSION.sub("{broker} version {version}", line)
        for tool in self.tools.values():
            line = line.replace(str(tool.port), "{port}") if tool.port else line
        return line


async def play(
    scenario: Scenario, kind: str, certificates: Path, within_s: float = SCENARIO_S
) -> tuple[list[str], list[str]]:
    """Play a scenario in a folder of its own.  Returns the transcript and what the broker wrote."""
    folder = Path(tempfile.mkdtemp(prefix="rowcast-compat-"))
    os.chmod(folder, 0o777)  # Mosquitto gives up root
    try:
        acting = Play(scenario, kind, folder, certificates, within_s)
        return await acting.run(), acting.broker.lines
    finally:
        shutil.rmtree(folder, ignore_errors=True)
