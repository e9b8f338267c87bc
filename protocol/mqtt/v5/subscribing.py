"""SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK of MQTT 5.0, and what a subscription's options are.  §3.8 to §3.11.

A subscription is one integer: 0 to 2, its QoS, where it asks for nothing that 3.1.1 does not have; else an *element*,
`1 << 32 | subscription identifier << 4 | retain as published << 3 | no local << 2 | QoS`.  The subscriptions of one
client that match one topic are their elements in a row, 33 bits each, so that one number says all of them.
"""

from __future__ import annotations

from typing import Final

from protocol.mqtt.errors import MalformedPacket, ProtocolViolation
from protocol.mqtt.packets import Suback, Subscribe, Unsuback, Unsubscribe
from protocol.mqtt.reserved import SHARE_PREFIX
from protocol.mqtt.subscribing import FILTERS_MAX
from protocol.mqtt.topics import check_topic_filter, has_wildcard
from protocol.mqtt.v5.properties import NO_PROPERTIES, Properties, encode_number, read_properties
from protocol.mqtt.v5.property_table import SUBSCRIPTION_ID
from protocol.mqtt.v5.reasons import ALLOWED, ReasonCode

NO_LOCAL: Final = 4
RETAIN_AS_PUBLISHED: Final = 8
ELEMENT: Final = 1 << 32
ELEMENT_BITS: Final = 33
ELEMENT_MASK: Final = (1 << 33) - 1
_SIMPLE_MAX: Final = 2


def subscription(options: int, subscription_id: int) -> int:
    """The one integer of a subscription.

    Args:
        options: of SUBSCRIBE, without retain handling: QoS, `NO_LOCAL`, `RETAIN_AS_PUBLISHED`.
        subscription_id: 0 for none.
    """
    if options <= _SIMPLE_MAX and subscription_id == 0:
        return options
    return ELEMENT | subscription_id << 4 | options


def capped(subscriptions: int, max_qos: int) -> int:
    """A single subscription with no higher QoS than this."""
    qos = subscriptions & 3
    return subscriptions if qos <= max_qos else subscriptions - qos + max_qos


def both(one: int, other: int) -> int:
    """What a client gets by two sets of subscriptions that match the same topic."""
    if one <= _SIMPLE_MAX and other <= _SIMPLE_MAX:
        return max(one, other)
    count = 0
    rest = one
    while rest > _SIMPLE_MAX:
        count += 1
        rest >>= ELEMENT_BITS
    if count == 0:
        one |= ELEMENT
        count = 1
    if other <= _SIMPLE_MAX:
        other |= ELEMENT
    return one | other << ELEMENT_BITS * count


def options_of(subscriptions: int) -> tuple[int, int]:
    """QoS and flags, and the subscription identifier, of a single subscription."""
    return (
        subscriptions & 15 if subscriptions > _SIMPLE_MAX else subscriptions,
        subscriptions >> 4 & 0xFFF_FFFF,
    )


def granted_to(subscriptions: int, is_own: bool) -> tuple[int, bool, bytes]:
    """What a client gets of a publication.

    Args:
        subscriptions: those that match, as one number above 2.
        is_own: this client published it, so that subscriptions with no local do not count [MQTT-3.8.3-3].

    Returns:
        (qos, retain_as_published, properties): the highest QoS [MQTT-3.3.4-2], or -1 if it gets nothing; the
        identifiers as properties of PUBLISH [MQTT-3.3.4-3] [MQTT-3.3.4-4].
    """
    qos = -1
    as_published = False
    properties = b""
    while subscriptions:
        element = subscriptions & ELEMENT_MASK
        subscriptions >>= ELEMENT_BITS
        if is_own and element & NO_LOCAL:
            continue
        qos = max(qos, element & 3)
        as_published = as_published or element & RETAIN_AS_PUBLISHED != 0
        subscription_id = element >> 4 & 0xFFF_FFFF
        if subscription_id:
            properties += encode_number(SUBSCRIPTION_ID, subscription_id)
    return qos, as_published, properties


def read_subscribe(body: bytes) -> Subscribe:
    """Read a SUBSCRIBE; its filters are valid and at least one.

    Raises:
        MalformedPacket, ProtocolViolation: with the statement that was broken.
    """
    packet_id = _packet_id(body)
    properties, position = read_properties(body, 2, len(body), 8)
    filters: list[tuple[bytes, int]] = []
    while position < len(body):
        topic_filter, position = _filter_at(body, position, "MQTT-3.8.3-1")
        if position == len(body):
            raise MalformedPacket("a SUBSCRIBE that ends before a filter's options", "MQTT-3.8.3-1")
        options = body[position]
        position += 1
        _check_options(topic_filter, options)
        filters.append((topic_filter, options))
        if len(filters) > FILTERS_MAX:
            raise _too_many("a SUBSCRIBE")
    if not filters:
        raise ProtocolViolation("a SUBSCRIBE without a filter", "MQTT-3.8.3-2")
    return Subscribe(packet_id, tuple(filters), NO_PROPERTIES if properties.is_empty() else properties)


