"""Private channels against MQTT: no filter hears them, no publish or will speaks in them.  Attacked at random.

Method: a session of the engine does whatever MQTT lets it say; then a private event is published, and a reader
of the channel listens.  What the session may see of that is nothing, whatever it said.
"""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from broker.core.engine import Engine
from broker.core.outbox import Outbox
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.session import Link, Session
from broker.gateway.channels import topic_of
from protocol.mqtt.topics import is_valid_topic_filter, is_valid_topic_name

SECRET = b"SECRET OF 1001"
CHANNELS = [("exchange", "1001@balance"), ("canton", "orders/acc_1"), ("econia", "fill_event")]

PIECES = [
    "$ws",
    "$WS",
    "$SYS",
    "+",
    "#",
    "exchange",
    "canton",
    "econia",
    "1001@balance",
    "orders%2Facc_1",
    "fill_event",
    "$share",
    "group",
    "orders",
    "acc_1",
    "exchange@1000ms",
    "%24ws",
]
levels = st.sampled_from(["", *PIECES])
names = st.lists(levels, min_size=1, max_size=6).map(lambda parts: "/".join(parts).encode())
mount_points = st.sampled_from([b"", b"", b"$ws/", b"$ws/exchange/", b"tenant/"])


class Reader(Receiver):
    def __init__(self) -> None:
        super().__init__(plain=False)
        self.payloads: list[bytes] = []

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self.payloads.append(publication.payload)


class Peer(Link):
    """A connected MQTT session, and everything that was sent to it."""

    def __init__(self, engine: Engine, mount_point: bytes) -> None:
        super().__init__()
        self.sent = b""
        self.session, _ = engine.open_session(b"attacker", True)
        self.session.identify(None, None, mount_point, False, 2, 1883)
        outbox = Outbox(engine.round, 1 << 20, self._send)
        engine.attach(self.session, self, outbox)

    def _send(self, data: bytes) -> int:
        self.sent += data
        return len(data)


def attacked(mount_point: bytes) -> tuple[Engine, Peer, Session]:
    engine = Engine()
    peer = Peer(engine, mount_point)
    return engine, peer, peer.session


@given(st.lists(names, min_size=1, max_size=5), mount_points, st.booleans())
@example([b"$ws/exchange/1001@balance"], b"", False)
@example([b"$ws/#", b"$share/g/$ws/#", b"#", b"+/+/+"], b"", True)
@example([b"exchange/1001@balance", b"1001@balance", b"#"], b"$ws/exchange/", True)
def test_no_filter_hears_a_channel(filters: list[bytes], mount_point: bytes, retained: bool) -> None:
    engine, peer, session = attacked(mount_point)
    if retained:
        for dialect, channel in CHANNELS:
            engine.publish(Publication(topic_of(dialect, channel), SECRET, 0, True))
    for topic_filter in filters:
        if not is_valid_topic_filter(topic_filter):
            continue
        mounted = mount_point + topic_filter
        code = engine.subscribe_session(session, mounted, 2)
        if code <= 2:
            engine.replay(session, mounted, code)
    for dialect, channel in CHANNELS:
        engine.publish(Publication(topic_of(dialect, channel), SECRET))
    engine.flush()
    assert SECRET not in peer.sent


@given(st.lists(names, min_size=1, max_size=5), mount_points, st.booleans())
@example([b"$ws/exchange/1001@balance", b"$ws/econia/fill_event"], b"", True)
@example([b"1001@balance"], b"$ws/exchange/", True)
def test_no_publish_or_will_speaks_in_a_channel(
    topics: list[bytes], mount_point: bytes, retain: bool
) -> None:
    engine, _, session = attacked(mount_point)
    reader = Reader()
    for dialect, channel in CHANNELS:
        engine.subscribe(reader, topic_of(dialect, channel), 0)
    valid = [topic for topic in topics if is_valid_topic_name(topic)]
    for topic in valid:
        engine.publish_from(session, Publication(mount_point + topic, b"forged", 0, retain))
    if valid:
        session.will = Publication(mount_point + valid[0], b"forged", 0, retain)
    engine.detach(session, True)
    assert reader.payloads == []
    assert not any(engine.retained.get(topic_of(dialect, channel)) for dialect, channel in CHANNELS)
