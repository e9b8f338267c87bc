"""One table of control packets, valid and invalid, for every test that needs some.

A case is named by what it shows.  An invalid one has the normative statement that it breaks, or "" where
the text has none; whether mosquitto thinks so too is played out in `test_cases_against_mosquitto.py`.
"""

from __future__ import annotations

from support.packet_case import Case, InvalidCase, ValidCase, framed, string

from protocol.mqtt.errors import ConnectRefused
from protocol.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)

MQTT_3_1_1 = b"\x00\x04MQTT\x04"
MQTT_3_1 = b"\x00\x06MQIsdp\x03"
CLIENT_ID = b"\x00\x01c"
KEEP_ALIVE = b"\x00\x3c"  # 60 s
LEVELS_200 = b"/" * 200
LONG_TOPIC = b"t" * 65_535


def connect(flags: int, payload: bytes, protocol: bytes = MQTT_3_1_1) -> bytes:
    return framed(0x10, protocol + bytes([flags]) + KEEP_ALIVE + payload)


def server_sends(name: str, raw: bytes, packet: Packet) -> ValidCase:
    return ValidCase(name, raw, packet, from_client=False)


VALID_CONNECTS = [
    ValidCase("connect", connect(0x02, CLIENT_ID), Connect(b"c", True, 60)),
    ValidCase("connect_to_a_stored_session", connect(0x00, CLIENT_ID), Connect(b"c", False, 60)),
    ValidCase("connect_with_empty_client_id", connect(0x02, b"\x00\x00"), Connect(b"", True, 60)),
    ValidCase(
        "connect_without_keep_alive", b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c", Connect(b"c", True, 0)
    ),
    ValidCase(
        "connect_with_everything",
        connect(0xEE, CLIENT_ID + b"\x00\x03w/t" + b"\x00\x04gone" + b"\x00\x01u" + b"\x00\x01p"),
        Connect(b"c", True, 60, 4, Will(b"w/t", b"gone", 1, True), b"u", b"p"),
    ),
    ValidCase(
        "connect_with_empty_will_payload",
        connect(0x16, CLIENT_ID + b"\x00\x01w" + b"\x00\x00"),
        Connect(b"c", True, 60, 4, Will(b"w", b"", 2, False)),
    ),
    ValidCase(
        "connect_with_empty_user_name",
        connect(0x82, CLIENT_ID + b"\x00\x00"),
        Connect(b"c", True, 60, user_name=b""),
    ),
    ValidCase(
        "connect_with_binary_password",
        connect(0xC2, CLIENT_ID + b"\x00\x01u" + b"\x00\x02\x00\xff"),
        Connect(b"c", True, 60, user_name=b"u", password=b"\x00\xff"),
    ),
    ValidCase(
        "connect_with_four_byte_character",
        connect(0x02, b"\x00\x05\xf0\xaa\x9b\x94c"),  # U+2A6D4, §1.5.3
        Connect("\U0002a6d4c".encode(), True, 60),
    ),
    ValidCase(
        "connect_of_a_bridge",
        connect(0x02, CLIENT_ID, b"\x00\x04MQTT\x84"),
        Connect(b"c", True, 60, bridge=True),
    ),
    ValidCase("connect_3_1", connect(0x02, CLIENT_ID, MQTT_3_1), Connect(b"c", True, 60, 3)),
    ValidCase(
        "connect_3_1_of_a_bridge",
        connect(0x02, CLIENT_ID, b"\x00\x06MQIsdp\x83"),
        Connect(b"c", True, 60, 3, bridge=True),
    ),
    ValidCase(
        "connect_3_1_with_reserved_flag",
        connect(0x03, CLIENT_ID, MQTT_3_1),
        Connect(b"c", True, 60, 3),
        canonical=False,
    ),
    ValidCase(
        "connect_3_1_with_will_qos_and_no_will",
        connect(0x2A, CLIENT_ID, MQTT_3_1),
        Connect(b"c", True, 60, 3),
        canonical=False,
    ),
    ValidCase(
        "connect_3_1_whose_user_name_is_left_out",
        connect(0xC2, CLIENT_ID, MQTT_3_1),
        Connect(b"c", True, 60, 3),
        canonical=False,
    ),
    ValidCase(
        "connect_3_1_whose_password_is_left_out",
        connect(0xC2, CLIENT_ID + b"\x00\x01u", MQTT_3_1),
        Connect(b"c", True, 60, 3, user_name=b"u"),
        canonical=False,
    ),
]

