"""What waits for a table, in its order and within its limits, and who is told what became of it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from support.peer import Peer, connected

from broker.config.ingest import Batch, SinkConfig, parse_expression, parse_pattern
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.ingest.message_ids import MessageIds
from broker.ingest.sink import (
    BYTES_BEYOND,
    MESSAGE_OVERHEAD_BYTES,
    MESSAGES_BEYOND,
    SAY_AGAIN_S,
    Sink,
)
from protocol.mqtt.packets import Puback, Publish, Pubrec
from protocol.mqtt.v5.reasons import ReasonCode

SIZE = MESSAGE_OVERHEAD_BYTES + len(b"t/d" + b"12")
"""Of a message that `message` makes."""


def sink(*patterns: str, engine: Engine | None = None, column: str = "{device}", **more: Any) -> Sink:
    topics = tuple(map(parse_pattern, patterns or ("t/{device}",)))
    columns = (("c", parse_expression(column, topics[0].names)),)
    made = Sink(SinkConfig("s", topics, columns=columns, **more), engine or Engine(), MessageIds())
    made.clock_ns = lambda: 5_000_000_000
    return made


def message(qos: int = 1, topic: bytes = b"t/d", payload: bytes = b"12") -> Publication:
    return Publication(topic, payload, qos, client_id=b"c")


def fill(made: Sink, count: int, qos: int = 1) -> list[Publication]:
    sent = [message(qos) for _ in range(count)]
    for one in sent:
        made.take(one)
    return sent


def kept(publication: Publication) -> int | None:
    """What its publisher is told; None if nothing yet."""
    promise = publication.promise
    assert promise is not None
    return promise.code if promise.is_kept else None


# --- what is taken


def test_what_somebody_published_is_taken_once() -> None:
    made = sink("t/{device}", "t/#")
    one, by_a_feed, of_qos_2 = message(), Publication(b"t/d", b"12", 1), message(2)
    of_qos_2.is_ingested = True
    for publication in (one, one, by_a_feed, of_qos_2):  # two filters match
        made.deliver(publication, 1, False)
    made.take(message(topic=b"else/where"))
    assert [waiting.publication for waiting in made.waiting] == [one]
    assert made.waiting_bytes == SIZE
    assert not made.plain, "it is given whole messages, never packets of several"


@pytest.mark.parametrize(
    ("patterns", "topic", "levels"),
    [
        (("t/{a}/{b}",), b"t/1/2", ("1", "2", "t/1/2")),
        (("t/{a}/{b}", "u/{b}/{a}"), b"u/1/2", ("2", "1", "u/1/2")),
        (("t/{a}", "t/{a}/#"), b"t/1/2", ("1", "t/1/2")),
        (("t/{rest...}",), b"t/1/2", ("1/2", "t/1/2")),
        (("t/{rest...}",), b"t", ("", "t")),
        (("t/+",), b"t/1", ("t/1",)),
    ],
)
def test_levels_are_named_as_the_first_pattern_names_them(
    patterns: tuple[str, ...], topic: bytes, levels: tuple[str, ...]
) -> None:
    made = sink(*patterns, column="{$payload}")
    for _ in range(2):  # the second time it is remembered
        made.take(message(topic=topic))
    assert [one.levels for one in made.waiting] == [levels] * 2


def test_a_topic_that_no_pattern_matches_is_none_the_second_time_either() -> None:
    made = sink()
    for _ in range(2):
        made.take(message(topic=b"t/d/e"))
    assert not made.waiting


@pytest.mark.parametrize(
    ("qos", "acknowledge", "is_promised"),
    [(0, "committed", False), (1, "committed", True), (2, "committed", True), (1, "received", False)],
)
def test_a_publisher_waits_for_the_commit_where_it_is_to(
    qos: int, acknowledge: str, is_promised: bool
) -> None:
    made = sink(acknowledge=acknowledge)
    one = message(qos)
    made.take(one)
    assert (one.promise is not None) == is_promised
    made.settle(made.next_batch(), 7)
    assert not is_promised or kept(one) == 7


def test_a_message_of_two_tables_waits_for_both() -> None:
    sinks, one = [sink(), sink()], message()
    for made in sinks:
        made.take(one)
    sinks[0].settle(sinks[0].next_batch(), 3)
    assert kept(one) is None
    sinks[1].settle(sinks[1].next_batch())
    assert kept(one) == 3, "the worse of both"


@pytest.mark.parametrize(("column", "has_id"), [("{$message_id}", True), ("{device}", False)])
def test_ids_are_made_where_a_column_has_them(column: str, has_id: bool) -> None:
    made = sink(column=column)
    made.take(message())
    assert bool(made.waiting[0].message_id) == has_id


def test_the_writer_hears_of_the_first_and_of_a_whole_batch() -> None:
    heard: list[int] = []
    made = sink(batch=Batch(rows=3))
    made.on_waiting = lambda: heard.append(len(made.waiting))
    fill(made, 5)
    assert heard == [1, 3]


# --- limits


@pytest.mark.parametrize(
    ("limits", "room"), [({"max_messages": 3}, 3), ({"max_bytes": 3 * SIZE}, 3), ({"max_bytes": 3 * SIZE - 1}, 3),
                         ({"max_bytes": 2 * SIZE + 1}, 3), ({"max_bytes": 2 * SIZE}, 2)]
)  # fmt: skip
def test_without_room_messages_at_qos_0_are_dropped_and_said(
    limits: dict[str, Any], room: int, caplog: pytest.LogCaptureFixture
) -> None:
    made = sink(**limits)
    fill(made, 5, qos=0)
    assert (len(made.waiting), made.dropped) == (room, 5 - room)
    assert caplog.text.count("has reached its limit") == 1


def test_what_is_on_its_way_counts_until_it_is_settled() -> None:
    made = sink(max_messages=2)
    fill(made, 2)
    batch = made.next_batch()
    assert (made.is_full(), made.unsettled, made.waiting_bytes, made.is_idle) == (True, 2, 0, False)
    made.settle(batch)
    assert (made.is_full(), made.unsettled, made.settled, made.is_idle) == (False, 0, 2, True)
    assert all(one.is_settled for one in batch)


class Publishing:
    """An engine with a client that is held up by sinks."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.peer: Peer = connected(self.engine, b"c")

    @property
    def is_held(self) -> bool:
        return self.peer.outbox.holds_reading


