"""Packets of MQTT 5.0 with property lists of every kind: right, twice, of the wrong packet, too long, half."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from player import packets, packets5
from player.manner import prefix
from player.packets5 import BYTE, LONG, PAIR, PROPERTIES, SHORT, TEXT, VARIABLE

OF: Final = {
    1: (0x11, 0x21, 0x27, 0x22, 0x19, 0x17, 0x26),
    3: (0x01, 0x03, 0x08, 0x09, 0x26, 0x23),
    4: (0x1F, 0x26),
    8: (0x26,),
    10: (0x26,),
    14: (0x11, 0x1F, 0x26),
    15: (0x15, 0x16, 0x1F, 0x26),
}
"""Kinds of packets, and the properties that a client may send with them."""
UNSEEN: Final = (0x0B, 0x16)
"""Nor does 2.0 look for an identifier in PUBLISH, and for data without a method."""
CODES: Final = (0x00, 0x10, 0x80, 0x83, 0x91, 0x97)
"""Reason codes that PUBACK and PUBREC may have; 2.0 takes others, too."""


@dataclass
class Named:
    """What a client may name, and the QoS that it subscribes with."""

    topics: list[bytes]
    filters: list[bytes]
    qos: int
    has_will: bool
    may_subscribe: bool
    """Not where all of its subscriptions have an identifier: each other one would be a copy more from 2.0."""
    max_qos: int = 2


def packet(random: Random, named: Named) -> bytes:
    """One of a client that is connected, or several under aliases."""
    if random.random() < 0.2:
        return _aliased(random, named.topics)
    kind = random.choice((3, 3, 3, 4, 8 if named.may_subscribe else 4, 10, 14, 15))
    block = properties(random, kind)
    if kind == 3:
        level = random.randrange(named.max_qos + 1)
        identifier = random.choice((1, 7)).to_bytes(2, "big") if level else b""
        return packets.packet(
            0x30 | level << 1, packets.text(random.choice(named.topics)) + identifier + block + b"raw"
        )
    if kind == 4:
        answer = random.choice((4, 5, 6, 7))
        code = random.choice(CODES if answer in (4, 5) else (0x00, 0x92))
        first = answer << 4 | (2 if answer == 6 else 0)
        return packets.packet(first, b"\x00\x01" + bytes([code]) + (block if random.random() < 0.7 else b""))
    if kind == 8:
        return packets.packet(
            0x82, b"\x00\x01" + block + packets.text(random.choice(named.filters)) + bytes([named.qos])
        )
    if kind == 10:
        return packets.packet(0xA2, b"\x00\x01" + block + packets.text(random.choice(named.filters)))
    if kind == 14:
        codes = (
            (0x00, 0x04) if named.has_will else (0x00, 0x04, 0x80, 0x81, 0x8D)
        )  # 2.0 forgets the will at others
        return packets.packet(0xE0, bytes([random.choice(codes)]) + block)
    return packets.packet(0xF0, bytes([random.choice((0x00, 0x18, 0x19))]) + block)


def _aliased(random: Random, topics: list[bytes]) -> bytes:
    """Messages under two aliases, each of which stands for one topic after the other."""
    found, known = b"", set[int]()
    for number in range(random.randint(3, 7)):
        alias = random.choice((1, 2))
        topic = b"" if alias in known and random.random() < 0.5 else random.choice(topics)
        known.add(alias)
        found += packets.packet(0x30, packets.text(topic) + b"\x03\x23\x00" + bytes([alias]) + b"%d" % number)
    return found


def connect(random: Random, lane: str) -> bytes:
    """A CONNECT of nobody else's client id, which ends its session with the connection."""
    will = random.random() < 0.3
    fields = packets.text(f"{lane}q".encode())
    if will:
        fields += (
            properties(random, 3, without=(0x23,))
            + packets.text((prefix(lane) + "a").encode())
            + packets.text(b"gone")
        )
    body = packets.text(b"MQTT") + bytes([5, 2 | (4 if will else 0)]) + (3600).to_bytes(2, "big")
    return packets.packet(0x10, body + properties(random, 1, without=(0x11,)) + fields)


def properties(random: Random, kind: int, without: tuple[int, ...] = ()) -> bytes:
    """A block for this kind of packet; one in three is malformed."""
    fitting = [number for number in OF[kind] if number not in without]
    chosen = [number for number in fitting if random.random() < 0.3]
    found = b"".join(_property(random, number) for number in chosen)
    if random.random() < 0.67:
        return packets5.variable(len(found)) + found
    how = random.choice(("twice", "strange", "unknown", "long", "short", "half"))
    if how == "twice":
        found += _property(random, fitting[0]) * 2
    elif how == "strange":
        found += _property(
            random, random.choice([number for number in PROPERTIES if number not in (*OF[kind], *UNSEEN)])
        )
    elif how == "unknown":
        found += bytes([random.choice((0x00, 0x04, 0x7F, 0xFF)), 1])
    elif how == "half":
        found += _property(random, random.choice(fitting))[:-1]
    size = len(found) + {"long": random.choice((1, 100, 10000)), "short": -1}.get(how, 0)
    return packets5.variable(max(size, 0)) + found


def _property(random: Random, number: int) -> bytes:
    kind = PROPERTIES[number][1]
    if kind == BYTE:
        value = bytes([random.choice((0, 1))])
    elif kind in (SHORT, LONG):
        value = random.choice((1, 2, 300)).to_bytes(2 if kind == SHORT else 4, "big")
        if number == 0x11:
            value = random.choice((0, 300, 0xFFFFFFFF)).to_bytes(
                4, "big"
            )  # no session ends while this is played
        if number in (0x21, 0x27):
            value = b"\xff" * (2 if kind == SHORT else 4)
    elif kind == VARIABLE:
        value = packets5.variable(random.choice((1, 7, 268435455)))
    elif kind == PAIR:
        value = packets.text(b"k") + packets.text(random.choice((b"", b"v", "ä".encode())))
    else:
        assert kind == TEXT
        value = packets.text(random.choice((b"a", b"a/b") if number == 0x08 else (b"", b"a", b"a/b")))
    return bytes([number]) + value
