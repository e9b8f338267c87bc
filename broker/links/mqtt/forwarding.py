"""Runs of PUBLISH packets at QoS 0 to all who get them: as bytes to those who take bytes, to the others one by one.

Hot: once for each run.
"""

from __future__ import annotations

from typing import Final

from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.session import Session
from broker.core.slicing import searched_steps
from broker.core.targets import Targets
from protocol.mqtt.codec import publish_parts
from protocol.mqtt.framing import frame_at
from protocol.mqtt.topics import check_topic_name
from protocol.mqtt.v5.codec import publish_parts as publish_parts_5
from protocol.mqtt.v5.runs import as_3, as_5, with_ids
from protocol.mqtt.v5.subscribing import granted_to

PUBLISH_QOS_0: Final = 0x30
NOBODY: Final = Targets()
"""Who gets what this client may not publish."""

_MISS_STEPS: Final = 4
_LEVEL_STEPS_SHIFT: Final = 6


def miss_steps(topic: bytes, looked_at: int) -> int:
    """What it counts for that a topic's receivers were looked for: more for each 64 bytes, which may be levels, and for
    what was looked at: filters may be made to branch at every level."""
    return _MISS_STEPS + (len(topic) >> _LEVEL_STEPS_SHIFT) + searched_steps(looked_at)


def receivers_of(engine: Engine, session: Session, topic: bytes) -> Targets:
    """Who gets what this client publishes to a topic; `NOBODY` if it may not.

    Raises:
        MalformedPacket: it is no topic name.
    """
    targets = engine.trie.cached(topic)
    access = session.access
    if targets is None:
        check_topic_name(topic)
        # What is refused is not looked for: it would take the place of what others publish in the cache.
        return NOBODY if access is not None and not access.may_write(topic) else engine.trie.match(topic)
    return targets if access is None or access.may_write(topic) else NOBODY


class Run:
    """Packets of one receive that follow each other and go to the same receivers: they are handed on as one slice."""

    def __init__(self, engine: Engine, session: Session, data: bytes) -> None:
        self.topic = b""
        """Of its last packet; not asked for before there is one."""
        self.targets: Targets | None = None
        self.is_wide = False
        """Each packet is many deliveries: it is handed on alone."""
        self._engine = engine
        self._session = session
        self._data = data
        self._start = 0
        self._count = 0
        self._payload_bytes = 0

    def begin(self, targets: Targets, topic: bytes, start: int) -> None:
        """A packet to another topic begins at `start`.  What goes elsewhere than it is handed on."""
        self.topic = topic
        if targets is not self.targets:
            self.end(start)
            self.targets = targets
            is_wide = targets.steps() > 0
            if not is_wide and (
                targets.parts is not None or (targets.not_plain and self._engine.replaying.active)
            ):
                is_wide = targets.plain_steps() > 0  # these are handed each message one by one, too
            self.is_wide = is_wide
            self._start = start

    def add(self, payload_bytes: int) -> None:
        """One more packet."""
        self._count += 1
        self._payload_bytes += payload_bytes

    def end(self, end: int) -> None:
        """Hand on what there is, up to `end`."""
        targets = self.targets
        if targets is not None:
            self.targets = None
            count = self._count
            payload_bytes = self._payload_bytes
            self._count = 0
            self._payload_bytes = 0
            forward(self._engine, self._session, targets, self._data, self._start, end, count, payload_bytes)


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
    packets = data[start:end]
    if targets.not_plain:
        engine.slicing.charge(targets.steps())
        _forward_rendered(session, targets, packets, count, payload_bytes)
    else:
        targets.forward(packets, session.level, count, payload_bytes)


def _forward_rendered(
    session: Session, targets: Targets, packets: bytes, count: int, payload_bytes: int
) -> None:
    """To receivers of whom some get identifiers, none of their own, or no raw packets: as often as they differ."""
    rendered: dict[bytes, bytes] = {}
    others: list[tuple[Receiver, int]] = []
    last_granted = 0
    ids = b""
    for receiver, granted in targets.pairs():
        if not receiver.plain:
            others.append((receiver, granted))
            continue
        if granted <= 2:
            ids = b""
        elif granted != last_granted or receiver is session:
            qos, _, ids = granted_to(granted, receiver is session)
            if qos < 0:
                last_granted = 0
                continue
        last_granted = 0 if receiver is session else granted
        key = b"3" if receiver.level != 5 else ids
        as_wanted = rendered.get(key)
        if as_wanted is None:
            as_wanted = rendered[key] = _rendered(packets, session.level, receiver.level, ids)
        receiver.forward(as_wanted, count, payload_bytes)
    if others:
        _deliver_each(session, others, packets)


def _rendered(packets: bytes, level: int, wanted: int, ids: bytes) -> bytes:
    if wanted != 5:
        return as_3(packets) if level == 5 else packets
    if level != 5:
        packets = as_5(packets)
    return with_ids(packets, ids) if ids else packets


def _deliver_each(session: Session, receivers: list[tuple[Receiver, int]], packets: bytes) -> None:
    """One by one, because these can't take raw packets."""
    position = 0
    while position < len(packets):
        publication, position = _publication_at(session, packets, position)
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