VALID_PUBLISHES = [
    ValidCase("publish", b"\x30\x06\x00\x01t" + b"pay", Publish(b"t", b"pay")),
    ValidCase("publish_empty", b"\x30\x03\x00\x01t", Publish(b"t", b"")),
    ValidCase("publish_retained", b"\x31\x04\x00\x01t" + b"p", Publish(b"t", b"p", 0, True)),
    ValidCase("publish_qos_1", b"\x32\x06\x00\x01t\x00\x0a" + b"p", Publish(b"t", b"p", 1, packet_id=10)),
    ValidCase("publish_qos_1_again", b"\x3a\x05\x00\x01t\x00\x0a", Publish(b"t", b"", 1, False, True, 10)),
    ValidCase("publish_qos_2", b"\x34\x05\x00\x01t\xff\xff", Publish(b"t", b"", 2, packet_id=65_535)),
    ValidCase(
        "publish_qos_2_retained_again", b"\x3d\x05\x00\x01t\x00\x01", Publish(b"t", b"", 2, True, True, 1)
    ),
    ValidCase("publish_to_spaces_and_case", framed(0x30, string(b" T /")), Publish(b" T /", b"")),
    ValidCase("publish_to_200_separators", framed(0x30, string(LEVELS_200)), Publish(LEVELS_200, b"")),
    ValidCase("publish_to_longest_topic", framed(0x30, string(LONG_TOPIC)), Publish(LONG_TOPIC, b"")),
    ValidCase("publish_125_bytes", framed(0x30, b"\x00\x01t" + b"p" * 124), Publish(b"t", b"p" * 124)),
    ValidCase("publish_two_length_bytes", framed(0x30, b"\x00\x01t" + b"p" * 125), Publish(b"t", b"p" * 125)),
    ValidCase(
        "publish_three_length_bytes", framed(0x30, b"\x00\x01t" + b"p" * 16_381), Publish(b"t", b"p" * 16_381)
    ),
    ValidCase(
        "publish_four_length_bytes",
        framed(0x30, b"\x00\x01t" + b"p" * 2_097_149),
        Publish(b"t", b"p" * 2_097_149),
    ),
    ValidCase(
        "publish_with_byte_order_mark", b"\x30\x05\x00\x03\xef\xbb\xbf", Publish("\ufeff".encode(), b"")
    ),  # [MQTT-1.5.3-3]
    ValidCase(
        "publish_whose_length_is_longer_than_needed",
        b"\x30\x83\x80\x00\x00\x01t",
        Publish(b"t", b""),
        canonical=False,
    ),
]

VALID_OTHERS = [
    ValidCase("puback", b"\x40\x02\x00\x01", Puback(1)),
    ValidCase("pubrec", b"\x50\x02\x01\x00", Pubrec(256)),
    ValidCase("pubrel", b"\x62\x02\xff\xff", Pubrel(65_535)),
    ValidCase("pubcomp", b"\x70\x02\x00\x01", Pubcomp(1)),
    ValidCase("subscribe", b"\x82\x06\x00\x01\x00\x01t\x00", Subscribe(1, ((b"t", 0),))),
    ValidCase(
        "subscribe_to_three",
        b"\x82\x13\x00\x02" + b"\x00\x03a/b\x01" + b"\x00\x03+/#\x02" + b"\x00\x02/+\x00",
        Subscribe(2, ((b"a/b", 1), (b"+/#", 2), (b"/+", 0))),
    ),
    ValidCase(
        "subscribe_to_200_separators",
        framed(0x82, b"\x00\x01" + string(LEVELS_200) + b"\x00"),
        Subscribe(1, ((LEVELS_200, 0),)),
    ),
    ValidCase("unsubscribe", b"\xa2\x05\x00\x01\x00\x01t", Unsubscribe(1, (b"t",))),
    ValidCase(
        "unsubscribe_two", b"\xa2\x09\x00\x03" + b"\x00\x02a/" + b"\x00\x01#", Unsubscribe(3, (b"a/", b"#"))
    ),
    ValidCase("pingreq", b"\xc0\x00", Pingreq()),
    ValidCase("disconnect", b"\xe0\x00", Disconnect()),
    server_sends("connack", b"\x20\x02\x00\x00", Connack(False, 0)),
    server_sends("connack_session_present", b"\x20\x02\x01\x00", Connack(True, 0)),
    server_sends("connack_not_authorized", b"\x20\x02\x00\x05", Connack(False, 5)),
    server_sends("suback", b"\x90\x06\x00\x02\x00\x01\x02\x80", Suback(2, (0, 1, 2, 0x80))),
    server_sends("unsuback", b"\xb0\x02\x00\x01", Unsuback(1)),
    server_sends("pingresp", b"\xd0\x00", Pingresp()),
]

