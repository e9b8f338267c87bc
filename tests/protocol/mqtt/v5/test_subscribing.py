"""Subscriptions of 5.0 as one number, and which statement a broken SUBSCRIBE or its answer breaks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.packet_case import string

from protocol.mqtt.errors import ProtocolError
from protocol.mqtt.v5.codec import decode
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import SUBSCRIPTION_ID
from protocol.mqtt.v5.subscribing import (
    both,
    capped,
    granted_to,
    options_of,
    read_answers,
    subscription,
)

OPTIONS = st.integers(0, 2).flatmap(lambda qos: st.sampled_from([qos, qos | 4, qos | 8, qos | 12]))
FORBIDDEN = [
    ("SUBSCRIBE without filter", 0x82, b"\x00\x01\x00", 0x82, "MQTT-3.8.3-2"),
    ("SUBSCRIBE id 0", 0x82, b"\x00\x01\x02\x0b\x00\x00\x01t\x00", 0x82, ""),
    ("SUBSCRIBE two ids", 0x82, b"\x00\x01\x04\x0b\x01\x0b\x02\x00\x01t\x00", 0x82, ""),
    ("reserved options", 0x82, b"\x00\x01\x00\x00\x01t\x40", 0x81, "MQTT-3.8.3-5"),
    ("retain handling 3", 0x82, b"\x00\x01\x00\x00\x01t\x30", 0x82, "MQTT-3.8.3-5"),
    (
        "no local on a shared one",
        0x82,
        b"\x00\x01\x00" + string(b"$share/g/t") + b"\x04",
        0x82,
        "MQTT-3.8.3-4",
    ),
    ("UNSUBSCRIBE without filter", 0xA2, b"\x00\x01\x00", 0x82, "MQTT-3.10.3-2"),
    ("no packet id", 0x82, b"\x00", 0x81, "MQTT-2.2.1-3"),
    ("packet id 0", 0x82, b"\x00\x00\x00\x00\x01t\x00", 0x81, "MQTT-2.2.1-3"),
    ("packet id 0 in UNSUBSCRIBE", 0xA2, b"\x00\x00\x00\x00\x01t", 0x81, "MQTT-2.2.1-3"),
    ("a filter without its length", 0x82, b"\x00\x01\x00\x00", 0x81, "MQTT-3.8.3-1"),
    ("a filter cut short", 0x82, b"\x00\x01\x00\x00\x02t", 0x81, "MQTT-3.8.3-1"),
    ("no options", 0x82, b"\x00\x01\x00\x00\x01t", 0x81, "MQTT-3.8.3-1"),
    ("QoS 3", 0x82, b"\x00\x01\x00\x00\x01t\x03", 0x82, "MQTT-3.8.3-5"),
    ("a filter cut short in UNSUBSCRIBE", 0xA2, b"\x00\x01\x00\x00\x02t", 0x81, "MQTT-3.10.3-1"),
]


@pytest.mark.parametrize(
    ("name", "first", "body", "code", "tag"), FORBIDDEN, ids=[row[0] for row in FORBIDDEN]
)
def test_what_a_statement_forbids_is_refused_with_its_code(
    name: str, first: int, body: bytes, code: int, tag: str
) -> None:
    with pytest.raises(ProtocolError) as refused:
        decode(first, body)
    assert (refused.value.reason_code, refused.value.tag) == (code, tag)


@pytest.mark.parametrize("group", [b"g", b"", b"+", b"a#b"])
def test_a_wrong_group_is_no_fault_of_the_packet(group: bytes) -> None:
    topic_filter = b"$share/" + group + b"/t/#"
    assert decode(0x82, b"\x00\x01\x00" + string(topic_filter) + b"\x01").filters == ((topic_filter, 1),)  # type: ignore[union-attr]


@given(st.lists(st.tuples(OPTIONS, st.integers(0, 268_435_455)), min_size=1, max_size=5), st.booleans())
def test_one_number_says_what_several_subscriptions_ask_for(
    wanted: list[tuple[int, int]], is_own: bool
) -> None:
    wanted = [(options & 15, number) for options, number in wanted]
    all_of_them = subscription(*wanted[0])
    assert options_of(all_of_them) == wanted[0]
    for options, number in wanted[1:]:
        all_of_them = both(all_of_them, subscription(options, number))
    counting = [(o, n) for o, n in wanted if not (is_own and o & 4)]
    if all_of_them <= 2:
        assert all_of_them == max(o for o, _ in wanted)
        return
    qos, as_published, ids = granted_to(all_of_them, is_own)
    assert qos == max((o & 3 for o, _ in counting), default=-1)
    assert as_published == any(o & 8 for o, _ in counting)
    expected = Properties(subscription_ids=[n for _, n in counting if n])
    assert ids == expected.inner()
    assert SUBSCRIPTION_ID == 11


@given(OPTIONS, st.integers(0, 268_435_455), st.integers(0, 2))
def test_a_cap_lowers_the_qos_and_touches_nothing_else(options: int, number: int, max_qos: int) -> None:
    was = subscription(options, number)
    qos, flags = options & 3, options & ~3
    is_simple = was <= 2
    assert options_of(capped(was, max_qos)) == (min(qos, max_qos) | flags, number)
    assert (capped(was, max_qos) <= 2) == is_simple


def test_a_message_of_ones_own_comes_by_the_filters_that_want_it() -> None:
    no_local = subscription(2 | 4, 7)
    assert granted_to(no_local, True) == (-1, False, b"")
    assert granted_to(no_local, False) == (2, False, b"\x0b\x07")
    assert granted_to(both(no_local, 1), True) == (1, False, b"")
    assert granted_to(both(0, no_local), False) == (2, False, b"\x0b\x07")


@pytest.mark.parametrize(
    ("packet_type", "body", "tag"),
    [
        (9, b"\x00", "MQTT-2.2.1-3"),
        (9, b"\x00\x00\x00\x00", "MQTT-2.2.1-3"),
        (9, b"\x00\x01\x00\x03", "MQTT-3.9.3-2"),
        (11, b"\x00\x01\x00\x01", "MQTT-3.11.3-2"),
    ],
)
def test_a_broken_answer_is_refused(packet_type: int, body: bytes, tag: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        read_answers(body, packet_type)
    assert refused.value.tag == tag


@pytest.mark.parametrize(("packet_type", "codes"), [(9, b"\x00\x02\x8f"), (11, b"\x00\x11\x87")])
def test_an_answer_has_a_code_for_each_filter(packet_type: int, codes: bytes) -> None:
    assert read_answers(b"\x01\x02\x00" + codes, packet_type) == (258, tuple(codes), Properties())
