"""MQTT 3.1.1 packets as bytes, and bytes as one line of text.  Written apart from Rowcast's own codec.

Everything here can build packets that the standard forbids: that is half of its use.
"""

from __future__ import annotations

import zlib
from typing import Final

NAMES: Final = {
    1: "CONNECT",
    2: "CONNACK",
    3: "PUBLISH",
    4: "PUBACK",
    5: "PUBREC",
    6: "PUBREL",
    7: "PUBCOMP",
    8: "SUBSCRIBE",
    9: "SUBACK",
    10: "UNSUBSCRIBE",
    11: "UNSUBACK",
    12: "PINGREQ",
    13: "PINGRESP",
    14: "DISCONNECT",
}
PINGREQ: Final = b"\xc0\x00"
DISCONNECT: Final = b"\xe0\x00"
PAYLOAD_SHOWN_MAX: Final = 120
SHOWN_BYTES_MAX: Final = 8
"""Of a packet that is not understood; a made-up client id in it must not show."""


def text(value: bytes) -> bytes:
    """A string as the standard writes it: two bytes of length, then the bytes."""
    return len(value).to_bytes(2, "big") + value


def packet(first_byte: int, body: bytes) -> bytes:
    """A whole packet: first byte, remaining length, body."""
    length, left = bytearray(), len(body)
    while True:
        left, digit = divmod(left, 128)
        length.append(digit | (0x80 if left else 0))
        if not left:
            return bytes([first_byte]) + bytes(length) + body


def short(kind: int, packet_id: int) -> bytes:
    """PUBACK, PUBREC, PUBREL, PUBCOMP."""
    return packet(kind << 4 | (2 if kind == 6 else 0), packet_id.to_bytes(2, "big"))


def publish(topic: bytes, payload: bytes, qos: int, retain: bool, dup: bool, packet_id: int) -> bytes:
    first = 0x30 | (8 if dup else 0) | qos << 1 | (1 if retain else 0)
    return packet(first, text(topic) + (packet_id.to_bytes(2, "big") if qos else b"") + payload)


def subscribe(packet_id: int, filters: list[tuple[bytes, int]]) -> bytes:
    return packet(0x82, packet_id.to_bytes(2, "big") + b"".join(text(f) + bytes([qos]) for f, qos in filters))


def unsubscribe(packet_id: int, filters: list[bytes]) -> bytes:
    return packet(0xA2, packet_id.to_bytes(2, "big") + b"".join(text(f) for f in filters))


def connect(
    *,
    client_id: bytes,
    name: bytes = b"MQTT",
    level: int = 4,
    clean: bool = True,
    keep_alive_s: int = 60,
    will: tuple[bytes, bytes, int, bool] | None = None,
    user: bytes | None = None,
    password: bytes | None = None,
    flags: int | None = None,
    extra: bytes = b"",
) -> bytes:
    """CONNECT.  `flags` replaces the byte that the fields would give; `extra` follows the last field."""
    own, fields = 2 if clean else 0, text(client_id)
    if will is not None:
        own |= 4 | will[2] << 3 | (0x20 if will[3] else 0)
        fields += text(will[0]) + text(will[1])
    if user is not None:
        own, fields = own | 0x80, fields + text(user)
    if password is not None:
        own, fields = own | 0x40, fields + text(password)
    head = text(name) + bytes([level, own if flags is None else flags]) + keep_alive_s.to_bytes(2, "big")
    return packet(0x10, head + fields + extra)


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """Whole packets at the start of `data`, and what is left over."""
    packets: list[bytes] = []
    at = 0
    while True:
        length, shift, end = 0, 0, at + 1
        while True:
            if end >= len(data) or shift > 21:
                return packets, data[at:]
            digit = data[end]
            end, length, shift = end + 1, length | (digit & 127) << shift, shift + 7
            if digit < 128:
                break
        if end + length > len(data):
            return packets, data[at:]
        packets.append(data[at : end + length])
        at = end + length


def body_of(whole: bytes) -> bytes:
    at = 1
    while whole[at] & 0x80:
        at += 1
    return whole[at + 1 :]


