"""Reads what a client of MQTT 5.0 sends: runs of plain PUBLISH packets at QoS 0 go on as one slice.

Hot: `read` is called for every receive of such a client.  The mirror of `runs.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.core.names import DOLLAR
from broker.core.session import Session
from broker.core.targets import Targets
from broker.links.mqtt.forwarding import PUBLISH_QOS_0, forward, miss_steps, receivers_of
from broker.links.mqtt.v5 import handle
from protocol.mqtt.errors import MalformedPacket, ProtocolError
from protocol.mqtt.framing import frame_at
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
    engine = link.engine
    position = 0
    length = len(data)
    run: Targets | None = None
    run_start = 0
    run_count = 0
    run_payload = 0
    run_topic = b""
    head = b""  # topic name and properties of the run's last packet: what begins so goes the same way
    head_length = 0
    terms = link.terms
    assert terms is not None
    known = terms.forwarded
    packets = 0
    publishes = 0
    payload_bytes = 0
    trie = engine.trie
    misses = trie.misses
    try:
        while position < length:
            body, end = frame_at(data, position, size_max)
            if end == 0:
                break
            if body - position > 2 and data[body - 1] == 0:
                raise MalformedPacket("a remaining length longer than it need be", "MQTT-1.5.5-1")
            packets += 1
            if (
                run is not None
                and data[position] == PUBLISH_QOS_0
                and data[body : body + head_length] == head
                and body + head_length <= end
            ):
                publishes += 1
                payload_bytes += end - body - head_length
                run_count += 1
                run_payload += end - body - head_length
                position = end
                continue
            if fast and data[position] == PUBLISH_QOS_0 and body + 3 < end and data[body + 2] != DOLLAR:
                topic_end = body + 2 + data[body] * 256 + data[body + 1]
                # Without a topic name there is an alias; properties of 128 bytes or more are read elsewhere.
                if body + 2 < topic_end < end and data[topic_end] < 128:
                    payload_start = topic_end + 1 + data[topic_end]
                    if payload_start <= end:
                        goes_on = payload_start == topic_end + 1
                        if not goes_on:
                            properties = data[topic_end + 1 : payload_start]
                            if properties == known:
                                goes_on = True
                            elif are_forwarded(properties):
                                goes_on = True
                                known = terms.forwarded = properties
                        if goes_on:
                            topic = data[body + 2 : topic_end]
                            publishes += 1
                            payload_bytes += end - payload_start
                            if topic != run_topic or run is None:
                                targets = receivers_of(engine, session, topic)
                                if targets is not run:
                                    if run is not None:
                                        forward(
                                            engine,
                                            session,
                                            run,
                                            data,
                                            run_start,
                                            position,
                                            run_count,
                                            run_payload,
                                        )
                                    run = targets
                                    run_start = position
                                    run_count = 0
                                    run_payload = 0
                                run_topic = topic
                            if end < length:
                                head = data[body:payload_start]
                                head_length = payload_start - body
                            run_count += 1
                            run_payload += end - payload_start
                            position = end
                            if trie.misses != misses:
                                misses = trie.misses
                                link.steps -= miss_steps(run_topic)
                                if link.steps <= 0:
                                    break
                            continue
            if run is not None:
                forward(engine, session, run, data, run_start, position, run_count, run_payload)
                run = None
                run_topic = b""
            handle(link, session, data[position], data, body, end)
            position = end
            if link.steps <= 0 or link.session is not session:
                break
    except ProtocolError as error:
        raise retagged(error) from None
    finally:
        counters = engine.counters
        counters.packets_received += packets
        counters.publishes_received += publishes
        counters.publish_bytes_received += payload_bytes
        if run is not None:
            forward(engine, session, run, data, run_start, position, run_count, run_payload)
    return position
