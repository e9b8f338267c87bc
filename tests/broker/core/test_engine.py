"""What the engine decides about sessions and publications, each rule with the neighbours that it must not touch."""

from __future__ import annotations

import pytest
from support.peer import Peer, Publish, Subscribe, connected, subscribed

from broker.core.access import Access, ReadOnly
from broker.core.engine import Engine
from broker.core.policy import Policy
from broker.core.publication import Publication
from broker.core.session import DeliveryRules, Session
from protocol.mqtt.framing import REMAINING_LENGTH_MAX
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import SUBSCRIBE_FAILURE
from protocol.mqtt.reserved import CHANNEL_PREFIX
from protocol.mqtt.v5.reasons import NOT_AUTHORIZED, QUOTA_EXCEEDED


class OnlyBelow(Access):
    """May read and write one level's topics."""

    def __init__(self, level: bytes) -> None:
        self.level = level

    def may_read(self, topic: bytes) -> bool:
        return topic.startswith(self.level)

    def may_write(self, topic: bytes) -> bool:
        return topic.startswith(self.level)


def received(peer: Peer) -> list[tuple[bytes, bytes]]:
    packets = peer.read()
    assert all(isinstance(packet, Publish) for packet in packets)
    return [(packet.topic, packet.payload) for packet in packets if isinstance(packet, Publish)]


@pytest.mark.parametrize(
    ("kept_clean", "asks_clean", "mount_point", "is_present"),
    [
        (False, False, b"", True),
        (False, True, b"", False),
        (True, False, b"", False),
        (True, True, b"", False),
        (False, False, b"tenant/", False),
    ],
)
def test_a_session_is_resumed_only_if_both_sides_want_it_and_its_topics_have_names(
    kept_clean: bool, asks_clean: bool, mount_point: bytes, is_present: bool
) -> None:
    engine = Engine()
    before, _ = engine.open_session(b"x", kept_clean)
    engine.identify(before, None, None)
    engine.subscribe_session(before, b"t", 1)
    after, present = engine.open_session(b"x", asks_clean, mount_point)
    assert present is is_present
    assert (after is before) is is_present
    assert list(after.subscriptions) == ([b"t"] if is_present else [])
    assert engine.sessions[b"x"] is after
    # Nothing is left behind in the trie of one that has ended.
    assert (engine.trie.match(b"t").count() == 1) is is_present


def test_what_was_subscribed_brings_another_user_what_that_user_may_read() -> None:
    engine = Engine()
    engine.trie.restrict(True)
    session, _ = engine.open_session(b"x", False)
    engine.identify(session, b"alice", OnlyBelow(b"a/"))
    engine.subscribe_session(session, b"#", 1)
    engine.publish(Publication(b"a/1", b"for alice", 1))
    assert len(list(session.outbound.queued())) == 1
    engine.identify(session, b"bob", OnlyBelow(b"b/"))
    engine.publish(Publication(b"a/2", b"for alice", 1))
    engine.publish(Publication(b"b/1", b"for bob", 1))
    assert [waiting.message.topic for waiting in session.outbound.queued()] == [b"a/1", b"b/1"]
    peer = Peer(engine)
    engine.attach(session, peer.link, peer.outbox)
    engine.flush()
    assert received(peer) == [(b"b/1", b"for bob")]
    assert engine.counters.dropped_acl == 1


@pytest.mark.parametrize(
    ("topic", "payload", "refusal"),
    [
        (b"$SYS/x", b"", NOT_AUTHORIZED),
        (CHANNEL_PREFIX + b"ex/1", b"", NOT_AUTHORIZED),
        (b"b/1", b"", NOT_AUTHORIZED),
        (b"a/1", b"12345", QUOTA_EXCEEDED),
        (b"a/1", b"1234", 0),
    ],
)
def test_why_a_clients_message_may_not_go_on(topic: bytes, payload: bytes, refusal: int) -> None:
    engine = Engine(Policy(message_size_limit=4))
    session, _ = engine.open_session(b"x", True)
    engine.identify(session, b"alice", OnlyBelow(b"a/"))
    assert engine.refusal(session, Publication(topic, payload)) == refusal
    counters = engine.counters
    assert (counters.dropped_acl, counters.dropped_too_large) == (
        int(topic == b"b/1"),
        int(refusal == QUOTA_EXCEEDED),
    )


def test_whoever_may_write_nothing_still_reads() -> None:
    engine = Engine()
    session, _ = engine.open_session(b"x", True)
    engine.identify(session, None, ReadOnly())
    assert engine.refusal(session, Publication(b"t", b"")) == NOT_AUTHORIZED
    assert engine.subscribe_session(session, b"t", 1) == 1


@pytest.mark.parametrize(
    "topic_filter", [CHANNEL_PREFIX + b"ex/1", b"$share/g/" + CHANNEL_PREFIX + b"#", b"$share/g/"]
)
def test_filters_that_mqtt_clients_can_not_name(topic_filter: bytes) -> None:
    engine = Engine()
    session, _ = engine.open_session(b"x", True)
    engine.identify(session, None, None)
    assert engine.subscribe_session(session, topic_filter, 0) == SUBSCRIBE_FAILURE
    assert session.subscriptions == {}