VALID = VALID_CONNECTS + VALID_PUBLISHES + VALID_OTHERS

# --- what nobody may send ---------------------------------------------------------------------------


def connect_malformed(
    name: str, flags: int, payload: bytes, tag: str, protocol: bytes = MQTT_3_1_1
) -> InvalidCase:
    return InvalidCase(f"connect_{name}", connect(flags, payload, protocol), tag)


def connect_refused(name: str, protocol: bytes) -> InvalidCase:
    return InvalidCase(
        f"connect_{name}", connect(0x02, CLIENT_ID, protocol), "MQTT-3.1.2-2", error=ConnectRefused
    )


INVALID_CONNECTS = [
    InvalidCase("connect_empty", b"\x10\x00", "MQTT-3.1.4-1"),
    InvalidCase("connect_cut_in_the_protocol_name", b"\x10\x05\x00\x04MQT", "MQTT-3.1.4-1"),
    InvalidCase("connect_cut_before_the_level", b"\x10\x06\x00\x04MQTT", "MQTT-3.1.4-1"),
    InvalidCase("connect_cut_before_the_flags", b"\x10\x07\x00\x04MQTT\x04", "MQTT-3.1.4-1"),
    InvalidCase("connect_cut_in_the_keep_alive", b"\x10\x09\x00\x04MQTT\x04\x02\x00", "MQTT-3.1.4-1"),
    connect_malformed("without_client_id", 0x02, b"", "MQTT-3.1.3-3"),
    connect_malformed("cut_in_the_client_id", 0x02, b"\x00\x02c", "MQTT-3.1.3-3"),
    connect_malformed("one_byte_too_long", 0x02, CLIENT_ID + b"\x00", "MQTT-3.1.4-1"),
    connect_malformed("with_unannounced_user_name", 0x02, CLIENT_ID + b"\x00\x01u", "MQTT-3.1.4-1"),
    connect_malformed("for_another_protocol", 0x02, CLIENT_ID, "MQTT-3.1.2-1", b"\x00\x04AMQP\x04"),
    connect_malformed("in_lower_case", 0x02, CLIENT_ID, "MQTT-3.1.2-1", b"\x00\x04mqtt\x04"),
    connect_malformed("without_protocol_name", 0x02, CLIENT_ID, "MQTT-3.1.2-1", b"\x00\x00\x04"),
    connect_refused("level_2", b"\x00\x04MQTT\x02"),
    connect_refused("level_3_as_mqtt", b"\x00\x04MQTT\x03"),
    connect_refused("level_6", b"\x00\x04MQTT\x06"),
    connect_refused("level_4_as_mqisdp", b"\x00\x06MQIsdp\x04"),
    InvalidCase(
        "connect_level_6_with_a_body_of_its_own",
        b"\x10\x07\x00\x04MQTT\x06",
        "MQTT-3.1.2-2",
        error=ConnectRefused,
    ),
    connect_malformed("with_reserved_flag", 0x03, CLIENT_ID, "MQTT-3.1.2-3"),
    connect_malformed("with_will_qos_and_no_will", 0x0A, CLIENT_ID, "MQTT-3.1.2-13"),
    connect_malformed("with_will_retain_and_no_will", 0x22, CLIENT_ID, "MQTT-3.1.2-15"),
    connect_malformed("with_will_qos_3", 0x1E, CLIENT_ID + b"\x00\x01w\x00\x00", "MQTT-3.1.2-14"),
    connect_malformed(
        "3_1_with_will_qos_3", 0x1E, CLIENT_ID + b"\x00\x01w\x00\x00", "MQTT-3.1.2-14", MQTT_3_1
    ),
    connect_malformed("with_will_flag_and_no_will", 0x06, CLIENT_ID, "MQTT-3.1.2-9"),
    connect_malformed("with_will_without_payload", 0x06, CLIENT_ID + b"\x00\x01w", "MQTT-3.1.2-9"),
    connect_malformed("with_empty_will_topic", 0x06, CLIENT_ID + b"\x00\x00\x00\x01p", "MQTT-4.7.3-1"),
    connect_malformed("with_wildcard_in_will_topic", 0x06, CLIENT_ID + b"\x00\x01#\x00\x01p", "MQTT-3.3.2-2"),
    connect_malformed("with_password_and_no_user_name", 0x42, CLIENT_ID + b"\x00\x01p", "MQTT-3.1.2-22"),
    connect_malformed(
        "3_1_with_password_and_no_user_name", 0x42, CLIENT_ID + b"\x00\x01p", "MQTT-3.1.2-22", MQTT_3_1
    ),
    connect_malformed("without_its_user_name", 0x82, CLIENT_ID, "MQTT-3.1.2-19"),
    connect_malformed("without_its_password", 0xC2, CLIENT_ID + b"\x00\x01u", "MQTT-3.1.2-21"),
    *(
        InvalidCase(
            f"connect_flags_{flags:x}", bytes([0x10 | flags]) + connect(2, CLIENT_ID)[1:], "MQTT-2.2.2-2"
        )
        for flags in (1, 2, 4, 8, 15)
    ),
]

