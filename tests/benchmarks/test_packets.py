"""The generator's own packets, against the project's codec and against bytes written out."""

import pytest

from benchmarks import packets
from protocol.mqtt import codec, framing
from protocol.mqtt.packets import Connect, Publish, Subscribe, Unsubscribe
from protocol.mqtt.v5.codec import decode as decode5


def decoded(data: bytes) -> object:
    start, end = framing.frame_at(data, 0, 0)
    assert end == len(data)
    return codec.decode(data[0], data[start:end])


def test_connect_is_a_clean_session_of_mqtt_3_1_1() -> None:
    assert packets.connect(b"me") == bytes.fromhex("100e00044d51545404020000 00026d65")
    assert isinstance(decoded(packets.connect(b"me", keep_alive_s=60)), Connect)


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("payload_bytes", [0, 1, 64, 100, 127, 128, 16_383, 16_384, 300_000])
def test_publish_is_understood_and_has_the_size_that_is_counted(qos: int, payload_bytes: int) -> None:
    topic, payload = b"a/b", bytes(payload_bytes)
    data = packets.publish(topic, payload, qos, packet_id=7)
    packet = decoded(data)
    assert isinstance(packet, Publish)
    assert (packet.topic, packet.payload, int(packet.qos), packet.retain) == (topic, payload, qos, False)
    assert len(data) == packets.publish_bytes(topic, payload, qos)


@pytest.mark.parametrize("qos", [1, 2])
def test_packet_id_offset_points_at_the_packet_id(qos: int) -> None:
    data = packets.publish(b"a/b", bytes(64), qos, packet_id=0x1234)
    at = packets.packet_id_offset(b"a/b", bytes(64), qos)
    assert data[at : at + 2] == b"\x12\x34"


def test_publish_retained_sets_the_flag() -> None:
    packet = decoded(packets.publish(b"a", b"x", 1, 1, retain=True))
    assert isinstance(packet, Publish)
    assert packet.retain


def test_subscribe_and_unsubscribe_are_understood() -> None:
    assert isinstance(decoded(packets.subscribe(3, b"a/#", b"+/b", qos=1)), Subscribe)
    assert isinstance(decoded(packets.unsubscribe(4, b"a/#")), Unsubscribe)


def test_acknowledge_answers_each_packet_with_its_own_id() -> None:
    topic, payload, ids = b"bench", b"x" * 9, (1, 0x0203, 0xFFFE)
    received = bytearray(b"".join(packets.publish(topic, payload, 1, i) for i in ids) + b"rest of the buffer")
    size = packets.publish_bytes(topic, payload, 1)
    acks = packets.acknowledge(
        packets.PUBACK, received, len(ids), size, packets.packet_id_offset(topic, payload, 1)
    )
    assert acks == bytes.fromhex("40020001 40020203 4002fffe")


def test_publish_of_5_0_has_as_many_user_properties_as_the_workload_says() -> None:
    with packets.speaking(5, user_properties=5):
        data = packets.publish(b"a/b", bytes(64), 1, packet_id=7)
    start, end = framing.frame_at(data, 0, 0)
    packet = decode5(data[0], data[start:end])
    assert isinstance(packet, Publish)
    assert end == len(data)
    assert packet.properties.user == [(b"name-%d" % i, b"value-%d" % i) for i in range(5)]
    assert packets.publish(b"a/b", b"") == bytes.fromhex("30 05 0003 612f62")
