"""Turns at something slow (a password's hash, a login hook), fair by address, then by name.

Who waits for its turn gives it up by being cancelled.  Invariant: `_taken` counts those who have a turn, and somebody
waits only while all turns are taken, or all that its address may have.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Turns:
    """Turns at one slow thing.

    Args:
        count_max: how many may have a turn at a time.
        share_max: of one address.
    """

    def __init__(self, count_max: int, share_max: int) -> None:
        self._count_max = count_max
        self._share_max = share_max
        self._taken: dict[str, int] = {}
        self._taken_count = 0
        self._waiting: dict[str, dict[bytes, dict[trio.Event, None]]] = {}
        """By address and name, each in the order of their next turns."""

    def waiting(self) -> int:
        """How many wait for a turn."""
        return sum(len(events) for names in self._waiting.values() for events in names.values())

    @asynccontextmanager
    async def one(self, address: str, name: bytes = b"") -> AsyncIterator[None]:
        """One turn, once it has come."""
        event = trio.Event()
        self._waiting.setdefault(address, {}).setdefault(name, {})[event] = None
        self._pass_on()
        try:
            await event.wait()
            yield
        finally:
            if event.is_set():
                self._give_back(address)
            else:
                self._leave(address, name, event)
            self._pass_on()

    def _pass_on(self) -> None:
        """Let those begin for whom there is a turn."""
        while self._taken_count < self._count_max:
            address = next((one for one in self._waiting if self._taken.get(one, 0) < self._share_max), None)
            if address is None:
                return
            name = next(iter(self._waiting[address]))
            event = next(iter(self._waiting[address][name]))
            self._leave(address, name, event)
            # Whoever had a turn stands last from now on.
            if address in self._waiting:
                names = self._waiting[address] = self._waiting.pop(address)
                if name in names:
                    names[name] = names.pop(name)
            self._taken[address] = self._taken.get(address, 0) + 1
            self._taken_count += 1
            event.set()

    def _give_back(self, address: str) -> None:
        self._taken_count -= 1
        self._taken[address] -= 1
        if not self._taken[address]:
            del self._taken[address]

    def _leave(self, address: str, name: bytes, event: trio.Event) -> None:
        names = self._waiting[address]
        del names[name][event]
        if not names[name]:
            del names[name]
        if not names:
            del self._waiting[address]
