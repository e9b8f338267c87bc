"""What a restart keeps: whatever was going on, clients find the broker as they left it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.budgets import cases
from support.clients import Client, Deed
from support.owed import lose
from support.peer import connected, subscribed

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine, Policy
from broker.core.publication import Publication
from broker.core.session import DeliveryRules, Session
from broker.links.listening.door import Door
from broker.storage.reading import read
from broker.storage.records import (
    MESSAGES_PER_SESSION,
    SLICE_SESSIONS,
    Snapshot,
    collect,
    restore,
    snapshot,
)
from broker.storage.schema import TABLES
from broker.storage.unfit import Unfit
from broker.storage.writing import Writer
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import (
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
)

UNIX_NOW = 1_800_000_000.0


def engine_at(now: float = 100.0, rules: DeliveryRules | None = None, **policy: float) -> Engine:
    engine = Engine(
        Policy(**policy),  # type: ignore[arg-type]
        Window(inflight_messages=3, queued_messages=8),
        rules,
    )
    engine.now = now
    return engine


def through_a_file(saved: Snapshot) -> Snapshot:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(TABLES)
        Writer(connection).write(saved, pause_s=0)
        return read(connection, Unfit())


def restarted(engine: Engine, down_s: float = 0.0, fresh: Engine | None = None) -> Engine:
    """The broker after a restart; its monotonic clock begins anew."""
    fresh = engine_at(5.0) if fresh is None else fresh
    saved = through_a_file(snapshot(engine, UNIX_NOW))
    restore(fresh, saved, UNIX_NOW + down_s)
    return fresh


# Of one level each: the order of retained messages below different parents is nobody's promise.
topics = st.sampled_from([b"a", b"b", b"c"])
filters = st.sampled_from([b"a", b"b", b"+", b"#", b"$share/group/c"])
clients = st.integers(0, 2)
qos = st.integers(0, 2)
deeds = st.one_of(
    st.builds(Deed, st.just("connect"), clients),
    st.builds(Deed, st.just("drop"), clients),
    # A shared subscription has one member only: whose turn is next, is not kept.
    st.builds(Deed, st.just("subscribe"), st.just(0), filters, qos),
    st.builds(Deed, st.just("subscribe"), clients, filters.filter(lambda name: name[0] != 0x24), qos),
    st.builds(Deed, st.just("unsubscribe"), clients, filters),
    st.builds(Deed, st.just("publish"), clients, topics, qos, st.booleans()),
    st.builds(Deed, st.just("publish"), clients, topics, st.integers(1, 2)),
    st.builds(Deed, st.just("acknowledge"), clients, times=st.integers(1, 3)),
    st.builds(Deed, st.just("release"), clients, times=st.integers(0, 5)),
)
scripts = st.lists(deeds, min_size=10, max_size=50)


def in_doubt(session: Session) -> bool:
    """Whether retained messages are still to come whose topics have live ones on their way."""
    outbound = session.outbound
    live = [one.message for one in outbound.inflight() if not one.retain]
    live += [one.message for one in outbound.queued() if not one.retain]
    return session.replays is not None and any(message.retain for message in live)


def play(engine: Engine, everybody: list[Client], script: list[Deed], first_number: int) -> None:
    for number, deed in enumerate(script, first_number):
        client = everybody[deed.client]
        if deed.word == "connect":
            client.connect(engine)
        elif deed.word == "drop":
            client.drop()
        else:
            client.do(deed, number)
    for client in everybody:
        client.drop()


@given(scripts, scripts, st.booleans())
@settings(max_examples=cases(60))
def test_after_a_restart_every_client_hears_what_it_would_have_heard_without(
    before: list[Deed], after: list[Deed], queue_qos_0: bool
) -> None:
    """Play a random script; everybody leaves.  Play a second one to that broker and to its restarted twin."""
    engine = engine_at(rules=DeliveryRules(queue_qos0=queue_qos_0))
    everybody = [Client(b"one"), Client(b"two"), Client(b"three")]
    for client in everybody:
        client.connect(engine)
    everybody[1].do(Deed("subscribe", 1, b"#", 2), 0)
    everybody[2].do(Deed("subscribe", 2, b"+", 1), 0)
    play(engine, everybody, before, 1)
    # What a replay had sent, and what came live before it, looks the same in a file.
    assume(not any(in_doubt(session) for session in engine.sessions.values()))
    twins = [client.absent_twin() for client in everybody]
    twin = restarted(engine, fresh=engine_at(rules=DeliveryRules(queue_qos0=queue_qos_0)))
    assert (twin.store.count, twin.store.payload_bytes) == (engine.store.count, engine.store.payload_bytes)
    assert twin.trie.count == engine.trie.count

    everybody = [client.absent_twin() for client in everybody]
    for clients_of_it, broker in ((everybody, engine), (twins, twin)):
        for client in clients_of_it:
            client.connect(broker)
        play(broker, clients_of_it, after, 100)
    assert [client.heard for client in twins] == [client.heard for client in everybody]


def away_with(*packets: Subscribe, engine: Engine, client_id: bytes = b"away") -> None:
    peer = connected(engine, client_id, clean=False)
    peer.send(*packets)
    peer.drop()


def back(engine: Engine, client_id: bytes = b"away") -> list[object]:
    return list(connected(engine, client_id, clean=False, present=True).read())


class TestWhatIsKept:
    def test_unacknowledged_then_queued_in_order_with_ids_going_on(self) -> None:
        engine = engine_at()
        peer = connected(engine, b"away", clean=False)
        peer.send(Subscribe(1, ((b"t", 2),)))
        for number in range(5):  # three fit the window, two wait
            engine.publish(Publication(b"t", b"%d" % number, 1 + number % 2))
        engine.flush()
        peer.send(Pubrec(2))
        peer.drop()
        peer = connected(restarted(engine), b"away", clean=False, present=True)
        assert peer.read() == [
            Publish(b"t", b"0", 1, dup=True, packet_id=1),
            Pubrel(2),
            Publish(b"t", b"2", 1, dup=True, packet_id=3),
        ]
        peer.send(Puback(1), Pubcomp(2), Puback(3))
        assert peer.read() == [
            Publish(b"t", b"3", 2, packet_id=4),
            Publish(b"t", b"4", 1, packet_id=5),
        ]

    def test_an_unreleased_qos_2_message_is_delivered_on_its_pubrel(self) -> None:
        engine = engine_at()
        publisher = connected(engine, b"publisher", clean=False)
        publisher.send(Publish(b"t", b"once", 2, packet_id=9))
        engine = restarted(engine)
        listener = subscribed(engine, (b"t", 0))
        publisher = connected(engine, b"publisher", clean=False, present=True)
        publisher.send(Pubrel(9), Pubrel(9))
        assert publisher.read() == [Pubcomp(9), Pubcomp(9)]
        assert listener.read() == [Publish(b"t", b"once")]

    def test_the_last_packet_id_goes_on_though_nothing_is_in_flight(self) -> None:
        engine = engine_at()
        peer = connected(engine, b"away", clean=False)
        peer.send(Subscribe(1, ((b"t", 1),)))
        engine.publish(Publication(b"t", b"1", 1))
        engine.flush()
        peer.send(Puback(1))
        peer.drop()
        engine = restarted(engine)
        engine.publish(Publication(b"t", b"2", 1))
        assert back(engine) == [Publish(b"t", b"2", 1, packet_id=2)]

    def test_packet_ids_that_dropped_messages_took_with_them(self) -> None:
        """Four messages wait; the rules forbid the first and the last, as Mosquitto numbers them when they come."""
        engine = engine_at()
        away_with(Subscribe(1, ((b"#", 1),)), engine=engine)
        for topic in (b"forbidden", b"t", b"t", b"forbidden"):
            engine.publish(Publication(topic, b"x", 1))
        lose(engine.sessions[b"away"].outbound, b"forbidden")
        engine = restarted(engine)
        engine.publish(Publication(b"t", b"later", 1))
        assert back(engine) == [
            Publish(b"t", b"x", 1, packet_id=2),
            Publish(b"t", b"x", 1, packet_id=3),
            Publish(b"t", b"later", 1, packet_id=5),
        ]

    def test_a_retained_message_with_its_publisher(self) -> None:
        engine = engine_at()
        engine.publish(Publication(b"t", b"x", 1, True, b"publisher", b"user", 1884))
        kept = restarted(engine).retained.get(b"t")
        assert kept is not None
        assert (kept.payload, kept.qos, kept.retain) == (b"x", 1, True)
        assert (kept.client_id, kept.user_name, kept.listener_port) == (b"publisher", b"user", 1884)

    def test_shared_subscriptions_give_each_message_to_one_member(self) -> None:
        engine = engine_at()
        for client_id in (b"one", b"two"):
            away_with(Subscribe(1, ((b"$share/g/t", 1),)), engine=engine, client_id=client_id)
        engine = restarted(engine)
        for number in range(4):
            engine.publish(Publication(b"t", b"%d" % number, 1))
        assert [len(back(engine, client_id)) for client_id in (b"one", b"two")] == [2, 2]

    def test_a_connected_session_too(self) -> None:
        engine = engine_at()
        peer = connected(engine, b"away", clean=False)
        peer.send(Subscribe(1, ((b"t", 1),)))
        assert restarted(engine).sessions[b"away"].subscriptions == {b"t": 1}

    def test_a_mount_point_is_still_taken_off_what_waits(self) -> None:
        engine = engine_at()
        session, _ = engine.open_session(b"away", False, b"mounted/")
        session.identify(None, None, b"mounted/", False, 2, 1883)
        engine.settle_plain(session)
        engine.subscribe_session(session, b"mounted/t", 1)
        session.detach(engine.now)
        engine = restarted(engine)
        engine.publish(Publication(b"mounted/t", b"x", 1))
        listener = Listener(port=1883, security=Security(allow_anonymous=True), mount_point="mounted/")
        mounted = Door(listener, Limits(), connection_messages=False)
        peer = connected(engine, b"away", clean=False, present=True, door=mounted)
        assert peer.read() == [Publish(b"t", b"x", 1, packet_id=1)]

    def test_a_bridge_still_gets_the_retain_flag_of_what_waits(self) -> None:
        engine = engine_at()
        session, _ = engine.open_session(b"away", False)
        session.identify(None, None, b"", True, 2, 1883)
        engine.settle_plain(session)
        engine.subscribe_session(session, b"t", 1)
        session.detach(engine.now)
        engine.publish(Publication(b"t", b"x", 1, True))
        assert back(restarted(engine)) == [Publish(b"t", b"x", 1, True, packet_id=1)]

    def test_one_message_for_many_is_one_message(self) -> None:
        engine = engine_at()
        for number in range(5):
            away_with(Subscribe(1, ((b"t", 1),)), engine=engine, client_id=b"away%d" % number)
        engine.publish(Publication(b"t", b"x" * 100, 1, retain=True))
        engine = restarted(engine)
        assert (engine.store.count, engine.store.payload_bytes) == (1, 100)


class TestWhatIsNotKept:
    def test_clean_sessions_and_what_the_broker_said_about_itself(self) -> None:
        engine = engine_at()
        subscribed(engine, (b"t", 1), client_id=b"clean")
        engine.publish(Publication(b"$SYS/broker/uptime", b"5 seconds", 2, True))
        engine = restarted(engine)
        assert (list(engine.sessions), len(engine.retained), engine.trie.count) == ([], 0, 0)

    def test_retained_messages_if_so_configured(self) -> None:
        engine = engine_at()
        engine.publish(Publication(b"t", b"x", 1, True))
        assert snapshot(engine, UNIX_NOW, retained=False).retained == []

    def test_a_session_that_expired_while_the_broker_was_down(self) -> None:
        engine = engine_at(now=1000.0)
        away_with(engine=engine)
        engine.now += 50
        for down_s, left in ((49.0, [b"away"]), (50.0, [])):
            fresh = restarted(engine, down_s, engine_at(7.0, persistent_client_expiration_s=100.0))
            assert list(fresh.sessions) == left

    def test_time_that_was_set_back_ages_nothing(self) -> None:
        engine = engine_at(now=1000.0)
        away_with(engine=engine)
        fresh = restarted(engine, -9999.0)
        assert fresh.sessions[b"away"].disconnected_at == fresh.now


class TestTheMomentOfASnapshot:
    def test_what_happens_afterwards_does_not_show(self) -> None:
        engine = engine_at()
        peer = connected(engine, b"away", clean=False)
        peer.send(Subscribe(1, ((b"t", 2),)))
        engine.publish(Publication(b"t", b"first", 2))
        engine.flush()
        saved = snapshot(engine, UNIX_NOW)
        peer.send(Pubrec(1), Subscribe(2, ((b"other", 0),)))
        engine.publish(Publication(b"t", b"second", 2))
        engine = engine_at()
        restore(engine, through_a_file(saved), UNIX_NOW)
        assert engine.sessions[b"away"].subscriptions == {b"t": 2}
        assert back(engine) == [Publish(b"t", b"first", 2, dup=True, packet_id=1)]

    def test_collected_in_slices_each_session_is_whole_and_one_that_ended_is_not_there(self) -> None:
        engine = engine_at()
        for number in range(SLICE_SESSIONS + 2):
            away_with(Subscribe(1, ((b"t", 1),)), engine=engine, client_id=b"away%d" % number)
        saved = Snapshot(UNIX_NOW, UNIX_NOW - engine.now)
        slices = collect(engine, saved)
        next(slices)
        engine.publish(Publication(b"t", b"x", 1))
        last = b"away%d" % (SLICE_SESSIONS + 1)
        connected(engine, last, clean=True)
        next(slices)
        assert list(slices) == []
        waiting = {record.client_id: len(record.queued) for record in saved.sessions}
        assert len(waiting) == SLICE_SESSIONS + 1
        assert (waiting[b"away0"], waiting[b"away%d" % SLICE_SESSIONS], last in waiting) == (0, 1, False)

    def test_a_slice_is_short_where_much_waits(self) -> None:
        engine = Engine(window=Window(queued_messages=0))
        for number in range(10):
            away_with(Subscribe(1, ((b"t", 1),)), engine=engine, client_id=b"away%d" % number)
        for _ in range(SLICE_SESSIONS * MESSAGES_PER_SESSION // 5):
            engine.publish(Publication(b"t", b"x", 1))
        assert len(list(collect(engine, Snapshot(UNIX_NOW, 0.0)))) == 2

    def test_it_leaves_the_broker_as_it_was(self) -> None:
        engine = engine_at()
        away_with(Subscribe(1, ((b"t", 1),)), engine=engine)
        engine.publish(Publication(b"t", b"x", 1, True))
        before = (engine.kept_changes(), engine.store.count)
        through_a_file(snapshot(engine, UNIX_NOW))
        assert (engine.kept_changes(), engine.store.count) == before
        assert back(engine) == [Publish(b"t", b"x", 1, packet_id=1)]


class TestChanges:
    """Each thing that a snapshot would show counts, or autosave_on_changes would miss it; nothing else does."""

    def test_everything_a_durable_session_does_counts(self) -> None:
        engine = engine_at()
        peer = connected(engine, b"away", clean=False)
        for packet in (
            Subscribe(1, ((b"t", 2),)),
            Publish(b"elsewhere", b"x", 2, packet_id=1),
            Pubrel(1),
        ):
            before = engine.kept_changes()
            peer.send(packet)
            assert engine.kept_changes() > before, packet
        for deed in (
            lambda: engine.publish(Publication(b"t", b"x", 2)),
            lambda: peer.send(Pubrec(1)),
            lambda: peer.send(Pubcomp(1)),
            peer.drop,
            lambda: engine.publish(Publication(b"t", b"queued", 1)),
            lambda: engine.publish(Publication(b"r", b"retained", 0, True)),
            lambda: engine.publish(Publication(b"r", b"", 0, True)),
            lambda: connected(engine, b"away", clean=True, present=False),
        ):
            before = engine.kept_changes()
            deed()
            assert engine.kept_changes() > before

    def test_nothing_a_clean_session_does_counts_nor_what_the_broker_says(self) -> None:
        engine = engine_at()
        before = engine.kept_changes()
        peer = subscribed(engine, (b"t", 2))
        peer.send(Publish(b"t", b"x", 2, packet_id=1), Pubrel(1))
        assert len(peer.read()) == 3
        peer.send(Pubrec(1), Pubcomp(1))
        peer.drop()
        engine.publish(Publication(b"$SYS/broker/uptime", b"5 seconds", 2, True))
        assert engine.kept_changes() == before


def test_connecting_anew_with_a_clean_session_is_kept_from_coming_back() -> None:
    engine = engine_at()
    away_with(Subscribe(1, ((b"t", 1),)), engine=engine)
    peer = connected(engine, b"away", clean=True)
    peer.drop()
    engine = restarted(engine)
    again = connected(engine, b"away", clean=False)
    assert (again.read(), engine.trie.count) == ([], 0)
