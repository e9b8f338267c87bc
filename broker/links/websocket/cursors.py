"""How far a client has come in channels with a state, so that it is told the rest when it can take it.

Invariant: a client's cursor in a part is the `seq` of the last message that it was sent; whatever it is sent next
goes on from there, or says all.
"""

from __future__ import annotations

from typing import Protocol

from broker.core.parts import Part
from broker.gateway.gateway import Gateway


class Client(Protocol):
    """What this has to know of a link, which is its owner."""

    gateway: Gateway

    def pace(self, now: float) -> None:
        """Send what has become due by `now`."""


class Cursors:
    """The cursors of one client.

    Attributes:
        paced: topics that it reads at an interval, with the interval in seconds.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._cursors: dict[Part, int] = {}
        self._behind: dict[Part, None] = {}
        self._waiting: dict[Part, None] = {}
        """Of paced topics: what has news."""
        self._due_at: dict[bytes, float] = {}
        self.paced: dict[bytes, float] = {}

    def join(self, topic: bytes, parts: list[Part], every_s: float) -> list[bytes]:
        """The client subscribed to a topic; what it is to be sent at once."""
        if every_s > 0:
            self.paced[topic] = every_s
            self._due_at[topic] = self._client.gateway.engine.now + every_s if parts else 0.0
            self._client.gateway.join_pacing(self._client)
        payloads: list[bytes] = []
        for part in parts:
            payloads += part.state()
            self._cursors[part] = part.seq
        return payloads

    def leave(self, topic: bytes) -> None:
        """The client subscribes to a topic no more."""
        for kept in (self._behind, self._waiting):
            for part in [part for part in kept if part.topic == topic]:
                del kept[part]
        for part in [part for part in self._cursors if part.topic == topic]:
            del self._cursors[part]
        self._leave_pace(topic)

    def end(self) -> None:
        """The connection has ended: its pace is no longer wanted."""
        for topic in list(self.paced):
            self._leave_pace(topic)

    def takes(self, part: Part, is_quick: bool) -> bool:
        """Whether the newest message of a part is to be sent as it is; otherwise its turn comes."""
        if part.topic in self.paced:
            self._cursors.setdefault(part, part.prev)
            self._waiting[part] = None
            return False
        if part in self._behind:
            return False
        cursor = self._cursors.setdefault(part, part.prev)
        if is_quick and cursor == part.prev:
            self._cursors[part] = part.seq
            return True
        self._behind[part] = None
        return False

    def is_behind(self) -> bool:
        """Whether anything is still to be sent from a state or a history."""
        return bool(self._behind)

    def catch_up(self) -> list[bytes]:
        """What the client has missed of the part that has waited longest."""
        for part in self._behind:
            del self._behind[part]
            return self._rest(part)
        return []

    def due(self, now: float) -> list[bytes]:
        """What has come in topics whose interval is over."""
        payloads: list[bytes] = []
        told: dict[bytes, None] = {}
        for part in list(self._waiting):
            topic = part.topic
            if topic in told or self._due_at.get(topic, 0.0) <= now:
                told[topic] = None
                self._due_at[topic] = now + self.paced[topic]
                del self._waiting[part]
                payloads += self._rest(part)
        return payloads

    def _rest(self, part: Part) -> list[bytes]:
        cursor = self._cursors[part]
        self._cursors[part] = part.seq
        return part.since(cursor) if cursor != part.seq else []

    def _leave_pace(self, topic: bytes) -> None:
        if self.paced.pop(topic, 0.0):
            self._due_at.pop(topic, None)
            if not self.paced:
                self._client.gateway.leave_pacing(self._client)
