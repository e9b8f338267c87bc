"""A publication as it travels between nodes: in the log as payload and one header, between nodes as bytes.

    Rowcast: NODE NUMBER QOS CLIENT USER PORT EXPIRES PROPERTIES [TOPIC]

blank-separated, percent-encoded as levels of a subject are; `-` is none.  EXPIRES is Unix time in milliseconds,
PROPERTIES those of MQTT 5.0 as hexadecimal digits, TOPIC stands only where the subject can't hold it.
"""

from __future__ import annotations

import binascii
import struct
from typing import Final

from broker.core.publication import Publication
from protocol.mqtt.topics import is_valid_topic_name
from protocol.nats.errors import NatsProtocolError
from protocol.nats.subjects import level_of, token_of

HEADER: Final = b"Rowcast"
NONE: Final = b"-"
DIGITS_MAX: Final = 20
"""Of a number: more than a counter, a port or milliseconds have."""
_LINE = b"\r\n" + HEADER + b": "
_LIVE: Final = struct.Struct(">HHI")


def describe(
    publication: Publication, node: bytes, number: int, now: float, unix_now: float, long: bool
) -> bytes:
    """The header's value.

    Args:
        node: the node's name and a mark of this start of it, so that no two starts are the same.
        number: among those that it has sent; 0 for one that it does not remember.
        now, unix_now: the engine's clock, and Unix time, at the same moment.
        long: the topic stands in it.
    """
    expires = NONE
    if publication.expires_at != 0.0:
        expires = b"%d" % int((publication.expires_at - now + unix_now) * 1000)
    user = publication.user_name
    properties = publication.properties
    value = b"%b %d %d %b %b %d %b %b" % (
        node,
        number,
        publication.qos,
        _word(publication.client_id),
        NONE if user is None else _word(user),
        publication.listener_port,
        expires,
        binascii.hexlify(properties) if properties else NONE,
    )
    return b"%b %b" % (value, _word(publication.topic)) if long else value


def read(
    value: bytes, topic: bytes | None, payload: bytes, retain: bool, now: float, unix_now: float
) -> Publication:
    """The publication of a header's value.

    Args:
        topic: from the subject; None where the value has to have it.

    Raises:
        NatsProtocolError: no node writes such a thing.
    """
    words = value.split(b" ")
    if len(words) != (8 if topic is not None else 9):
        raise NatsProtocolError(f"no description of a message: {value[:80]!r}")
    _, number, qos, client, user, port, expires, properties = words[:8]
    if topic is None:
        topic = level_of(words[8])
    if not is_valid_topic_name(topic) or qos not in (b"0", b"1", b"2"):
        raise NatsProtocolError(f"no topic name, or no QoS: {value[:80]!r}")
    if not (_is_number(number) and _is_number(port) and (expires == NONE or _is_number(expires))):
        raise NatsProtocolError(f"no numbers: {value[:80]!r}")
    publication = Publication(
        topic,
        payload,
        int(qos),
        retain,
        _bytes(client),
        None if user == NONE else _bytes(user),
        int(port),
    )
    if expires != NONE:
        # Never 0.0, which is "never".
        publication.expires_at = int(expires) / 1000 - unix_now + now or 1e-9
    if properties != NONE:
        try:
            publication.properties = binascii.unhexlify(properties)
        except binascii.Error:
            raise NatsProtocolError(f"no properties: {value[:80]!r}") from None
    return publication


def value_in(block: bytes) -> bytes:
    """The header's value in a block of headers; b"" if there is none.  Hot: once for each message."""
    start = block.find(_LINE)
    if start < 0:
        return b""
    start += len(_LINE)
    return block[start : block.find(b"\r\n", start)]


def number_in(value: bytes) -> int:
    """The number in a header's value that begins with a node.  Raises: ValueError, if there is none."""
    start = value.find(b" ") + 1
    return int(value[start : value.find(b" ", start)])


def _is_number(word: bytes) -> bool:
    return word.isdigit() and len(word) <= DIGITS_MAX


def _word(text: bytes) -> bytes:
    return b"%2D" if text == NONE else token_of(text)


def _bytes(word: bytes) -> bytes:
    return b"-" if word == b"%2D" else level_of(word)


# --- between nodes, without the log ----------------------------------------------------------------------------


def pack(value: bytes, topic: bytes, payload: bytes) -> bytes:
    """One of any number that travel in one message."""
    return _LIVE.pack(len(value), len(topic), len(payload)) + value + topic + payload


def unpack(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """(value, topic, payload) of each.  Raises: NatsProtocolError, if they are cut."""
    found: list[tuple[bytes, bytes, bytes]] = []
    position = 0
    while position < len(data):
        if position + _LIVE.size > len(data):
            raise NatsProtocolError("messages between nodes that are cut")
        value_size, topic_size, payload_size = _LIVE.unpack_from(data, position)
        start = position + _LIVE.size
        topic_at = start + value_size
        payload_at = topic_at + topic_size
        position = payload_at + payload_size
        if position > len(data):
            raise NatsProtocolError("messages between nodes that are cut")
        found.append((data[start:topic_at], data[topic_at:payload_at], data[payload_at:position]))
    return found
