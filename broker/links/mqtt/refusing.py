"""A client that may not come in: CONNACK with the code that says so, and the close."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from broker.links.mqtt.admission5 import refusal_code
from broker.links.words import NOTICE
from protocol.mqtt.codec import encode_connack
from protocol.mqtt.packets import UNSUPPORTED_PROTOCOL_VERSION_5_0, ConnectReturnCode
from protocol.mqtt.v5.codec import encode_refusal

if TYPE_CHECKING:
    from broker.links.mqtt.link import MqttLink

logger = logging.getLogger("broker.links")

REASONS: Final = {
    ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION: "protocol_version",
    ConnectReturnCode.IDENTIFIER_REJECTED: "client_id",
    ConnectReturnCode.SERVER_UNAVAILABLE: "unavailable",
    ConnectReturnCode.BAD_USER_NAME_OR_PASSWORD: "bad_credentials",
    ConnectReturnCode.NOT_AUTHORIZED: "not_authorized",
    UNSUPPORTED_PROTOCOL_VERSION_5_0: "protocol_version",
}
"""What the metrics call the return codes."""


def refuse(link: MqttLink, code: int, why: str) -> None:
    """CONNACK with the return code, then close [MQTT-3.2.2-5]."""
    link.engine.counters.refuse(REASONS.get(code, "other"))
    link.engine.counters.other_packets_sent += 1
    if link.level == 5 or code == UNSUPPORTED_PROTOCOL_VERSION_5_0:
        code = refusal_code(code)
        link.outbox.push(encode_refusal(code, link.door.max_qos))
    else:
        link.outbox.push(encode_connack(code))
    logger.log(NOTICE, "Client connection from %s refused: %s.", link.peer, why)
    link.close(why)


def refuse_outdated(link: MqttLink) -> None:
    """What was decided about this client is not so any more: the rules were read again while it waited."""
    refuse(link, ConnectReturnCode.NOT_AUTHORIZED, "what let it in has changed since")
