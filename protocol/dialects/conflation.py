"""Messages that wait, few for many: the newest of each key, or several merged into one.

For receivers that read too slowly, and for channels that were asked for at an interval.
"""

from __future__ import annotations

from collections.abc import Sequence

WAITING_PER_KEY_MAX = 256
"""Messages of one mergeable key that wait before they are merged or given up."""


class Conflation:
    """How messages of a dialect stand for each other.  This one: the newest of each channel wins.

    Attributes:
        discarded: pieces of messages that were left out of a merged one, because they were none.
    """

    def __init__(self) -> None:
        self.discarded = 0

    def key(self, channel: str, payload: bytes) -> str:
        """Messages with the same key may be replaced by, or merged into, one."""
        return channel

    def is_mergeable(self, key: str) -> bool:
        """Whether an older message still counts beside a newer one with this key."""
        return False

    def merge(self, payloads: Sequence[bytes]) -> Sequence[bytes]:
        """As few messages as stand for all of these, of a mergeable key, oldest first: one, if that can be."""
        return payloads[-1:]


class _Waiting:
    __slots__ = ("channel", "is_merged", "payloads", "skipped")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.payloads: list[bytes] = []
        self.skipped = 0
        self.is_merged = False
        """What waits are as few as there can be."""


class Backlog:
    """What waits for one receiver, or for the end of one interval.

    Args:
        conflation: the dialect's.
        bytes_max: payload bytes that may wait; more are skipped.
        merges_early: merge what waits when there is too much of it, instead of skipping it.  Merging costs
            time per message, so a receiver that just doesn't read is not worth it.
    """

    def __init__(self, conflation: Conflation, bytes_max: int, merges_early: bool = False) -> None:
        self._conflation = conflation
        self._bytes_max = bytes_max
        self._merges_early = merges_early
        self._waiting: dict[str, _Waiting] = {}
        self._bytes = 0
        self.has_hole = False
        """Of a mergeable key messages had to be left out: what is left does not stand for all of them."""
        self._is_crowded = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    def has_room(self, channel: str, payload: bytes) -> bool:
        """Whether this message may wait without that one which still counts, or itself, is skipped."""
        if self._is_crowded:
            return False
        excess = self._bytes + len(payload) - self._bytes_max
        if excess <= 0:
            return True
        key = self._conflation.key(channel, payload)
        waiting = self._waiting.get(key)
        if waiting is None or self._conflation.is_mergeable(key):
            return False
        return excess <= sum(map(len, waiting.payloads))

    def offer(self, channel: str, payload: bytes) -> int:
        """Let a message wait in place of, or together with, earlier ones of its key.

        Returns:
            How many messages will never be sent because of this one.
        """
        key = self._conflation.key(channel, payload)
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = _Waiting(channel)
        skipped_before = waiting.skipped
        if self._conflation.is_mergeable(key):
            if len(waiting.payloads) >= WAITING_PER_KEY_MAX:
                self._make_room(waiting)
        elif waiting.payloads:
            self._drop_all(waiting)
        if self._bytes + len(payload) > self._bytes_max:
            waiting.skipped += 1
            self.has_hole = self.has_hole or self._conflation.is_mergeable(key)
        else:
            waiting.payloads.append(payload)
            waiting.is_merged = False
            self._bytes += len(payload)
        return waiting.skipped - skipped_before

    def take(self) -> tuple[str, bytes | None, int] | None:
        """Take the key that has waited longest; where one message can't stand for all, the oldest, and the key stays.

        Returns:
            Channel, the one message (None if all had to be skipped), and how many were skipped; or None if
            nothing waits.
        """
        for key, waiting in self._waiting.items():
            if len(waiting.payloads) > 1 and not waiting.is_merged:
                self._merge(waiting)
            skipped, waiting.skipped = waiting.skipped, 0
            payload = waiting.payloads.pop(0) if waiting.payloads else None
            if payload is not None:
                self._bytes -= len(payload)
            if not waiting.payloads:
                del self._waiting[key]
            return waiting.channel, payload, skipped
        self._is_crowded = False
        return None

    def forget(self, channel: str) -> None:
        """The receiver left the channel."""
        for key in [key for key, waiting in self._waiting.items() if waiting.channel == channel]:
            self._bytes -= sum(map(len, self._waiting.pop(key).payloads))

    def _make_room(self, waiting: _Waiting) -> None:
        if not self._merges_early:
            # A gap in changes makes the rest worthless: the receiver is told, and has to start anew.
            self.has_hole = True
            self._drop_all(waiting)
            return
        self._merge(waiting)
        if len(waiting.payloads) > WAITING_PER_KEY_MAX // 2:
            self._is_crowded = True  # each of those to come would have all merged again

    def _merge(self, waiting: _Waiting) -> None:
        merged = list(self._conflation.merge(waiting.payloads))
        self._bytes += sum(map(len, merged)) - sum(map(len, waiting.payloads))
        waiting.payloads, waiting.is_merged = merged, True

    def _drop_all(self, waiting: _Waiting) -> None:
        waiting.skipped += len(waiting.payloads)
        self._bytes -= sum(map(len, waiting.payloads))
        waiting.payloads.clear()
