"""Whether the log still has what another node had read of it, as that node wrote it down.

A node that runs while the log loses its end finds it (`log_end.PlaceRead`), and remembers it here.  One that began
since knows nothing of it: so a record says when the message was stored up to which its node had read, and that is
compared.
"""

from __future__ import annotations

from typing import Final

from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.log_end import PlaceRead
from broker.cluster.names import Names
from broker.cluster.setup import info, made_at, message_at

ANYWHERE: Final = 1 << 62
"""Behind whatever a log has."""


class LostEnds:
    """Of the log that one node reads."""

    def __init__(self, link: NatsLink, names: Names) -> None:
        self._link = link
        self._names = names
        self._created = ""
        self._found: list[tuple[float, int]] = []
        """When the log was found to have lost its end, Unix time, and the last place of what was left."""

    def read(self, created: str) -> None:
        """The log that was made then is read from now on."""
        if created != self._created:
            self._found.clear()
        self._created = created

    def found(self, at: float, kept: int) -> None:
        """It has lost its end."""
        self._found.append((at, kept))

    async def still_there(self, place: int, stored_ns: int, at: float) -> int:
        """The place behind which the log has nothing any more of what another node had read of it.

        Args:
            place: up to there it had read, a message that was stored then, 0 for unknown; `at`: when it wrote that
                down, in Unix time.

        Raises:
            Doubt: that is not known, as no quorum has said so.
            Unavailable, ApiError, NatsProtocolError: as well.
        """
        created = self._created
        kept = min([ANYWHERE, *(kept for found_at, kept in self._found if at < found_at)])
        if not stored_ns or kept < place:
            return kept
        link, names = self._link, self._names
        there = await message_at(link, names.messages, place)
        if there is None or there.at_ns != stored_ns:
            found = await info(link, names.messages) or {}
            found, left = await PlaceRead(created, place, stored_ns).found_again(link, names, found)
            if made_at(found) != created:
                raise Unavailable("this node has yet to read the log that was made anew")
            if left < place:
                kept = min(kept, left)
        if created != self._created:
            raise Unavailable("this node reads another log by now")
        return kept
