"""What the traders do is committed at its rate, and whoever counts is told what must come of it, and no more."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from support import exchange_rows
from support.said_sql import SaidSql
from trio.testing import MockClock

from broker.demo.changes import HISTORY, Transaction
from broker.demo.crowd import Crowd
from broker.demo.simulator import Simulator, create_schema

FILL = {**exchange_rows.FILL, "taker_order_id": 9}


class Audience:
    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []
        self.commits: list[float] = []

    def expect_mqtt(self, topic: str, text: str) -> None:
        self.told.append(("mqtt", topic, text))

    def expect_websocket(self, channel: str, text: str) -> None:
        self.told.append(("websocket", channel, text))

    def committed(self, at: float) -> None:
        self.told.append(("committed",))
        self.commits.append(at)


class Acts(Crowd):
    """Does what it is told, without an opening."""

    def __init__(self, *acts: Transaction) -> None:
        self.acts = list(acts)

    def open_markets(self) -> list[Transaction]:
        return []

    def next(self) -> Transaction:
        return self.acts.pop(0)


def transaction() -> Transaction:
    return Transaction(1, datetime(2026, 1, 1, tzinfo=UTC))


async def told(
    *acts: Transaction, rows: tuple[tuple[str], ...] = (('{"a":1}',),)
) -> tuple[Audience, SaidSql]:
    audience, database = Audience(), SaidSql(lambda text, values: rows)
    simulator = Simulator(database.connection, Acts(*acts), audience, 100.0)
    for act in acts:
        await simulator._commit_whole(act)
    assert simulator.transactions == len(acts)
    return audience, database


async def test_an_event_is_inserted_and_expected_as_postgres_says_it() -> None:
    act = transaction()
    act.event("fill_events", **FILL)
    act.event("fill_events", **FILL)
    audience, database = await told(act)
    envelope = '{"channel" : "fill_event", "payload" : {"a":1}}'
    assert audience.told == [
        ("websocket", "fill_event", envelope),
        ("mqtt", "fill/3/0xa/0", '{"a":1}'),
        ("mqtt", "fill/3/0xb/7", '{"a":1}'),
        ("websocket", "fill_event", envelope),
        ("committed",),
    ]
    assert [text for text, _ in database.said][0::3] == ["begin", "commit"]
    text, values = database.said[1]
    assert text.startswith('insert into "fill_events" ("txn_version", "event_idx", "time", "market_id"')
    assert "%(maker_address)s" in text
    assert text.endswith('returning row_to_json("fill_events")::text')
    assert (values["event_idx"], values["maker_address"]) == (0, "0xa")


async def test_an_update_says_what_its_view_has_then() -> None:
    act = transaction()
    act.update(HISTORY, {"market_id": 3, "order_id": 9}, remaining_size=5)
    audience, database = await told(act)
    _, (update, values), (row, key), _ = database.said
    assert update == (
        'update "aggregator"."user_history" set "remaining_size" = %(remaining_size)s'
        ' where "market_id" = %(market_id)s and "order_id" = %(order_id)s'
    )
    assert values == {"remaining_size": 5, "market_id": 3, "order_id": 9}
    assert 'from "api"."limit_orders" o' in row
    assert key == {"market_id": 3, "order_id": 9}
    assert [one[:2] for one in audience.told] == [("websocket", "updated_limit_order"), ("committed",)]


async def test_of_a_new_order_its_view_is_said() -> None:
    act = transaction()
    act.insert("aggregator.user_history_swap", market_id=3, order_id=9)
    audience, database = await told(act)
    assert 'from "api"."swap_orders" o' in database.said[2][0]
    assert [one[:2] for one in audience.told] == [("websocket", "new_swap_order"), ("committed",)]


@pytest.mark.parametrize("table", ["markets", HISTORY])
async def test_what_nobody_announces_is_no_event(table: str) -> None:
    act = transaction()
    act.insert(table, market_id=3, order_id=9)
    audience, database = await told(act)
    assert audience.told == [("committed",)]
    assert len(database.said) == 3


async def test_a_row_that_its_view_does_not_have_is_none() -> None:
    act = transaction()
    act.update(HISTORY, {"market_id": 3, "order_id": 9}, remaining_size=5)
    audience, _ = await told(act, rows=())
    assert audience.told == [("committed",)]


async def test_it_goes_on_at_its_rate_until_there_are_enough_events(autojump_clock: MockClock) -> None:
    audience, database = Audience(), SaidSql(lambda text, values: [("{}",)])
    simulator = Simulator(database.connection, Crowd(3), audience, 50.0)
    await simulator.run(400)
    assert 400 <= simulator.events < 420
    assert len(audience.commits) == simulator.transactions
    assert len([one for one in audience.told if one[0] == "websocket"]) == simulator.events
    assert trio.current_time() == pytest.approx(400 / 50.0, abs=0.5)


async def test_what_has_begun_is_committed_though_it_is_cancelled(autojump_clock: MockClock) -> None:
    class Slow(SaidSql):
        async def execute(self, statement: Any, values: Any = None) -> Any:
            await trio.sleep(1)
            return await super().execute(statement, values)

    act = transaction()
    act.event("fill_events", **FILL)
    audience, database = Audience(), Slow(lambda text, values: [("{}",)])
    simulator = Simulator(database.connection, Acts(act), audience, 100.0)
    with trio.move_on_after(0.5):
        await simulator.run()
    assert database.said[-1] == ("commit", None)
    assert audience.told[-1] == ("committed",)


async def test_its_tables_are_econia_s() -> None:
    database = SaidSql()
    await create_schema(database.connection)
    ((text, _),) = database.said
    assert "fill_events" in text
