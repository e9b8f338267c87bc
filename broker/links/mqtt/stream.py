"""A Trio stream (TLS, unix socket, WebSocket, memory) driving a link, with a task that sends.

Where there is an epoll, plain TCP goes through the pump instead.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import trio

from broker.core.engine import Engine
from broker.core.limits import CLOSE_TIMEOUT_S, RECEIVE_BYTES_MAX
from broker.core.outbox import Outbox
from broker.core.shell import ASK_AGAIN, Shell
from broker.links.barrier import barrier
from broker.links.listening.door import Door
from broker.links.mqtt.link import MqttLink

QUIET_TURNS: Final = 8
"""So many turns of Trio's without news: what had been sent before has come, each layer takes one or two."""

AHEAD_BYTES_MAX: Final = 256 * 1024
"""Kept of a peer that is paused, to learn whether it has left."""


class StreamShell(Shell):
    """One connection over any `trio.abc.Stream`.

    Args:
        engine, door, peer: as for `MqttLink`.
        stream: connected; closed when `run` returns.
    """

    def __init__(self, engine: Engine, door: Door, peer: str, stream: trio.abc.Stream) -> None:
        super().__init__()
        self.engine = engine
        self.stream = stream
        self._owed = trio.Event()
        self._closing = False
        self._scope = trio.CancelScope()
        self.outbox = Outbox(engine.round, door.outbox_bytes_max, None, self)
        self._news = trio.Event()
        self._ahead: deque[bytes] = deque()
        self._ahead_bytes = 0
        self._is_over = False
        """The peer has left, and what it sent before is in `_ahead`."""
        self._looking = trio.CancelScope()
        self._quiet_turns = 0
        """How often it was to be heard out since something came."""
        self.link = MqttLink(engine, door, self.outbox, peer, self)

    async def run(self) -> None:
        """Serve until either side closes.  The peer's faults end here; our bugs are logged and end here, too."""
        with barrier(self.engine.counters, self.link.peer):
            try:
                async with trio.open_nursery() as nursery:
                    self._scope = nursery.cancel_scope
                    nursery.start_soon(self._write)
                    await self._read()
            finally:
                with self.engine.turn:
                    if not self.link.departed:
                        self.link.close("closed its connection.")
                    self.outbox.close()
        await trio.aclose_forcefully(self.stream)

    async def _read(self) -> None:
        while True:
            await self._may_go_on()
            if not self._ahead:
                await self._receive()
                continue
            self._quiet_turns = 0
            data = self._ahead.popleft()
            self._ahead_bytes -= len(data)
            with self.engine.turn:
                if not data:
                    self.link.lost()
                    return
                self.link.received(data)

    async def _receive(self) -> None:
        try:
            data = bytes(await self.stream.receive_some(RECEIVE_BYTES_MAX))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        self._is_over = not data
        self._ahead.append(data)
        self._ahead_bytes += len(data)

    async def _may_go_on(self) -> None:
        """Return when what comes may be handled, or the peer has left: it waits for nothing more.

        A stream tells of its end behind all that was sent, so what comes meanwhile is kept, up to a limit.
        """
        outbox = self.outbox
        while outbox.holds_reading and not self._is_over:
            if not outbox.hears_end or self._ahead_bytes >= AHEAD_BYTES_MAX:
                await self._news.wait()
                continue
            with trio.CancelScope() as self._looking:
                await self._receive()

    async def _write(self) -> None:
        """Send whatever is owed; once the link has closed, send the rest and end the connection."""
        while True:
            await self._owed.wait()
            self._owed = trio.Event()
            try:
                while data := self.outbox.take():
                    await self.stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                # What came before is still read; behind it is the end.
                self.outbox.end_sending()
                self._scope.deadline = trio.current_time() + CLOSE_TIMEOUT_S
            if self._closing:
                self._scope.cancel()
                return
            if self.outbox.on_drained is not None:
                with self.engine.turn:
                    self.outbox.on_drained()

    def look_again(self) -> None:
        self._news.set()
        self._news = trio.Event()
        self._looking.cancel()

    def blocked(self) -> None:
        self._owed.set()

    def broken(self) -> None:
        self._owed.set()

    def failed(self, error: Exception) -> None:
        self.link.close("disconnected: internal error.")

    def hear_out(self) -> int:
        """Its task does that; some turns in which nothing comes are the end of it."""
        self._quiet_turns += 1
        may_come = self._quiet_turns < QUIET_TURNS and not self._closing and not self.outbox.holds_reading
        return ASK_AGAIN if may_come else 0

    def end_soon(self) -> None:
        """Send what is still owed, but not for longer than a peer that reads would need."""
        self._closing = True
        self._scope.deadline = trio.current_time() + CLOSE_TIMEOUT_S
        self._owed.set()