def test_a_message_too_long_for_a_packet_is_counted_and_disturbs_nobody() -> None:
    engine = Engine()
    reader = subscribed(engine, (b"#", 0))
    topic = b"t"
    longest = bytes(REMAINING_LENGTH_MAX - len(topic) - 4)
    assert engine.publish(Publication(topic, longest + b"x", retain=True))
    engine.publish(Publication(topic, b"short"))
    engine.flush()
    assert received(reader) == [(b"t", b"short")]
    assert engine.counters.dropped_too_large == 1
    assert engine.retained.get(topic) is None


def test_an_expired_message_reaches_nobody_and_is_not_retained() -> None:
    engine = Engine()
    reader = subscribed(engine, (b"#", 0))
    engine.now = 10.0
    for expires_at in (9.0, 11.0):
        publication = Publication(b"t", b"until %d" % expires_at, retain=True)
        publication.expires_at = expires_at
        engine.publish(publication)
    engine.flush()
    assert received(reader) == [(b"t", b"until 11")]
    assert engine.counters.messages_expired == 1
    engine.now = 12.0
    engine.expire()
    assert engine.retained.get(b"t") is None


def test_a_log_takes_what_is_published_until_it_comes_back() -> None:
    engine = Engine()
    reader = subscribed(engine, (b"#", 0))
    logged: list[Publication] = []

    def log(publication: Publication) -> bool:
        logged.append(publication)
        return publication.qos > 0

    engine.log = log
    engine.publish(Publication(b"q0", b""))
    engine.publish(Publication(b"q1", b"", 1))
    engine.flush()
    assert [packet.topic for packet in reader.read() if isinstance(packet, Publish)] == [b"q0"]
    engine.publish_here(logged[1])
    engine.flush()
    assert received(reader) == [(b"q1", b"")]


def test_a_will_goes_out_once_and_only_if_nobody_said_goodbye() -> None:
    engine = Engine()
    reader = subscribed(engine, (b"will", 0))
    for says_goodbye in (True, False):
        session, _ = engine.open_session(b"x", True)
        engine.identify(session, None, None)
        peer = Peer(engine)
        session.will = Publication(b"will", b"gone")
        engine.attach(session, peer.link, peer.outbox)
        engine.detach(session, send_will=not says_goodbye)
        engine.flush()
        assert received(reader) == ([] if says_goodbye else [(b"will", b"gone")])
        engine.publish_from(session, Publication(b"other", b""))
    assert engine.connected == 1


def test_other_settings_hold_for_sessions_that_are_there() -> None:
    engine = Engine()
    away, _ = engine.open_session(b"away", False)
    engine.identify(away, None, None)
    engine.subscribe_session(away, b"t", 2)
    engine.publish(Publication(b"t", b"lost"))
    assert list(away.outbound.queued()) == []
    engine.adopt(Policy(retain_available=False), Window(queued_messages=2), DeliveryRules(queue_qos0=True))
    for number in range(4):
        engine.publish(Publication(b"t", b"%d" % number, retain=True))
    assert [waiting.message.payload for waiting in away.outbound.queued()] == [b"0", b"1"]
    assert engine.retained.get(b"t") is None
    assert not away.plain


def test_members_of_a_group_share_and_the_last_one_ends_it() -> None:
    engine = Engine()
    members = [subscribed(engine, (b"$share/g/t", 0), client_id=b"%d" % number) for number in range(2)]
    assert len(engine.shared) == 1
    for number in range(4):
        engine.publish(Publication(b"t", b"%d" % number))
    engine.flush()
    assert sorted(len(received(member)) for member in members) == [2, 2]
    for left, member in zip((1, 0), members, strict=True):
        session = engine.sessions[b"1" if left == 0 else b"0"]
        assert engine.unsubscribe(session, b"$share/g/t")
        assert not engine.unsubscribe(session, b"$share/g/t")
        assert len(engine.shared) == left
        member.drop()
    assert not engine.publish(Publication(b"t", b""))


def test_persistent_sessions_are_forgotten_in_time_and_not_before() -> None:
    engine = Engine(Policy(persistent_client_expiration_s=10.0))
    peer = connected(engine, b"x", clean=False)
    peer.send(Subscribe(1, ((b"t", 1),)))
    engine.now = 5.0
    peer.drop()
    engine.now = 14.9
    engine.expire()
    assert b"x" in engine.sessions
    engine.now = 15.1
    engine.expire()
    assert engine.sessions == {}
    assert not engine.publish(Publication(b"t", b""))
    assert engine.counters.sessions_expired == 1


def test_changes_count_only_what_a_snapshot_holds() -> None:
    engine = Engine()
    for clean in (True, False):
        session: Session = engine.open_session(b"x%d" % clean, clean)[0]
        engine.identify(session, None, None)
        before = engine.kept_changes()
        engine.subscribe_session(session, b"t", 1)
        engine.publish(Publication(b"t", b"", 1))
        assert (engine.kept_changes() > before) is (not clean)