def test_a_client_is_read_again_once_less_than_half_of_the_room_is_taken() -> None:
    client = Publishing()
    made = sink(engine=client.engine, max_messages=4, batch=Batch(rows=2))
    fill(made, 4)
    assert not client.is_held
    fill(made, 2)  # it had sent them before it was stopped
    assert (client.is_held, len(made.waiting), made.paused_count) == (True, 6, 1)
    made.settle(made.next_batch())
    made.settle(made.next_batch())
    assert client.is_held, "half of it is still taken"
    made.settle(made.next_batch())
    assert not client.is_held
    fill(made, 5)
    assert (client.is_held, made.paused_count) == (True, 2)


def test_half_of_the_bytes_is_half_full() -> None:
    made = sink(max_bytes=4 * SIZE)
    assert not made.is_half_full()
    fill(made, 1)
    assert not made.is_half_full()
    fill(made, 1)
    assert made.is_half_full()


def test_who_is_not_connected_holds_nobody_up() -> None:
    made = sink(max_messages=1)
    fill(made, 2)
    assert (len(made.waiting), made.paused_count) == (2, 0)


def test_who_comes_back_again_and_again_takes_no_more_room() -> None:
    engine = Engine()
    made = sink(engine=engine, max_messages=4)
    engine.subscribe(made, b"t/+", 2)
    publish = [Publish(b"t/d", b"12", 1, packet_id=number + 1) for number in range(20)]
    for _ in range(200):  # each takes the session over
        connected(engine, b"c").send(*publish)
    assert len(made.waiting) == 4 + MESSAGES_BEYOND
    assert made.dropped == 0, "it sends them again"


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("acknowledge", ["committed", "received"])
def test_whose_message_is_not_taken_is_sent_away_when_there_is_room_and_sends_it_again(
    qos: int, acknowledge: str
) -> None:
    engine = Engine()
    made = sink(engine=engine, max_messages=4, acknowledge=acknowledge, batch=Batch(rows=2000))
    engine.subscribe(made, b"t/+", 2)
    engine.ingest = made.take
    fill(made, 4 + MESSAGES_BEYOND)
    late, other = connected(engine, b"late", clean=False), connected(engine, b"other")
    late.send(Publish(b"t/late", b"12", qos, packet_id=7))
    assert (late.outbox.holds_reading, late.read()) == (True, [])
    with engine.turn:
        made.settle(made.next_batch())
    assert (late.closed, other.closed, late.read()) == (True, False, [])
    again = connected(engine, b"late", clean=False, present=True)
    again.send(Publish(b"t/late", b"12", qos, dup=True, packet_id=7))
    if acknowledge == "committed":
        assert again.read() == []
        with engine.turn:
            made.settle(made.next_batch())
    assert again.read() == [Puback(7) if qos == 1 else Pubrec(7)]
    assert made.settled + len(made.waiting) == 4 + MESSAGES_BEYOND + 1


