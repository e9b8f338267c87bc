"""A listener's door: who may come in, under which id, and what applies to them inside.

`admit` decides at once, or hands slow checks to `defer` and is called back; either way it ends in exactly one
`accept` or `refuse` on the link.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

from broker.core.access import Access, ReadOnly
from protocol.mqtt.packets import Connect, ConnectReturnCode

if TYPE_CHECKING:
    from broker.config.model import Limits, Listener
    from broker.links.mqtt import MqttLink

logger = logging.getLogger("broker.links")


class Door:
    """What the links of one listener share.

    Args:
        listener: the configuration of the listener.
        limits: the broker-wide ones.
        connection_messages: log connects and disconnects.
    """

    def __init__(self, listener: Listener, limits: Limits, connection_messages: bool = True) -> None:
        self.listener = listener
        self.port = listener.port
        self.max_qos = listener.max_qos
        self.mount_point = listener.mount_point.encode()
        self.max_packet_size = limits.max_packet_size_bytes
        self.outbox_bytes_max = limits.outbox_bytes_max
        self.message_size_limit = limits.message_size_limit_bytes
        self.connection_messages = connection_messages
        self.open_count = 0

    def is_full(self) -> bool:
        """Whether `max_connections` are open; the next is closed without a word, as by Mosquitto."""
        return 0 <= self.listener.max_connections <= self.open_count

    def admit(self, link: MqttLink, packet: Connect) -> None:
        """Decide about a CONNECT (MQTT 3.1.1 §3.1.4)."""
        refusal = self._refusal(packet)
        if refusal is not None:
            link.refuse(*refusal)
            return
        client_id = packet.client_id
        if not client_id:
            client_id = self.listener.security.auto_id_prefix.encode() + secrets.token_hex(16).encode()
        if packet.user_name is None and not self.listener.security.allow_anonymous:
            link.refuse(ConnectReturnCode.NOT_AUTHORIZED, "not authorised")
            return
        link.accept(packet, client_id, packet.user_name)

    def access_for(self, client_id: bytes, user_name: bytes | None) -> Access | None:
        """What this identity may do; None where nothing is forbidden."""
        if user_name is None and self.listener.security.anonymous_access == "read":
            return ReadOnly()
        return None

    def _refusal(self, packet: Connect) -> tuple[int, str] | None:
        listener = self.listener
        if packet.protocol_level not in listener.accept_protocol_versions:
            return ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION, "unacceptable protocol version"
        if not packet.client_id and not self._may_be_nameless(packet):
            return ConnectReturnCode.IDENTIFIER_REJECTED, "identifier rejected"  # [MQTT-3.1.3-8]
        if packet.keep_alive_s > listener.max_keepalive_s or (
            packet.keep_alive_s == 0 and listener.max_keepalive_s != 65535
        ):
            return ConnectReturnCode.IDENTIFIER_REJECTED, "keep-alive longer than max_keepalive"
        will = packet.will
        if will is not None and self.message_size_limit and len(will.payload) > self.message_size_limit:
            return ConnectReturnCode.NOT_AUTHORIZED, "will longer than message_size_limit"
        return None

    def _may_be_nameless(self, packet: Connect) -> bool:
        security = self.listener.security
        return packet.clean_session and packet.protocol_level >= 4 and security.allow_zero_length_clientid
