"""Runs of PUBLISH packets at QoS 0 to all who get them: as bytes to those who take bytes, to the others one by one.

Hot: once for each run.
"""

from __future__ import annotations

from typing import Final

from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.session import Session
from broker.core.targets import Targets
from protocol.mqtt.codec import publish_parts
from protocol.mqtt.framing import frame_at
from protocol.mqtt.topics import check_topic_name
from protocol.mqtt.v5.codec import publish_parts as publish_parts_5
from protocol.mqtt.v5.runs import as_3, as_5

PUBLISH_QOS_0: Final = 0x30
NOBODY: Final = Targets()
"""Who gets what this client may not publish."""

_MISS_STEPS: Final = 4
_LEVEL_STEPS_SHIFT: Final = 6


def miss_steps(topic: bytes) -> int:
    """What it counts for that a topic's receivers were looked for: more for each 64 bytes, which may be levels."""
    return _MISS_STEPS + (len(topic) >> _LEVEL_STEPS_SHIFT)


def receivers_of(engine: Engine, session: Session, topic: bytes) -> Targets:
    """Who gets what this client publishes to a topic; `NOBODY` if it may not.

    Raises:
        MalformedPacket: it is no topic name.
    """
    targets = engine.trie.cached(topic)
    if targets is None:
        check_topic_name(topic)
        targets = engine.trie.match(topic)
    access = session.access
    return targets if access is None or access.may_write(topic) else NOBODY


def forward(
    engine: Engine,
    session: Session,
    targets: Targets,
    data: bytes,
    start: int,
    end: int,
    count: int,
    payload_bytes: int,
) -> None:
    """Hand on `data[start:end]`, whole packets of one client that all have these receivers."""
    if targets is NOBODY:
        engine.counters.dropped_acl += count
        return
    if targets.parts is not None or (targets.not_plain and engine.replaying.active) or engine.log is not None:
        _publish_each(engine, session, data, start, end)
        return
    level = session.level
    sole = targets.sole
    if sole is not None:
        if targets.not_plain:
            _deliver_each(engine, session, [(sole, targets.sole_granted)], data, start, end)
            return
        packets = data[start:end]
        if sole.level != level:
            packets = as_5(packets) if level == 4 else as_3(packets)
        sole.forward(packets, count, payload_bytes)
        return
    many = targets.many
    if many is None:
        return
    packets = data[start:end]
    if targets.not_plain == len(many):
        _deliver_each(engine, session, list(many.items()), data, start, end)
        return
    if targets.not_plain:
        others = [
            (receiver, granted) for receiver, granted in many.items() if granted > 2 or not receiver.plain
        ]
        rewritten = b""
        for receiver, granted in many.items():
            if granted > 2 or not receiver.plain:
                continue
            if receiver.level == level:
                receiver.forward(packets, count, payload_bytes)
            else:
                if not rewritten:
                    rewritten = as_5(packets) if level == 4 else as_3(packets)
                receiver.forward(rewritten, count, payload_bytes)
        _deliver_each(engine, session, others, data, start, end)
        return
    rewritten = b""
    for receiver in many:
        if receiver.level == level:
            receiver.forward(packets, count, payload_bytes)
        else:
            if not rewritten:
                rewritten = as_5(packets) if level == 4 else as_3(packets)
            receiver.forward(rewritten, count, payload_bytes)


def _deliver_each(
    engine: Engine,
    session: Session,
    receivers: list[tuple[Receiver, int]],
    data: bytes,
    position: int,
    end_of_run: int,
) -> None:
    """One by one, because these can't take raw packets."""
    while position < end_of_run:
        publication, position = _publication_at(session, data, position)
        for receiver, granted in receivers:
            receiver.deliver(publication, granted, False)


def _publish_each(engine: Engine, session: Session, data: bytes, position: int, end_of_run: int) -> None:
    """One by one, as if they had come so."""
    while position < end_of_run:
        publication, position = _publication_at(session, data, position)
        engine.publish(publication)


def _publication_at(session: Session, data: bytes, position: int) -> tuple[Publication, int]:
    body, end = frame_at(data, position, 0)
    properties = b""
    if session.level == 5:
        topic, _, start, payload_start = publish_parts_5(PUBLISH_QOS_0, data, body, end)
        properties = data[start:payload_start]
    else:
        topic, _, payload_start = publish_parts(PUBLISH_QOS_0, data, body, end)
    publication = Publication(
        topic, data[payload_start:end], 0, False, session.client_id, session.user_name, session.listener_port
    )
    publication.properties = properties
    return publication, end
