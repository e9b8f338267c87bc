"""Reads what a client of MQTT 3.1 or 3.1.1 sends: runs of plain PUBLISH packets at QoS 0 go on as one slice.

Hot: `read` is called for every receive of such a client.  The mirror of `runs5.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.core.session import Session
from broker.links.mqtt.forwarding import PUBLISH_QOS_0, Run, miss_steps, receivers_of
from broker.links.mqtt.packets import handle, take_pubacks
from protocol.mqtt.codec import PUBACK
from protocol.mqtt.errors import MalformedPacket
from protocol.mqtt.framing import frame_at
from protocol.mqtt.topics import DOLLAR

if TYPE_CHECKING:
    from broker.links.mqtt.link import MqttLink


def read(link: MqttLink, session: Session, data: bytes, size_max: int, fast: bool) -> int:
    """Handle whole packets in `data` while the link has steps; the position of the first that was not.

    Args:
        size_max: as for `frame_at`.
        fast: packets may go on as they came.
    """
    engine = link.engine
    counters = engine.counters
    trie = engine.trie
    misses = trie.misses
    run: Run | None = None
    position = 0
    length = len(data)
    packets = publishes = payload_bytes = 0
    try:
        while position < length:
            body, end = frame_at(data, position, size_max)
            if end == 0:
                break
            packets += 1
            first_byte = data[position]
            if fast and first_byte == PUBLISH_QOS_0 and body + 2 < end and data[body + 2] != DOLLAR:
                payload_start = body + 2 + data[body] * 256 + data[body + 1]
                if payload_start > end:
                    raise MalformedPacket("a PUBLISH that ends within its topic name", "MQTT-3.3.2-1")
                topic = data[body + 2 : payload_start]
                publishes += 1
                payload_bytes += end - payload_start
                if run is None:
                    run = Run(engine, session, data)
                if topic != run.topic or run.targets is None:
                    run.begin(receivers_of(engine, session, topic), topic, position)
                run.add(end - payload_start)
                position = end
                if run.is_wide:
                    run.end(position)
                    link.steps -= engine.slicing.charged()
                    if link.steps <= 0:
                        break
                if trie.misses != misses:
                    misses = trie.misses
                    link.steps -= miss_steps(topic, trie.looked_at)
                    if link.steps <= 0:
                        break
                continue
            if run is not None:
                run.end(position)
            if first_byte == PUBACK and end - body == 2 and not link.tracing and engine.saving is None:
                position = take_pubacks(link, session, data, body)
            else:
                handle(link, session, first_byte, data, body, end)
                link.steps -= engine.slicing.charged()
                position = end
            if link.steps <= 0 or link.session is not session:
                break
    finally:
        counters.packets_received += packets
        counters.publishes_received += publishes
        counters.publish_bytes_received += payload_bytes
        if run is not None:
            run.end(position)
    return position
