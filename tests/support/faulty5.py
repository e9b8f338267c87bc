"""Random packets of MQTT 5.0 with random properties: right ones, and ones with a single fault of a known kind.

Apart from Rowcast's own tables: a judge must not share the code of what it judges.  MQTT 5.0 Table 2-4.
"""

from __future__ import annotations

from random import Random
from typing import Final

from attrs import frozen
from support.packet_case import framed, string
from support.played5 import CONNECT, PINGREQ, connect

_KINDS: Final = {
    0x01: "flag", 0x02: "four", 0x03: "text", 0x08: "topic", 0x09: "binary", 0x0B: "id", 0x11: "four", 0x12: "text",
    0x13: "two", 0x15: "text", 0x16: "binary", 0x17: "flag", 0x18: "four", 0x19: "flag", 0x1A: "text", 0x1C: "text",
    0x1F: "text", 0x21: "two", 0x22: "two", 0x23: "alias", 0x24: "flag", 0x25: "flag", 0x26: "pair", 0x27: "size",
    0x28: "flag", 0x29: "flag", 0x2A: "flag",
}  # fmt: skip
_MESSAGE: Final = (0x01, 0x02, 0x03, 0x08, 0x09, 0x26)
_ACK: Final = (0x1F, 0x26)
_MAY_STAND: Final = {
    "connect": (0x11, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27),
    "will": (*_MESSAGE, 0x18),
    "publish": (*_MESSAGE, 0x23),
    "puback": _ACK,
    "pubrec": _ACK,
    "pubrel": _ACK,
    "pubcomp": _ACK,
    "subscribe": (0x0B, 0x26),
    "unsubscribe": (0x26,),
    "disconnect": (0x1F, 0x26),
}
"""Without those of enhanced authentication, and a session expiry in DISCONNECT, which must fit that of CONNECT."""
_ELSEWHERE: Final = {
    "connect": (0x15, 0x16), "publish": (0x0B,), "disconnect": (0x11, 0x1C),
}  # fmt: skip
"""Those that may stand there, too, but are no fault of place."""
_TEXTS: Final = (b"", b"a", b"text/plain", "é漢\ufeff".encode(), b"x" * 200)
_BAD_TEXTS: Final = (b"\xff", b"\xed\xa0\x80", b"a\x00b", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82")
MALFORMED, PROTOCOL_ERROR, ALIAS_INVALID = 0x81, 0x82, 0x94


@frozen
class Played:
    """Packets for one connection, what is wrong with them (nothing: ""), and the code that tells it."""

    packets: list[bytes]
    fault: str
    code: int


def draw(random: Random) -> Played:
    """One packet, with or without a fault."""
    place = random.choice(list(_MAY_STAND))
    names = random.sample(_MAY_STAND[place], random.randint(0, len(_MAY_STAND[place])))
    names += [0x26] * random.choice((0, 0, 1, 3))
    random.shuffle(names)
    listed = [_property(random, name) for name in names]
    fault, code, length = "", 0, -1
    if random.random() < 0.65:
        fault, code, length = _spoil(random, place, names, listed)
    inner = b"".join(listed)
    block = _variable(len(inner) if length < 0 else length) + inner
    if fault == "a length in more bytes than it takes":
        block = bytes((len(inner) & 127 | 128, len(inner) >> 7 | 128, 0)) + inner
    return Played(_packets(random, place, block), fault, code)


def _spoil(random: Random, place: str, names: list[int], listed: list[bytes]) -> tuple[str, int, int]:
    """Make one property, or their length, wrong: what, its code, and the length to say or -1."""
    allowed = (*_MAY_STAND[place], *_ELSEWHERE.get(place, ()))
    kind = random.choice(("place", "unknown", "twice", "value", "text", "cut", "long", "overlong"))
    at = random.randint(0, len(listed))
    if kind == "place":
        name = random.choice([name for name in _KINDS if name not in allowed])
        listed.insert(at, _property(random, name))
        return f"{name:#04x} in {place}", MALFORMED, -1
    if kind == "unknown":
        listed.insert(
            at, bytes((random.choice((0x00, 0x04, 0x14, 0x1B, 0x2B, 0x7F, 0x80, 0xFF)), 0, 0, 0, 0))
        )
        return "an unknown property", MALFORMED, -1
    single = [index for index, name in enumerate(names) if name != 0x26]
    if kind == "twice" and single:
        index = random.choice(single)
        listed.insert(at, _property(random, names[index]))
        return f"{names[index]:#04x} twice in {place}", PROTOCOL_ERROR, -1
    if kind == "value":
        return _bad_value(random, place, names, listed)
    texts = [index for index, name in enumerate(names) if _KINDS[name] in ("text", "topic", "pair")]
    if kind == "text" and texts:
        index = random.choice(texts)
        bad = string(random.choice(_BAD_TEXTS))
        pair = _KINDS[names[index]] == "pair"
        listed[index] = bytes((names[index],)) + (string(b"k") + bad if pair else bad)
        return "a text that is none", MALFORMED, -1
    if kind == "cut" and listed:
        listed[-1] = listed[-1][:-1]
        return "a property that is cut off", MALFORMED, -1
    if kind == "long":
        return "properties longer than their packet", MALFORMED, sum(map(len, listed)) + 100_000
    return "a length in more bytes than it takes", MALFORMED, -1


def _bad_value(random: Random, place: str, names: list[int], listed: list[bytes]) -> tuple[str, int, int]:
    flag, zero = b"\x02", b"\x00\x00"
    name, value, code = random.choice(
        {
            "connect": [
                (0x17, flag, PROTOCOL_ERROR),
                (0x19, flag, PROTOCOL_ERROR),
                (0x21, zero, PROTOCOL_ERROR),
                (0x27, zero + zero, PROTOCOL_ERROR),
                (0x16, string(b"data"), PROTOCOL_ERROR),
            ],
            "will": [(0x01, flag, PROTOCOL_ERROR), (0x08, string(b"a/#"), PROTOCOL_ERROR)],
            "publish": [
                (0x01, flag, PROTOCOL_ERROR),
                (0x08, string(b"a/+"), PROTOCOL_ERROR),
                (0x0B, b"\x05", PROTOCOL_ERROR),
                (0x23, zero, ALIAS_INVALID),
                (0x23, b"\xff\xff", ALIAS_INVALID),
            ],
            "subscribe": [(0x0B, b"\x00", PROTOCOL_ERROR), (0x0B, b"\xff\xff\xff\xff\x01", MALFORMED)],
            "disconnect": [(0x11, b"\x00\x00\x00\x01", PROTOCOL_ERROR)],
        }.get(place, [(0x02, b"\x00", MALFORMED)])
    )
    if name in names:
        listed[names.index(name)] = bytes((name,)) + value
    else:
        listed.append(bytes((name,)) + value)
    return f"{name:#04x} with a value that it can't have, in {place}", code, -1


def _property(random: Random, name: int) -> bytes:
    kind = _KINDS[name]
    if kind == "flag":
        value = bytes((random.randint(0, 1),))
    elif kind == "two":
        value = random.randint(1, 65_535).to_bytes(2, "big")
    elif kind == "alias":
        value = random.randint(1, 10).to_bytes(2, "big")
    elif kind == "four":
        value = random.choice((0, 1, 70_000, 0xFFFF_FFFF)).to_bytes(4, "big")
    elif kind == "size":
        value = random.randint(1_000, 0xFFFF_FFFF).to_bytes(4, "big")
    elif kind == "id":
        value = _variable(random.choice((1, 127, 128, 16_384, 268_435_455)))
    elif kind == "topic":
        value = string(random.choice((b"reply", b"reply/to/1")))
    elif kind == "pair":
        value = string(random.choice(_TEXTS)) + string(random.choice(_TEXTS))
    elif kind == "binary":
        value = string(random.randbytes(random.randint(0, 9)))
    else:
        value = string(random.choice(_TEXTS))
    return bytes((name,)) + value


def _variable(number: int) -> bytes:
    written = b""
    while number > 127:
        written += bytes((number & 127 | 128,))
        number >>= 7
    return written + bytes((number,))


def _packets(random: Random, place: str, block: bytes) -> list[bytes]:
    if place == "connect":
        return [connect(2, string(b"c"), block)]
    if place == "will":
        return [connect(6, string(b"c") + block + string(b"w") + string(b"gone"))]
    if place == "publish":
        qos = random.randint(0, 2)
        packet = framed(0x30 | qos << 1, string(b"t") + (b"\x00\x01" if qos else b"") + block + b"payload")
    elif place == "subscribe":
        packet = framed(0x82, b"\x00\x01" + block + string(b"s") + b"\x00")
    elif place == "unsubscribe":
        packet = framed(0xA2, b"\x00\x01" + block + string(b"s"))
    elif place == "disconnect":
        packet = framed(0xE0, b"\x00" + block)
    else:
        first = {"puback": 0x40, "pubrec": 0x50, "pubrel": 0x62, "pubcomp": 0x70}[place]
        packet = framed(first, b"\x00\x07\x00" + block)
    return [CONNECT, packet + PINGREQ]
