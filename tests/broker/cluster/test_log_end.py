"""Where the log ends, and whether it is the one that was read, by servers that know more or less of it."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from support.memory_nats import MemoryNats, refused
from support.nats import Server
from support.nodes import joined, node_of
from trio.testing import MockClock

from broker.cluster import log_end
from broker.cluster.link import Unavailable
from broker.cluster.log_end import Doubt, PlaceRead, certain_end
from broker.cluster.names import Names
from broker.cluster.setup import info, message_at, places

SHOP = Names("shop")
SECOND = 1_000_000_000
LOG = "shop_MSGS"


class Log:
    """A log of so many messages, a minute apart."""

    def __init__(self, count: int = 4) -> None:
        self.server = MemoryNats()
        self.stream = self.server.stream(LOG, ("shop.MSGS.>",))
        self.link = self.server.connected()
        self.written = 0
        self.write(count)

    def write(self, count: int) -> None:
        for _ in range(count):
            self.written += 1
            self.stream.put(b"shop.MSGS.c.m.t", b"", b"%d" % self.written).at_ns = self.written * 60 * SECOND

    def read(self) -> PlaceRead:
        """All of it was."""
        return PlaceRead(self.stream.created, self.stream.last, self.written * 60 * SECOND)

    def make_anew(self) -> None:
        config = self.server.streams.pop(LOG).config
        self.stream = self.server.stream(LOG)
        self.stream.config.update(config)

    async def compared(self, read: PlaceRead) -> int:
        """Up to where the log has what was read."""
        found = await info(self.link, LOG)
        assert found is not None
        sure, kept = await read.found_again(self.link, SHOP, found)
        assert places(sure)[1] == self.stream.last
        return kept

    def marks(self) -> int:
        return len(self.stream.of(SHOP.end))


async def test_the_end_is_behind_all_that_there_is(autojump_clock: MockClock) -> None:
    log = Log()
    found, end = await certain_end(log.link, SHOP)
    assert (end, places(found)) == (5, (1, 5))
    assert SHOP.is_of_nodes(log.stream.kept[-1].subject)


async def test_without_a_quorum_nobody_knows_it(autojump_clock: MockClock) -> None:
    log = Log()
    log.stream.fall_behind(1)
    with pytest.raises(Unavailable, match="no answer"):
        await certain_end(log.link, SHOP)


async def test_nor_where_who_answers_next_has_not_heard_of_it(autojump_clock: MockClock) -> None:
    log = Log()
    state = {"first_seq": 1, "last_seq": 4}
    log.server.faults.append((b"STREAM.INFO", {"created": log.stream.created, "state": state}))
    with pytest.raises(Unavailable, match="yet to catch up"):
        await certain_end(log.link, SHOP)


@pytest.mark.parametrize("how", ["whole", "longer", "oldest gone", "all gone", "one removed", "nothing read"])
async def test_the_same_log_is_known_without_a_write(autojump_clock: MockClock, how: str) -> None:
    log = Log()
    read = log.read()
    if how == "longer":
        log.write(3)
    elif how == "oldest gone":
        del log.stream.kept[:3]
    elif how == "all gone":
        log.stream.kept.clear()
    elif how == "one removed":
        log.write(1)
        del log.stream.kept[3]
    elif how == "nothing read":
        read = PlaceRead(log.stream.created, 0, 0)
    assert await log.compared(read) == read.sequence
    assert log.marks() == 0


@pytest.mark.parametrize(("how", "words"), [("behind", "it ends at 3"), ("of another", "it is another one")])
async def test_what_one_server_says_is_no_more_than_a_doubt(
    autojump_clock: MockClock, how: str, words: str
) -> None:
    log = Log()
    read = log.read()
    if how == "behind":
        log.stream.fall_behind(1)
    else:
        log.make_anew()
        log.server.faults.append((SHOP.end, refused(503, 10008)))
    with pytest.raises(Doubt, match=f"up to 4, and a NATS server says that {words}"):
        await log.compared(read)
    log.stream.catch_up()
    assert await log.compared(read) == (4 if how == "behind" else 0)


async def test_who_catches_up_meanwhile_has_the_same_log(autojump_clock: MockClock) -> None:
    log = Log()
    read = log.read()
    found = {"created": log.stream.created, "state": {"first_seq": 1, "last_seq": 2}}
    sure, kept = await read.found_again(log.link, SHOP, found)
    assert (kept, places(sure)) == (4, (1, 5))


async def test_of_clocks_that_differ_nothing_new_is_left_out(autojump_clock: MockClock) -> None:
    log = Log()
    for one in log.stream.kept:
        one.at_ns = one.sequence * 3 * SECOND
    read = PlaceRead(log.stream.created, 4, 12 * SECOND)
    log.stream.lose(1)
    assert await log.compared(read) == 2, "the third was stored less than five seconds before"


async def test_of_a_log_without_a_time_all_is_read_again(autojump_clock: MockClock) -> None:
    log = Log()
    read = PlaceRead(log.stream.created, 4, 0)
    log.stream.lose(2)
    assert await log.compared(read) == 0


@settings(deadline=None)
@given(
    count=st.integers(1, 12),
    gone=st.integers(0, 12),
    lost=st.integers(0, 12),
    written=st.integers(0, 12),
    removed=st.sets(st.integers(1, 12)),
    is_new=st.booleans(),
)
def test_it_goes_on_behind_what_was_read_and_is_there(
    count: int, gone: int, lost: int, written: int, removed: set[int], is_new: bool
) -> None:
    """Whatever was read and lost and written since: nothing new is left out, and nothing comes again."""

    async def compare() -> None:
        log = Log(count)
        read = log.read()
        if is_new:
            log.make_anew()
        else:
            log.stream.lose(min(lost, count))
        log.write(written)
        log.stream.kept = [
            one for one in log.stream.kept if one.sequence > gone and one.sequence not in removed
        ]
        before = {one.sequence: int(one.payload) for one in log.stream.kept}
        kept = await log.compared(read)
        is_whole = not is_new and not lost
        cannot_be_seen = read.sequence not in before and log.stream.last - log.marks() >= read.sequence
        if is_whole or (cannot_be_seen and not is_new):
            assert kept == read.sequence
            return
        assert {place for place in before if place > kept} == {
            place for place, number in before.items() if number > count
        }

    trio.run(compare, clock=MockClock(autojump_threshold=0))


async def test_a_server_of_its_own_says_the_same(nats_server: Server, cluster_name: str) -> None:
    async with joined((nats_server.url,), cluster_name, "a") as a:
        link, names = node_of(a).link, node_of(a).names
        for _ in range(9):
            await link.request(names.message(b"c", False, b"t"), b"x", 5.0)
        found = await info(link, names.messages)
        third = await message_at(link, names.messages, 3)
        assert found is not None
        assert third is not None
        same = PlaceRead(found["created"], 3, third.at_ns)
        assert await same.found_again(link, names, found) == (found, 3)
        lost = PlaceRead(found["created"], 50, third.at_ns + log_end.CLOCKS_NS)
        sure, kept = await lost.found_again(link, names, found)
        assert (kept, places(sure)) == (3, (1, 10))


def test_the_margin_is_what_the_documentation_says() -> None:
    assert log_end.CLOCKS_NS == 5 * SECOND
