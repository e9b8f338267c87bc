"""What `rowcast.publish()` wrote into the transaction, read back.  Pure.

Content: one byte, QoS in bits 0 and 1, retain in bit 2, and in bit 3 whether there are properties; the topic's
length in three bytes; topic; the properties' length in four bytes, and the JSON text of them; payload.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any, Final

from broker.core.added import Added
from broker.feed.routing.properties import correlation_bytes
from broker.feed.routing.routes import Outgoing
from protocol.mqtt.reserved import CHANNEL_PREFIX
from protocol.mqtt.topics import TEXT_BYTES_MAX, is_valid_text, is_valid_topic_name
from protocol.mqtt.v5.properties import encode_text, encode_user_property
from protocol.mqtt.v5.property_table import CONTENT_TYPE, CORRELATION_DATA, EXPIRY_S_MAX, RESPONSE_TOPIC

PREFIX: Final = "rowcast"
"""The prefix of our logical messages; those of others are not looked at."""


class Unpublishable(ValueError):
    """The message is none of ours, or names a topic or a property that nothing may be published with."""


def parse_publish(content: bytes) -> Outgoing:
    """Topic, payload, QoS, retain, and properties if there are any, of one `rowcast.publish()`.

    Raises:
        Unpublishable: too short, QoS 3, a topic that MQTT forbids, or one of the broker's own (`$SYS/…`), or
            properties that no packet can carry.
    """
    if len(content) < 4 or content[0] > 15 or content[0] & 3 == 3:
        raise Unpublishable("not written by rowcast.publish()")
    topic_end = 4 + int.from_bytes(content[1:4], "big")
    topic = content[4:topic_end]
    qos, retain = content[0] & 3, content[0] & 4 != 0
    if topic_end > len(content):
        raise Unpublishable("not written by rowcast.publish()")
    if not content[0] & 8:
        return publish_of(topic, content[topic_end:], qos, retain, None)
    start = topic_end + 4
    end = start + int.from_bytes(content[topic_end:start], "big")
    if end > len(content) or start > len(content):
        raise Unpublishable("not written by rowcast.publish()")
    return publish_of(topic, content[end:], qos, retain, content[start:end])


def publish_of(topic: bytes, payload: bytes, qos: int, retain: bool, properties: bytes | None) -> Outgoing:
    """What is published for one `rowcast.publish()`, by its arguments.

    Args:
        properties: the JSON text of them; None if there are none.

    Raises:
        Unpublishable: a topic that MQTT forbids, or one of the broker's own (`$SYS/…`), or properties that no packet
            can carry.
    """
    if not may_publish(topic):
        raise Unpublishable("a topic that nothing may be published to")
    if properties is None:
        return topic, payload, qos, retain
    return topic, payload, qos, retain, parse_properties(properties)


def parse_properties(text: bytes) -> Added:
    """What `rowcast.publish_properties()` has let through.

    Raises:
        Unpublishable: it has not.
    """
    try:
        members = json.loads(text, parse_int=str, parse_float=str)  # digits stay as they are
        pieces = [piece for name in _READERS if name in members for piece in _READERS[name](members[name])]
        expiry = members.get("expiry")
        if expiry is None:
            return Added(b"".join(pieces))
        seconds = math.ceil(float(expiry))
        if not 0 <= seconds <= EXPIRY_S_MAX:
            raise ValueError("expiry")
        return Added(b"".join(pieces), float(seconds))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise Unpublishable("properties that no packet can carry") from None


def _content_type(value: Any) -> Iterator[bytes]:
    if value:
        yield encode_text(CONTENT_TYPE, _text(value))


def _response_topic(value: Any) -> Iterator[bytes]:
    if value is None:
        return
    topic = _text(value)
    if not is_valid_topic_name(topic) or topic[:1] == b"$":
        raise ValueError("response_topic")
    yield encode_text(RESPONSE_TOPIC, topic)


def _correlation_data(value: Any) -> Iterator[bytes]:
    if value is None:
        return
    data = correlation_bytes(value)
    if len(data) > TEXT_BYTES_MAX:
        raise ValueError("correlation_data")
    yield encode_text(CORRELATION_DATA, data)


def _user_properties(value: Any) -> Iterator[bytes]:
    for name, texts in (value or {}).items():
        for text in texts if isinstance(texts, list) else [texts]:
            if text is not None:
                printed = ("true" if text else "false") if isinstance(text, bool) else text
                yield encode_user_property(_text(name), _text(printed))


_READERS: Final[dict[str, Callable[[Any], Iterator[bytes]]]] = {
    "content_type": _content_type,
    "response_topic": _response_topic,
    "correlation_data": _correlation_data,
    "user_properties": _user_properties,
}


def _text(value: Any) -> bytes:
    encoded: bytes = value.encode()
    if len(encoded) > TEXT_BYTES_MAX or not is_valid_text(encoded):
        raise ValueError("a text")
    return encoded


def may_publish(topic: bytes) -> bool:
    """Valid names, without those that start with `$`, but with the channels of dialects, `$ws/…`."""
    return is_valid_topic_name(topic) and (topic[:1] != b"$" or topic.startswith(CHANNEL_PREFIX))
