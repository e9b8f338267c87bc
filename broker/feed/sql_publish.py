"""What `rowcast.publish()` wrote into the transaction, read back.  Pure.

Content: one byte, QoS in bits 0 and 1 and retain in bit 2; the topic's length in three bytes; topic; payload.
"""

from __future__ import annotations

from typing import Final

from broker.feed.routing.routes import Outgoing
from protocol.mqtt.topics import is_valid_topic_name

PREFIX: Final = "rowcast"
"""The prefix of our logical messages; those of others are not looked at."""


class Unpublishable(ValueError):
    """The message is none of ours, or names a topic that nothing may be published to."""


def parse_publish(content: bytes) -> Outgoing:
    """Topic, payload, QoS and retain of one `rowcast.publish()`.

    Raises:
        Unpublishable: too short, QoS 3, a topic that MQTT forbids, or one of the broker's own (`$SYS/…`).
    """
    if len(content) < 4 or content[0] > 7 or content[0] & 3 == 3:
        raise Unpublishable("not written by rowcast.publish()")
    topic_end = 4 + int.from_bytes(content[1:4], "big")
    topic = content[4:topic_end]
    if topic_end > len(content) or not may_publish(topic):
        raise Unpublishable("a topic that nothing may be published to")
    return topic, content[topic_end:], content[0] & 3, content[0] & 4 != 0


def may_publish(topic: bytes) -> bool:
    """Valid names, without those that start with `$`, but with the channels of dialects, `$ws/…`."""
    return is_valid_topic_name(topic) and (topic[:1] != b"$" or topic.startswith(b"$ws/"))
