"""Shared subscriptions, `$share/GROUP/FILTER`: each publication goes to one member of the group.

As Mosquitto, for MQTT 3.1.1 clients as well: members take turns.
"""

from __future__ import annotations

from broker.core.publication import Publication
from broker.core.receiver import Receiver

SHARE_PREFIX = b"$share/"


def split_shared(topic_filter: bytes) -> tuple[bytes, bytes]:
    """`$share/group/filter` to (group, filter); (b"", topic_filter) for any other filter.

    A `$share` filter without group or filter gives (b"", b""): it is not valid.
    """
    if not topic_filter.startswith(SHARE_PREFIX):
        return b"", topic_filter
    parts = topic_filter.split(b"/", 2)
    group = parts[1]
    if len(parts) < 3 or not group or not parts[2] or b"+" in group or b"#" in group:
        return b"", b""
    return group, parts[2]


def lacks_filter(topic_filter: bytes) -> bool:
    """Whether it begins as a shared subscription and ends before its filter: Mosquitto closes on these."""
    parts = topic_filter.split(b"/", 3)
    return parts[0] == b"$share" and (len(parts) < 3 or (len(parts) == 3 and not parts[2]))


def is_misnamed(topic_filter: bytes) -> bool:
    """Whether it begins as a shared subscription and lacks its filter, or a group that may be one."""
    return topic_filter == b"$share" or (
        topic_filter.startswith(SHARE_PREFIX) and not split_shared(topic_filter)[1]
    )


class SharedGroup(Receiver):
    """The members of one group on one filter, in turn order."""

    def __init__(self, key: tuple[bytes, bytes]) -> None:
        super().__init__(plain=False)
        self.key = key
        self._members: dict[Receiver, int] = {}

    def add(self, receiver: Receiver, granted: int) -> bool:
        is_new = receiver not in self._members
        self._members[receiver] = granted
        return is_new

    def remove(self, receiver: Receiver) -> bool:
        return self._members.pop(receiver, -1) >= 0

    def is_empty(self) -> bool:
        """Whether the group has lost its last member."""
        return not self._members

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        for receiver, member_granted in self._members.items():
            if receiver.may_read(publication.topic):
                # Back to the end of the turn order.
                del self._members[receiver]
                self._members[receiver] = member_granted
                receiver.deliver(publication, member_granted, retained)
                return
