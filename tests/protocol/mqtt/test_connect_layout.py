"""What is wrong with a CONNECT or CONNACK, by its layout: which error, which statement, and what 3.1 tolerates."""

from __future__ import annotations

import pytest
from support.packet_case import string

from protocol.mqtt.connect_layout import read_connack, read_connect, write_connack, write_connect
from protocol.mqtt.errors import ConnectRefused, MalformedPacket
from protocol.mqtt.packets import Connack, Connect, Will

OLD = string(b"MQIsdp") + b"\x03"
NEW = string(b"MQTT") + b"\x04"
KEEP_ALIVE = b"\x00\x3c"
CLIENT = string(b"c")


@pytest.mark.parametrize(
    ("body", "said", "tag"),
    [
        (b"", "ends within its protocol_name", "MQTT-3.1.4-1"),
        (NEW[:-1], "ends within its level", "MQTT-3.1.4-1"),
        (NEW + b"\x02\x00", "ends within its keep_alive_s", "MQTT-3.1.4-1"),
        (NEW + b"\x02" + KEEP_ALIVE + b"\x00\x02c", "ends within its client_id", "MQTT-3.1.3-3"),
        (NEW + b"\x06" + KEEP_ALIVE + CLIENT + string(b"t"), "ends within its will", "MQTT-3.1.2-9"),
        (NEW + b"\x82" + KEEP_ALIVE + CLIENT, "ends within its user_name", "MQTT-3.1.2-19"),
        (NEW + b"\xc2" + KEEP_ALIVE + CLIENT + string(b"u"), "ends within its password", "MQTT-3.1.2-21"),
        (NEW + b"\x02" + KEEP_ALIVE + CLIENT + b"\0", "bytes behind its last field", "MQTT-3.1.4-1"),
        (string(b"HTTP") + b"\x04", "another protocol than MQTT", "MQTT-3.1.2-1"),
        (NEW + b"\x03" + KEEP_ALIVE + CLIENT, "reserved flag", "MQTT-3.1.2-3"),
        (NEW + b"\x1e" + KEEP_ALIVE + CLIENT + string(b"t") + string(b"m"), "will QoS 3", "MQTT-3.1.2-14"),
        (NEW + b"\x0a" + KEEP_ALIVE + CLIENT, "will QoS but no will", "MQTT-3.1.2-13"),
        (NEW + b"\x22" + KEEP_ALIVE + CLIENT, "will retain but no will", "MQTT-3.1.2-15"),
        (NEW + b"\x42" + KEEP_ALIVE + CLIENT + string(b"p"), "password but no user name", "MQTT-3.1.2-22"),
        (NEW + b"\x02" + KEEP_ALIVE + string(b"\xff"), "client id", "MQTT-1.5.3-1"),
        (NEW + b"\x82" + KEEP_ALIVE + CLIENT + string(b"\0"), "user name", "MQTT-1.5.3-2"),
    ],
)
def test_a_broken_connect_is_refused_by_the_statement_it_breaks(body: bytes, said: str, tag: str) -> None:
    with pytest.raises(MalformedPacket) as refused:
        read_connect(body)
    assert said in refused.value.reason
    assert refused.value.tag == tag


@pytest.mark.parametrize(
    ("start", "code"),
    [
        (string(b"MQTT") + b"\x03", 1),
        (string(b"MQTT") + b"\x05", 1),
        (string(b"MQTT") + b"\x06", 0x84),
        (string(b"MQTT") + b"\x86", 0x84),
        (string(b"MQIsdp") + b"\x04", 1),
        (string(b"MQIsdp") + b"\x06", 1),
    ],
)
def test_another_level_is_answered_before_anything_behind_it_is_read(start: bytes, code: int) -> None:
    with pytest.raises(ConnectRefused) as refused:
        read_connect(start + b"no more of it is looked at")
    assert (refused.value.code, refused.value.tag) == (code, "MQTT-3.1.2-2")


@pytest.mark.parametrize("flags", [0x03, 0x0A, 0x22])
def test_3_1_may_set_what_has_no_meaning(flags: int) -> None:
    assert read_connect(OLD + bytes((flags,)) + KEEP_ALIVE + CLIENT) == Connect(b"c", True, 60, 3)


@pytest.mark.parametrize("flags", [0x1E, 0x42])
def test_3_1_may_not_have_a_third_qos_or_a_password_alone(flags: int) -> None:
    with pytest.raises(MalformedPacket):
        read_connect(OLD + bytes((flags,)) + KEEP_ALIVE + CLIENT + string(b"p"))


def test_3_1_may_announce_a_name_and_a_password_and_have_none() -> None:
    assert read_connect(OLD + b"\xc2" + KEEP_ALIVE + CLIENT) == Connect(b"c", True, 60, 3)


def test_a_bridge_is_told_by_the_highest_bit_of_the_level_and_by_that_alone() -> None:
    plain = Connect(b"c", False, 60, 4, Will(b"t", b"gone", 1, True), b"u", b"\0p")
    body = write_connect(plain)
    assert read_connect(body) == plain
    bridge = read_connect(body[:6] + bytes((body[6] | 0x80,)) + body[7:])
    assert bridge.bridge
    assert bridge.protocol_level == 4
    assert write_connect(bridge)[:6] == body[:6]


@pytest.mark.parametrize(
    ("body", "tag"),
    [
        (b"", "MQTT-4.8.0-1"),
        (b"\x00", "MQTT-4.8.0-1"),
        (b"\x02\x00", "MQTT-4.8.0-1"),
        (b"\x00\x06", "MQTT-4.8.0-1"),
        (b"\x00\x00\x00", "MQTT-4.8.0-1"),
        (b"\x01\x05", "MQTT-3.2.2-4"),
    ],
)
def test_a_broken_connack_is_refused(body: bytes, tag: str) -> None:
    with pytest.raises(MalformedPacket) as refused:
        read_connack(body)
    assert refused.value.tag == tag


@pytest.mark.parametrize("packet", [Connack(True, 0), Connack(False, 0), Connack(False, 5)])
def test_a_connack_is_one_flag_and_one_code(packet: Connack) -> None:
    assert write_connack(packet) == bytes((packet.session_present, packet.return_code))
    assert read_connack(write_connack(packet)) == packet
