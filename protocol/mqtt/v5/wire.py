"""The layout of every control packet of MQTT 5.0, declared in construct, to be read beside the standard.

The oracle that `codec.py`, `connect.py`, `properties.py` and `subscribing.py` are tested against.  A layout says where
the fields are and what one field alone may be; which property may stand where, and which text is valid, those say.
"""

from __future__ import annotations

from typing import Any, Final

from construct import (
    BitsInteger,
    BitStruct,
    Byte,
    Bytes,
    Const,
    Construct,
    Error,
    ExprAdapter,
    ExprValidator,
    Flag,
    GreedyBytes,
    GreedyRange,
    If,
    Int16ub,
    Int32ub,
    Optional,
    Pass,
    Prefixed,
    RawCopy,
    Struct,
    Switch,
    Terminated,
    ValidationError,
    VarInt,
    len_,
    obj_,
    this,
)

from protocol.mqtt.packets import PacketType
from protocol.mqtt.v5.property_table import BINARY, BYTE, FOUR_BYTES, PAIR, TEXT, TWO_BYTES, TYPES, VARIABLE
from protocol.mqtt.v5.reasons import ALLOWED
from protocol.mqtt.wire import FIXED_HEADER, PACKET_ID, STRING

AUTH: Final = 15

# --- §1.5, §2 ---------------------------------------------------------------------------------------------


def _as_short_as_it_can_be(encoded: Any, _: Any) -> Any:
    if encoded.length > 4 or (encoded.length > 1 and encoded.data[-1] == 0):
        raise ValidationError(f"{encoded.value} in {encoded.length} bytes")  # [MQTT-1.5.5-1]
    return encoded.value


VARIABLE_INTEGER: Final = ExprAdapter(  # §1.5.5
    RawCopy(VarInt), _as_short_as_it_can_be, lambda number, _: {"value": number}
)
STRING_PAIR: Final = Struct("name" / STRING, "value" / STRING)  # §1.5.7

_VALUES: Final[dict[int, Construct[Any, Any]]] = {
    BYTE: Byte,
    TWO_BYTES: Int16ub,
    FOUR_BYTES: Int32ub,
    VARIABLE: VARIABLE_INTEGER,
    TEXT: STRING,
    BINARY: STRING,
    PAIR: STRING_PAIR,
}
PROPERTY: Final = Struct(  # §2.2.2.2, Table 2-4
    "identifier" / Byte,
    "value" / Switch(this.identifier, {name: _VALUES[kind] for name, kind in TYPES.items()}, default=Error),
)
PROPERTIES: Final = Prefixed(  # §2.2.2
    VARIABLE_INTEGER, Struct("all" / GreedyRange(PROPERTY), Terminated)
)

# --- §3: the body of each packet --------------------------------------------------------------------------

CONNECT_FLAGS: Final = BitStruct(  # §3.1.2.3 to §3.1.2.9
    "user_name" / Flag,
    "password" / Flag,
    "will_retain" / Flag,
    "will_qos" / ExprValidator(BitsInteger(2), obj_ < 3),
    "will" / Flag,
    "clean_start" / Flag,
    "reserved" / Const(0, BitsInteger(1)),
)

CONNECT: Final = Struct(  # §3.1
    "protocol_name" / Const(b"\x00\x04MQTT", Bytes(6)),
    "level" / BitStruct("bridge" / Flag, "number" / Const(5, BitsInteger(7))),  # bit 7: as mosquitto
    "flags" / CONNECT_FLAGS,
    "keep_alive_s" / Int16ub,
    "properties" / PROPERTIES,
    "client_id" / STRING,
    "will"
    / If(
        this.flags.will, Struct("properties" / PROPERTIES, "topic" / STRING, "payload" / STRING)
    ),  # §3.1.3.2
    "user_name" / If(this.flags.user_name, STRING),
    "password" / If(this.flags.password, STRING),
    Terminated,
)


def reason(packet_type: int) -> Any:
    """A reason code that this packet may have, §2.4."""
    allowed = ALLOWED[packet_type]
    return ExprValidator(Byte, lambda code, _: code in allowed)


