"""What MQTT 5.0 adds to packets: properties by their names, reason codes, as bytes and as text.  Written apart, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from player import packets

BYTE, SHORT, LONG, VARIABLE, TEXT, PAIR = range(6)

PROPERTIES: Final = {
    0x01: ("payload-format-indicator", BYTE),
    0x02: ("message-expiry-interval", LONG),
    0x03: ("content-type", TEXT),
    0x08: ("response-topic", TEXT),
    0x09: ("correlation-data", TEXT),
    0x0B: ("subscription-identifier", VARIABLE),
    0x11: ("session-expiry-interval", LONG),
    0x12: ("assigned-client-identifier", TEXT),
    0x13: ("server-keep-alive", SHORT),
    0x15: ("authentication-method", TEXT),
    0x16: ("authentication-data", TEXT),
    0x17: ("request-problem-information", BYTE),
    0x18: ("will-delay-interval", LONG),
    0x19: ("request-response-information", BYTE),
    0x1A: ("response-information", TEXT),
    0x1C: ("server-reference", TEXT),
    0x1F: ("reason-string", TEXT),
    0x21: ("receive-maximum", SHORT),
    0x22: ("topic-alias-maximum", SHORT),
    0x23: ("topic-alias", SHORT),
    0x24: ("maximum-qos", BYTE),
    0x25: ("retain-available", BYTE),
    0x26: ("user-property", PAIR),
    0x27: ("maximum-packet-size", LONG),
    0x28: ("wildcard-subscription-available", BYTE),
    0x29: ("subscription-identifier-available", BYTE),
    0x2A: ("shared-subscription-available", BYTE),
}
NUMBERS: Final = {name: (number, kind) for number, (name, kind) in PROPERTIES.items()}
OPENING: Final = packets.text(b"MQTT") + b"\x05"
"""How the body of a CONNECT begins."""
_WIDTH: Final = {BYTE: 1, SHORT: 2, LONG: 4}


def variable(value: int) -> bytes:
    """A variable byte integer."""
    digits = bytearray()
    while True:
        value, digit = divmod(value, 128)
        digits.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(digits)


def block(options: Mapping[str, str], prefix: str = "") -> bytes:
    """The properties among a step's options, with their length.  `user-property=a:1,a:2` has several."""
    found = b""
    for option, value in options.items():
        name = option.removeprefix(prefix)
        if name not in NUMBERS or (prefix and not option.startswith(prefix)):
            continue
        number, kind = NUMBERS[name]
        for one in value.split(",") if kind in (PAIR, VARIABLE) else [value]:
            found += bytes([number]) + _value(kind, one)
    return variable(len(found)) + found


def _value(kind: int, text: str) -> bytes:
    if kind == PAIR:
        name, _, value = text.partition(":")
        return packets.text(name.encode()) + packets.text(value.encode())
    if kind == TEXT:
        return packets.text(text.encode())
    return variable(int(text)) if kind == VARIABLE else int(text).to_bytes(_WIDTH[kind], "big")


def connect(
    client_id: bytes,
    clean: bool,
    keep_alive_s: int,
    options: Mapping[str, str],
    will: tuple[bytes, bytes, int, bool] | None,
) -> bytes:
    flags, fields = 2 if clean else 0, packets.text(client_id)
    if will is not None:
        flags |= 4 | will[2] << 3 | (0x20 if will[3] else 0)
        fields += block(options, "will.") + packets.text(will[0]) + packets.text(will[1])
    for bit, key in ((0x80, "user"), (0x40, "password")):
        if key in options:
            flags, fields = flags | bit, fields + packets.text(options[key].encode())
    head = packets.text(b"MQTT") + bytes([5, flags]) + keep_alive_s.to_bytes(2, "big")
    return packets.packet(0x10, head + block(options) + fields)


def subscribe(packet_id: int, filters: list[tuple[bytes, int]], options: Mapping[str, str]) -> bytes:
    """`filters`: each with its options byte, so 4 is no local, 8 retain as published, 16 and 32 retain handling."""
    wanted = b"".join(packets.text(topic_filter) + bytes([byte]) for topic_filter, byte in filters)
    return packets.packet(0x82, packet_id.to_bytes(2, "big") + block(options) + wanted)


def unsubscribe(packet_id: int, filters: list[bytes], options: Mapping[str, str]) -> bytes:
    named = b"".join(map(packets.text, filters))
    return packets.packet(0xA2, packet_id.to_bytes(2, "big") + block(options) + named)


def publish(
    topic: bytes, payload: bytes, qos: int, flags: int, packet_id: int, options: Mapping[str, str]
) -> bytes:
    identifier = packet_id.to_bytes(2, "big") if qos else b""
    return packets.packet(
        0x30 | flags | qos << 1, packets.text(topic) + identifier + block(options) + payload
    )


def disconnect(options: Mapping[str, str]) -> bytes:
    return packets.packet(0xE0, bytes([int(options.get("code", "0"), 0)]) + block(options))


