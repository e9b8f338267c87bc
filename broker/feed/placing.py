"""Says where the row is of which publications come, to an outlet whose readers may want it again."""

from __future__ import annotations

from broker.feed.outlet import FeedOutlet, Placed


def place_prefix(feed: str) -> bytes:
    """How the places of a feed's rows begin: its name, and a NUL."""
    return feed.encode() + b"\0"


class Placing:
    """A feed's outlet, if it takes places."""

    def __init__(self, outlet: FeedOutlet, feed: str) -> None:
        self._outlet = outlet if isinstance(outlet, Placed) else None
        self._prefix = place_prefix(feed)

    def at(self, place: bytes) -> None:
        """Of this row from now on; b"" where what is published says itself which row it is."""
        if self._outlet is not None:
            self._outlet.place = self._prefix + place

    def nowhere(self) -> None:
        """Of no row that can be read again."""
        if self._outlet is not None:
            self._outlet.place = b""