INVALID_PUBLISHES = [
    InvalidCase("publish_without_topic", b"\x30\x00", "MQTT-3.3.2-1"),
    InvalidCase("publish_cut_in_the_topic_length", b"\x30\x01\x00", "MQTT-3.3.2-1"),
    InvalidCase("publish_cut_in_the_topic", b"\x30\x05\x00\x04top", "MQTT-3.3.2-1"),
    InvalidCase("publish_to_empty_topic", b"\x30\x03\x00\x00p", "MQTT-4.7.3-1"),
    InvalidCase("publish_to_plus", b"\x30\x05\x00\x03a/+", "MQTT-3.3.2-2"),
    InvalidCase("publish_to_hash", b"\x30\x04\x00\x02a#", "MQTT-3.3.2-2"),
    InvalidCase("publish_to_201_separators", framed(0x30, string(LEVELS_200 + b"/")), ""),
    InvalidCase("publish_qos_0_again", b"\x38\x03\x00\x01t", "MQTT-3.3.1-2"),
    InvalidCase("publish_qos_3", b"\x36\x05\x00\x01t\x00\x01", "MQTT-3.3.1-4"),
    InvalidCase("publish_qos_1_without_packet_id", b"\x32\x03\x00\x01t", "MQTT-2.3.1-1"),
    InvalidCase("publish_qos_1_cut_in_the_packet_id", b"\x32\x04\x00\x01t\x00", "MQTT-2.3.1-1"),
    InvalidCase("publish_qos_1_packet_id_0", b"\x32\x05\x00\x01t\x00\x00", "MQTT-2.3.1-1"),
    InvalidCase("publish_qos_2_packet_id_0", b"\x34\x05\x00\x01t\x00\x00", "MQTT-2.3.1-1"),
]

