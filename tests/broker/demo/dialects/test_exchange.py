"""The exchange's simulated users: no private message twice, fills that add up, and greetings that ask for all of it."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import islice
from typing import Any

from broker.demo.dialects.acts import ENGINE, Act
from broker.demo.dialects.exchange import LEVEL, TRADE, UIDS, ExchangeScenario
from protocol.dialects.exchange import PRIVATE_KINDS

SCENARIO = ExchangeScenario()


def acts(count: int = 1500) -> list[Act]:
    return list(islice(SCENARIO.acts(3), count))


def test_no_two_private_messages_are_the_same() -> None:
    found = [
        (one.sql, sorted((key, str(value)) for key, value in one.values.items()))
        for act in acts()
        for one in act
        if one.channel != ENGINE
    ]
    assert len({str(one) for one in found}) == len(found)


def test_the_trades_of_an_order_add_up_to_it_and_have_ids_of_their_own() -> None:
    seen: set[Any] = set()
    for act in acts():
        trades = [one for one in act if one.sql == TRADE]
        if not trades:
            continue
        order: Any = act[0].values
        sizes: list[Any] = [one.values["size"] for one in trades]
        assert abs(sum(sizes, Decimal(0)) - order["size"]) < Decimal("0.00001")
        assert all(size > 0 for size in sizes)
        ids = {one.values["id"] for one in trades}
        assert len(ids) == len(trades)
        assert not ids & seen
        seen |= ids


def test_levels_are_never_on_the_wrong_side_of_the_price() -> None:
    for act in acts():
        levels: list[Any] = [one.values for one in act if one.sql == LEVEL]
        if levels:
            crossed: Any = act[0].values
            for level in levels:
                assert (level["price"] < crossed["bid"]) == (level["side"] == "bid")
                assert level["size"] > 0


def test_a_user_logs_in_and_asks_for_what_is_private() -> None:
    watcher = SCENARIO.watchers[0]
    login, *requests = [json.loads(text) for text in SCENARIO.greetings(watcher, "TOKEN")]
    assert login == {"op": "auth", "token": "TOKEN"}
    assert sorted(request["channel"] for request in requests) == sorted(f"@{kind}" for kind in PRIVATE_KINDS)
    assert watcher.channels == {f"{UIDS[0]}@{kind}" for kind in PRIVATE_KINDS}


def test_a_message_is_the_row_in_the_exchange_s_envelope() -> None:
    text = json.loads(SCENARIO.text("1001@balance", '{"uid":1001}'))
    assert text["data"] == {"uid": 1001}
    assert text["event"] == "@balance", "as its reader asked for it"