def topic_and_payload(whole: bytes) -> tuple[str, str]:
    """Of a PUBLISH with QoS 0, as text."""
    body = packets.body_of(whole)
    topic, at = _text(body, 0)
    _, at = _read(body, at)
    return topic.decode("utf-8", "replace"), body[at:].decode("utf-8", "replace")


def level_of(whole: bytes) -> int:
    """Of a CONNECT."""
    body = packets.body_of(whole)
    return body[2 + int.from_bytes(body[:2], "big")]


def describe(whole: bytes) -> str:
    """One line, as `packets.describe`; of a packet that is none of 5.0, its bytes."""
    try:
        return _described(whole)
    except (KeyError, IndexError):
        return whole[:40].hex(" ")


def _described(whole: bytes) -> str:
    kind, flags, body = whole[0] >> 4, whole[0] & 15, packets.body_of(whole)
    name = packets.NAMES.get(kind, f"TYPE-{kind}")
    if kind == 1:
        return _connect(body)
    if kind == 2:
        words, _ = _read(body, 2)
        return f"CONNACK present={body[0]} code={body[1]:02x}{words}"
    if kind == 3:
        return _publish(flags, body)
    if kind in (4, 5, 6, 7):
        words = _read(body, 3)[0] if len(body) > 3 else ""
        code = body[2] if len(body) > 2 else 0
        return f"{name} id={int.from_bytes(body[:2], 'big')} code={code:02x}{words}"
    if kind in (8, 10):
        words, at = _read(body, 2)
        return f"{name} id={int.from_bytes(body[:2], 'big')}{words}{_filters(body[at:], kind == 8)}"
    if kind in (9, 11):
        words, at = _read(body, 2)
        codes = " ".join(f"{code:02x}" for code in body[at:])
        return f"{name} id={int.from_bytes(body[:2], 'big')} codes={codes}{words}"
    if kind in (14, 15):
        words = _read(body, 1)[0] if len(body) > 1 else ""
        return f"{name} code={body[0] if body else 0:02x}{words}"
    return packets.describe(whole)


def _connect(body: bytes) -> str:
    at = 2 + int.from_bytes(body[:2], "big")
    level, flags, keep_alive_s = body[at], body[at + 1], int.from_bytes(body[at + 2 : at + 4], "big")
    words, at = _read(body, at + 4)
    client_id, at = _text(body, at)
    line = f"CONNECT MQTT level={level} flags={flags:02x} keep={keep_alive_s} id={packets.shown(client_id)}{words}"
    if flags & 4:
        words, at = _read(body, at)
        topic, at = _text(body, at)
        payload, at = _text(body, at)
        line += f" will={packets.shown(topic)} will-payload={packets.shown(payload)}{words}"
    return line


def _publish(flags: int, body: bytes) -> str:
    topic, at = _text(body, 0)
    qos, packet_id = flags >> 1 & 3, ""
    if qos:
        packet_id, at = f" id={int.from_bytes(body[at : at + 2], 'big')}", at + 2
    words, at = _read(body, at)
    marks = ("dup " if flags & 8 else "") + ("retain " if flags & 1 else "")
    return f"PUBLISH {packets.shown(topic)} {packets.shown(body[at:])} {marks}qos={qos}{packet_id}{words}"


def _filters(data: bytes, has_options: bool) -> str:
    words, at = "", 0
    while at < len(data):
        topic_filter, at = _text(data, at)
        words += f" {packets.shown(topic_filter)}" + (f" {data[at]}" if has_options else "")
        at += has_options
    return words


def _read(data: bytes, at: int) -> tuple[str, int]:
    """The properties whose length stands at `at`, in words and by their numbers, and where they end."""
    length, at = _variable(data, at)
    end, found = at + length, []
    while at < end:
        number = data[at]
        name, kind = PROPERTIES[number]
        at += 1
        if kind == PAIR:
            key, at = _text(data, at)
            value, at = _text(data, at)
            found.append((number, f"{name}={packets.shown(key)}:{packets.shown(value)}"))
        elif kind == TEXT:
            value, at = _text(data, at)
            shown = "…" if name == "assigned-client-identifier" else packets.shown(value)  # made up by each
            found.append((number, f"{name}={shown}"))
        elif kind == VARIABLE:
            count, at = _variable(data, at)
            found.append((number, f"{name}={count}"))
        else:
            found.append((number, f"{name}={int.from_bytes(data[at : at + _WIDTH[kind]], 'big')}"))
            at += _WIDTH[kind]
    # Their order means nothing but among user properties, which stay in theirs.
    return "".join(f" {word}" for _, word in sorted(found, key=lambda item: item[0])), end


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + int.from_bytes(data[at : at + 2], "big")
    return data[at + 2 : end], end


def _variable(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        digit = data[at]
        at, value, shift = at + 1, value | (digit & 127) << shift, shift + 7
        if digit < 128:
            return value, at
