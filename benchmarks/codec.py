"""What one packet costs by hand and through its construct layout: `python -m benchmarks.codec`.

Microseconds per call from Python, the best of several rounds; the hot modules are as installed, compiled or not.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import Any, Final

from protocol.mqtt import codec, framing, topics, wire
from protocol.mqtt.packets import (
    Connack,
    Connect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsubscribe,
    Will,
)

CALLS: Final = 500
ROUNDS: Final = 15
TOPIC: Final = b"fill/3/0xc0deface/0"
FILTERS: Final = (b"fill/+/0xc0deface/#", b"event/#")

PACKETS: Final[dict[str, Packet]] = {
    "PUBLISH QoS 0, 64 bytes": Publish(TOPIC, bytes(64)),
    "PUBLISH QoS 1, 64 bytes": Publish(TOPIC, bytes(64), 1, packet_id=7),
    "PUBACK": Puback(7),
    "SUBSCRIBE, 2 filters": Subscribe(1, ((FILTERS[0], 1), (FILTERS[1], 0))),
    "SUBACK, 2 codes": Suback(1, (1, 0)),
    "UNSUBSCRIBE, 2 filters": Unsubscribe(1, FILTERS),
    "PINGREQ": Pingreq(),
    "CONNECT (by construct)": Connect(b"client-1", True, 60, 4, Will(b"w", b"p", 1, False), b"user", b"pass"),
    "CONNACK (by construct)": Connack(False, 0),
}


def microseconds(function: Callable[..., Any], *arguments: Any) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(CALLS):
            function(*arguments)
        best = min(best, time.perf_counter() - start)
    return best / CALLS * 1e6


def compare_packets() -> None:
    print(f"{'':26}{'decode':>8}{'encode':>8}   construct: {'parse':>8}{'build':>8}")
    for name, packet in PACKETS.items():
        raw = codec.encode(packet)
        parsed = wire.PACKET.parse(raw)
        costs = (
            microseconds(codec.decode, raw[0], raw[2:]),
            microseconds(codec.encode, packet),
            microseconds(wire.PACKET.parse, raw),
            microseconds(wire.PACKET.build, parsed),
        )
        print("{:26}{:8.2f}{:8.2f}              {:8.1f}{:8.1f}".format(name, *costs))


def time_functions() -> None:
    publish = codec.encode(PACKETS["PUBLISH QoS 1, 64 bytes"])
    calls: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "frame_at": (framing.frame_at, (publish, 0, 0)),
        "publish_parts": (codec.publish_parts, (publish[0], publish, 2, len(publish))),
        "packet_id_of": (codec.packet_id_of, (b"\x00\x07", 0, 2)),
        "encode_ack": (codec.encode_ack, (codec.PUBACK, 7)),
        "publish_head": (codec.publish_head, (codec.PUBLISH, TOPIC, 64)),
        "is_valid_topic_name": (topics.is_valid_topic_name, (TOPIC,)),
        "is_valid_topic_filter": (topics.is_valid_topic_filter, (FILTERS[0],)),
    }
    for name, (function, arguments) in calls.items():
        print(f"{name:26}{microseconds(function, *arguments):8.2f}")


def main() -> None:
    how = "interpreted" if (codec.__file__ or "").endswith(".py") else "compiled"
    print(f"{platform.python_implementation()} {platform.python_version()}, hot modules {how}, µs per call")
    compare_packets()
    time_functions()


if __name__ == "__main__":
    main()
