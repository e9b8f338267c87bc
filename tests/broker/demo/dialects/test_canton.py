"""CantonDEX's simulated accounts: no message twice, each account's own, and greetings that ask for all of it."""

from __future__ import annotations

import json
from itertools import islice

from broker.demo.dialects.canton import ACCOUNTS, SYMBOLS, CantonScenario

SCENARIO = CantonScenario()


def statements(count: int = 1500) -> list[tuple[str, tuple[tuple[str, str], ...], str]]:
    acts = islice(SCENARIO.acts(3), count)
    return [
        (one.sql, tuple(sorted((key, str(value)) for key, value in one.values.items())), one.channel)
        for act in acts
        for one in act
    ]


def test_no_two_statements_are_the_same() -> None:
    found = statements()
    assert len(set(found)) == len(found)


def test_what_belongs_to_an_account_is_in_its_channels() -> None:
    for _, values, channel in statements():
        account = dict(values).get("account")
        if account is not None:
            assert channel.endswith(f"/{account}")
        symbol = dict(values).get("symbol")
        if channel.startswith("market_data/"):
            assert channel == f"market_data/{symbol}"


def test_prices_stay_above_zero() -> None:
    prices = [float(dict(values)["price"]) for _, values, _ in statements() if "price" in dict(values)]
    assert min(prices) >= 1.0


def test_an_order_ends_and_is_settled_only_if_it_was_filled() -> None:
    for act in islice(SCENARIO.acts(3), 500):
        if act[0].channel.startswith("orders/"):
            assert len(act) in (2, 6)
            kinds = {one.channel.partition("/")[0] for one in act}
            assert kinds == (
                {"orders"} if len(act) == 2 else {"orders", "trades", "settlements", "account_notifications"}
            )


def test_a_client_logs_in_and_asks_for_what_it_watches() -> None:
    *traders, officer = SCENARIO.watchers
    assert len(traders) == len(ACCOUNTS)
    login, *requests = [json.loads(text) for text in SCENARIO.greetings(traders[0], "TOKEN")]
    assert login == {"type": "auth", "token": "TOKEN"}
    assert {request["type"] for request in requests} == {"subscribe"}
    asked = {request["channel"]: request.get("symbols") for request in requests}
    assert asked == {
        "orders": None, "trades": None, "settlements": None, "account_notifications": None,
        "market_data": sorted(SYMBOLS),
    }  # fmt: skip
    _, *requests = [json.loads(text) for text in SCENARIO.greetings(officer, "TOKEN")]
    assert [request["channel"] for request in requests] == ["compliance_events", "system_health"]
