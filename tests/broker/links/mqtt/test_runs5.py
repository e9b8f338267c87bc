"""What a client of 5.0 sends reaches everybody alike, however its packets come: one by one, together, cut anywhere."""

from __future__ import annotations

from random import Random

import pytest
from support.packet_case import framed, string
from support.peer import connected
from support.peer5 import connected5

from broker.core.engine import Engine
from protocol.mqtt.packets import Subscribe
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import MAXIMUM_PACKET_SIZE

USER = b"\x26\x00\x01a\x00\x011"
PROPERTIES = (
    b"",
    b"",
    USER,
    USER + b"\x01\x01",
    b"\x03\x00\x01x",
    USER * 20,
    b"\x02\x00\x00\x00\x09",
    USER * 17 + b"\x26\x00\x01a\x00\x03123",
)
TOPICS = (b"a", b"a", b"a", b"a/b", b"other", b"$dollar", b"nobody")


def variable(number: int) -> bytes:
    return bytes((number & 127 | 128, number >> 7)) if number > 127 else bytes((number,))


def packet(random: Random) -> bytes:
    topic = random.choice(TOPICS)
    properties = random.choice(PROPERTIES)
    first_byte = random.choice((0x30, 0x30, 0x30, 0x30, 0x31, 0x32))
    payload = random.choice((b"", b"\x00", b"x", string(topic) + b"\x00", b"y" * 200))
    if random.random() < 0.15:
        properties += b"\x23\x00\x01"
        if random.random() < 0.5:
            topic = b""
    packet_id = b"\x00\x01" if first_byte == 0x32 else b""
    return framed(first_byte, string(topic) + packet_id + variable(len(properties)) + properties + payload)


def received(pieces: list[bytes]) -> list[bytes]:
    """All that readers of both versions, with identifiers and limits and without, and the writer, get."""
    engine = Engine()
    small = Properties({MAXIMUM_PACKET_SIZE: 100})
    readers = [
        connected(engine, b"old"),
        connected5(engine, b"new"),
        connected5(engine, b"small", properties=small),
    ]
    for reader, topic_filter in zip(readers, (b"#", b"+", b"#"), strict=True):
        reader.send(Subscribe(1, ((topic_filter, 1),)))
    for number, topic_filter in ((1, b"#"), (1, b"a"), (200, b"a"), (1, b"+")):
        identified = connected5(engine, b"%s %d" % (topic_filter, number))
        identified.send(Subscribe(1, ((topic_filter, 1),), Properties(subscription_ids=[number])))
        readers.append(identified)
    readers[-1].send(Subscribe(2, ((b"a/#", 0),), Properties(subscription_ids=[9])))
    writer = connected5(engine, b"writer")
    writer.send(Subscribe(1, ((b"a", 4),)), Subscribe(2, ((b"+/b", 1),), Properties(subscription_ids=[3])))
    writer.write(framed(0x30, string(b"a") + b"\x03\x23\x00\x01"))  # so that the alias is known
    for piece in pieces:
        writer.write(piece)
    assert not writer.closed
    return [peer.read_bytes() for peer in (*readers, writer)]


@pytest.mark.parametrize("rounds", [40, pytest.param(1500, marks=pytest.mark.slow)])
def test_a_run_is_what_its_packets_are(rounds: int) -> None:
    seed = Random().randrange(1 << 32)
    random = Random(seed)
    for number in range(rounds):
        packets = [packet(random) for _ in range(random.randint(1, 30))]
        together = b"".join(packets)
        cuts = sorted(random.randint(0, len(together)) for _ in range(random.randint(0, 5)))
        pieces = [
            together[start:end]
            for start, end in zip([0, *cuts], [*cuts, len(together)], strict=True)
            if start < end
        ]
        assert received(pieces) == received(packets), (seed, number)


def test_a_packet_that_ends_within_what_the_last_one_had_is_no_part_of_its_run() -> None:
    """Its bytes go on in the next packet as those of the one before: it must not be read beyond its end."""
    whole = framed(0x30, string(b"topic") + bytes((len(USER),)) + USER + b"payload")
    short = b"\x30\x05" + string(b"topic")
    engine = Engine()
    reader = connected5(engine, b"reader")
    reader.send(Subscribe(1, ((b"#", 0),)))
    writer = connected5(engine, b"writer")
    reader.read_bytes()
    writer.write(whole + whole + short + whole)
    assert writer.closed
    assert reader.read_bytes() == whole + whole