INVALID_SUBSCRIBES = [
    InvalidCase("subscribe_flags_0", b"\x80\x06\x00\x01\x00\x01t\x00", "MQTT-3.8.1-1"),
    InvalidCase("subscribe_flags_3", b"\x83\x06\x00\x01\x00\x01t\x00", "MQTT-3.8.1-1"),
    InvalidCase("subscribe_flags_a", b"\x8a\x06\x00\x01\x00\x01t\x00", "MQTT-3.8.1-1"),
    InvalidCase("subscribe_without_packet_id", b"\x82\x00", "MQTT-2.3.1-1"),
    InvalidCase("subscribe_packet_id_0", b"\x82\x06\x00\x00\x00\x01t\x00", "MQTT-2.3.1-1"),
    InvalidCase("subscribe_without_filter", b"\x82\x02\x00\x01", "MQTT-3.8.3-3"),
    InvalidCase("subscribe_to_empty_filter", b"\x82\x05\x00\x01\x00\x00\x00", "MQTT-4.7.3-1"),
    InvalidCase("subscribe_cut_in_the_filter_length", b"\x82\x03\x00\x01\x00", "MQTT-3.8.3-1"),
    InvalidCase("subscribe_cut_in_the_filter", b"\x82\x05\x00\x01\x00\x02t", "MQTT-3.8.3-1"),
    InvalidCase("subscribe_without_qos", b"\x82\x05\x00\x01\x00\x01t", "MQTT-4.8.0-1"),
    InvalidCase(
        "subscribe_cut_in_the_second_filter", b"\x82\x08\x00\x01\x00\x01t\x00\x00\x01", "MQTT-3.8.3-1"
    ),
    InvalidCase("subscribe_qos_3", b"\x82\x06\x00\x01\x00\x01t\x03", "MQTT-3.8.3-4"),
    InvalidCase("subscribe_reserved_qos_bit", b"\x82\x06\x00\x01\x00\x01t\x04", "MQTT-3.8.3-4"),
    InvalidCase("subscribe_to_hash_before_the_end", b"\x82\x0a\x00\x01\x00\x05a/#/b\x00", "MQTT-4.7.1-2"),
    InvalidCase("subscribe_to_hash_in_a_level", b"\x82\x07\x00\x01\x00\x02a#\x00", "MQTT-4.7.1-2"),
    InvalidCase("subscribe_to_plus_in_a_level", b"\x82\x0a\x00\x01\x00\x05ab/+e\x00", "MQTT-4.7.1-3"),
    InvalidCase(
        "subscribe_to_201_separators", framed(0x82, b"\x00\x01" + string(LEVELS_200 + b"/") + b"\x00"), ""
    ),
    InvalidCase("unsubscribe_flags_0", b"\xa0\x05\x00\x01\x00\x01t", "MQTT-3.10.1-1"),
    InvalidCase("unsubscribe_without_packet_id", b"\xa2\x01\x00", "MQTT-2.3.1-1"),
    InvalidCase("unsubscribe_packet_id_0", b"\xa2\x05\x00\x00\x00\x01t", "MQTT-2.3.1-1"),
    InvalidCase("unsubscribe_without_filter", b"\xa2\x02\x00\x01", "MQTT-3.10.3-2"),
    InvalidCase("unsubscribe_empty_filter", b"\xa2\x04\x00\x01\x00\x00", "MQTT-4.7.3-1"),
    InvalidCase("unsubscribe_cut_in_the_filter", b"\xa2\x05\x00\x01\x00\x02t", "MQTT-3.10.3-1"),
    InvalidCase("unsubscribe_hash_before_the_end", b"\xa2\x09\x00\x01\x00\x05a/#/b", "MQTT-4.7.1-2"),
]

# Text that is refused wherever text stands, and the statement that says so.
MALFORMED_TEXTS = [
    ("nul", b"a\x00b", "MQTT-1.5.3-2"),
    ("first_surrogate", b"\xed\xa0\x80", "MQTT-1.5.3-1"),
    ("last_surrogate", b"a\xed\xbf\xbf", "MQTT-1.5.3-1"),
    ("overlong", b"\xc0\xaf", "MQTT-1.5.3-1"),
    ("cut_off", b"a\xc3", "MQTT-1.5.3-1"),
    ("lone_continuation", b"\x80", "MQTT-1.5.3-1"),
    ("beyond_unicode", b"\xf4\x90\x80\x80", "MQTT-1.5.3-1"),
    ("u0001", b"\x01", ""),
    ("u001f", b"\x1f", ""),
    ("u007f", b"a\x7f", ""),
    ("u0080", b"\xc2\x80", ""),
    ("u009f", b"\xc2\x9fa", ""),
    ("ufdd0", b"\xef\xb7\x90", ""),
    ("ufdef", b"\xef\xb7\xaf", ""),
    ("ufffe", b"\xef\xbf\xbe", ""),
    ("uffff", b"a\xef\xbf\xbf", ""),
    ("u1fffe", b"\xf0\x9f\xbf\xbe", ""),
    ("u10ffff", b"\xf4\x8f\xbf\xbf", ""),
]


def packets_with(text: bytes) -> dict[str, bytes]:
    """The packets that carry this text in one place each."""
    return {
        "connect_client_id": connect(0x02, string(text)),
        "connect_user_name": connect(0x82, CLIENT_ID + string(text)),
        "connect_will_topic": connect(0x06, CLIENT_ID + string(text) + b"\x00\x01p"),
        "publish_topic": framed(0x30, string(text)),
        "subscribe_filter": framed(0x82, b"\x00\x01" + string(text) + b"\x00"),
        "unsubscribe_filter": framed(0xA2, b"\x00\x01" + string(text)),
    }


