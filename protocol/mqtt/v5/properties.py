"""The 27 properties of MQTT 5.0: which may stand where, as values, and as bytes.  §2.2.2.

Hot: a PUBLISH is read by `publish_properties`, which builds no object.  Text is validated UTF-8 and stays `bytes`.
"""

from __future__ import annotations

from typing import Final

from protocol.mqtt.errors import MalformedPacket, ProtocolError, ProtocolViolation
from protocol.mqtt.framing import encode_variable
from protocol.mqtt.topics import check_text, is_valid_topic_name
from protocol.mqtt.v5.property_table import (
    BINARY,
    BYTE,
    CONTENT_TYPE,
    CORRELATION_DATA,
    FOUR_BYTES,
    MESSAGE_EXPIRY,
    NOT_ZERO,
    PAIR,
    PAYLOAD_FORMAT,
    PLACES,
    PROPERTIES_MAX,
    RESPONSE_TOPIC,
    SUBSCRIPTION_ID,
    TEXT,
    TOPIC_ALIAS,
    TYPES,
    USER_PROPERTY,
    VARIABLE,
    WILL,
    WILL_DELAY,
)
from protocol.mqtt.v5.reasons import ReasonCode


class Properties:
    """What one packet, or one will, has of properties.

    Args:
        numbers: identifier to value, for bytes and integers.
        texts: identifier to value, for text and binary data.
        user: user properties, in their order [MQTT-3.3.2-18].
        subscription_ids: 1 to 268 435 455 each; only PUBLISH may have several.
    """

    def __init__(
        self,
        numbers: dict[int, int] | None = None,
        texts: dict[int, bytes] | None = None,
        user: list[tuple[bytes, bytes]] | None = None,
        subscription_ids: list[int] | None = None,
    ) -> None:
        self.numbers: dict[int, int] = {} if numbers is None else numbers
        self.texts: dict[int, bytes] = {} if texts is None else texts
        self.user: list[tuple[bytes, bytes]] = [] if user is None else user
        self.subscription_ids: list[int] = [] if subscription_ids is None else subscription_ids
        self.handed_on = b""
        """Of a will that was read: those of its properties that its receivers get, as they came."""

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Properties)
            and self.numbers == other.numbers
            and self.texts == other.texts
            and self.user == other.user
            and self.subscription_ids == other.subscription_ids
        )

    def __hash__(self) -> int:
        return hash((tuple(self.numbers.items()), tuple(self.user)))

    def __repr__(self) -> str:
        """Names and sizes; texts may be secrets."""
        sizes = {name: len(text) for name, text in self.texts.items()}
        return f"Properties({self.numbers}, sizes {sizes}, {len(self.user)} user, {self.subscription_ids})"

    def is_empty(self) -> bool:
        """Whether there are none."""
        return not (self.numbers or self.texts or self.user or self.subscription_ids)

    def encode(self) -> bytes:
        """The properties with their length in front, as they stand in a packet [MQTT-2.2.2-1]."""
        inner = self.inner()
        return encode_variable(len(inner)) + inner

    def inner(self) -> bytes:
        """The properties without their length."""
        pieces: list[bytes] = []
        for name, number in self.numbers.items():
            pieces.append(encode_number(name, number))
        for name, text in self.texts.items():
            pieces.append(encode_text(name, text))
        for key, value in self.user:
            pieces.append(encode_user_property(key, value))
        for subscription_id in self.subscription_ids:
            pieces.append(encode_number(SUBSCRIPTION_ID, subscription_id))
        return b"".join(pieces)


NO_PROPERTIES: Final = Properties()
"""For whoever has none; never changed."""


def encode_number(name: int, number: int) -> bytes:
    """A property whose value is a number of one, two or four bytes, or a variable one (2.2.2.2)."""
    kind = TYPES[name]
    if kind == VARIABLE:
        return bytes((name,)) + encode_variable(number)
    return bytes((name,)) + number.to_bytes(kind, "big")


def encode_text(name: int, text: bytes) -> bytes:
    """A property whose value is text or binary data (2.2.2.2)."""
    return bytes((name,)) + len(text).to_bytes(2, "big") + text


def encode_user_property(key: bytes, value: bytes) -> bytes:
    """A user property; they may repeat, and their order is kept (3.1.2.11.8)."""
    return b"\x26" + len(key).to_bytes(2, "big") + key + len(value).to_bytes(2, "big") + value


