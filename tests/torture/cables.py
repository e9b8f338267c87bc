"""A link that can be cut, made slow, or left hanging: between one node and one NATS server.

While it hangs it keeps what it was given, and hands it on later, also if who said it has gone by then.
"""

from __future__ import annotations

from contextlib import suppress

import trio
from support.polling import PATIENCE_S

OPEN, CUT, SLOW, HANGING = "open", "cut", "slow", "hanging"
SLOW_S = 0.15
KEPT_MAX = 1 << 20
"""Bytes of one direction that are under way; who says more waits."""


class _Way:
    """What one end has said, and the other has not been told yet."""

    def __init__(self) -> None:
        self.kept = bytearray()
        self.is_over = False
        self._changed = trio.Event()

    async def change(self) -> None:
        """Wait for the next one."""
        await self._changed.wait()

    def changed(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class Cable:
    """Listens on `port`, and passes on what comes to `target`."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._state = OPEN
        self._changed = trio.Event()
        self._ends: set[trio.SocketStream] = set()
        self._ways: set[_Way] = set()
        self._heard = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        task_status.started()
        await trio.serve_listeners(self._serve, listeners)

    async def become(self, state: str) -> None:
        """From now on."""
        self._state = state
        self._changed.set()
        self._changed = trio.Event()
        if state == CUT:
            for end in list(self._ends):
                await trio.aclose_forcefully(end)

    async def until_under_way(self, words: bytes) -> None:
        """Wait until somebody has said this, while the cable hangs.  Raises: trio.TooSlowError."""
        with trio.fail_after(PATIENCE_S):
            while not any(words in way.kept for way in self._ways):
                await self._heard.wait()

    async def _serve(self, here: trio.SocketStream) -> None:
        with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            if self._state == CUT:
                await trio.aclose_forcefully(here)
                return
            there = await trio.open_tcp_stream("127.0.0.1", self._target)
            ends, said, answered = {here, there}, _Way(), _Way()
            self._ends |= ends
            self._ways |= {said, answered}
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._hear, here, said)
                    nursery.start_soon(self._hear, there, answered)
                    nursery.start_soon(self._answer, answered, here, nursery)
                    await self._tell(said, there)
                    nursery.cancel_scope.cancel()
            finally:
                self._ends -= ends
                self._ways -= {said, answered}
                for end in ends:
                    with trio.CancelScope(shield=True):
                        await trio.aclose_forcefully(end)

    async def _hear(self, source: trio.SocketStream, way: _Way) -> None:
        with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(65_536):
                way.kept += data
                way.changed()
                self._heard.set()
                self._heard = trio.Event()
                while len(way.kept) > KEPT_MAX:
                    await way.change()
        way.is_over = True
        way.changed()

    async def _answer(self, way: _Way, here: trio.SocketStream, nursery: trio.Nursery) -> None:
        if await self._tell(way, here):
            nursery.cancel_scope.cancel()
        # Else who has asked has gone; what it had said is handed on all the same.

    async def _tell(self, way: _Way, sink: trio.SocketStream) -> bool:
        """Until all is told, or there is nobody to tell it to; whether it is all."""
        with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            while way.kept or not way.is_over:
                if not way.kept:
                    await way.change()
                    continue
                while self._state == HANGING:
                    await self._changed.wait()
                if self._state == SLOW:
                    await trio.sleep(SLOW_S)
                data = bytes(way.kept)
                way.kept.clear()
                way.changed()
                await sink.send_all(data)
            return True
        return False
