"""Command-line tools (mosquitto_pub, _sub, _rr) with a proxy between them and the broker.

The proxy shows which packets a tool sent and got, tells when a subscription stands, and can put a fence
into the conversation: a PINGREQ of which the tool never learns.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from player import packets, packets5, transport

FENCE_S = 20.0
_OWN_ID = re.compile(r"\b(mosq-|mosqpub\||mosqsub\||[a-z]+_)[A-Za-z0-9]{18,}\b|(?<=_)\d{3,}\b")


class Tool:
    """One tool process and its connections."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.activity = 0
        self.output: list[str] = []
        self.status: int | None = None
        self._folder = folder
        self._sent: list[str] = []
        self._got: list[str] = []
        self._shown = 0
        self._process: trio.Process | None = None
        self._changed = trio.Event()
        self._links: list[_Link] = []
        self._open = 0
        self.port = 0

    def take_lines(self) -> list[str]:
        """What happened since the last call: packets each way (their interleaving is chance), then output."""
        lines = [f"> {line}" for line in self._sent] + [f"< {line}" for line in self._got]
        lines += [f"prints {line}" for line in self.output[self._shown :]]
        self._sent, self._got, self._shown = [], [], len(self.output)
        return [_OWN_ID.sub(r"\1{id}", line) for line in lines]

    def stir(self) -> None:
        self.activity += 1
        self._changed.set()
        self._changed = trio.Event()

    def note(self, sent: bool, line: str) -> None:
        (self._sent if sent else self._got).append(line)
        self.stir()

    async def listen(self, nursery: trio.Nursery, broker_port: int) -> int:
        """Open the proxy once; the port for the tool's command line."""
        if not self.port:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            self.port = int(listeners[0].socket.getsockname()[1])

            async def serve(stream: trio.SocketStream) -> None:
                await self._serve(stream, broker_port)

            nursery.start_soon(trio.serve_listeners, serve, listeners)
        return self.port

    async def _serve(self, tool: trio.SocketStream, broker_port: int) -> None:
        try:
            broker = await trio.open_tcp_stream("127.0.0.1", broker_port)
        except OSError:
            await trio.aclose_forcefully(tool)
            return
        link = _Link(self, broker)
        self._links.append(link)
        self._open += 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.to_broker, tool, nursery.cancel_scope)
            nursery.start_soon(link.to_tool, tool, nursery.cancel_scope)
        try:
            ends = transport.ends_of(broker)
        except OSError:
            ends = None
        for stream in (tool, broker):
            await trio.aclose_forcefully(stream)
        await transport.until_forgotten(ends, FENCE_S)
        self._open -= 1
        self.stir()

    async def start(self, nursery: trio.Nursery, command: Sequence[str]) -> None:
        self.output, self.status, self._shown = [], None, 0
        self._process = await trio.lowlevel.open_process(
            list(command),
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        nursery.start_soon(self._collect, self._process)

    async def _collect(self, process: trio.Process) -> None:
        assert process.stdout is not None
        rest = b""
        async for data in process.stdout:
            *whole, rest = (rest + data).split(b"\n")
            self.output += [line.decode("utf-8", "backslashreplace") for line in whole]
            self.stir()
        if rest:
            self.output.append(rest.decode("utf-8", "backslashreplace") + " (no newline)")
        self.status = await process.wait()
        self.stir()

    async def feed(self, data: bytes) -> None:
        """Write to the tool's standard input; empty data closes it."""
        assert self._process is not None
        assert self._process.stdin is not None
        if data:
            await self._process.stdin.send_all(data)
        else:
            await self._process.stdin.aclose()

    def signal(self, name: str) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(getattr(signal, "SIG" + name))

    async def until_subscribed(self, within_s: float) -> bool:
        return await self._until(lambda: any("SUBACK" in line for line in self._got), within_s)

    async def until_lines(self, count: int, within_s: float) -> bool:
        return await self._until(lambda: len(self.output) >= count, within_s)

    async def until_ended(self, within_s: float) -> bool:
        """The process is gone and everything it sent has passed the proxy."""
        return await self._until(lambda: self.status is not None and not self._open, within_s)

    async def _until(self, condition: Callable[[], bool], within_s: float) -> bool:
        with trio.move_on_after(within_s):
            while not condition():
                if self.status is not None and not self._open:
                    break
                await self._changed.wait()
        return condition()

    @property
    def fenceable(self) -> bool:
        return any(link.fenceable for link in self._links)

    async def fence(self) -> None:
        for link in self._links:
            if link.fenceable:
                await link.fence()

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()


class _Link:
    """One proxied connection."""

    def __init__(self, tool: Tool, broker: trio.SocketStream) -> None:
        self._tool = tool
        self._broker = broker
        self._pings: deque[trio.Event] = deque()
        self._accepted = False
        self._level = 4
        self._sending = trio.Lock()

    @property
    def fenceable(self) -> bool:
        return self._accepted

    async def fence(self) -> None:
        answered = trio.Event()
        self._pings.append(answered)
        with trio.move_on_after(FENCE_S) as scope:
            await self._to_broker(packets.PINGREQ)
            await answered.wait()
        if scope.cancelled_caught:
            self._accepted = False

    async def _to_broker(self, data: bytes) -> None:
        try:
            async with self._sending:
                await self._broker.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end()

    def _end(self) -> None:
        self._accepted = False
        while self._pings:
            self._pings.popleft().set()

    def _describe(self, packet: bytes) -> str:
        if packet[0] >> 4 == 1:
            self._level = packets5.level_of(packet)
        return packets5.describe(packet) if self._level == 5 else packets.describe(packet)

    async def to_broker(self, tool: trio.SocketStream, scope: trio.CancelScope) -> None:
        rest = b""
        try:
            async for data in tool:
                whole, rest = packets.split(rest + data)
                for packet in whole:
                    self._tool.note(True, self._describe(packet))
                    self._accepted = self._accepted and packet[0] >> 4 != 14
                    await self._to_broker(packet)
        except trio.BrokenResourceError:
            pass
        self._end()
        scope.cancel()

    async def to_tool(self, tool: trio.SocketStream, scope: trio.CancelScope) -> None:
        rest = b""
        try:
            async for data in self._broker:
                whole, rest = packets.split(rest + data)
                for packet in whole:
                    if packet[0] >> 4 == 13:  # no tool here runs so long that it would ping
                        if self._pings:
                            self._pings.popleft().set()
                        continue
                    if packet[0] == 0x20 and packet[3] == 0 and packet[1] < 0x80:
                        self._accepted = True
                    self._tool.note(False, self._describe(packet))
                    await tool.send_all(packet)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self._end()
        scope.cancel()
