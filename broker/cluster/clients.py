"""The clients of a node, as its door sees them: none comes in unless it is this node's."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from broker.cluster.will_record import WillRecord
from broker.core.publication import Publication
from broker.links.listening.deciding import Claims
from broker.links.mqtt.v5 import expiry_of
from protocol.mqtt.packets import Connect
from protocol.mqtt.v5.properties import forwarded_properties
from protocol.mqtt.v5.property_table import MESSAGE_EXPIRY, SESSION_EXPIRY, WILL_DELAY

if TYPE_CHECKING:
    from broker.cluster.link import NatsLink
    from broker.cluster.names import Names
    from broker.cluster.owners import Owners
    from broker.core.engine import Engine
    from broker.gateway.authentication import Verdict
    from broker.links.mqtt.link import MqttLink


class Clients(Claims):
    """Asks the owners, and says what a client's will would be."""

    def __init__(self, engine: Engine, nats: NatsLink, names: Names, owners: Owners) -> None:
        self._engine = engine
        self._nats = nats
        self._names = names
        self._owners = owners
        self._wills: dict[bytes, WillRecord | None] = {}

    async def claim(self, link: MqttLink, packet: Connect, client_id: bytes, verdict: Verdict) -> str:
        will = self._will(link, packet, client_id, verdict)
        problem = await self._owners.claim(client_id, packet, will, link.door.mount_point)
        if not problem:
            self._wills[client_id] = will
        return problem

    def arrived(self, client_id: bytes) -> None:
        self._owners.arrived(client_id, self._wills.pop(client_id))

    def _will(self, link: MqttLink, packet: Connect, client_id: bytes, verdict: Verdict) -> WillRecord | None:
        """What the other nodes publish if this one dies; None where the client may not have it published."""
        will = packet.will
        if will is None:
            return None
        door = link.door
        topic = door.mount_point + will.topic
        access = door.access_for(client_id, verdict.user_name, verdict)
        if access is not None and not access.may_write(topic):
            return None
        said = Publication(
            topic, will.payload, will.qos, will.retain, client_id, verdict.user_name, door.port
        )
        numbers = will.properties.numbers
        delay_s = 0
        if packet.protocol_level == 5:
            said.properties = forwarded_properties(will.properties)
            ends_s = expiry_of(packet.properties.numbers.get(SESSION_EXPIRY, 0))
            delay_s = int(min(numbers.get(WILL_DELAY, 0), ends_s))
        message_id = b"will:" + uuid4().hex.encode()
        expiry_s = numbers.get(MESSAGE_EXPIRY, -1)
        return WillRecord(self._engine, self._nats, self._names, message_id, said, delay_s, expiry_s)
