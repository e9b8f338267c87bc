"""A link that can be cut, made slow, or left hanging: between one node and one NATS server."""

from __future__ import annotations

from contextlib import suppress

import trio

OPEN, CUT, SLOW, HANGING = "open", "cut", "slow", "hanging"
SLOW_S = 0.15


class Cable:
    """Listens on `port`, and passes on what comes to `target`."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._state = OPEN
        self._changed = trio.Event()
        self._ends: set[trio.SocketStream] = set()

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

    async def _serve(self, here: trio.SocketStream) -> None:
        with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            if self._state == CUT:
                await trio.aclose_forcefully(here)
                return
            there = await trio.open_tcp_stream("127.0.0.1", self._target)
            ends = {here, there}
            self._ends |= ends
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pass, here, there, nursery)
                    nursery.start_soon(self._pass, there, here, nursery)
            finally:
                self._ends -= ends
                for end in ends:
                    with trio.CancelScope(shield=True):
                        await trio.aclose_forcefully(end)

    async def _pass(self, source: trio.SocketStream, sink: trio.SocketStream, nursery: trio.Nursery) -> None:
        with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                data = await source.receive_some(65_536)
                if not data:
                    break
                while self._state == HANGING:
                    await self._changed.wait()
                if self._state == SLOW:
                    await trio.sleep(SLOW_S)
                await sink.send_all(data)
        nursery.cancel_scope.cancel()