def packet_id_of(whole: bytes) -> int:
    """The id of an acknowledgement, or of a PUBLISH with QoS 1 or 2."""
    body = body_of(whole)
    at = 2 + int.from_bytes(body[:2], "big") if whole[0] >> 4 == 3 else 0
    return int.from_bytes(body[at : at + 2], "big")


def topic_of(whole: bytes) -> bytes:
    """Of a PUBLISH."""
    topic, _ = _take(body_of(whole))
    return topic


def topic_and_payload(whole: bytes) -> tuple[str, str]:
    """Of a PUBLISH with QoS 0, as text."""
    topic, payload = _take(body_of(whole))
    return topic.decode("utf-8", "replace"), payload.decode("utf-8", "replace")


def shown(value: bytes) -> str:
    """A payload or a topic, readable, and short however long it is."""
    if len(value) > PAYLOAD_SHOWN_MAX:
        return f"<{len(value)} bytes, crc {zlib.crc32(value):08x}>"
    return ascii(value.decode("utf-8", "surrogateescape"))


def describe(whole: bytes) -> str:
    """One line that says everything a comparison needs about a packet."""
    kind, flags, body = whole[0] >> 4, whole[0] & 15, body_of(whole)
    name = NAMES.get(kind, f"TYPE-{kind}")
    if kind == 3:
        return _describe_publish(flags, body)
    if kind == 2 and len(body) == 2 and not flags:
        return f"CONNACK present={body[0]} code={body[1]}"
    if kind in (4, 5, 6, 7, 11) and len(body) == 2:
        odd = "" if flags == (2 if kind == 6 else 0) else f" flags={flags}"
        return f"{name} id={int.from_bytes(body, 'big')}{odd}"
    if kind == 9 and len(body) >= 2:
        codes = " ".join(f"{code:02x}" for code in body[2:])
        return f"SUBACK id={int.from_bytes(body[:2], 'big')} codes={codes}"
    if kind in (12, 13, 14) and not body and not flags:
        return name
    if kind == 1:
        return _describe_connect(body)
    if kind in (8, 10):
        return _describe_filters(name, body, 1 if kind == 8 else 0)
    return f"{name} {whole[:SHOWN_BYTES_MAX].hex(' ')}"


def _describe_publish(flags: int, body: bytes) -> str:
    end = 2 + int.from_bytes(body[:2], "big")
    qos, packet_id = flags >> 1 & 3, ""
    if qos:
        packet_id = f" id={int.from_bytes(body[end : end + 2], 'big')}"
    payload = body[end + 2 :] if qos else body[end:]
    marks = ("dup " if flags & 8 else "") + ("retain " if flags & 1 else "")
    return f"PUBLISH {shown(body[2:end])} {shown(payload)} {marks}qos={qos}{packet_id}"


def _describe_connect(body: bytes) -> str:
    """What a tool sent; well formed, as tools are."""
    name, rest = _take(body)
    level, flags, keep_alive_s, rest = rest[0], rest[1], int.from_bytes(rest[2:4], "big"), rest[4:]
    names = ["id", *(["will", "will-payload"] if flags & 4 else [])]
    names += [word for bit, word in ((0x80, "user"), (0x40, "password")) if flags & bit]
    words = []
    for word in names:
        value, rest = _take(rest)
        words.append(f"{word}={shown(value)}")
    return f"CONNECT {name.decode()} level={level} flags={flags:02x} keep={keep_alive_s} {' '.join(words)}"


def _describe_filters(name: str, body: bytes, trailing: int) -> str:
    words, rest = [f"{name} id={int.from_bytes(body[:2], 'big')}"], body[2:]
    while rest:
        topic_filter, rest = _take(rest)
        words.append(shown(topic_filter) + (f" {rest[0]}" if trailing else ""))
        rest = rest[trailing:]
    return " ".join(words)


def _take(data: bytes) -> tuple[bytes, bytes]:
    end = 2 + int.from_bytes(data[:2], "big")
    return data[2:end], data[end:]