INVALID_TEXTS = [
    InvalidCase(f"{where}_{name}", raw, tag)
    for name, text, tag in MALFORMED_TEXTS
    for where, raw in packets_with(text).items()
]

INVALID_OTHERS = [
    *(
        case
        for name, first_byte in (("puback", 0x40), ("pubrec", 0x50), ("pubrel", 0x62), ("pubcomp", 0x70))
        for case in (
            InvalidCase(f"{name}_packet_id_0", bytes([first_byte]) + b"\x02\x00\x00", "MQTT-2.3.1-6"),
            InvalidCase(f"{name}_empty", bytes([first_byte]) + b"\x00", "MQTT-4.8.0-1"),
            InvalidCase(f"{name}_too_short", bytes([first_byte]) + b"\x01\x00", "MQTT-4.8.0-1"),
            InvalidCase(f"{name}_too_long", bytes([first_byte]) + b"\x03\x00\x01\x00", "MQTT-4.8.0-1"),
        )
    ),
    InvalidCase("puback_flags_1", b"\x41\x02\x00\x01", "MQTT-2.2.2-2"),
    InvalidCase("pubrec_flags_2", b"\x52\x02\x00\x01", "MQTT-2.2.2-2"),
    InvalidCase("pubrel_flags_0", b"\x60\x02\x00\x01", "MQTT-3.6.1-1"),
    InvalidCase("pubrel_flags_a", b"\x6a\x02\x00\x01", "MQTT-3.6.1-1"),
    InvalidCase("pubcomp_flags_8", b"\x78\x02\x00\x01", "MQTT-2.2.2-2"),
    InvalidCase("pingreq_flags_1", b"\xc1\x00", "MQTT-2.2.2-2"),
    InvalidCase("pingreq_with_body", b"\xc0\x01\x00", "MQTT-4.8.0-1"),
    InvalidCase("disconnect_flags_1", b"\xe1\x00", "MQTT-3.14.1-1"),
    InvalidCase("disconnect_with_body", b"\xe0\x01\x00", "MQTT-4.8.0-1"),
    InvalidCase("type_0", b"\x00\x00", "MQTT-4.8.0-1"),
    InvalidCase("type_15", b"\xf0\x00", "MQTT-4.8.0-1"),
]

INVALID_FROM_SERVER = [
    InvalidCase(name, raw, tag, from_client=False)
    for name, raw, tag in (
        ("connack_too_short", b"\x20\x01\x00", "MQTT-4.8.0-1"),
        ("connack_too_long", b"\x20\x03\x00\x00\x00", "MQTT-4.8.0-1"),
        ("connack_reserved_flag", b"\x20\x02\x02\x00", "MQTT-4.8.0-1"),
        ("connack_reserved_code", b"\x20\x02\x00\x06", "MQTT-4.8.0-1"),
        ("connack_refusing_with_session", b"\x20\x02\x01\x05", "MQTT-3.2.2-4"),
        ("suback_packet_id_0", b"\x90\x03\x00\x00\x00", "MQTT-2.3.1-7"),
        ("suback_cut_in_the_packet_id", b"\x90\x01\x00", "MQTT-4.8.0-1"),
        ("suback_without_code", b"\x90\x02\x00\x01", "MQTT-3.8.4-5"),
        ("suback_code_3", b"\x90\x03\x00\x01\x03", "MQTT-3.9.3-2"),
        ("suback_code_81", b"\x90\x03\x00\x01\x81", "MQTT-3.9.3-2"),
        ("unsuback_packet_id_0", b"\xb0\x02\x00\x00", "MQTT-2.3.1-7"),
        ("unsuback_too_long", b"\xb0\x03\x00\x01\x00", "MQTT-4.8.0-1"),
        ("pingresp_with_body", b"\xd0\x01\x00", "MQTT-4.8.0-1"),
    )
]

INVALID = [
    *INVALID_CONNECTS,
    *INVALID_PUBLISHES,
    *INVALID_SUBSCRIBES,
    *INVALID_TEXTS,
    *INVALID_OTHERS,
    *INVALID_FROM_SERVER,
]


def case_name(case: Case) -> str:
    """For `pytest.mark.parametrize(..., ids=case_name)`."""
    return case.name
