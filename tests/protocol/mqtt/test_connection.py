"""What may come when on a connection."""

from __future__ import annotations

import pytest

from protocol.mqtt.connection import check_connected, check_first, silence_max_s
from protocol.mqtt.errors import MalformedPacket, ProtocolViolation

FROM_CLIENT = {3, 4, 5, 6, 7, 8, 10, 12, 14}


@pytest.mark.parametrize("packet_type", range(16))
def test_the_first_packet_is_connect(packet_type: int) -> None:  # [MQTT-3.1.0-1]
    if packet_type == 1:
        check_first(0x10)
    else:
        with pytest.raises(ProtocolViolation):
            check_first(packet_type << 4)


@pytest.mark.parametrize("packet_type", range(16))
def test_what_a_connected_client_may_send(packet_type: int) -> None:  # [MQTT-3.1.0-2]
    if packet_type in FROM_CLIENT:
        check_connected(packet_type << 4)
    else:
        with pytest.raises((ProtocolViolation, MalformedPacket)):
            check_connected(packet_type << 4)


@pytest.mark.parametrize(("keep_alive_s", "seconds"), [(0, 0.0), (1, 1.5), (60, 90.0), (65_535, 98_302.5)])
def test_silence_lasts_one_and_a_half_times_the_keep_alive(keep_alive_s: int, seconds: float) -> None:
    assert silence_max_s(keep_alive_s) == seconds  # [MQTT-3.1.2-24]