CONNACK: Final = Struct(  # §3.2.2
    "acknowledge_flags" / BitStruct("reserved" / Const(0, BitsInteger(7)), "session_present" / Flag),
    "reason_code" / reason(PacketType.CONNACK),
    "properties" / PROPERTIES,
    Terminated,
)

PUBLISH: Final = Struct(  # §3.3.2, §3.3.3
    "topic_name" / STRING,
    "packet_id" / If(this._.fixed_header.flags.qos > 0, PACKET_ID),
    "properties" / PROPERTIES,
    "payload" / GreedyBytes,
)


def acknowledgement(packet_type: int) -> Any:
    """§3.4.2 to §3.7.2: code and properties may be left out, the properties alone as well."""
    return Struct(
        "packet_id" / PACKET_ID,
        "more" / Optional(Struct("reason_code" / reason(packet_type), "properties" / Optional(PROPERTIES))),
        Terminated,
    )


def farewell(packet_type: int) -> Any:
    """DISCONNECT, §3.14.2, and AUTH, §3.15.2: as an acknowledgement without packet id."""
    return Struct(
        "more" / Optional(Struct("reason_code" / reason(packet_type), "properties" / Optional(PROPERTIES))),
        Terminated,
    )


OPTIONS: Final = BitStruct(  # §3.8.3.1
    "reserved" / Const(0, BitsInteger(2)),
    "retain_handling" / ExprValidator(BitsInteger(2), obj_ < 3),
    "retain_as_published" / Flag,
    "no_local" / Flag,
    "qos" / ExprValidator(BitsInteger(2), obj_ < 3),
)

SUBSCRIBE: Final = Struct(  # §3.8.2, §3.8.3
    "packet_id" / PACKET_ID,
    "properties" / PROPERTIES,
    "filters"
    / ExprValidator(GreedyRange(Struct("topic_filter" / STRING, "options" / OPTIONS)), len_(obj_) > 0),
    Terminated,
)

UNSUBSCRIBE: Final = Struct(  # §3.10.2, §3.10.3
    "packet_id" / PACKET_ID,
    "properties" / PROPERTIES,
    "filters" / ExprValidator(GreedyRange(STRING), len_(obj_) > 0),
    Terminated,
)


def answers(packet_type: int) -> Any:
    """SUBACK, §3.9, and UNSUBACK, §3.11."""
    return Struct(
        "packet_id" / PACKET_ID,
        "properties" / PROPERTIES,
        "reason_codes" / ExprValidator(GreedyRange(reason(packet_type)), len_(obj_) > 0),
        Terminated,
    )


NOTHING: Final = Struct(Pass, Terminated)  # §3.12, §3.13

BODIES: Final[dict[int, Construct[Any, Any]]] = {
    PacketType.CONNECT: CONNECT,
    PacketType.CONNACK: CONNACK,
    PacketType.PUBLISH: PUBLISH,
    PacketType.PUBACK: acknowledgement(PacketType.PUBACK),
    PacketType.PUBREC: acknowledgement(PacketType.PUBREC),
    PacketType.PUBREL: acknowledgement(PacketType.PUBREL),
    PacketType.PUBCOMP: acknowledgement(PacketType.PUBCOMP),
    PacketType.SUBSCRIBE: SUBSCRIBE,
    PacketType.SUBACK: answers(PacketType.SUBACK),
    PacketType.UNSUBSCRIBE: UNSUBSCRIBE,
    PacketType.UNSUBACK: answers(PacketType.UNSUBACK),
    PacketType.PINGREQ: NOTHING,
    PacketType.PINGRESP: NOTHING,
    PacketType.DISCONNECT: farewell(PacketType.DISCONNECT),
    AUTH: farewell(AUTH),
}

PACKET: Final = Struct(  # §2
    "fixed_header" / FIXED_HEADER,
    "body" / Prefixed(VARIABLE_INTEGER, Switch(this.fixed_header.packet_type, BODIES, default=Error)),
)
