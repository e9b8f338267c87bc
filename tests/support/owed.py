"""Gaps in what a client is owed."""

from __future__ import annotations

from protocol.mqtt.outbound import Outbound


def lose(outbound: Outbound, topic: bytes) -> None:
    """What is queued for this topic goes, as if it had expired when the queue was full."""
    outbound._take_out({waiting for waiting in outbound.queued() if waiting.message.topic == topic})
