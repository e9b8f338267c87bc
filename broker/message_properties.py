"""What MQTT 5.0 adds to a message, for programs that have the broker inside."""

from __future__ import annotations

import math

from attrs import frozen

from broker.core.publication import Publication
from protocol.mqtt.framing import encode_variable
from protocol.mqtt.topics import TEXT_BYTES_MAX, is_valid_text, is_valid_topic_name
from protocol.mqtt.v5.properties import Properties, forwarded_properties, read_properties
from protocol.mqtt.v5.property_table import (
    CONTENT_TYPE,
    CORRELATION_DATA,
    EXPIRY_S_MAX,
    PAYLOAD_FORMAT,
    RESPONSE_TOPIC,
)

_PUBLISH = 3


@frozen
class MessageProperties:
    """Properties of one message; clients of older versions get it without them.

    Args:
        expiry_s: seconds, 0 to 4 294 967 295, after which nobody gets it any more; None is never.
        content_type: as `application/json`; "" says nothing, here and below.
        response_topic: where an answer is awaited.
        correlation_data: what the answer is to carry, too.
        is_text: the payload is said to be UTF-8 text.
        user: names and values, in their order; a name may come again.
    """

    expiry_s: int | None = None
    content_type: str = ""
    response_topic: str = ""
    correlation_data: bytes = b""
    is_text: bool = False
    user: tuple[tuple[str, str], ...] = ()

    def put_on(self, publication: Publication, now: float) -> None:
        """Give them to a message.

        Raises:
            ValueError: what no packet can carry; says which of them, and why.
        """
        found = Properties()
        if self.is_text:
            found.numbers[PAYLOAD_FORMAT] = 1
        if self.content_type:
            found.texts[CONTENT_TYPE] = _text("content_type", self.content_type)
        if self.response_topic:
            topic = _text("response_topic", self.response_topic)
            if not is_valid_topic_name(topic):
                raise ValueError(f"response_topic {self.response_topic!r} is no topic name")
            found.texts[RESPONSE_TOPIC] = topic
        if self.correlation_data:
            if len(self.correlation_data) > TEXT_BYTES_MAX:
                raise ValueError(
                    f"correlation_data has {len(self.correlation_data)} bytes; 65535 are the most"
                )
            found.texts[CORRELATION_DATA] = self.correlation_data
        for name, value in self.user:
            found.user.append((_text("a user property", name), _text("a user property", value)))
        if self.expiry_s is not None:
            if not 0 <= self.expiry_s <= EXPIRY_S_MAX:
                raise ValueError(f"expiry_s is 0 to {EXPIRY_S_MAX}, not {self.expiry_s}")
            publication.expires_at = now + self.expiry_s
        publication.properties = forwarded_properties(found)


def properties_of(publication: Publication, now: float) -> MessageProperties:
    """Those of a message; `expiry_s` is what is left of it."""
    expiry_s = None
    if publication.expires_at != 0.0:
        expiry_s = max(0, math.ceil(publication.expires_at - now))
    inner = publication.properties
    if not inner:
        return NONE if expiry_s is None else MessageProperties(expiry_s)
    data = encode_variable(len(inner)) + inner
    found, _ = read_properties(data, 0, len(data), _PUBLISH)
    texts = found.texts
    return MessageProperties(
        expiry_s,
        texts.get(CONTENT_TYPE, b"").decode(),
        texts.get(RESPONSE_TOPIC, b"").decode(),
        texts.get(CORRELATION_DATA, b""),
        found.numbers.get(PAYLOAD_FORMAT, 0) == 1,
        tuple((name.decode(), value.decode()) for name, value in found.user),
    )


def _text(what: str, text: str) -> bytes:
    encoded = text.encode(errors="surrogatepass")
    if len(encoded) > TEXT_BYTES_MAX:
        raise ValueError(f"{what} has {len(encoded)} bytes; 65535 are the most")
    if not is_valid_text(encoded):
        raise ValueError(f"{what} {text!r} has a character that MQTT forbids")
    return encoded


NONE = MessageProperties()
