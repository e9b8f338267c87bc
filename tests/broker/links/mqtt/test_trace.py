"""The lines of `log_type debug`: Mosquitto's words for each packet, without payloads, of both versions."""

from __future__ import annotations

import pytest

from broker.links.mqtt import trace
from protocol.mqtt.codec import encode
from protocol.mqtt.framing import frame_at
from protocol.mqtt.packets import (
    Connack,
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
)
from protocol.mqtt.v5.codec import encode as encode_5

PUBLISH = Publish(b"t", b"secret", 2, True, True, 7)


@pytest.mark.parametrize(
    ("packet", "lines"),
    [
        (PUBLISH, ["Received PUBLISH from c (d1, q2, r1, m7, 't', ... (6 bytes))"]),
        (Puback(7), ["Received PUBACK from c (Mid: 7, RC:0)"]),
        (Pubcomp(7), ["Received PUBCOMP from c (Mid: 7, RC:0)"]),
        (Pubrec(7), ["Received PUBREC from c (Mid: 7)"]),
        (Pubrel(7), ["Received PUBREL from c (Mid: 7)"]),
        (
            Subscribe(1, ((b"a/#", 0), (b"b", 2))),
            ["Received SUBSCRIBE from c", "\ta/# (QoS 0)", "\tb (QoS 2)"],
        ),
        (Unsubscribe(1, (b"a/#", b"b")), ["Received UNSUBSCRIBE from c", "\ta/#", "\tb"]),
        (Pingreq(), ["Received PINGREQ from c"]),
        (Disconnect(), ["Received DISCONNECT from c"]),
        (Suback(1, (0,)), []),
    ],
)
def test_what_came_is_told_in_mosquittos_words(packet: Packet, lines: list[str]) -> None:
    for level, raw in ((4, encode(packet)), (5, encode_5(packet))):
        body, end = frame_at(raw, 0, 0)
        found = trace.received("c", raw[0], raw[body:end], level)
        assert found == lines


@pytest.mark.parametrize(
    ("packet", "line"),
    [
        (PUBLISH, "Sending PUBLISH to c (d1, q2, r1, m7, 't', ... (6 bytes))"),
        (Puback(7), "Sending PUBACK to c (m7, rc0)"),
        (Pubrec(7), "Sending PUBREC to c (m7, rc0)"),
        (Pubrel(7), "Sending PUBREL to c (m7)"),
        (Pubcomp(7), "Sending PUBCOMP to c (m7)"),
        (Connack(True, 0), "Sending CONNACK to c (1, 0)"),
        (Pingresp(), "Sending PINGRESP to c"),
        (Suback(1, (0,)), "Sending SUBACK to c"),
        (Unsuback(1, (0,)), "Sending UNSUBACK to c"),
    ],
)
def test_what_is_sent_is_told_one_line_a_packet(packet: Packet, line: str) -> None:
    assert list(trace.sent("c", encode_5(packet) * 2, 5)) == [line] * 2
    if not isinstance(packet, Unsuback):  # 3.1.1 has no codes there
        assert list(trace.sent("c", encode(packet), 4)) == [line]


def test_a_payload_is_never_shown() -> None:
    assert not any("secret" in line for line in trace.sent("c", encode(PUBLISH)))


@pytest.mark.parametrize("level", [4, 5])
def test_of_what_is_no_packet_there_is_no_line(level: int) -> None:
    assert trace.received("c", 0x36, b"\x00\x01t\x00\x01", level) == []
    assert trace.received("c", 0x82, b"", level) == []
