"""One connection and the engine behind it: what a client sends, and what everybody gets for it."""

from __future__ import annotations

import logging
from typing import NoReturn

import pytest
from support.peer import Peer, connected, subscribed

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine, Policy
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.session import Session
from broker.links.listening.door import Door
from protocol.mqtt.codec import encode
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)


def engine_at(now: float = 100.0, **policy: float) -> Engine:
    engine = Engine(Policy(**policy))  # type: ignore[arg-type]
    engine.now = now
    return engine


class TestConnecting:
    def test_connect_is_answered_and_ping_too(self) -> None:
        peer = Peer(engine_at())
        peer.send(Connect(b"a", True, 60))
        peer.send(Pingreq())
        assert peer.read() == [Connack(False, 0), Pingresp()]

    def test_packets_that_come_with_connect_are_handled_after_it(self) -> None:
        peer = Peer(engine_at())
        peer.send(Connect(b"a", True, 60), Subscribe(7, ((b"t", 0),)), Publish(b"t", b"x"))
        assert peer.read() == [Connack(False, 0), Suback(7, (0,)), Publish(b"t", b"x")]

    def test_anything_but_connect_first_closes_without_an_answer(self) -> None:
        flags = b"\x11" + encode(Connect(b"a", True, 60))[1:]
        for first in (b"\x30", flags, b"\xc0\x00", b"\x00"):
            peer = Peer(engine_at())
            peer.write(first)
            assert (peer.closed, peer.read_bytes()) == (True, b"")

    def test_a_second_connect_closes(self) -> None:
        peer = connected(engine_at())
        peer.send(Connect(b"client", True, 60))
        assert peer.closed

    def test_byte_by_byte_is_as_good_as_whole(self) -> None:
        peer = Peer(engine_at())
        stream = (
            encode(Connect(b"a", True, 60))
            + encode(Subscribe(1, ((b"t", 1),)))
            + encode(Publish(b"t", b"x" * 300, 1, packet_id=5))
        )
        for byte in stream:
            peer.write(bytes((byte,)))
        assert peer.read() == [
            Connack(False, 0),
            Suback(1, (1,)),
            Publish(b"t", b"x" * 300, 1, packet_id=1),
            Puback(5),
        ]

    def test_an_empty_id_gets_one_and_only_with_a_clean_session(self) -> None:
        engine = engine_at()
        peer = Peer(engine)
        peer.send(Connect(b"", True, 60))
        assert peer.read() == [Connack(False, 0)]
        assert next(iter(engine.sessions)).startswith(b"auto-")
        refused = Peer(engine)
        refused.send(Connect(b"", False, 60))
        assert (refused.read(), refused.closed) == ([Connack(False, 2)], True)

    def test_anonymous_clients_need_permission(self) -> None:
        door = Door(Listener(port=1), Limits(), connection_messages=False)
        peer = Peer(engine_at(), door)
        peer.send(Connect(b"a", True, 60))
        assert (peer.read(), peer.closed) == ([Connack(False, 5)], True)

    def test_takeover_closes_the_older_connection(self) -> None:
        engine = engine_at()
        older = connected(engine, b"same")
        newer = connected(engine, b"same")
        assert (older.closed, older.read_bytes(), newer.closed) == (True, b"", False)
        assert engine.connected == 1
        newer.send(Pingreq())
        assert newer.read() == [Pingresp()]

    def test_the_end_of_an_old_connection_does_not_touch_the_new_one(self) -> None:
        engine = engine_at()
        older = connected(engine, b"same")
        newer = connected(engine, b"same")
        older.drop()
        newer.send(Subscribe(1, ((b"t", 0),)), Publish(b"t", b"x"))
        assert newer.read() == [Suback(1, (0,)), Publish(b"t", b"x")]

    def test_a_huge_announced_first_packet_is_not_waited_for(self) -> None:
        door = Door(
            Listener(port=1, security=Security(allow_anonymous=True)), Limits(max_packet_size_bytes=0)
        )
        peer = Peer(engine_at(), door)
        peer.write(b"\x10\xff\xff\xff\x70" + bytes(70_000))
        assert peer.closed


