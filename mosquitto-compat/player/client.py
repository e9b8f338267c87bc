"""One client of a scenario: a socket, what came in as lines, and the acknowledgements a client owes.

A fence is a PINGREQ of the harness whose PINGRESP is not noted: what a broker had to say before it has
arrived when the answer has.  After bytes that may hold a PINGREQ themselves, an UNSUBSCRIBE does the same.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

import trio

from player import packets, packets5, transport

PATIENCE_S = 20.0
"""How long to wait for what must come: only a broker that is at fault makes anybody wait so long."""
SILENT_S = 3.0
"""How long to wait where silence is an answer."""
SETTLE_ID = 65000
"""Packet id of the harness's own UNSUBSCRIBE."""


class Client:
    """`lines` grows with each packet and the close; the player empties it after each step."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[str] = []
        self.activity = 0
        self.connected = False
        self.closed = True
        self.automatic = True
        self.mute = False
        self.next_id = 1
        self.level = 4
        self.packets = 0
        self.sent_at = 0.0
        """Since when the broker has heard nothing of it, by `time.monotonic`: a fence is something, too."""
        self.collected: dict[str, str] | None = None
        self.ids: dict[bytes, int] = {}
        """The packet id of the last PUBLISH of each topic that came."""
        self.reading = trio.Event()
        self.reading.set()
        self._pings: deque[bool] = deque()
        self._stream: trio.abc.Stream | None = None
        self._changed = trio.Event()
        self._sending = trio.Lock()
        self._settled = False

    def note(self, line: str) -> None:
        self.lines.append(line)
        self.stir()

    def stir(self) -> None:
        self.activity += 1
        self._changed.set()
        self._changed = trio.Event()

    async def open(self, nursery: trio.Nursery, port: int, options: Mapping[str, str]) -> bool:
        """Connect the socket and start to read.  False, with a line, when that fails."""
        self.connected, self.mute, self.next_id, self.packets = False, False, 1, 0
        self._pings.clear()
        self.ids.clear()
        self.automatic = "manual" not in options
        try:
            with trio.fail_after(PATIENCE_S):
                self._stream = await transport.reach(port, options, self.note)
        except transport.Refused as refused:
            self.note(str(refused))
            return False
        except trio.TooSlowError:
            self.note("no connection: silent")
            return False
        self.closed = False
        nursery.start_soon(self._read, self._stream)
        return True

    async def _read(self, stream: trio.abc.Stream) -> None:
        rest = b""
        try:
            while True:
                await self.reading.wait()
                data = await stream.receive_some()
                if not data:
                    break
                whole, rest = packets.split(rest + data)
                for packet in whole:
                    await self._received(packet)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        if rest:
            self.note(f"rest {rest[:40].hex(' ')}")
        if stream is self._stream and not self.closed:
            self.closed, self.connected = True, False
            self.note("closed")
        await trio.aclose_forcefully(stream)

    async def _received(self, packet: bytes) -> None:
        kind = packet[0] >> 4
        if kind == 13 and self._pings:
            noted = self._pings.popleft()
            self.note("PINGRESP") if noted else self.stir_quietly()
            return
        if kind == 11 and packets.packet_id_of(packet) == SETTLE_ID:
            self._settled = True
            self.stir_quietly()
            return
        self.packets += 1
        if self.collected is not None and kind == 3:
            reading = packets5 if self.level == 5 else packets
            topic, payload = reading.topic_and_payload(packet)
            self.collected[topic] = payload
            self.stir()
            return
        if kind == 3 and packet[0] & 6:
            self.ids[packets.topic_of(packet)] = packets.packet_id_of(packet)
        self.note(packets5.describe(packet) if self.level == 5 else packets.describe(packet))
        if kind == 2 and packet[3] == 0 and (self.level == 5 or len(packet) == 4):
            self.connected = True
        elif self.automatic:
            await self._acknowledge(kind, packet)

    async def settle(self) -> None:
        """Like `fence`, twice, and told apart from every packet of the scenario by its packet id."""
        for _ in range(2):
            self._settled = False
            made = packets5.unsubscribe(SETTLE_ID, [b"fence"], {}) if self.level == 5 else None
            await self.send(made or packets.unsubscribe(SETTLE_ID, [b"fence"]))
            if not await self.until(lambda: self.closed or self._settled, PATIENCE_S):
                self.mute = True
                self.note("silent")
                return

    def stir_quietly(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _acknowledge(self, kind: int, packet: bytes) -> None:
        answer = {5: 6, 6: 7}.get(kind)
        if kind == 3 and (qos := packet[0] >> 1 & 3):
            answer = 4 if qos == 1 else 5
        if answer is not None:
            await self.send(packets.short(answer, packets.packet_id_of(packet)))

    async def send(self, data: bytes) -> None:
        """Send; a broken connection is noticed, and noted, by the reader."""
        if self.closed or self._stream is None:
            return
        self.sent_at = time.monotonic()
        try:
            with trio.move_on_after(PATIENCE_S) as scope:
                async with self._sending:
                    await self._stream.send_all(data)
            if scope.cancelled_caught:
                self.note("blocked")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def ping(self, *, noted: bool) -> None:
        self._pings.append(noted)
        await self.send(packets.PINGREQ)

    @property
    def fenceable(self) -> bool:
        return self.connected and not self.closed and not self.mute and self.reading.is_set()

    async def fenced(self) -> None:
        """Return when all that the broker sent before the last ping has arrived, or the connection has ended."""
        if not await self.until(lambda: self.closed or not self._pings, PATIENCE_S):
            self.mute = True
            self.note("silent")

    async def until(self, condition: Callable[[], bool], within_s: float) -> bool:
        """Wait for a condition on this client; False after `within_s`."""
        if condition():
            return True
        with trio.move_on_after(within_s):
            while not condition():
                await self._changed.wait()
            return True
        return condition()

    async def drop(self) -> None:
        """Close without DISCONNECT; not noted, since we did it."""
        self.closed, self.connected = True, False
        if self._stream is not None:
            try:
                ends = transport.ends_of(self._stream)
            except OSError:
                ends = None  # it was closed from the other side
            await trio.aclose_forcefully(self._stream)
            await transport.until_forgotten(ends, PATIENCE_S)
            self._stream = None
