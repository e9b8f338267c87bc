"""Peers that have gone while somebody else decides about them, and whose bytes still count: so many, and no more."""

from __future__ import annotations

from broker.core.limits import DEPARTED_MAX, DEPARTED_SHARE_MAX


class Departed:
    """How many there are, of all addresses and of each."""

    def __init__(self) -> None:
        self._of_address: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(self._of_address.values())

    def stay(self, address: str) -> bool:
        """One more, if there is room for it; then `leave`."""
        count = self._of_address.get(address, 0)
        if count >= DEPARTED_SHARE_MAX or len(self) >= DEPARTED_MAX:
            return False
        self._of_address[address] = count + 1
        return True

    def leave(self, address: str) -> None:
        """One of these was decided about."""
        self._of_address[address] -= 1
        if not self._of_address[address]:
            del self._of_address[address]
