"""What the trie holds: somebody who takes publications.  Sessions, dialect clients, in-process subscribers."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from broker.core.publication import Publication


@mypyc_attr(allow_interpreted_subclasses=True)
class Receiver:
    """Base of everything that subscribes.

    `plain` receivers take QoS 0 PUBLISH packets as the bytes that came in, any number in one piece.
    """

    def __init__(self, plain: bool) -> None:
        self.plain = plain
        self.level = 4
        """5 takes the packets of `forward` as 5.0 writes them."""

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        """Take one publication; never blocks, never raises for a slow peer, never changes a subscription.

        Args:
            granted: QoS of the subscription; what leaves is the lower of this and the publication's.
            retained: it is sent because of a new subscription, not live [MQTT-3.3.1-8].
        """
        raise NotImplementedError

    def deliver_run(self, run: list[Publication], granted: int) -> None:
        """Take several of a feed's publications to one topic, live, without a state; as `deliver` for each."""
        for publication in run:
            self.deliver(publication, granted, False)

    def forward(self, packets: bytes, count: int, payload_bytes: int) -> None:
        """Take `count` whole QoS 0 PUBLISH packets in one piece; called on `plain` receivers only."""
        raise NotImplementedError

    def may_read(self, topic: bytes) -> bool:
        """Whether access rules let this receiver have the topic; asked once per topic, then cached."""
        return True
