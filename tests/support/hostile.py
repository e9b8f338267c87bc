"""What a careless or hostile peer sends, as pieces of bytes; the same pieces for the same seed."""

from __future__ import annotations

from random import Random

from protocol.mqtt.codec import encode
from protocol.mqtt.packets import (
    Connect,
    Disconnect,
    Pingreq,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Unsubscribe,
    Will,
)

TOPICS = [
    b"a",
    b"a/b",
    b"/",
    b"a//b",
    b"$SYS/x",
    b"$CONTROL/x",
    b"$ws/econia/x",
    b"$x",
    b"\xc3\xa4",
    b"x" * 300,
]
FILTERS = [*TOPICS, b"#", b"+", b"a/#", b"+/+", b"$SYS/#", b"$share/g/a/#", b"$share/g", b"$ws/#", b"/" * 200]
CLIENT_IDS = [b"", b"one", b"two", b"three"]


def hostile_pieces(seed: int) -> list[bytes]:
    """Some packets, most of them right, then broken here and there and cut anywhere."""
    random = Random(seed)
    packets = [_connect(random)] if random.random() < 0.9 else []
    packets += [_packet(random) for _ in range(random.randrange(1, 12))]
    while random.random() < 0.6:
        at = random.randrange(len(packets))
        packets[at] = _broken(random, packets[at])
    return _cut(random, b"".join(packets))


def _connect(random: Random) -> bytes:
    will = None
    if random.random() < 0.5:
        will = Will(
            random.choice(TOPICS),
            b"w" * random.choice([0, 1, 500]),
            random.randrange(3),
            random.random() < 0.3,
        )
    packet = encode(
        Connect(
            random.choice(CLIENT_IDS),
            random.random() < 0.6,
            random.choice([0, 1, 60, 65535]),
            will=will,
            user_name=random.choice([None, b"", b"user"]),
        )
    )
    if random.random() < 0.1:
        packet = packet.replace(b"\x00\x04MQTT\x04", b"\x00\x06MQIsdp\x03", 1)
    return packet


def _packet(random: Random) -> bytes:
    packet_id = random.choice([1, 2, 3, 65535])
    kind = random.randrange(12)
    if kind < 4:
        qos = random.randrange(3)
        payload = b"p" * random.choice([0, 1, 5, 127, 128, 2000, 70000])
        retain, dup = random.random() < 0.2, qos > 0 and random.random() < 0.2
        return encode(Publish(random.choice(TOPICS), payload, qos, retain, dup, packet_id if qos else 0))
    if kind == 4:
        filters = tuple((random.choice(FILTERS), random.randrange(3)) for _ in range(random.randrange(1, 5)))
        return encode(Subscribe(packet_id, filters))
    if kind == 5:
        return encode(Unsubscribe(packet_id, (random.choice(FILTERS),)))
    if kind < 10:
        answers: list[type[Puback | Pubrec | Pubrel | Pubcomp]] = [Puback, Pubrec, Pubrel, Pubcomp]
        return encode(random.choice(answers)(packet_id))
    if kind == 10:
        bare: list[Pingreq | Disconnect] = [Pingreq(), Pingreq(), Disconnect()]
        return encode(random.choice(bare))
    return random.choice(
        [_connect(random), random.randbytes(random.randrange(1, 60)), b"\x20\x02\x00\x00", b"\xf0\x00"]
    )


def _broken(random: Random, packet: bytes) -> bytes:
    broken = bytearray(packet) or bytearray(b"\x00")
    at = random.randrange(min(len(broken), 40))
    kind = random.randrange(7)
    if kind == 0:
        broken[at] ^= 1 << random.randrange(8)
    elif kind == 1:
        broken[at] = random.choice([0, 1, 0x7F, 0x80, 0xFF])
    elif kind == 2:
        del broken[at : at + random.randrange(1, 4)]
    elif kind == 3:
        broken[at:at] = random.randbytes(random.randrange(1, 4))
    elif kind == 4:
        del broken[at:]
    elif kind == 5:
        broken[1:2] = random.choice([b"\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x01", b"\x00", b"\x80\x00"])
    else:
        broken[0] = random.randrange(256)
    return bytes(broken)


def _cut(random: Random, data: bytes) -> list[bytes]:
    if random.random() < 0.3 or len(data) < 2:
        return [data]
    places = sorted({random.randrange(1, len(data)) for _ in range(random.randrange(1, 8))})
    if random.random() < 0.2:
        places = sorted({*places, *range(1, min(len(data), 30))})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
