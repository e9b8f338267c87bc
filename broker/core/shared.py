"""Shared subscriptions, `$share/GROUP/FILTER`: each publication goes to one member of the group.

As Mosquitto, for MQTT 3.1.1 clients as well: members take turns.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.trie import SubscriptionTrie
from protocol.mqtt.reserved import CHANNEL_PREFIX, SHARE_PREFIX
from protocol.mqtt.topics import has_wildcard


def split_shared(topic_filter: bytes) -> tuple[bytes, bytes]:
    """`$share/group/filter` to (group, filter); (b"", topic_filter) for any other filter.

    A `$share` filter without group or filter gives (b"", b""): it is not valid.
    """
    if not topic_filter.startswith(SHARE_PREFIX):
        return b"", topic_filter
    parts = topic_filter.split(b"/", 2)
    group = parts[1]
    if len(parts) < 3 or not group or not parts[2] or has_wildcard(group):
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


def is_closed(topic_filter: bytes) -> bool:
    """Whether no client may subscribe to it: it is a channel's, by itself or in a group, or no group's at all."""
    plain_filter = split_shared(topic_filter)[1]
    return not plain_filter or plain_filter.startswith(CHANNEL_PREFIX)


class SharedGroup(Receiver):
    """The members of one group on one filter, in turn order."""

    def __init__(self, key: tuple[bytes, bytes]) -> None:
        super().__init__(plain=False)
        self.key = key
        self._members: dict[Receiver, int] = {}
        self.is_here: Callable[[tuple[bytes, bytes], Publication], bool] | None = None
        """Whether a member of this node gets it, where nodes share groups."""

    def add(self, receiver: Receiver, granted: int) -> bool:
        """Add a member, or change what it was granted; whether it is new."""
        is_new = receiver not in self._members
        self._members[receiver] = granted
        return is_new

    def remove(self, receiver: Receiver) -> bool:
        """Take a member out; whether it was in."""
        return self._members.pop(receiver, -1) >= 0

    def is_empty(self) -> bool:
        """Whether the group has lost its last member."""
        return not self._members

    def members(self) -> dict[Receiver, int]:
        """Each with what it was granted, in turn order."""
        return self._members

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        is_here = self.is_here
        if is_here is None or is_here(self.key, publication):
            self.hand_on(publication, retained)

    def comes_last(self, receiver: Receiver) -> None:
        """It has had its turn."""
        self._members[receiver] = self._members.pop(receiver)

    def hand_on(self, publication: Publication, retained: bool) -> None:
        """Give it to the member whose turn it is."""
        for receiver, member_granted in self._members.items():
            if receiver.may_read(publication.topic):
                # Back to the end of the turn order.
                del self._members[receiver]
                self._members[receiver] = member_granted
                receiver.deliver(publication, member_granted, retained)
                return


class SharedGroups:
    """All groups of one engine.

    Attributes:
        is_here: for every group, see `SharedGroup`.
        on_changed: told of a group that got a first member, or lost its last.
    """

    def __init__(self, trie: SubscriptionTrie) -> None:
        self.is_here: Callable[[tuple[bytes, bytes], Publication], bool] | None = None
        self.on_changed: Callable[[tuple[bytes, bytes]], None] | None = None
        self._trie = trie
        self._groups: dict[tuple[bytes, bytes], SharedGroup] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def get(self, key: tuple[bytes, bytes]) -> SharedGroup | None:
        """The group of a name on a filter."""
        return self._groups.get(key)

    def all_keys(self) -> list[tuple[bytes, bytes]]:
        """(name, filter) of every group."""
        return list(self._groups)

    def subscribe(self, name: bytes, topic_filter: bytes, receiver: Receiver, granted: int) -> bool:
        """Add a member; whether it is new."""
        key = (name, topic_filter)
        group = self._groups.get(key)
        if group is not None:
            return group.add(receiver, granted)
        group = self._groups[key] = SharedGroup(key)
        group.is_here = self.is_here
        self._trie.subscribe(topic_filter, group, 2)
        group.add(receiver, granted)
        if self.on_changed is not None:
            self.on_changed(key)
        return True

    def unsubscribe(self, name: bytes, topic_filter: bytes, receiver: Receiver) -> bool:
        """Remove a member; whether it was there."""
        key = (name, topic_filter)
        group = self._groups.get(key)
        if group is None or not group.remove(receiver):
            return False
        if group.is_empty():
            del self._groups[key]
            self._trie.unsubscribe(topic_filter, group)
            if self.on_changed is not None:
                self.on_changed(key)
        return True
