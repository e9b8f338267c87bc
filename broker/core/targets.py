"""Who gets a topic: receivers, each with the QoS it was granted, or with more (`protocol.mqtt.v5.subscribing`)."""

from __future__ import annotations

from typing import Final

from broker.core.receiver import Receiver
from protocol.mqtt.v5.runs import as_3, as_5
from protocol.mqtt.v5.subscribing import both

RECEIVERS_UNPACED_MAX: Final = 1024
"""So many who take packets as bytes may be handed a message one by one before that counts for more than the message:
the sends to them take longer."""

RECEIVERS_STEP_SHIFT: Final = 4
"""So many halvings: sixteen deliveries, or messages put into queues, take as long as a step of `Slicing`."""


class Targets:
    """Receivers with the QoS each was granted.  One receiver needs no dictionary."""

    sole: Receiver | None = None
    sole_granted = 0
    many: dict[Receiver, int] | None = None
    not_plain = 0
    """How many of the receivers can't take raw QoS 0 packets."""
    parts: list[Targets] | None = None
    """Instead of receivers: several `Targets`, each delivered to on its own (`allow_duplicate_messages`)."""

    def get(self, receiver: Receiver) -> int:
        """The QoS granted to this receiver, or -1."""
        if self.sole is receiver:
            return self.sole_granted
        many = self.many
        if many is None:
            return -1
        return many.get(receiver, -1)

    def add(self, receiver: Receiver, granted: int) -> None:
        """Add a receiver, or change what it was granted."""
        weight = 0 if receiver.plain and granted <= 2 else 1
        if self.sole is receiver:
            self.not_plain += weight - (0 if receiver.plain and self.sole_granted <= 2 else 1)
            self.sole_granted = granted
            return
        many = self.many
        if many is None:
            if self.sole is None:
                self.sole = receiver
                self.sole_granted = granted
                self.not_plain += weight
                return
            many = self.many = {self.sole: self.sole_granted}
            self.sole = None
        older = many.get(receiver, -1)
        if older >= 0:
            self.not_plain -= 0 if receiver.plain and older <= 2 else 1
        self.not_plain += weight
        many[receiver] = granted

    def add_highest(self, receiver: Receiver, granted: int) -> None:
        """Add a receiver that may be here already; the highest QoS counts [MQTT-3.3.5-1], and all that 5.0 adds."""
        older = self.get(receiver)
        if granted > 2 or older > 2:
            self.add(receiver, granted if older < 0 else both(older, granted))
        elif granted > older:
            self.add(receiver, granted)

    def remove(self, receiver: Receiver) -> bool:
        """Take a receiver out; whether it was in."""
        if self.sole is receiver:
            self.sole = None
            granted = self.sole_granted
        else:
            many = self.many
            if many is None or receiver not in many:
                return False
            granted = many[receiver]
            del many[receiver]
            if not many:
                self.many = None
        if not receiver.plain or granted > 2:
            self.not_plain -= 1
        return True

    def is_empty(self) -> bool:
        """Whether nobody is in."""
        return self.sole is None and self.many is None and self.parts is None

    def pairs(self) -> list[tuple[Receiver, int]]:
        """Each receiver with what it was granted."""
        if self.sole is not None:
            return [(self.sole, self.sole_granted)]
        many = self.many
        return [] if many is None else list(many.items())

    def forward(self, packets: bytes, level: int, count: int, payload_bytes: int) -> None:
        """Hand PUBLISH packets at QoS 0, as a client of this level writes them, on to all; they take raw packets."""
        sole = self.sole
        many = self.many
        if sole is not None:
            if sole.level != level:
                packets = _rewritten(packets, level)
            sole.forward(packets, count, payload_bytes)
        elif many is not None:
            rewritten = b""
            for receiver in many:
                if receiver.level == level:
                    receiver.forward(packets, count, payload_bytes)
                else:
                    if not rewritten:
                        rewritten = _rewritten(packets, level)
                    receiver.forward(rewritten, count, payload_bytes)

    def steps(self) -> int:
        """What it counts for to hand one message to these one by one, beside the message, in steps of `Slicing`.

        Nothing for those who take packets as bytes: one send of theirs carries many.
        """
        one_by_one = self.not_plain
        parts = self.parts
        if parts is not None:
            one_by_one = len(parts)
            for part in parts:
                one_by_one += part.not_plain
        return one_by_one >> RECEIVERS_STEP_SHIFT

    def plain_steps(self) -> int:
        """The same of those who take packets as bytes, for a message that does not go so; see `Slicing`."""
        parts = self.parts
        if parts is None:
            return _plain_steps(self.count() - self.not_plain)
        plain = 0
        for part in parts:
            plain += part.count() - part.not_plain
        return _plain_steps(plain)

    def count(self) -> int:
        """How many receivers are in."""
        if self.sole is not None:
            return 1
        many = self.many
        return 0 if many is None else len(many)


def _plain_steps(receivers: int) -> int:
    return receivers >> RECEIVERS_STEP_SHIFT if receivers > RECEIVERS_UNPACED_MAX else 0


def _rewritten(packets: bytes, level: int) -> bytes:
    return as_5(packets) if level == 4 else as_3(packets)


class Leaf(Targets):
    """The subscriptions of one filter.

    Args:
        is_exact: it has no wildcards.
    """

    merged = False
    """Some cached topic has a copy of these receivers, to be dropped when they change."""

    def __init__(self, topic_filter: bytes, is_exact: bool = True) -> None:
        self.topic_filter = topic_filter
        self.is_exact = is_exact
