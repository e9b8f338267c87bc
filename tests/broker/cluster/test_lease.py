"""A lease: who may take it, when its holder stops, and what a lost answer means."""

from __future__ import annotations

import pytest
import trio
from support.memory_nats import LOST, SILENT, MemoryNats, Stream, refused
from trio.testing import MockClock

from broker.cluster.lease import LEASE_S, LOOK_S, MARGIN_S, RENEW_S, Lease, Record, has_ended
from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.names import Names
from protocol.nats import headers, jetstream
from protocol.nats.jetstream import ApiError, Stored

NAMES = Names("shop")
SUBJECT = b"shop.SESS.feed.main"
MARKED = headers.encode({jetstream.MARKER_REASON: b"MaxAge"})
OTHER_HEADERS = headers.encode({jetstream.TTL: b"4s"})


def opened() -> tuple[MemoryNats, NatsLink, Stream]:
    server = MemoryNats()
    stream = server.stream("shop_SESS", ("shop.SESS.>",), max_msgs_per_subject=1)
    return server, server.connected(), stream


def lease(link: NatsLink, holder: bytes) -> Lease:
    return Lease(link, NAMES, b"feed.main", holder)


@pytest.mark.parametrize(
    ("stored", "ended"),
    [
        (None, True),
        (Stored(SUBJECT, 1, b"", b""), True),
        (Stored(SUBJECT, 1, b"", b"a"), False),
        (Stored(SUBJECT, 1, OTHER_HEADERS, b"a"), False),
        (Stored(SUBJECT, 1, MARKED, b""), True),
        (Stored(SUBJECT, 1, MARKED, b"a"), True),
    ],
)
def test_a_record_without_value_or_with_the_server_s_mark_has_ended(
    stored: Stored | None, ended: bool
) -> None:
    assert has_ended(stored) is ended


async def test_a_record_is_written_only_behind_what_its_writer_has_seen() -> None:
    _, link, stream = opened()
    record = Record(link, NAMES, b"feed.main")
    assert await record.get() is None
    first = await record.put(b"a", 0)
    assert jetstream.TTL not in headers.decode(stream.kept[-1].block).values
    with pytest.raises(ApiError) as refusal:
        await record.put(b"b", 0)
    assert refusal.value.is_conflict
    second = await record.put(b"b", first.sequence, 7)
    assert stream.kept[-1].ends_at - trio.current_time() == pytest.approx(7, abs=1)
    stored = await record.get()
    assert stored is not None
    assert (stored.sequence, stored.payload) == (second.sequence, b"b")


async def test_one_has_it_and_the_other_when_it_is_given_back(autojump_clock: MockClock) -> None:
    _, link, stream = opened()
    first, second = lease(link, b"first"), lease(link, b"second")
    await first.acquire()
    assert (first.held_by, stream.kept[-1].payload) == (b"first", b"first")
    with trio.move_on_after(LOOK_S * 2.5) as waiting:
        await second.acquire()
    assert waiting.cancelled_caught
    assert second.held_by == b"first"
    await first.give_back()
    began = trio.current_time()
    await second.acquire()
    assert trio.current_time() == began
    assert second.held_by == b"second"


async def test_nobody_takes_it_before_it_has_ended_and_its_holder_stops_earlier(
    autojump_clock: MockClock,
) -> None:
    server, link, _ = opened()
    first, second = lease(link, b"first"), lease(link, b"second")
    await first.acquire()
    last_renewal = 0.0
    stopped_at = taken_at = 0.0

    async def keep() -> None:
        nonlocal stopped_at
        await first.keep()
        stopped_at = trio.current_time()

    async def take() -> None:
        nonlocal taken_at
        await second.acquire()
        taken_at = trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep)
        await trio.sleep(10 * RENEW_S + RENEW_S / 2)
        last_renewal = trio.current_time() - RENEW_S / 2
        assert stopped_at == 0.0, "it is renewed in time"
        server.drop(link)
        other = server.connected()
        second = lease(other, b"second")
        nursery.start_soon(take)
    assert stopped_at == pytest.approx(last_renewal + LEASE_S - MARGIN_S)
    assert last_renewal + LEASE_S <= taken_at <= last_renewal + LEASE_S + 2 * LOOK_S


