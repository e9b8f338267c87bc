"""The layout of every control packet, declared in construct, to be read beside the standard.

Decodes and builds CONNECT and CONNACK, which come once per connection, and is the oracle that the hand
path in `codec.py` is tested against.  A layout says where the fields are and what one field alone may
be; `connect.py` and `topics.py` say what may stand together and which text is valid.

Traps of construct that are closed here: `VarInt` reads any number of bytes, `GreedyRange` drops a
malformed tail in silence (so `Terminated` follows it), and what `.compile()` makes takes strings that
are cut off (so nothing is compiled).  MQTT 3.1.1, by section.
"""

from __future__ import annotations

from typing import Any, Final

from construct import (
    BitsInteger,
    BitStruct,
    Byte,
    Const,
    Construct,
    ConstructError,
    Error,
    ExprAdapter,
    ExprValidator,
    Flag,
    GreedyBytes,
    GreedyRange,
    If,
    IfThenElse,
    Int16ub,
    Nibble,
    Optional,
    Pass,
    Prefixed,
    RawCopy,
    Struct,
    Switch,
    Terminated,
    TerminatedError,
    ValidationError,
    VarInt,
    len_,
    obj_,
    this,
)

from protocol.mqtt.packets import SUBSCRIBE_FAILURE, PacketType

__all__ = ["BODIES", "CONNACK", "CONNECT", "CONNECT_START", "PACKET", "ConstructError", "TerminatedError"]

# --- §1.5, §2: what all packets are made of ---------------------------------------------------------

STRING: Final = Prefixed(Int16ub, GreedyBytes)  # §1.5.3; two bytes of length, then that many
PACKET_ID: Final = ExprValidator(Int16ub, obj_ > 0)  # §2.3.1
QOS: Final = ExprValidator(BitsInteger(2), obj_ < 3)  # §4.3

FIXED_HEADER: Final = BitStruct(  # §2.2, its first byte
    "packet_type" / Nibble,
    "flags"
    / Switch(
        this.packet_type,
        {
            PacketType.PUBLISH: ExprValidator(  # §3.3.1
                Struct("dup" / Flag, "qos" / QOS, "retain" / Flag),
                (obj_.qos > 0) | (obj_.dup < 1),  # [MQTT-3.3.1-2]
            ),
            PacketType.PUBREL: Const(0b0010, Nibble),  # §3.6.1
            PacketType.SUBSCRIBE: Const(0b0010, Nibble),  # §3.8.1
            PacketType.UNSUBSCRIBE: Const(0b0010, Nibble),  # §3.10.1
        },
        default=Const(0, Nibble),  # Table 2.2
    ),
)


def _at_most_four_bytes(encoded: Any, _: Any) -> Any:
    if encoded.length > 4:
        raise ValidationError(f"a remaining length in {encoded.length} bytes")
    return encoded.value


REMAINING_LENGTH: Final = ExprAdapter(  # §2.2.3
    RawCopy(VarInt), _at_most_four_bytes, lambda length, _: {"value": length}
)

# --- §3: the body of each packet --------------------------------------------------------------------

CONNECT_START: Final = Struct(  # §3.1.2.1, §3.1.2.2: what decides how to read the rest
    "protocol_name" / STRING,
    "level" / BitStruct("bridge" / Flag, "number" / BitsInteger(7)),  # bit 7: as mosquitto
)

CONNECT_FLAGS: Final = BitStruct(  # §3.1.2.3 to §3.1.2.9
    "user_name" / Flag,
    "password" / Flag,
    "will_retain" / Flag,
    "will_qos" / BitsInteger(2),
    "will" / Flag,
    "clean_session" / Flag,
    "reserved" / Flag,
)

# MQTT 3.1 §3.1: the remaining length counts for more than these two flags, so the strings may be missing.
STRING_THAT_3_1_MAY_LEAVE_OUT: Final = IfThenElse(this.level.number == 3, Optional(STRING), STRING)

CONNECT: Final = Struct(  # §3.1
    *CONNECT_START.subcons,
    "flags" / CONNECT_FLAGS,
    "keep_alive_s" / Int16ub,  # §3.1.2.10
    "client_id" / STRING,  # §3.1.3.1
    "will" / If(this.flags.will, Struct("topic" / STRING, "message" / STRING)),  # §3.1.3.2, §3.1.3.3
    "user_name" / If(this.flags.user_name, STRING_THAT_3_1_MAY_LEAVE_OUT),  # §3.1.3.4
    "password" / If(this.flags.password, STRING_THAT_3_1_MAY_LEAVE_OUT),  # §3.1.3.5
    Terminated,
)

CONNACK: Final = Struct(  # §3.2.2
    "acknowledge_flags" / BitStruct("reserved" / Const(0, BitsInteger(7)), "session_present" / Flag),
    "return_code" / ExprValidator(Byte, obj_ <= 5),
    Terminated,
)

PUBLISH: Final = Struct(  # §3.3.2, §3.3.3
    "topic_name" / STRING,
    "packet_id" / If(this._.fixed_header.flags.qos > 0, PACKET_ID),
    "payload" / GreedyBytes,
)

ACKNOWLEDGEMENT: Final = Struct("packet_id" / PACKET_ID, Terminated)  # §3.4 to §3.7, §3.11

REQUESTED_QOS: Final = BitStruct("reserved" / Const(0, BitsInteger(6)), "qos" / QOS)  # Figure 3.21

SUBSCRIBE: Final = Struct(  # §3.8.2, §3.8.3
    "packet_id" / PACKET_ID,
    "filters"
    / ExprValidator(
        GreedyRange(Struct("topic_filter" / STRING, "requested" / REQUESTED_QOS)), len_(obj_) > 0
    ),
    Terminated,
)

RETURN_CODE: Final = ExprValidator(Byte, (obj_ < 3) | (obj_ == SUBSCRIBE_FAILURE))  # §3.9.3

SUBACK: Final = Struct(  # §3.9.2, §3.9.3
    "packet_id" / PACKET_ID,
    "return_codes" / ExprValidator(GreedyRange(RETURN_CODE), len_(obj_) > 0),
    Terminated,
)

UNSUBSCRIBE: Final = Struct(  # §3.10.2, §3.10.3
    "packet_id" / PACKET_ID,
    "filters" / ExprValidator(GreedyRange(STRING), len_(obj_) > 0),
    Terminated,
)

NOTHING: Final = Struct(Pass, Terminated)  # §3.12 to §3.14

BODIES: Final[dict[int, Construct[Any, Any]]] = {
    PacketType.CONNECT: CONNECT,
    PacketType.CONNACK: CONNACK,
    PacketType.PUBLISH: PUBLISH,
    PacketType.PUBACK: ACKNOWLEDGEMENT,
    PacketType.PUBREC: ACKNOWLEDGEMENT,
    PacketType.PUBREL: ACKNOWLEDGEMENT,
    PacketType.PUBCOMP: ACKNOWLEDGEMENT,
    PacketType.SUBSCRIBE: SUBSCRIBE,
    PacketType.SUBACK: SUBACK,
    PacketType.UNSUBSCRIBE: UNSUBSCRIBE,
    PacketType.UNSUBACK: ACKNOWLEDGEMENT,
    PacketType.PINGREQ: NOTHING,
    PacketType.PINGRESP: NOTHING,
    PacketType.DISCONNECT: NOTHING,
}

PACKET: Final = Struct(  # §2: fixed header, then as many bytes of body as the remaining length says
    "fixed_header" / FIXED_HEADER,
    "body" / Prefixed(REMAINING_LENGTH, Switch(this.fixed_header.packet_type, BODIES, default=Error)),
)