def variable_at(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A variable byte integer and where it ends.

    Raises:
        MalformedPacket: it goes on after `end` or its fourth byte, or has more bytes than it needs.
    """
    number = 0
    shift = 0
    while True:
        if position >= end:
            raise MalformedPacket("a packet that ends within a variable byte integer", "MQTT-1.5.5-1")
        byte = data[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            if byte == 0 and shift > 0:
                raise MalformedPacket("a variable byte integer longer than it need be", "MQTT-1.5.5-1")
            return number, position
        shift += 7
        if shift > 21:
            raise MalformedPacket("a variable byte integer of more than 4 bytes", "MQTT-1.5.5-1")


def bounds(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Where the properties whose length is at `position` begin and end."""
    length, start = variable_at(data, position, end)
    stop = start + length
    if stop > end:
        raise MalformedPacket("properties longer than their packet", "MQTT-2.2.2-1")
    return start, stop


def read_properties(data: bytes, position: int, end: int, place: int) -> tuple[Properties, int]:
    """Read properties with their length, and where they end.

    Args:
        data: a packet's body; `position` is the length's first byte, `end` the packet's end.
        place: the packet type, or `WILL`.

    Raises:
        MalformedPacket: what is no property, or none of this packet.
        ProtocolViolation: one that may stand once stands twice, or has a value that is not allowed.
    """
    position, stop = bounds(data, position, end)
    found = Properties()
    count = 0
    while position < stop:
        count += 1
        if count > PROPERTIES_MAX:
            raise _too_many()
        name, start, after = property_at(data, position, stop, place)
        position = after
        _keep(found, data, name, start, after, place)
    return found, stop


def _too_many() -> ProtocolViolation:
    return ProtocolViolation(
        f"a packet with more than {PROPERTIES_MAX} properties", reason_code=ReasonCode.QUOTA_EXCEEDED
    )


def property_at(data: bytes, position: int, stop: int, place: int) -> tuple[int, int, int]:
    """One property: its identifier, where its value begins, and where it ends; values of text are checked."""
    name = data[position]
    kind = TYPES.get(name, 0)
    if kind == 0 or not PLACES[name] >> place & 1:
        raise MalformedPacket(f"property {name:#04x} in a packet that has none such", "MQTT-2.2.2-2")
    start = position + 1
    if kind <= FOUR_BYTES:
        after = start + kind
    elif kind == VARIABLE:
        _, after = variable_at(data, start, stop)
    else:
        after = _after_text(data, start, stop, kind != BINARY)
        if kind == PAIR:
            after = _after_text(data, after, stop, True)
    if after > stop:
        raise MalformedPacket(f"properties that end within property {name:#04x}", "MQTT-2.2.2-1")
    return name, start, after


def _after_text(data: bytes, start: int, stop: int, is_text: bool) -> int:
    if start + 2 > stop:
        raise MalformedPacket("properties that end before the length of a text", "MQTT-2.2.2-1")
    after = start + 2 + data[start] * 256 + data[start + 1]
    if after > stop:
        raise MalformedPacket("properties that end within a text", "MQTT-2.2.2-1")
    if is_text:
        check_text(data[start + 2 : after], "property")  # [MQTT-1.5.4-1]
    return after


def _keep(found: Properties, data: bytes, name: int, start: int, after: int, place: int) -> None:
    kind = TYPES[name]
    if kind == PAIR:
        middle = start + 2 + data[start] * 256 + data[start + 1]
        found.user.append((data[start + 2 : middle], data[middle + 2 : after]))
        return
    if kind == VARIABLE:
        number, _ = variable_at(data, start, after)
        if number == 0:
            raise ProtocolViolation("subscription identifier 0")
        if found.subscription_ids and place != 3:
            raise ProtocolViolation("two subscription identifiers")
        found.subscription_ids.append(number)
        return
    if name in found.numbers or name in found.texts:
        raise ProtocolViolation(f"property {name:#04x} twice")
    if kind >= TEXT:
        text = data[start + 2 : after]
        if name == RESPONSE_TOPIC:
            _check_response_topic(text)
        found.texts[name] = text
        return
    number = int.from_bytes(data[start:after], "big")
    _check_number(name, kind, number)
    found.numbers[name] = number


def _check_number(name: int, kind: int, number: int) -> None:
    if kind == BYTE and number > 1:
        raise ProtocolViolation(f"property {name:#04x} with value {number}; it has 0 or 1")
    if number == 0 and name == TOPIC_ALIAS:
        raise ProtocolViolation("topic alias 0", "MQTT-3.3.2-8", ReasonCode.TOPIC_ALIAS_INVALID)
    if number == 0 and name in NOT_ZERO:
        raise ProtocolViolation(f"property {name:#04x} with value 0")


def _check_response_topic(topic: bytes) -> None:
    if not is_valid_topic_name(topic):
        raise ProtocolViolation("a response topic that is no topic name", "MQTT-3.3.2-14")


def publish_properties(data: bytes, start: int, stop: int) -> tuple[bytes, int, int]:
    """What a client's PUBLISH, or a will, has of properties, for who hands it on.

    Args:
        data, start, stop: `data[start:stop]` are the properties, without their length.

    Returns:
        (forwarded, expiry_s, alias): those that every receiver gets, as bytes in their order, without their
        length; the message expiry interval, or -1; the topic alias, or 0.

    Raises:
        MalformedPacket, ProtocolViolation: as `read_properties`; a subscription identifier, too [MQTT-3.3.4-6].
    """
    expiry_s = -1
    alias = 0
    seen = 0
    from_here = start
    pieces: list[bytes] | None = None
    position = start
    count = 0
    while position < stop:
        count += 1
        if count > PROPERTIES_MAX:
            raise _too_many()
        if data[position] == USER_PROPERTY:  # there are many of these, and nothing else to look at
            position = _after_text(data, _after_text(data, position + 1, stop, True), stop, True)
            continue
        name, value, after = property_at(data, position, stop, 3)
        if name == SUBSCRIPTION_ID:
            raise ProtocolViolation("a client's PUBLISH with a subscription identifier", "MQTT-3.3.4-6")
        if seen >> name & 1:
            raise ProtocolViolation(f"property {name:#04x} twice")
        seen |= 1 << name
        if name in (MESSAGE_EXPIRY, TOPIC_ALIAS):
            number = int.from_bytes(data[value:after], "big")
            if name == TOPIC_ALIAS:
                _check_number(name, 0, number)
                alias = number
            else:
                expiry_s = number
            if pieces is None:
                pieces = []
            pieces.append(data[from_here:position])
            from_here = after
        elif name == PAYLOAD_FORMAT:
            _check_number(name, BYTE, data[value])
        elif name == RESPONSE_TOPIC:
            _check_response_topic(data[value + 2 : after])
        position = after
    if pieces is None:
        return data[start:stop], -1, 0
    pieces.append(data[from_here:stop])
    return b"".join(pieces), expiry_s, alias


def are_forwarded(properties: bytes) -> bool:
    """Whether a client's PUBLISH with these properties, without their length, goes on as it came.

    Nothing but properties that every receiver gets unaltered, and right.  What is not is refused by
    `publish_properties`, not here.
    """
    try:
        _, expiry_s, alias = publish_properties(properties, 0, len(properties))
    except ProtocolError:
        return False
    return expiry_s < 0 and alias == 0


def handed_on_of_will(data: bytes, position: int, end: int) -> bytes:
    """What the receivers of a will get of its properties, whose length is at `position` and which are right."""
    position, stop = bounds(data, position, end)
    pieces: list[bytes] = []
    while position < stop:
        name, _, after = property_at(data, position, stop, WILL)
        if name != WILL_DELAY and name != MESSAGE_EXPIRY:
            pieces.append(data[position:after])
        position = after
    return b"".join(pieces)


def forwarded_properties(properties: Properties) -> bytes:
    """What `publish_properties` gives of the same properties: those of them that are handed on."""
    if properties.handed_on:
        return properties.handed_on
    pieces = [
        encode_number(name, number) for name, number in properties.numbers.items() if name == PAYLOAD_FORMAT
    ]
    for name, text in properties.texts.items():
        if name in (CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION_DATA):
            pieces.append(encode_text(name, text))
    for key, value in properties.user:
        pieces.append(encode_user_property(key, value))
    return b"".join(pieces)
