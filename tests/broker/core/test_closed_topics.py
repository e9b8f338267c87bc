"""Topics closed to all clients, as Mosquitto closes them, each beside one that is open."""

from __future__ import annotations

import pytest

from broker.core.closed_topics import DROPPED_SILENTLY, closed_to_clients
from protocol.mqtt.v5.reasons import NOT_AUTHORIZED


@pytest.mark.parametrize(
    ("topic", "why"),
    [
        (b"a/b", 0),
        (b"a/$SYS/x", 0),
        (b"$other/x", 0),
        (b"$CONTROL/dynamic-security/v1", DROPPED_SILENTLY),
        (b"$CONTROL", 0),
        (b"$ws/exchange/x", NOT_AUTHORIZED),
        (b"$wsx", 0),
        (b"$share/group/a", NOT_AUTHORIZED),
        (b"$shared", NOT_AUTHORIZED),
        (b"$SYS", NOT_AUTHORIZED),
        (b"$SYS/broker/uptime", NOT_AUTHORIZED),
        (b"$SYSTEM", NOT_AUTHORIZED),
        (b"$SYS/broker/connection/bridge/state", 0),
        (b"$SYS/broker/connection/bridge/other", NOT_AUTHORIZED),
        (b"$SYS/broker/connection/bridge/deeper/state", NOT_AUTHORIZED),
        (b"$SYS/broker/connection/state", NOT_AUTHORIZED),
    ],
)
def test_topic_is_closed_to_clients_or_open(topic: bytes, why: int) -> None:
    assert closed_to_clients(topic) == why
