"""Who is connected to the admin port: when there are too many, one that asks nothing makes room.

Of the idle ones it is one of the address that has most of them, and there the one that has been idle longest: whoever
opens many connections closes his own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

CONNECTIONS_MAX: Final = 256


class Guest:
    """One connection.

    Args:
        address: of the peer.
        send_away: ends it.
    """

    def __init__(self, address: str, send_away: Callable[[], None]) -> None:
        self.address = address
        self.send_away = send_away


class Guests:
    """All of them.

    Args:
        count_max: how many there may be.
    """

    def __init__(self, count_max: int = CONNECTIONS_MAX) -> None:
        self._count_max = count_max
        self._count = 0
        self._idle: dict[str, dict[Guest, None]] = {}
        """By address, those that ask nothing, the longest idle first."""

    def enter(self, guest: Guest) -> bool:
        """Let one in; False if there are too many, and all are being answered."""
        if self._count >= self._count_max and not self._make_room():
            return False
        self._count += 1
        self.idles(guest)
        return True

    def leave(self, guest: Guest) -> None:
        """One has gone that had been let in; one that was sent away is not counted twice."""
        if guest.send_away is not _gone:
            guest.send_away = _gone
            self._count -= 1
            self.asks(guest)

    def idles(self, guest: Guest) -> None:
        """It has nothing to be answered."""
        if guest.send_away is not _gone:
            self._idle.setdefault(guest.address, {})[guest] = None

    def asks(self, guest: Guest) -> None:
        """It has asked something that it may."""
        idle = self._idle.get(guest.address)
        if idle is not None:
            idle.pop(guest, None)
            if not idle:
                del self._idle[guest.address]

    def _make_room(self) -> bool:
        if not self._idle:
            return False
        most = max(self._idle, key=lambda address: len(self._idle[address]))
        guest = next(iter(self._idle[most]))
        send_away = guest.send_away
        self.leave(guest)
        send_away()
        return True


def _gone() -> None:
    """It was sent away, or has left."""
