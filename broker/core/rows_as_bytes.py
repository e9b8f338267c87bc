"""Messages of nobody's to one topic, each receiver's in one go.

Where all leave at QoS 0, to receivers who take packets, none is made a `Publication`: the feeds' counterpart of
`broker.links.mqtt.forwarding`.  Hot: compiled.
"""

from __future__ import annotations

from broker.core import barrier
from broker.core.engine import Engine
from broker.core.publication import RUN, Publication
from broker.core.targets import Targets
from protocol.mqtt.codec import publish_head
from protocol.mqtt.framing import REMAINING_LENGTH_MAX
from protocol.mqtt.message import PUBLISH_FIRST_BYTE


def forward(engine: Engine, topic: bytes, payloads: list[bytes], qos: int) -> bool:
    """Hand messages of one topic, not retained, on together.

    Returns:
        False, and nothing has been done, if that can't be: each is to be published by itself.
    """
    if engine.log is not None:
        return False
    targets = engine.trie.match(topic)
    if targets.parts is not None:
        return False
    take_packets = _take_packets(targets, qos)
    if take_packets:
        if targets.is_empty():
            return True
    elif engine.replaying.active:
        return False
    payload_bytes = 0
    longest = 0
    for payload in payloads:
        length = len(payload)
        payload_bytes += length
        if length > longest:
            longest = length
    if longest + len(topic) + 4 > REMAINING_LENGTH_MAX:
        return False
    if take_packets:
        targets.forward(_packets(topic, payloads), 4, len(payloads), payload_bytes)
    else:
        _deliver(engine, targets, [Publication(topic, payload, qos) for payload in payloads])
    return True


def _take_packets(targets: Targets, qos: int) -> bool:
    """Whether all of them take raw packets, and get this at QoS 0."""
    if targets.not_plain:
        return False
    if qos == 0 or targets.sole is not None:
        return qos == 0 or targets.sole_granted == 0
    many = targets.many
    if many is not None:
        for granted in many.values():
            if granted != 0:
                return False
    return True


def _deliver(engine: Engine, targets: Targets, run: list[Publication]) -> None:
    """As `Engine.publish` for each."""
    sole = targets.sole
    if sole is not None:
        barrier.deliver_run(sole, run, targets.sole_granted, engine.counters)
        return
    engine.slicing.charge_deliveries(targets, len(run))
    many = targets.many
    if many is not None:
        for receiver, granted in many.items():
            barrier.deliver_run(receiver, run, granted, engine.counters)
    run[0].forget_frame(RUN)  # whoever keeps the first one would keep the bytes of all


def _packets(topic: bytes, payloads: list[bytes]) -> bytes:
    """As 3.1.1 writes them."""
    pieces: list[bytes] = []
    head = b""
    length = -1
    for payload in payloads:
        if len(payload) != length:  # rows of a table are often equally long
            length = len(payload)
            head = publish_head(PUBLISH_FIRST_BYTE, topic, length)
        pieces.append(head)
        pieces.append(payload)
    return b"".join(pieces)