class TestKeepAlive:
    def test_silence_of_one_and_a_half_times_is_too_long(self) -> None:
        engine = engine_at(100.0)
        peer = connected(engine, keep_alive_s=10)
        engine.now = 115.0
        assert not peer.link.silent_too_long()
        engine.now = 115.1
        assert peer.link.silent_too_long()

    def test_zero_means_for_ever(self) -> None:
        engine = engine_at(100.0)
        peer = connected(engine, keep_alive_s=0)
        engine.now = 1e9
        assert not peer.link.silent_too_long()

    def test_who_was_not_read_from_has_its_time_again_when_it_is(self) -> None:
        engine = engine_at(100.0)
        peer = connected(engine, keep_alive_s=10)
        peer.outbox.pause(True)
        engine.now = 200.0
        assert not peer.link.silent_too_long()
        peer.outbox.pause(False)
        assert not peer.link.silent_too_long(), "what it sent meanwhile has yet to be read"
        engine.now = 215.1
        assert peer.link.silent_too_long()


class Broken(Receiver):
    """Has a bug."""

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        raise ArithmeticError


def bug(*_: object) -> NoReturn:
    raise ArithmeticError


class TestBugs:
    """Whatever is met at a connection's end, it ends: nobody would ask it to a second time."""

    @pytest.mark.parametrize("clean", [True, False])
    def test_one_that_its_will_meets_costs_the_will(
        self, clean: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("broker.core.barrier.RERAISE", False)
        engine = engine_at()
        engine.subscribe(Broken(plain=False), b"will", 0)
        left: list[Session] = []
        engine.on_detached = left.append
        peer = connected(engine, clean=clean, will=Will(b"will", b"gone", 0, False))
        peer.drop()
        assert peer.closed
        assert [session.client_id for session in left] == [b"client"]
        assert (engine.connected, engine.counters.link_bugs) == (0, 1)

    def test_one_that_its_session_meets_leaves_no_socket_open(self) -> None:
        engine = engine_at()
        engine.on_detached = bug
        peer = connected(engine)
        with pytest.raises(ArithmeticError):
            peer.drop()
        assert (peer.closed, peer.link.session, engine.connected) == (True, None, 0)

    def test_one_that_the_log_meets_leaves_no_session_attached(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        caplog.set_level(logging.INFO)
        door = Door(
            Listener(port=1, security=Security(allow_anonymous=True)), Limits(), connection_messages=True
        )
        engine = engine_at()
        peer = connected(engine, clean=False, door=door)
        monkeypatch.setattr(logging.getLogger("broker.links"), "filters", [bug])
        with pytest.raises(ArithmeticError):
            peer.drop()
        assert (peer.closed, engine.connected) == (True, 0)
        assert engine.sessions[b"client"].link is None


class TestPublishing:
    def test_a_run_of_packets_arrives_as_it_came(self) -> None:
        engine = engine_at()
        one = subscribed(engine, (b"a", 0), client_id=b"one")
        all_of_it = subscribed(engine, (b"#", 0), client_id=b"all")
        publisher = connected(engine, b"publisher")
        messages = [Publish(b"a", b"1"), Publish(b"a", b"2"), Publish(b"b", b"3"), Publish(b"a", b"4")]
        publisher.send(*messages)
        assert one.read() == [messages[0], messages[1], messages[3]]
        assert all_of_it.read() == messages
        counters = engine.counters
        assert (counters.publishes_received, counters.publishes_sent) == (4, 7)
        assert (counters.publish_bytes_received, counters.publish_bytes_sent) == (4, 7)

    def test_a_bad_packet_after_good_ones_loses_only_itself(self) -> None:
        engine = engine_at()
        subscriber = subscribed(engine, (b"#", 0))
        publisher = connected(engine, b"publisher")
        publisher.write(
            encode(Publish(b"a", b"1"))
            + encode(Publish(b"a", b"2"))
            + b"\x30\x03\x00\x01+"
            + encode(Publish(b"a", b"3"))
        )
        assert subscriber.read() == [Publish(b"a", b"1"), Publish(b"a", b"2")]
        assert publisher.closed

    def test_qos_is_the_lower_of_both(self) -> None:
        engine = engine_at()
        subscriber = subscribed(engine, (b"zero", 0), (b"one", 1))
        publisher = connected(engine, b"publisher")
        publisher.send(Publish(b"zero", b"", 1, packet_id=1), Publish(b"one", b"", 2, packet_id=2), Pubrel(2))
        publisher.send(Publish(b"one", b"q0"))
        assert subscriber.read() == [
            Publish(b"zero", b""),
            Publish(b"one", b"", 1, packet_id=1),
            Publish(b"one", b"q0"),
        ]
        assert publisher.read() == [Puback(1), Pubrec(2), Pubcomp(2)]

    def test_own_message_comes_before_its_acknowledgement(self) -> None:
        peer = subscribed(engine_at(), (b"t", 2))
        peer.send(Publish(b"t", b"x", 1, packet_id=9))
        assert peer.read() == [Publish(b"t", b"x", 1, packet_id=1), Puback(9)]
        peer.send(Publish(b"t", b"y", 2, packet_id=10))
        assert peer.read() == [Pubrec(10)]
        peer.send(Pubrel(10))
        assert peer.read() == [Publish(b"t", b"y", 2, packet_id=2), Pubcomp(10)]

    def test_one_copy_for_overlapping_filters_at_the_highest_qos(self) -> None:
        engine = engine_at()
        subscriber = subscribed(engine, (b"a/#", 0), (b"a/+", 2), (b"a/b", 1))
        connected(engine, b"p").send(Publish(b"a/b", b"x", 2, packet_id=1), Pubrel(1))
        assert subscriber.read() == [Publish(b"a/b", b"x", 2, packet_id=1)]

    def test_qos_2_is_delivered_on_pubrel_and_once(self) -> None:
        engine = engine_at()
        subscriber = subscribed(engine, (b"t", 0))
        publisher = connected(engine, b"p")
        message = Publish(b"t", b"x", 2, packet_id=5)
        publisher.send(message, Publish(b"t", b"x", 2, dup=True, packet_id=5))
        assert (subscriber.read(), publisher.read()) == ([], [Pubrec(5), Pubrec(5)])
        publisher.send(Pubrel(5), Pubrel(5))
        assert subscriber.read() == [Publish(b"t", b"x")]
        assert publisher.read() == [Pubcomp(5), Pubcomp(5)]

    def test_the_same_id_with_another_message_replaces_it(self) -> None:
        engine = engine_at()
        subscriber = subscribed(engine, (b"#", 0))
        publisher = connected(engine, b"p")
        publisher.send(
            Publish(b"t", b"old", 2, packet_id=5), Publish(b"u", b"new", 2, packet_id=5), Pubrel(5)
        )
        assert subscriber.read() == [Publish(b"u", b"new")]

    def test_the_third_identical_one_without_dup_closes(self) -> None:
        publisher = connected(engine_at())
        message = Publish(b"t", b"x", 2, packet_id=5)
        publisher.send(message, message)
        assert not publisher.closed
        publisher.send(message)
        assert publisher.closed

    def test_sys_and_channels_are_not_for_clients_to_write(self) -> None:
        engine = engine_at()
        subscriber = subscribed(engine, (b"$SYS/#", 0))
        publisher = connected(engine, b"p")
        publisher.send(
            Publish(b"$SYS/broker/uptime", b"x", 1, packet_id=1),
            Publish(b"$ws/econia/fill", b"x", 1, packet_id=2),
        )
        assert (publisher.read(), subscriber.read()) == ([Puback(1), Puback(2)], [])

    def test_a_slow_subscriber_loses_qos_0_and_nobody_else_waits(self) -> None:
        door = Door(
            Listener(port=1, security=Security(allow_anonymous=True)),
            Limits(outbox_bytes_max=2_000),
            connection_messages=False,
        )
        engine = engine_at()
        slow = connected(engine, b"slow", door=door)
        slow.send(Subscribe(1, ((b"t", 0),)))
        slow.read_bytes()
        quick = subscribed(engine, (b"t", 0), client_id=b"quick")
        slow.takes = 0
        publisher = connected(engine, b"p")
        for _ in range(30):
            publisher.send(Publish(b"t", bytes(100)))
        assert len(quick.read()) == 30
        assert slow.outbox.pending_bytes <= 2_000
        slow.unblock()
        delivered = len(slow.read())
        assert delivered + engine.counters.dropped_outbox_full == 30
        assert delivered == 2_000 // 105


class TestSubscribing:
    def test_one_code_per_filter_and_channels_refused(self) -> None:
        peer = connected(engine_at())
        peer.send(Subscribe(3, ((b"a", 2), (b"$ws/econia/#", 0), (b"$share/g/$ws/#", 0), (b"$SYS/#", 1))))
        assert peer.read() == [Suback(3, (2, 0x80, 0x80, 1))]

    def test_unsubscribe_stops_delivery(self) -> None:
        engine = engine_at()
        peer = subscribed(engine, (b"a", 0))
        peer.send(Unsubscribe(4, (b"a", b"never")))
        connected(engine, b"p").send(Publish(b"a", b"x"))
        assert peer.read() == [Unsuback(4)]
        assert engine.trie.count == 0

    def test_a_clean_session_leaves_nothing_behind(self) -> None:
        engine = engine_at()
        peer = subscribed(engine, (b"a/#", 0), (b"$share/g/b", 1))
        peer.send(Disconnect())
        assert (engine.trie.count, engine.sessions, len(engine.shared), engine.connected) == (0, {}, 0, 0)

    def test_shared_subscribers_take_turns(self) -> None:
        engine = engine_at()
        peers = [subscribed(engine, (b"$share/g/t", 0), client_id=b"%d" % n) for n in range(3)]
        publisher = connected(engine, b"p")
        for number in range(6):
            publisher.send(Publish(b"t", b"%d" % number))
        assert [len(peer.read()) for peer in peers] == [2, 2, 2]


class TestRetained:
    def test_last_value_for_a_new_subscription_and_flag_only_then(self) -> None:
        engine = engine_at()
        early = subscribed(engine, (b"t", 0), client_id=b"early")
        publisher = connected(engine, b"p")
        publisher.send(Publish(b"t", b"1", retain=True), Publish(b"t", b"2", retain=True))
        assert early.read() == [Publish(b"t", b"1"), Publish(b"t", b"2")]
        late = subscribed(engine, (b"#", 0), client_id=b"late")
        assert late.read() == [Publish(b"t", b"2", retain=True)]

    def test_empty_clears_and_is_handed_on(self) -> None:
        engine = engine_at()
        early = subscribed(engine, (b"t", 0))
        publisher = connected(engine, b"p")
        publisher.send(Publish(b"t", b"1", retain=True), Publish(b"t", b"", retain=True))
        assert early.read() == [Publish(b"t", b"1"), Publish(b"t", b"")]
        assert len(engine.retained) == 0
        assert engine.store.count == 0

    def test_parents_come_before_children_and_after_suback(self) -> None:
        engine = engine_at()
        publisher = connected(engine, b"p")
        for topic in (b"1/2/3/4/5", b"1/2/3", b"1", b"$SYS/x"):
            publisher.send(Publish(topic, b"x", retain=True))
        late = connected(engine, b"late")
        late.send(Subscribe(1, ((b"#", 0),)))
        assert late.read() == [
            Suback(1, (0,)),
            Publish(b"1", b"x", retain=True),
            Publish(b"1/2/3", b"x", retain=True),
            Publish(b"1/2/3/4/5", b"x", retain=True),
        ]

    def test_a_slow_subscriber_gets_all_of_many(self) -> None:
        """Ten megabytes to a client that takes 64 KiB at a time: paced, whole, bounded."""
        engine = engine_at()
        publisher = connected(engine, b"p")
        for number in range(1000):
            publisher.send(Publish(b"t/%d" % number, bytes(10_000), number % 2, True, packet_id=number % 2))
        publisher.read_bytes()
        slow = connected(engine, b"slow")
        slow.takes = 65_536
        slow.send(Subscribe(1, ((b"t/#", 0),)))
        received = b""
        for _ in range(400):
            assert slow.outbox.pending_bytes < 300_000
            received += slow.read_bytes()
            if not slow.blocked:
                break
            slow.takes = 65_536
            slow.blocked = False
            slow.outbox.writable()
            engine.flush()
        slow._received = received
        packets = slow.read()
        assert len(packets) == 1001
        assert engine.counters.publishes_dropped() == 0

    def test_a_subscriber_faster_than_the_broker_gets_all_of_many(self) -> None:
        """The kernel takes each piece at once, so nothing ever blocks; the replay must go on all the same."""
        engine = engine_at()
        publisher = connected(engine, b"p")
        for number in range(100):
            publisher.send(Publish(b"t/%d" % number, bytes(10_000), 0, True))
        fast = connected(engine, b"fast")
        fast.send(Subscribe(1, ((b"t/#", 0),)))
        rounds = 0
        while fast.blocked and rounds < 100:
            rounds += 1
            fast.blocked = False
            fast.outbox.writable()
            engine.flush()
        assert len(fast.read()) == 101
        assert rounds > 1

    def test_qos_1_replay_waits_for_the_window(self) -> None:
        engine = Engine(window=Window(inflight_messages=3, queued_messages=2))
        publisher = connected(engine, b"p")
        for number in range(1, 11):
            publisher.send(Publish(b"t/%d" % number, b"x", 1, True, packet_id=number))
        late = subscribed(engine, (b"t/#", 1), client_id=b"late")
        topics = []
        while packets := late.read():
            for packet in packets:
                assert isinstance(packet, Publish)
                topics.append(packet.topic)
                late.send(Puback(packet.packet_id))
        assert topics == [b"t/%d" % number for number in range(1, 11)]

    def test_a_value_replaced_during_replay_comes_after_the_old_one(self) -> None:
        engine = Engine(window=Window(inflight_messages=1))
        publisher = connected(engine, b"p")
        publisher.send(
            Publish(b"a", b"old", 1, True, packet_id=1), Publish(b"b", b"old", 1, True, packet_id=2)
        )
        late = subscribed(engine, (b"#", 1), client_id=b"late")
        publisher.send(Publish(b"b", b"new", 1, True, packet_id=3))
        seen = []
        while packets := late.read():
            for packet in packets:
                assert isinstance(packet, Publish)
                seen.append((packet.topic, packet.payload))
                late.send(Puback(packet.packet_id))
        assert seen == [(b"a", b"old"), (b"b", b"old"), (b"b", b"new")]


class TestWills:
    WILL = Will(b"will", b"gone", 1, False)

    def test_sent_when_the_connection_breaks(self) -> None:
        engine = engine_at()
        watcher = subscribed(engine, (b"will", 1))
        connected(engine, b"dying", will=self.WILL).drop()
        assert watcher.read() == [Publish(b"will", b"gone", 1, packet_id=1)]

    def test_not_sent_after_disconnect(self) -> None:
        engine = engine_at()
        watcher = subscribed(engine, (b"will", 1))
        connected(engine, b"polite", will=self.WILL).send(Disconnect())
        assert watcher.read() == []

    def test_sent_after_nonsense_and_after_a_takeover_with_a_clean_session(self) -> None:
        engine = engine_at()
        watcher = subscribed(engine, (b"will", 0))
        connected(engine, b"rude", will=self.WILL).write(b"\xf0\x00")
        connected(engine, b"same", will=self.WILL)
        connected(engine, b"same")
        assert watcher.read() == [Publish(b"will", b"gone")] * 2

    def test_not_sent_when_a_persistent_session_moves(self) -> None:
        engine = engine_at()
        watcher = subscribed(engine, (b"will", 0))
        connected(engine, b"same", clean=False, will=self.WILL)
        moved = Peer(engine)
        moved.send(Connect(b"same", False, 60))
        assert (watcher.read(), moved.read()) == ([], [Connack(True, 0)])

    def test_retained_will_stays(self) -> None:
        engine = engine_at()
        connected(engine, b"dying", will=Will(b"will", b"gone", 0, True)).drop()
        assert subscribed(engine, (b"will", 0)).read() == [Publish(b"will", b"gone", retain=True)]


class TestPersistentSessions:
    def test_queued_messages_and_session_present(self) -> None:
        engine = engine_at()
        peer = connected(engine, b"c", clean=False)
        peer.send(Subscribe(1, ((b"t", 1),)))
        peer.send(Disconnect())
        publisher = connected(engine, b"p")
        publisher.send(
            Publish(b"t", b"0"),
            Publish(b"t", b"1", 1, packet_id=1),
            Publish(b"t", b"2", 2, packet_id=2),
            Pubrel(2),
        )
        back = connected(engine, b"c", clean=False, present=True)
        assert back.read() == [Publish(b"t", b"1", 1, packet_id=1), Publish(b"t", b"2", 1, packet_id=2)]

    def test_unacknowledged_come_again_with_dup_in_order(self) -> None:
        engine = Engine(window=Window(inflight_messages=2))
        peer = connected(engine, b"c", clean=False)
        peer.send(Subscribe(1, ((b"t", 2),)))
        publisher = connected(engine, b"p")
        for number in (1, 2, 3):
            publisher.send(Publish(b"t", b"%d" % number, 2, packet_id=number), Pubrel(number))
        peer.send(Pubrec(1))
        peer.drop()
        back = connected(engine, b"c", clean=False, present=True)
        assert back.read() == [Pubrel(1), Publish(b"t", b"2", 2, dup=True, packet_id=2)]
        back.send(Pubcomp(1))
        assert back.read() == [Publish(b"t", b"3", 2, packet_id=3)]

    def test_a_clean_connect_wipes_everything(self) -> None:
        engine = engine_at()
        peer = connected(engine, b"c", clean=False)
        peer.send(Subscribe(1, ((b"t", 1),)), Disconnect())
        connected(engine, b"p").send(Publish(b"t", b"x", 1, packet_id=1))
        connected(engine, b"c", clean=True).drop()
        back = connected(engine, b"c", clean=False)
        assert back.read() == []
        assert (engine.trie.count, engine.store.count) == (0, 0)

    def test_received_qos_2_survives_the_connection(self) -> None:
        engine = engine_at()
        watcher = subscribed(engine, (b"t", 0))
        peer = connected(engine, b"c", clean=False)
        peer.send(Publish(b"t", b"x", 2, packet_id=7))
        peer.drop()
        back = connected(engine, b"c", clean=False, present=True)
        back.send(Pubrel(7))
        assert (back.read(), watcher.read()) == ([Pubcomp(7)], [Publish(b"t", b"x")])

    def test_the_queue_is_bounded_and_what_it_refuses_is_counted(self) -> None:
        engine = Engine(window=Window(queued_messages=5))
        connected(engine, b"c", clean=False).send(Subscribe(1, ((b"t", 1),)), Disconnect())
        publisher = connected(engine, b"p")
        for number in range(1, 9):
            publisher.send(Publish(b"t", b"%d" % number, 1, packet_id=number))
        back = connected(engine, b"c", clean=False, present=True)
        assert [packet.payload for packet in back.read() if isinstance(packet, Publish)] == [
            b"1",
            b"2",
            b"3",
            b"4",
            b"5",
        ]
        assert engine.counters.dropped_queue_full == 3

    def test_it_expires(self) -> None:
        engine = engine_at(100.0, persistent_client_expiration_s=60)
        connected(engine, b"c", clean=False).drop()
        engine.now = 161.0
        engine.expire()
        assert engine.sessions == {}
        assert engine.counters.sessions_expired == 1


class TestAcknowledgements:
    def test_unknown_ids_are_ignored(self) -> None:
        peer = connected(engine_at())
        peer.send(Puback(9), Pubcomp(9), Pubrec(9), Pubrel(9))
        assert peer.read() == [Pubrel(9), Pubcomp(9)]
        assert not peer.closed

    def test_the_wrong_kind_closes(self) -> None:
        wrong: dict[int, list[Packet]] = {
            1: [Pubrec(1), Pubcomp(1)],
            2: [Puback(1), Pubcomp(1)],
        }
        for qos, packets in wrong.items():
            for packet in packets:
                engine = engine_at()
                peer = subscribed(engine, (b"t", qos))
                connected(engine, b"p").send(
                    Publish(b"t", b"x", qos, packet_id=1), *([Pubrel(1)] if qos == 2 else [])
                )
                peer.send(packet)
                assert peer.closed, (qos, packet)

    def test_pubrec_repeated_resends_pubrel(self) -> None:
        engine = engine_at()
        peer = subscribed(engine, (b"t", 2))
        connected(engine, b"p").send(Publish(b"t", b"x", 2, packet_id=1), Pubrel(1))
        peer.read()
        peer.send(Pubrec(1), Pubrec(1), Pubcomp(1))
        assert peer.read() == [Pubrel(1), Pubrel(1)]
        assert engine.store.count == 0

    def test_the_window_opens_with_each_acknowledgement(self) -> None:
        engine = Engine(window=Window(inflight_messages=2))
        peer = subscribed(engine, (b"t", 1))
        publisher = connected(engine, b"p")
        for number in (1, 2, 3):
            publisher.send(Publish(b"t", b"%d" % number, 1, packet_id=number))
        assert len(peer.read()) == 2
        peer.send(Puback(1))
        assert peer.read() == [Publish(b"t", b"3", 1, packet_id=3)]