@pytest.mark.parametrize("fault", [LOST, SILENT, refused(503, 10008)])
async def test_a_renewal_without_an_answer_costs_nothing_but_time(
    autojump_clock: MockClock, fault: object
) -> None:
    server, link, stream = opened()
    mine = lease(link, b"mine")
    await mine.acquire()
    server.faults.append((b"SESS", fault))
    with trio.move_on_after(LEASE_S * 3) as kept:
        await mine.keep()
    assert kept.cancelled_caught
    assert server.faults == []
    assert stream.kept[-1].payload == b"mine"


async def test_it_is_lost_at_once_to_who_has_written_it(autojump_clock: MockClock) -> None:
    _, link, stream = opened()
    mine = lease(link, b"mine")
    await mine.acquire()
    began = trio.current_time()
    stream.put(SUBJECT, b"", b"another")
    await mine.keep()
    assert trio.current_time() == began + RENEW_S


@pytest.mark.parametrize("what", ["gone", "unknown"])
async def test_after_a_conflict_it_is_looked_who_has_it(autojump_clock: MockClock, what: str) -> None:
    server, link, stream = opened()
    mine = lease(link, b"mine")
    await mine.acquire()
    stream.put(SUBJECT, b"", b"another")
    if what == "gone":
        server.faults.append((b"MSG.GET", refused(404, jetstream.NO_MESSAGE)))
    else:
        server.faults.append((b"MSG.GET", SILENT))
    began = trio.current_time()
    await mine.keep()
    waited_s = trio.current_time() - began
    assert waited_s == RENEW_S if what == "gone" else RENEW_S < waited_s <= LEASE_S


async def test_it_goes_on_with_its_own_whose_answer_was_lost_when_it_was_taken(
    autojump_clock: MockClock,
) -> None:
    """Once a quorum has taken it again: who said so may be a server that is cut off."""
    server, link, stream = opened()
    mine = lease(link, b"mine")
    server.faults.append((SUBJECT, LOST))
    await mine.acquire()
    assert stream.last == 2
    assert mine.held_by == b"mine"


async def test_giving_it_back_says_nothing_where_nobody_answers(autojump_clock: MockClock) -> None:
    server, link, stream = opened()
    mine = lease(link, b"mine")
    await mine.acquire()
    server.faults.append((b"SESS", SILENT))
    await mine.give_back()
    assert stream.kept[-1].payload == b"mine"
    server.drop(link)
    await mine.give_back()


@pytest.mark.parametrize(("holder", "is_free"), [(b"mine", True), (b"other", False)])
async def test_it_is_given_back_behind_a_renewal_that_was_under_way(
    autojump_clock: MockClock, holder: bytes, is_free: bool
) -> None:
    """Whose answer nobody waited for, as its holder ends just then; what another one has written stays."""
    server, link, stream = opened()
    mine = lease(link, b"mine")
    await mine.acquire()
    server.faults.append((b"feed.main", refused(400, jetstream.WRONG_LAST_SEQUENCE_OF)))
    stream.put(stream.kept[-1].subject, b"", holder, 4)
    await mine.give_back()
    assert server.faults == []
    assert stream.kept[-1].payload == (b"" if is_free else b"other")


async def test_who_wants_it_waits_for_a_connection(autojump_clock: MockClock) -> None:
    server, link, _ = opened()
    server.drop(link)
    with pytest.raises(Unavailable):
        await Record(link, NAMES, b"feed.main").get()
    mine = lease(link, b"mine")
    with trio.move_on_after(100) as waiting:
        await mine.acquire()
    assert waiting.cancelled_caught
    server.admit(link)
    await mine.acquire()
