"""What a broken rule is called: in the log by its statement, to a client of 5.0 by a code."""

from __future__ import annotations

import pytest

from protocol.mqtt.errors import (
    ConnectRefused,
    MalformedPacket,
    PacketTooLarge,
    ProtocolError,
    ProtocolViolation,
)
from protocol.mqtt.v5.reasons import ReasonCode


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (MalformedPacket, ReasonCode.MALFORMED_PACKET),
        (ProtocolViolation, ReasonCode.PROTOCOL_ERROR),
        (PacketTooLarge, ReasonCode.PACKET_TOO_LARGE),
    ],
)
def test_each_kind_has_its_code_where_none_is_named(kind: type[ProtocolError], code: int) -> None:
    assert kind("why").reason_code == code
    assert kind("why", "", ReasonCode.QUOTA_EXCEEDED).reason_code == ReasonCode.QUOTA_EXCEEDED


def test_a_log_line_names_the_statement_and_has_no_brackets_without_one() -> None:
    assert str(ProtocolViolation("QoS 3", "MQTT-3.3.1-4")) == "QoS 3 [MQTT-3.3.1-4]"
    assert str(ProtocolViolation("QoS 3")) == "QoS 3"
    assert ProtocolViolation("QoS 3", "MQTT-3.3.1-4").reason == "QoS 3"


def test_a_refusal_keeps_its_return_code_apart_from_the_reason_code() -> None:
    refusal = ConnectRefused(1, "level 9", "MQTT-3.1.2-2")
    assert (refusal.code, refusal.tag) == (1, "MQTT-3.1.2-2")
    assert isinstance(refusal, ProtocolError)
