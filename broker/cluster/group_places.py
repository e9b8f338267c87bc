"""Where a `$share` group goes on whose consumer is gone: deleted by somebody, or gone with the log that was made anew.

    members here were given everything up to a place    behind that
    a session has come back whose place is known        behind that: what came while all members were away is for it
    of a log before this one                            at the beginning of this one: all of it is new to the group
    none of these                                       behind what there is: the group is new

The place is named to NATS: told to begin with what is new, each replica begins with what is new when it makes the
consumer, and one that is late and then leads leaves out what came meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.names import Names
from broker.cluster.setup import epoch_of, info, made_at, places

if TYPE_CHECKING:
    from broker.cluster.reader import LogReader

GroupKey = tuple[bytes, bytes]
Place = tuple[str, int]
"""Of which log, and up to where."""

UNREAD: Final = epoch_of("")
"""Of a node that has yet to read the log."""


class GroupPlaces:
    """Of the groups with members on one node."""

    def __init__(self, link: NatsLink, names: Names, reader: LogReader) -> None:
        self._link = link
        self._names = names
        self._reader = reader
        self._given: dict[GroupKey, Place] = {}
        """Up to where members here were given everything, or were not there."""
        self._left: dict[GroupKey, Place] = {}
        """Of groups without such a place: where a session was that has come back."""
        reader.on_lost.append(self._log_lost)

    def here(self) -> Place:
        """What this node has read."""
        return (self._reader.epoch, self._reader.last)

    def serves(self, key: GroupKey, place: Place) -> None:
        """The group has its consumer, and this node has read so far."""
        self._given.setdefault(key, place)
        self._left.pop(key, None)

    def begins(self, key: GroupKey, place: Place) -> None:
        """The group has a new consumer, which begins behind this place."""
        self._given[key] = place

    def gave(self, key: GroupKey, sequence: int) -> None:
        """A member here got the message with this place in the log."""
        if key in self._given:
            epoch, place = self._given[key]
            now = self._reader.epoch
            self._given[key] = (now, max(place, sequence) if epoch == now else sequence)

    def came_back(self, key: GroupKey, epoch: str, cursor: int) -> None:
        """A member's session was brought here, which has been given what is its own up to there."""
        before = self._left.setdefault(key, (epoch, cursor))
        if before[0] == epoch:
            self._left[key] = (epoch, min(before[1], cursor))

    def forget(self, key: GroupKey) -> None:
        """It has no members here."""
        self._given.pop(key, None)
        self._left.pop(key, None)

    def is_new(self, key: GroupKey) -> bool:
        """Whether it is not known here where the group was."""
        return key not in self._given and key not in self._left

    async def start_of(self, key: GroupKey) -> Place:
        """Behind which place a new consumer begins.  Raises: Unavailable, ApiError, NatsProtocolError."""
        stream = await info(self._link, self._names.messages)
        if stream is None:
            raise Unavailable(f"the stream {self._names.messages} is not there")
        epoch, (_, end) = epoch_of(made_at(stream)), places(stream)
        known = self._given.get(key) or self._left.get(key) or (UNREAD, 0)
        if known[0] not in (UNREAD, epoch):
            return (epoch, 0)
        is_new = known[0] == UNREAD
        read = self.here() if is_new else known
        if read[0] == epoch and read[1] > end:  # as the reader will find, if the log has lost its end
            raise Unavailable("the NATS server that answers has yet to catch up with the log")
        return (epoch, end) if is_new else known

    def _log_lost(self) -> None:
        """The reader has begun again, with another log or at an earlier place of this one."""
        now, last = self.here()
        for known in (self._given, self._left):
            for key, (epoch, place) in known.items():
                if epoch == now:
                    known[key] = (epoch, min(place, last))
