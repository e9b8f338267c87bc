"""An ordered reader against a stream whose consumers lose, repeat and vanish: every message once, in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.nats import ordered, wire
from protocol.nats.errors import NatsProtocolError


def message(stream: int, consumer: int, sid: int = 5, pending: int = 0) -> wire.Message:
    reply = b"$JS.ACK.s.c.1.%d.%d.17.%d" % (stream, consumer, pending)
    return wire.Message(b"a", sid, reply, b"", b"%d" % stream)


def heartbeat(last_consumer: int, more: bytes = b"", sid: int = 5) -> wire.Message:
    block = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: %d\r\n%b\r\n" % (last_consumer, more)
    return wire.Message(b"a", sid, b"", block, b"")


def test_one_after_the_other() -> None:
    reader = ordered.OrderedReader(10)
    reader.begun(5)
    assert reader.take(message(10, 1)) == ordered.NEXT
    assert reader.take(message(12, 2)) == ordered.NEXT  # 11 was of another subject
    assert reader.last == 12
    assert reader.take(heartbeat(2)) == ordered.NOTHING


def test_a_gap_is_noticed_and_begun_behind() -> None:
    reader = ordered.OrderedReader(1)
    reader.begun(5)
    assert reader.take(message(1, 1)) == ordered.NEXT
    assert reader.take(message(3, 3)) == ordered.LOST
    assert reader.last == 1
    reader.begun(6)
    assert reader.take(message(4, 4)) == ordered.NOTHING  # of the consumer before
    assert reader.take(message(2, 1, 6)) == ordered.NEXT


def test_a_heartbeat_says_what_was_lost() -> None:
    reader = ordered.OrderedReader(1)
    reader.begun(5)
    assert reader.take(message(1, 1)) == ordered.NEXT
    assert reader.take(heartbeat(2)) == ordered.LOST
    with pytest.raises(NatsProtocolError):
        reader.take(heartbeat(0))


def test_flow_control_is_answered() -> None:
    reader = ordered.OrderedReader(1)
    reader.begun(5)
    asked = wire.Message(b"a", 5, b"$JS.FC.1", b"NATS/1.0 100 FlowControl Request\r\n\r\n", b"")
    assert reader.take(asked) == ordered.ANSWER
    assert reader.reply == b"$JS.FC.1"
    assert reader.take(heartbeat(0, b"Nats-Consumer-Stalled: $JS.FC.2\r\n")) == ordered.ANSWER
    assert reader.reply == b"$JS.FC.2"


def test_a_deleted_consumer_is_lost() -> None:
    reader = ordered.OrderedReader(1)
    reader.begun(5)
    gone = wire.Message(b"a", 5, b"", b"NATS/1.0 409 Consumer Deleted\r\n\r\n", b"")
    assert reader.take(gone) == ordered.LOST


@given(st.lists(st.sampled_from(["lose", "repeat", "vanish", "pass", "pass", "pass"]), max_size=60))
def test_every_message_once_and_in_order_whatever_happens(fates: list[str]) -> None:
    reader = ordered.OrderedReader(1)
    taken: list[int] = []
    sid, place, consumer = 5, 1, 0
    reader.begun(sid)
    for fate in [*fates, "beat", *["pass"] * 70]:
        if place > 60:
            break
        consumer += 1
        answers = []
        if fate == "beat":
            answers = [reader.take(heartbeat(consumer, sid=sid))]
        elif fate != "lose":
            answers = [
                reader.take(message(place, consumer, sid)) for _ in range(2 if fate == "repeat" else 1)
            ]
            if answers[0] == ordered.NEXT:
                taken.append(place)
                assert ordered.NEXT not in answers[1:]
        place += 1
        if fate == "vanish" or ordered.LOST in answers:
            sid, consumer, place = sid + 1, 0, reader.last + 1
            reader.begun(sid)
    assert taken == list(range(1, len(taken) + 1))
    assert len(taken) >= 30


@pytest.mark.parametrize(
    "reply",
    [b"$JS.ACK.s.c.1.2.2.17", b"$JS.ACK.s.c.1.2.-2.17.0", b"$JS.ACK.s.c.1.x.2.17.0", b"$JS.ACK.s.c.1."],
)
def test_what_only_begins_as_a_message_of_the_consumer_is_none(reply: bytes) -> None:
    reader = ordered.OrderedReader(1)
    reader.begun(5)
    assert reader.take(message(1, 1)) == ordered.NEXT
    with pytest.raises(NatsProtocolError):
        reader.take(wire.Message(b"a", 5, reply, b"", b""))
    assert reader.take(message(2, 2, pending=3)) == ordered.NEXT
    assert (reader.last, reader.pending) == (2, 3)


def test_a_token_behind_the_numbers_and_more_deliveries_change_nothing() -> None:
    reader = ordered.OrderedReader(1)
    reader.begun(5)
    for number, reply in enumerate([b"1.1.1.17.0.tok", b"1.2.2.17.9.tok", b"2.3.3.17.0.tok"], 1):
        taken = wire.Message(b"a", 5, b"$JS.ACK._.H.s.c." + reply, b"", b"")
        assert reader.take(taken) == ordered.NEXT
        assert reader.last == number
