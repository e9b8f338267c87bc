"""Tables are read once for all who ask for the same filter, few at a time, and not for nobody."""

from __future__ import annotations

from typing import cast

import pytest
import trio
import trio.testing
from support.websockets import masked

from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.kind import Asked as AskedDialect
from broker.config.dialects.rowcast import Rowcast
from broker.core import barrier as barriers
from broker.core.counters import Counters
from broker.core.engine import Engine
from broker.core.history import History
from broker.core.outbox import Outbox
from broker.core.positions import Positions
from broker.core.row_source import SourceError, TooMuch
from broker.gateway.gateway import Gateway
from broker.links.websocket.catching_up import Subscription
from broker.links.websocket.following import FollowingLink
from broker.links.websocket.readers import Readers
from broker.links.websocket.room import LOOK_S, READINGS_HELD_MAX
from broker.links.websocket.rowcast import RowcastLink
from broker.links.websocket.state_reading import READINGS_MAX, StateReading
from protocol.dialects.base import Clock
from protocol.dialects.rowcast import RowcastDialect

Rows = list[tuple[bytes, bytes]]


class Tables:
    """The tables of a feed."""

    def __init__(self, topics: bytes = b"", error: str = "") -> None:
        self.topics = topics
        self.error = error
        self.answers = trio.Event()
        self.answers.set()
        self.reading: list[bytes] = []
        self.at_once = self.most_at_once = 0

    def serves(self, topic_filter: bytes) -> bool:
        return topic_filter.startswith(self.topics)

    async def read(self, topic_filter: bytes) -> Rows:
        self.reading.append(topic_filter)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.answers.wait()
            if self.error:
                raise SourceError(self.error)
            return [(topic_filter, self.topics)]
        finally:
            self.at_once -= 1


class Asked:
    """A subscription, and what its connection was told."""

    def __init__(self, topic_filter: bytes = b"t") -> None:
        self.topic_filter = topic_filter
        self.is_over = False
        self.holds_rows = False
        self.told: Rows | SourceError | None = None

    def close_for_a_bug(self) -> None:
        self.is_over = True

    def state_read(self, one: object, rows: Rows | SourceError) -> None:
        assert one is self
        self.told = rows
        self.holds_rows = not isinstance(rows, SourceError)

    def ask(self, reading: StateReading) -> Asked:
        reading.ask(cast("FollowingLink", self), cast("Subscription", self))
        return self


def reading_of(nursery: trio.Nursery, **tables: Tables) -> StateReading:
    history = History(Positions("e"))
    history.tables.update(tables)
    return StateReading(history, nursery, Counters())


async def test_who_asks_for_the_same_is_served_by_one_reading() -> None:
    tables = Tables()
    tables.answers = trio.Event()
    async with trio.open_nursery() as nursery:
        reading = reading_of(nursery, feed=tables)
        asked = [Asked(topic_filter).ask(reading) for topic_filter in (b"t", b"t", b"u")]
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(tables.reading) == [b"t", b"u"]
        later = Asked(b"t").ask(reading)  # that reading may have been begun before what it wants was written
        tables.answers.set()
    assert [one.told for one in asked] == [[(b"t", b"")], [(b"t", b"")], [(b"u", b"")]]
    assert later.told == [(b"t", b"")]
    assert sorted(tables.reading) == [b"t", b"t", b"u"]


async def test_all_feeds_with_such_a_table_are_asked_and_no_others() -> None:
    one, other, none = Tables(b"t"), Tables(b""), Tables(b"u")
    async with trio.open_nursery() as nursery:
        asked = Asked(b"t").ask(reading_of(nursery, one=one, other=other, none=none))
    assert asked.told == [(b"t", b"t"), (b"t", b"")]
    assert none.reading == []


async def test_a_database_that_does_not_answer_is_told_to_all_who_asked() -> None:
    async with trio.open_nursery() as nursery:
        reading = reading_of(nursery, feed=Tables(error="gone"))
        asked = [Asked().ask(reading) for _ in range(2)]
    for one in asked:
        assert isinstance(one.told, SourceError)
        assert str(one.told) == "gone"


async def test_nothing_is_read_for_who_has_gone() -> None:
    tables = Tables()
    async with trio.open_nursery() as nursery:
        one = Asked()
        one.is_over = True
        one.ask(reading_of(nursery, feed=tables))
    assert tables.reading == []
    assert one.told == []


async def test_a_database_has_so_many_readings_at_a_time() -> None:
    tables = Tables()
    tables.answers = trio.Event()
    async with trio.open_nursery() as nursery:
        reading = reading_of(nursery, feed=tables)
        asked = [Asked(b"%d" % number).ask(reading) for number in range(READINGS_MAX + 3)]
        await trio.testing.wait_all_tasks_blocked()
        assert tables.at_once == READINGS_MAX
        tables.answers.set()
    assert tables.most_at_once == READINGS_MAX
    assert all(one.told is not None for one in asked)


async def test_no_more_is_read_while_too_many_rows_are_still_to_be_taken(
    autojump_clock: trio.testing.MockClock,
) -> None:
    tables = Tables()
    async with trio.open_nursery() as nursery:
        reading = reading_of(nursery, feed=tables)
        asked = [Asked(b"%d" % number).ask(reading) for number in range(READINGS_HELD_MAX + 1)]
        await trio.sleep(10 * LOOK_S)
        held = [one for one in asked if one.told is not None]
        assert len(held) == READINGS_HELD_MAX
        held[0].holds_rows = False
        await trio.sleep(2 * LOOK_S)
        assert all(one.told is not None for one in asked)


async def test_our_own_bug_ends_who_asked_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barriers, "RERAISE", False)

    class Broken(Tables):
        async def read(self, topic_filter: bytes) -> Rows:
            raise RuntimeError("nobody expected this")

    async with trio.open_nursery() as nursery:
        reading = reading_of(nursery, good=Tables(b"t"), broken=Broken(b"u"))
        good, *asked = [Asked(topic_filter).ask(reading) for topic_filter in (b"t", b"u", b"u")]
    assert good.told == [(b"t", b"t")]
    assert [one.told for one in asked] == [None, None]
    assert all(one.is_over for one in asked)


def test_who_asked_for_too_much_is_told_at_once() -> None:
    engine, history, sent = Engine(), History(Positions("e")), bytearray()
    history.tables["feed"] = Tables()
    asked: list[tuple[FollowingLink, Subscription]] = []

    def send(data: bytes) -> int:
        sent.extend(data)
        return len(data)

    readers = Readers(history, lambda _: None, lambda *_: None, lambda *one: asked.append(one))
    config = Rowcast(anonymous_subscribe=("#",))
    dialect = config.open(AskedDialect(), None, Clock(0.0), 0.0)
    assert isinstance(dialect, RowcastDialect)
    gateway = Gateway(GatewayConfig(rowcast=config), engine, {})
    outbox = Outbox(engine.round, 1_000_000, send)
    link = RowcastLink(dialect, gateway, outbox, "peer", 65536, lambda *_: None, readers)
    link.open()
    with engine.turn:
        link.received(masked(0x81, b'{"subscribe":"t","state":true}'))
    ((_, one),) = asked
    link.state_read(one, TooMuch("a narrower filter would do"))
    assert b'"too_many"' in sent