def _too_many(what: str) -> ProtocolViolation:
    reason = f"{what} with more than {FILTERS_MAX} filters"
    return ProtocolViolation(reason, reason_code=ReasonCode.QUOTA_EXCEEDED)


def _check_options(topic_filter: bytes, options: int) -> None:
    if options > 0x3F:
        raise MalformedPacket("a SUBSCRIBE with reserved option bits", "MQTT-3.8.3-5")
    if options & 3 == 3:
        raise ProtocolViolation("a SUBSCRIBE with QoS 3", "MQTT-3.8.3-5")
    if options & 0x30 == 0x30:
        raise ProtocolViolation("a SUBSCRIBE with retain handling 3", "MQTT-3.8.3-5")
    if options & NO_LOCAL and topic_filter.startswith(SHARE_PREFIX):
        raise ProtocolViolation("a shared subscription with no local", "MQTT-3.8.3-4")


def write_subscribe(packet: Subscribe) -> bytes:
    """The body of SUBSCRIBE (3.8)."""
    pieces = [packet.packet_id.to_bytes(2, "big"), packet.properties.encode()]
    for topic_filter, options in packet.filters:
        pieces.append(len(topic_filter).to_bytes(2, "big"))
        pieces.append(topic_filter)
        pieces.append(bytes((options,)))
    return b"".join(pieces)


def read_unsubscribe(body: bytes) -> Unsubscribe:
    """Read an UNSUBSCRIBE; its filters are valid and at least one.

    Raises:
        MalformedPacket, ProtocolViolation: with the statement that was broken.
    """
    packet_id = _packet_id(body)
    properties, position = read_properties(body, 2, len(body), 10)
    filters: list[bytes] = []
    while position < len(body):
        topic_filter, position = _filter_at(body, position, "MQTT-3.10.3-1")
        filters.append(topic_filter)
        if len(filters) > FILTERS_MAX:
            raise _too_many("an UNSUBSCRIBE")
    if not filters:
        raise ProtocolViolation("an UNSUBSCRIBE without a filter", "MQTT-3.10.3-2")
    return Unsubscribe(packet_id, tuple(filters), NO_PROPERTIES if properties.is_empty() else properties)


def write_unsubscribe(packet: Unsubscribe) -> bytes:
    """The body of UNSUBSCRIBE (3.10)."""
    pieces = [packet.packet_id.to_bytes(2, "big"), packet.properties.encode()]
    for topic_filter in packet.filters:
        pieces.append(len(topic_filter).to_bytes(2, "big"))
        pieces.append(topic_filter)
    return b"".join(pieces)


def read_answers(body: bytes, packet_type: int) -> tuple[int, tuple[int, ...], Properties]:
    """Packet id, reason codes and properties of a SUBACK (9) or UNSUBACK (11), as a client."""
    packet_id = _packet_id(body)
    properties, position = read_properties(body, 2, len(body), packet_type)
    codes = tuple(body[position:])
    if not codes:
        raise ProtocolViolation("a SUBACK or UNSUBACK without a reason code", "")
    for code in codes:
        if code not in ALLOWED[packet_type]:
            tag = "MQTT-3.9.3-2" if packet_type == 9 else "MQTT-3.11.3-2"
            raise MalformedPacket(f"an answer with reason code {code:#04x}", tag)
    return packet_id, codes, NO_PROPERTIES if properties.is_empty() else properties


def write_answers(packet: Suback | Unsuback) -> bytes:
    """The body of SUBACK or UNSUBACK (3.9, 3.11)."""
    return packet.packet_id.to_bytes(2, "big") + packet.properties.encode() + bytes(packet.return_codes)


def _packet_id(body: bytes) -> int:
    if len(body) < 2:
        raise MalformedPacket("a packet without its packet id", "MQTT-2.2.1-3")
    packet_id = body[0] * 256 + body[1]
    if packet_id == 0:
        raise MalformedPacket("a packet with packet id 0", "MQTT-2.2.1-3")
    return packet_id


def _filter_at(body: bytes, position: int, tag: str) -> tuple[bytes, int]:
    """The filter whose two length bytes are at `position`, and where it ends."""
    start = position + 2
    if start > len(body):
        raise MalformedPacket("a topic filter without its length", tag)
    after = start + body[position] * 256 + body[position + 1]
    if after > len(body):
        raise MalformedPacket("a packet that ends within a topic filter", tag)
    topic_filter = body[start:after]
    check_topic_filter(_without_group(topic_filter))
    return topic_filter, after


def _without_group(topic_filter: bytes) -> bytes:
    """A shared subscription with any group: what is wrong with that one is told in its place of the SUBACK."""
    if topic_filter.startswith(SHARE_PREFIX):
        _, _, rest = topic_filter[len(SHARE_PREFIX) :].partition(b"/")
        group = topic_filter[len(SHARE_PREFIX) : len(topic_filter) - len(rest)]
        if has_wildcard(group):
            return SHARE_PREFIX + group.translate(None, b"+#") + rest
    return topic_filter
