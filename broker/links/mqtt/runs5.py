"""Reads what a client of MQTT 5.0 sends: runs of plain PUBLISH packets at QoS 0 go on as one slice.

Hot: `read` is called for every receive of such a client.  The mirror of `runs.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.core.session import Session
from broker.links.mqtt.forwarding import PUBLISH_QOS_0, Run, miss_steps, receivers_of
from broker.links.mqtt.packets import take_pubacks
from broker.links.mqtt.v5 import Terms, handle
from protocol.mqtt.codec import PUBACK
from protocol.mqtt.errors import MalformedPacket, ProtocolError
from protocol.mqtt.framing import frame_at
from protocol.mqtt.topics import DOLLAR
from protocol.mqtt.v5.codec import retagged
from protocol.mqtt.v5.properties import are_forwarded

if TYPE_CHECKING:
    from broker.links.mqtt.link import MqttLink


def read(link: MqttLink, session: Session, data: bytes, size_max: int, fast: bool) -> int:
    """Handle whole packets in `data` while the link has steps; the position of the first that was not.

    Args:
        size_max: as for `frame_at`.
        fast: packets may go on as they came.
    """
    # In one piece: what a step would need and change (`run`, `head`, `position`, four counts) is most of what there is.
    engine = link.engine
    counters = engine.counters
    trie = engine.trie
    misses = trie.misses
    terms = link.terms
    assert terms is not None
    run: Run | None = None
    head = b""  # topic name and properties of the run's last packet: what begins so goes the same way
    head_length = 0
    position = 0
    length = len(data)
    packets = 0
    publishes = 0
    payload_bytes = 0
    try:
        while position < length:
            body, end = frame_at(data, position, size_max)
            if end == 0:
                break
            if body - position > 2 and data[body - 1] == 0:
                raise MalformedPacket("a remaining length longer than it need be", "MQTT-1.5.5-1")
            packets += 1
            payload_start = 0
            first_byte = data[position]
            if fast and first_byte == PUBLISH_QOS_0:
                if (
                    run is not None
                    and run.targets is not None
                    and data[body : body + head_length] == head
                    and body + head_length <= end
                ):
                    publishes += 1
                    payload_bytes += end - body - head_length
                    run.add(end - body - head_length)
                    position = end
                    continue
                payload_start = _payload_start(terms, data, body, end)
            if payload_start:
                topic = data[body + 2 : body + 2 + data[body] * 256 + data[body + 1]]
                publishes += 1
                payload_bytes += end - payload_start
                if run is None:
                    run = Run(engine, session, data)
                if topic != run.topic or run.targets is None:
                    run.begin(receivers_of(engine, session, topic), topic, position)
                if end < length:
                    head = data[body:payload_start]
                    head_length = payload_start - body
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
    except ProtocolError as error:
        raise retagged(error) from None
    finally:
        counters.packets_received += packets
        counters.publishes_received += publishes
        counters.publish_bytes_received += payload_bytes
        if run is not None:
            run.end(position)
    return position


def _payload_start(terms: Terms, data: bytes, body: int, end: int) -> int:
    """Where the payload of a PUBLISH begins that may go on as it came; 0 for any other."""
    if body + 3 >= end or data[body + 2] == DOLLAR:
        return 0
    topic_end = body + 2 + data[body] * 256 + data[body + 1]
    # Without a topic name there is an alias; properties of 128 bytes or more are read elsewhere.
    if not body + 2 < topic_end < end or data[topic_end] >= 128:
        return 0
    payload_start = topic_end + 1 + data[topic_end]
    if payload_start > end:
        return 0
    if payload_start > topic_end + 1:
        properties = data[topic_end + 1 : payload_start]
        if properties != terms.forwarded:
            if not are_forwarded(properties):
                return 0
            terms.forwarded = properties
    return payload_start
