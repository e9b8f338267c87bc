"""Properties one by one: how numbers are written, what a place allows, and what goes on to who receives a PUBLISH."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.mqtt.errors import MalformedPacket, ProtocolError
from protocol.mqtt.framing import REMAINING_LENGTH_MAX, encode_variable
from protocol.mqtt.v5.properties import (
    Properties,
    are_forwarded,
    bounds,
    forwarded_properties,
    handed_on_of_will,
    publish_properties,
    read_properties,
    variable_at,
)
from protocol.mqtt.v5.property_table import (
    CONTENT_TYPE,
    MESSAGE_EXPIRY,
    PAYLOAD_FORMAT,
    PLACES,
    REASON_STRING,
    TOPIC_ALIAS,
    TYPES,
    WILL,
    WILL_DELAY,
)

PUBLISH = 3
SUBSCRIBE = 8
# The smallest right value of each type, from a byte to a pair of texts.
VALUES = {
    1: b"\x01",
    2: b"\0\x01",
    4: b"\0\0\0\x01",
    5: b"\x01",
    6: b"\0\x01t",
    7: b"\0\x01\0",
    8: b"\0\0\0\0",
}


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, b"\x00"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (16_383, b"\xff\x7f"),
        (16_384, b"\x80\x80\x01"),
        (2_097_151, b"\xff\xff\x7f"),
        (2_097_152, b"\x80\x80\x80\x01"),
        (REMAINING_LENGTH_MAX, b"\xff\xff\xff\x7f"),
    ],
)
def test_a_variable_number_is_read_wherever_it_stands(number: int, written: bytes) -> None:
    assert variable_at(b"?" + written + b"?", 1, len(written) + 1) == (number, len(written) + 1)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x00", b"\xff\xff\xff\xff\x01", b"\xff\xff\xff\x80"])
def test_a_variable_number_that_is_cut_too_long_or_padded_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedPacket) as refused:
        variable_at(data, 0, len(data))
    assert refused.value.tag == "MQTT-1.5.5-1"


def test_properties_end_where_their_length_says_and_not_behind_their_packet() -> None:
    assert bounds(b"\x02\x01\x01payload", 0, 10) == (1, 3)
    with pytest.raises(MalformedPacket, match="longer than their packet"):
        bounds(b"\x02\x01\x01", 0, 2)


@pytest.mark.parametrize("name", TYPES)
def test_a_property_may_stand_in_its_packets_and_in_no_other(name: int) -> None:
    one = bytes((name,)) + VALUES[TYPES[name]]
    data = bytes((len(one),)) + one
    for place in range(16):
        if PLACES[name] >> place & 1:
            found, stop = read_properties(data, 0, len(data), place)
            assert found.encode() == data
            assert stop == len(data)
        else:
            with pytest.raises(MalformedPacket) as refused:
                read_properties(data, 0, len(data), place)
            assert refused.value.tag == "MQTT-2.2.2-2"


@pytest.mark.parametrize("name", TYPES)
def test_a_value_that_ends_behind_its_properties_is_refused(name: int) -> None:
    place = next(place for place in range(16) if PLACES[name] >> place & 1)
    one = bytes((name,)) + VALUES[TYPES[name]]
    for length in range(1, len(one)):
        # The rest of the value follows in the packet, and is no part of the properties.
        data = bytes((length,)) + one
        with pytest.raises(MalformedPacket):
            read_properties(data, 0, len(data), place)


def test_only_a_publish_names_several_subscriptions() -> None:
    data = b"\x04\x0b\x07\x0b\x08"
    assert read_properties(data, 0, 5, PUBLISH)[0].subscription_ids == [7, 8]
    with pytest.raises(ProtocolError, match="two subscription identifiers"):
        read_properties(data, 0, 5, SUBSCRIBE)


EXPIRY = b"\x02\x00\x00\x00\x09"
ALIAS = b"\x23\x00\x05"
TEXT = b"\x03\x00\x01t"
USER = b"\x26\x00\x01k\x00\x01v"


@pytest.mark.parametrize(
    ("properties", "forwarded", "expiry_s", "alias"),
    [
        (b"", b"", -1, 0),
        (USER + TEXT + USER, USER + TEXT + USER, -1, 0),
        (EXPIRY, b"", 9, 0),
        (ALIAS, b"", -1, 5),
        (USER + EXPIRY + TEXT + ALIAS + USER, USER + TEXT + USER, 9, 5),
        (EXPIRY + ALIAS + TEXT, TEXT, 9, 5),
        (TEXT + ALIAS + EXPIRY, TEXT, 9, 5),
        (b"\x02\x00\x00\x00\x00", b"", 0, 0),
    ],
)
def test_expiry_and_alias_are_taken_out_and_the_rest_goes_on_as_it_came(
    properties: bytes, forwarded: bytes, expiry_s: int, alias: int
) -> None:
    around = b"?" + properties + b"?"
    assert publish_properties(around, 1, len(around) - 1) == (forwarded, expiry_s, alias)
    assert are_forwarded(properties) == (expiry_s < 0 and alias == 0)


@pytest.mark.parametrize(
    ("properties", "tag"),
    [
        (b"\x0b\x01", "MQTT-3.3.4-6"),
        (TEXT + TEXT, ""),
        (EXPIRY + EXPIRY, ""),
        (ALIAS + ALIAS, ""),
        (b"\x01\x01\x01\x01", ""),
        (b"\x01\x02", ""),
        (b"\x23\x00\x00", "MQTT-3.3.2-8"),
        (b"\x08\x00\x01+", "MQTT-3.3.2-14"),
        (b"\x26\x00\x01k\x00\x02v", "MQTT-2.2.2-1"),
        (b"\x26\x00", "MQTT-2.2.2-1"),
        (b"\x18\x00\x00\x00\x01", "MQTT-2.2.2-2"),
    ],
)
def test_a_clients_publish_with_wrong_properties_is_refused_and_not_handed_on(
    properties: bytes, tag: str
) -> None:
    with pytest.raises(ProtocolError) as refused:
        publish_properties(properties + b"no part of them", 0, len(properties))
    assert refused.value.tag == tag
    assert not are_forwarded(properties)


@given(st.lists(st.sampled_from([USER, TEXT, EXPIRY, b"\x18\x00\x00\x00\x02", b"\x01\x01"]), unique=True))
def test_a_wills_delay_and_expiry_are_the_servers_and_the_rest_its_receivers(pieces: list[bytes]) -> None:
    data = encode_variable(sum(map(len, pieces))) + b"".join(pieces)
    wanted = b"".join(piece for piece in pieces if piece[0] not in (WILL_DELAY, MESSAGE_EXPIRY))
    assert handed_on_of_will(data, 0, len(data)) == wanted
    properties, _ = read_properties(data, 0, len(data), WILL)
    assert sorted(forwarded_properties(properties)) == sorted(wanted)


def test_what_is_handed_on_of_properties_is_what_every_receiver_gets() -> None:
    properties = Properties(
        {PAYLOAD_FORMAT: 1, MESSAGE_EXPIRY: 9, TOPIC_ALIAS: 5},
        {CONTENT_TYPE: b"t", REASON_STRING: b"no"},
        [(b"k", b"v")],
        [7],
    )
    assert forwarded_properties(properties) == b"\x01\x01" + TEXT + USER


def test_a_log_line_shows_no_text() -> None:
    shown = repr(Properties({MESSAGE_EXPIRY: 9}, {CONTENT_TYPE: b"secret"}, [(b"token", b"secret")]))
    assert "secret" not in shown
    assert "token" not in shown
    assert shown == "Properties({2: 9}, sizes {3: 6}, 1 user, [])"
