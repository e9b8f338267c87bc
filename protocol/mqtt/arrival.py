"""CONNECT and SUBSCRIBE as values, for all versions.

Hot: each client sends both, and thousands may come at once: plain classes, unlike those of `packets.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.mqtt.v5.properties import NO_PROPERTIES, Properties

if TYPE_CHECKING:
    from protocol.mqtt.packets import Will


class Connect:
    """CONNECT.  `protocol_level` is 3 (MQIsdp), 4 or 5 (MQTT); `bridge` is bit 7 of the level on the wire.

    `clean_session` is 5.0's clean start.
    """

    def __init__(
        self,
        client_id: bytes,
        clean_session: bool,
        keep_alive_s: int,
        protocol_level: int = 4,
        will: Will | None = None,
        user_name: bytes | None = None,
        password: bytes | None = None,
        bridge: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        self.client_id = client_id
        self.clean_session = clean_session
        self.keep_alive_s = keep_alive_s
        self.protocol_level = protocol_level
        self.will = will
        self.user_name = user_name
        self.password = password
        self.bridge = bridge
        self.properties = properties

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Connect) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        """Without the password."""
        return (
            f"Connect(client_id={self.client_id!r}, clean_session={self.clean_session}, "
            f"keep_alive_s={self.keep_alive_s}, protocol_level={self.protocol_level}, will={self.will!r}, "
            f"user_name={self.user_name!r}, bridge={self.bridge}, properties={self.properties!r})"
        )

    def _values(self) -> tuple[object, ...]:
        return (
            self.client_id,
            self.clean_session,
            self.keep_alive_s,
            self.protocol_level,
            self.will,
            self.user_name,
            self.password,
            self.bridge,
            self.properties,
        )


class Subscribe:
    """SUBSCRIBE.  Each filter with the QoS asked for (in 5.0: all of its options), in the packet's order."""

    def __init__(
        self,
        packet_id: int,
        filters: tuple[tuple[bytes, int], ...],
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        self.packet_id = packet_id
        self.filters = filters
        self.properties = properties

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subscribe) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return (
            f"Subscribe(packet_id={self.packet_id}, filters={self.filters!r}, properties={self.properties!r})"
        )

    def _values(self) -> tuple[object, ...]:
        return self.packet_id, self.filters, self.properties
