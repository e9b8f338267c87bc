"""CONNECT and CONNACK through their layouts in `wire.py`.

Here is what the layout can't say: which fields may stand together, which text is valid, and which
normative statement a client broke.  What mosquitto takes is taken, so MQTT 3.1 is read with its own
tolerance: a reserved connect flag, a will QoS or will retain without a will, and a user name or password
that is announced but not there.

Whether an empty client id is welcome, and every other question of policy, is the connection's.
"""

from __future__ import annotations

from typing import Any, Final

from protocol.mqtt import wire
from protocol.mqtt.errors import ConnectRefused, MalformedPacket, ProtocolError
from protocol.mqtt.packets import (
    UNSUPPORTED_PROTOCOL_VERSION_5_0,
    Connack,
    Connect,
    ConnectReturnCode,
    Will,
)
from protocol.mqtt.topics import check_text, check_topic_name

PROTOCOL_LEVELS: Final = {b"MQTT": 4, b"MQIsdp": 3}
MQTT_3_1: Final = 3
_MQTT_3_1_1: Final = 4
_LATEST: Final = 5

# Protocol name and level, the level with or without the bit that says bridge.
_KNOWN_STARTS: Final = tuple(
    len(name).to_bytes(2, "big") + name + bytes([bridge | level])
    for name, level in PROTOCOL_LEVELS.items()
    for bridge in (0, 0x80)
)

# Which statement a CONNECT breaks when it ends within a field.
_MISSING_FIELD_TAGS: Final = {
    "client_id": "MQTT-3.1.3-3",
    "will": "MQTT-3.1.2-9",
    "user_name": "MQTT-3.1.2-19",
    "password": "MQTT-3.1.2-21",
}
_NOT_A_CONNECT: Final = "MQTT-3.1.4-1"


def read_connect(body: bytes) -> Connect:
    """Read what follows the fixed header of a CONNECT.

    Raises:
        MalformedPacket: close without an answer; also for a protocol name other than MQTT and MQIsdp.
        ConnectRefused: code 1 for a level that is not this name's, and 5.0's code for MQTT with a level above 5
            (bit 7, which says that the client is a bridge, aside).  Nothing behind the level has been read.
    """
    if not body.startswith(_KNOWN_STARTS):
        raise _protocol_fault(_parse(wire.CONNECT_START, body))
    fields = _parse(wire.CONNECT, body)
    level = fields.level.number
    _check_flags(fields.flags, level)
    check_text(fields.client_id, "client id")
    if fields.user_name is not None:
        check_text(fields.user_name, "user name")
    return Connect(
        client_id=fields.client_id,
        clean_session=fields.flags.clean_session,
        keep_alive_s=fields.keep_alive_s,
        protocol_level=level,
        will=_read_will(fields),
        user_name=fields.user_name,
        password=fields.password,
        bridge=fields.level.bridge,
    )


def write_connect(packet: Connect) -> bytes:
    """The body of a CONNECT, for a client."""
    will = packet.will
    names = {level: name for name, level in PROTOCOL_LEVELS.items()}
    fields = {
        "protocol_name": names[packet.protocol_level],
        "level": {"bridge": packet.bridge, "number": packet.protocol_level},
        "flags": {
            "user_name": packet.user_name is not None,
            "password": packet.password is not None,
            "will_retain": will is not None and will.retain,
            "will_qos": will.qos if will is not None else 0,
            "will": will is not None,
            "clean_session": packet.clean_session,
            "reserved": False,
        },
        "keep_alive_s": packet.keep_alive_s,
        "client_id": packet.client_id,
        "will": {"topic": will.topic, "message": will.payload} if will is not None else None,
        "user_name": packet.user_name,
        "password": packet.password,
    }
    return bytes(wire.CONNECT.build(fields))


def read_connack(body: bytes) -> Connack:
    """Read what follows the fixed header of a CONNACK, as a client.

    Raises:
        MalformedPacket: reserved bits or codes, or a session that is present after a refusal.
    """
    try:
        fields = wire.CONNACK.parse(body)
    except wire.ConstructError as error:
        raise MalformedPacket(
            "a CONNACK that is not one flag and one return code from 0 to 5", "MQTT-4.8.0-1"
        ) from error
    if fields.return_code != ConnectReturnCode.ACCEPTED and fields.acknowledge_flags.session_present:
        raise MalformedPacket("a refusing CONNACK with session present", "MQTT-3.2.2-4")
    return Connack(fields.acknowledge_flags.session_present, fields.return_code)


def write_connack(packet: Connack) -> bytes:
    """The body of a CONNACK."""
    fields = {
        "acknowledge_flags": {"session_present": packet.session_present},
        "return_code": packet.return_code,
    }
    return bytes(wire.CONNACK.build(fields))


def _parse(layout: Any, body: bytes) -> Any:
    try:
        return layout.parse(body)
    except wire.TerminatedError as error:
        raise MalformedPacket("a CONNECT with bytes behind its last field", _NOT_A_CONNECT) from error
    except wire.ConstructError as error:
        # The path reads "(parsing) -> will -> topic".
        field = (error.path or "").split(" -> ")[1:2]
        name = field[0] if field else "CONNECT"
        raise MalformedPacket(
            f"a CONNECT that ends within its {name}", _MISSING_FIELD_TAGS.get(name, _NOT_A_CONNECT)
        ) from error


def _protocol_fault(start: Any) -> ProtocolError:
    level = PROTOCOL_LEVELS.get(start.protocol_name)
    if level is None:
        return MalformedPacket("a CONNECT for another protocol than MQTT or MQIsdp", "MQTT-3.1.2-1")
    # Who speaks a later version than ours of the protocol that is called MQTT can read 5.0's; the others, as mosquitto.
    is_later = level == _MQTT_3_1_1 and start.level.number > _LATEST
    return ConnectRefused(
        UNSUPPORTED_PROTOCOL_VERSION_5_0 if is_later else ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION,
        f"{start.protocol_name.decode()} with level {start.level.number}; it has {level}",
        "MQTT-3.1.2-2",
    )


def _check_flags(flags: Any, level: int) -> None:
    if flags.will_qos == 3:
        raise MalformedPacket("a CONNECT with will QoS 3", "MQTT-3.1.2-14")
    if flags.password and not flags.user_name:
        raise MalformedPacket("a CONNECT with a password but no user name", "MQTT-3.1.2-22")
    if level == MQTT_3_1:
        return
    if flags.reserved:
        raise MalformedPacket("a CONNECT whose reserved flag is set", "MQTT-3.1.2-3")
    if flags.will_qos != 0 and not flags.will:
        raise MalformedPacket("a CONNECT with a will QoS but no will", "MQTT-3.1.2-13")
    if flags.will_retain and not flags.will:
        raise MalformedPacket("a CONNECT with will retain but no will", "MQTT-3.1.2-15")


def _read_will(fields: Any) -> Will | None:
    if fields.will is None:
        return None
    topic = fields.will.topic
    check_topic_name(topic)
    return Will(topic, fields.will.message, fields.flags.will_qos, fields.flags.will_retain)