def test_who_can_not_be_stopped_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    made = sink(max_bytes=SIZE)
    taken = BYTES_BEYOND // SIZE + 2
    fill(made, taken)
    over_http = Publication(b"t/d", b"12", 1)
    made.take(over_http)
    made.take(over_http)  # two filters match
    assert kept(over_http) == ReasonCode.QUOTA_EXCEEDED
    assert (len(made.waiting), made.dropped) == (taken, 1)
    assert caplog.text.count("messages are refused") == 1


# --- what goes


def test_batches_leave_in_order_and_everything_at_once_at_the_end() -> None:
    made = sink(batch=Batch(rows=2))
    sent = fill(made, 5)
    assert [one.publication for one in made.next_batch()] == sent[:2]
    assert made.waiting_bytes == 3 * SIZE
    assert [one.publication for one in made.take_all()] == sent[2:]
    assert (made.unsettled, made.waiting_bytes, len(made.waiting)) == (5, 0, 0)


def test_what_another_sink_had_goes_first_and_what_is_no_longer_ours_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    former, made = sink("#", column="{$payload}", batch=Batch(rows=1)), sink(column="{$message_id}")
    older = [message(topic=b"t/1"), message(topic=b"else"), message(topic=b"t/2")]
    for one in older:
        former.take(one)
    made.take(message(topic=b"t/3"))
    made.inherit(former, former.next_batch())
    assert [one.levels for one in made.waiting] == [("1", "t/1"), ("2", "t/2"), ("3", "t/3")]
    assert all(one.message_id for one in made.waiting)
    assert (made.waiting_bytes, made.unsettled, made.settled, made.refused) == (3 * SIZE, 0, 1, 1)
    assert [kept(one) for one in older] == [None, 0x83, None]
    assert "1 messages were never written: no topic of this sink matches" in caplog.text


def test_an_id_that_was_made_stays(caplog: pytest.LogCaptureFixture) -> None:
    former, made = sink(column="{$message_id}"), sink(column="{$message_id}")
    fill(former, 1)
    one = former.waiting[0]
    before = one.message_id
    made.clock_ns = lambda: 9_000_000_000
    made.inherit(former, former.next_batch())
    assert one.message_id == before
    assert (made.refused, caplog.text) == (0, "")


@pytest.mark.parametrize("are_held_by_both", [False, True], ids=["by the former", "by both"])
def test_who_waited_for_the_other_sink_is_read_again_once_there_is_room(are_held_by_both: bool) -> None:
    """Nobody else lets it go: the other sink settles nothing any more."""
    client = Publishing()
    former, made = [sink(engine=client.engine, max_messages=2) for _ in range(2)]
    fill(former, 3)
    if are_held_by_both:
        fill(made, 3)
    assert client.is_held
    made.inherit(former, former.next_batch())
    assert client.is_held
    while made.waiting:
        made.settle(made.next_batch())
    assert not client.is_held
    fill(made, 3)
    assert client.is_held


def test_nobody_is_held_up_by_a_sink_that_gets_nothing_of_what_there_was() -> None:
    client = Publishing()
    former, made = (
        sink(engine=client.engine, max_messages=1),
        sink("u/{a}", column="{a}", engine=client.engine),
    )
    fill(former, 2)
    assert client.is_held
    made.inherit(former, former.next_batch())
    assert not client.is_held
    assert made.refused == 2


# --- how long it takes, and what is said


def test_how_long_each_took_is_counted() -> None:
    made = sink()
    for received_ms in (1_000, 1_000.5, 1_000.999, 1_001, 999):  # the clock may go back
        made.clock_ns = lambda at=received_ms: int(at * 1e6)  # type: ignore[misc]
        fill(made, 1)
    made.clock_ns = lambda: 2_000_000_000
    made.settle(made.next_batch())
    assert made.latency.count() == 5
    assert made.latency.sum == pytest.approx(3 * 1.0 + 0.999 + 1.001)


def test_a_reason_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    made = sink()
    for now in (0.0, SAY_AGAIN_S - 1.0, SAY_AGAIN_S, SAY_AGAIN_S + 1.0):
        made.engine.now = now
        made.say("away", f"at {now:g}")
    made.say("other", "too")
    assert [record.message for record in caplog.records] == ["sink s: at 0", "sink s: at 60", "sink s: too"]


def test_a_state_comes_with_its_problem() -> None:
    made = sink()
    assert (made.state, made.problem) == ("connecting", "")
    made.enter("waiting", "why")
    assert (made.state, made.problem) == ("waiting", "why")
    made.enter("live")
    assert (made.state, made.problem) == ("live", "")
