"""A socket of the pump with an MQTT client at its other end.

Hot: compiled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.core.outbox import Outbox
from broker.links.connection import Connection
from broker.links.listening.door import Door
from broker.links.mqtt.link import MqttLink
from broker.links.tls_socket import Socket
from protocol.mqtt.v5.reasons import ReasonCode

if TYPE_CHECKING:
    from broker.links.pump import Pump


class MqttConnection(Connection):
    """A socket with an MQTT client."""

    def __init__(self, pump: Pump, sock: Socket, door: Door, peer: str) -> None:
        super().__init__(pump, sock, door)
        self.outbox = Outbox(pump.engine.round, door.outbox_bytes_max, sock.send, self)
        self.link = MqttLink(pump.engine, door, self.outbox, peer, self)
        self.where = peer

    def received(self, data: bytes) -> None:
        self.link.received(data)

    def failed(self, error: Exception) -> None:
        self.link.close("disconnected: internal error.")

    def is_behind(self, owed: int) -> bool:
        session = self.link.session
        return session is not None and session.outbound.is_behind(owed)

    def lost(self) -> None:
        self.link.lost()

    def stop(self) -> None:
        self.link.code = ReasonCode.SERVER_SHUTTING_DOWN
        self.link.close("disconnected: the broker is stopping.")

    def gone(self) -> None:
        self.pump.on_close(self.link)
