"""A new subscriber to `#` meets many retained topics."""

from __future__ import annotations

from benchmarks import packets
from benchmarks.clients import connect, read_exactly, read_into
from benchmarks.measurement import Clocks, Measurement, Target
from benchmarks.workloads.delivery import PAYLOAD


def retained_replay(target: Target, seconds: float, topics: int) -> Measurement:
    """`topics` retained messages are stored, then three clients in turn subscribe to `#` and read them all.

    `seconds` does not matter here.  Sent at QoS 1, so that storing has ended before the replay begins.
    """
    del seconds
    names = [b"kept/%03d/%06d" % (i % 100, i) for i in range(topics)]
    _store(target, names)
    total = topics * packets.publish_bytes(names[0], PAYLOAD)
    view = memoryview(bytearray(total))
    receivers = [connect(target.mqtt, b"sub-%d" % i) for i in range(3)]
    clocks = Clocks(target)
    for receiver in receivers:
        receiver.sendall(packets.subscribe(1, b"#"))
        read_exactly(receiver, packets.suback_bytes())
        read_into(receiver, view, total)
    return clocks.measure(topics * len(receivers))


def _store(target: Target, names: list[bytes], burst: int = 20) -> None:
    publisher = connect(target.mqtt, b"pub")
    for start in range(0, len(names), burst):
        wanted = names[start : start + burst]
        publisher.sendall(
            b"".join(packets.publish(name, PAYLOAD, 1, i + 1, retain=True) for i, name in enumerate(wanted))
        )
        read_exactly(publisher, packets.ACK_BYTES * len(wanted))
