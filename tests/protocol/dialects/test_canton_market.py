"""Merging CantonDEX market data: newest price, book changes per level, numbers digit for digit."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.canton_examples import EXAMPLES
from support.dialects import exact

from protocol.dialects.canton_market import MarketConflation, exact_json
from protocol.dialects.conflation import Backlog

PRICE = EXAMPLES["Market Data Stream: Price Update Event"].encode()
BOOK = EXAMPLES["Market Data Stream: Order Book Update Event"].encode()


def book(timestamp: str, **sides: list[dict[str, object]]) -> bytes:
    update = {"type": "orderbook_update", "symbol": "A", "timestamp": timestamp, "changes": sides}
    return json.dumps(update).encode()


def merged_to_one(payloads: list[bytes]) -> bytes:
    (merged,) = MarketConflation().merge(payloads)
    return merged


def test_prices_and_books_of_one_symbol_wait_side_by_side() -> None:
    backlog = Backlog(MarketConflation(), 10_000)
    for payload in (PRICE, BOOK, PRICE.replace(b"150.48", b"150.49")):
        backlog.offer("market_data/AAPL/USDC", payload)
    first, second = backlog.take(), backlog.take()
    assert first is not None
    assert second is not None
    assert first[1] is not None
    assert b"150.49" in first[1]
    assert (second[1], second[2]) == (BOOK, 0)


def test_later_changes_of_a_level_replace_earlier_ones_and_others_stay() -> None:
    merged = merged_to_one(
        [
            book("1", bids=[{"price": 1.50, "quantity": 5, "action": "update"}, {"price": 2, "quantity": 1}]),
            book("2", asks=[{"price": 1.5, "quantity": 9}]),
            book("3", bids=[{"price": 1.5, "quantity": 0, "action": "delete"}]),
        ]
    )
    update = json.loads(merged)
    assert update["timestamp"] == "3"
    assert update["changes"] == {
        "bids": [{"price": 1.5, "quantity": 0, "action": "delete"}, {"price": 2, "quantity": 1}],
        "asks": [{"price": 1.5, "quantity": 9}],
    }


def test_numbers_keep_their_digits() -> None:
    big = b"340282366920938463463374607431768211455"
    first = b'{"type":"orderbook_update","changes":{"bids":[{"price":150.450,"quantity":%d}]}}' % int(big)
    second = b'{"type":"orderbook_update","changes":{"asks":[{"price":0.10,"quantity":1.0}]}}'
    merged = merged_to_one([first, second])
    assert b'"price":150.450,"quantity":340282366920938463463374607431768211455' in merged
    assert b'"price":0.10,"quantity":1.0' in merged


def test_the_documents_book_merged_with_itself_is_itself() -> None:
    assert exact(merged_to_one([BOOK, BOOK]).decode()) == exact(BOOK.decode())


def test_what_is_not_in_the_documents_form_takes_no_changes_place() -> None:
    """Before, the newest stood for all: changes that had waited with it were lost, uncounted."""
    conflation = MarketConflation()
    for strange in (
        b'"orderbook_update"',
        b'{"type":"orderbook_update","changes":[]}',
        b"no json",
        b"[" * 9999,
    ):
        for payloads in ([strange, BOOK], [BOOK, strange], [BOOK, strange, strange, BOOK]):
            assert conflation.merge(payloads) == payloads
        first, second, third = conflation.merge([BOOK, BOOK, strange, BOOK, BOOK])
        assert (exact(first.decode()), second, exact(third.decode())) == (
            exact(BOOK.decode()), strange, exact(BOOK.decode()),
        )  # fmt: skip
        assert conflation.merge([b"null", strange]) == [strange]


def test_a_level_that_is_none_costs_nothing_but_itself() -> None:
    conflation = MarketConflation()
    small = b'{"price":0.00000010,"quantity":2}'
    update = b'{"type":"orderbook_update","changes":{"bids":[%b,%b]}}'
    good = update % (b'{"price":150.4,"quantity":1}', small)
    odd = ["[]", "null", "true", '"x"', '"NaN"', "1e9999999999999999999", '"1e9999999999999999999"', "{}"]
    levels = ",".join(f'{{"price":{price},"quantity":9}}' for price in odd)
    bad = f'{{"type":"orderbook_update","changes":{{"bids":[{levels},7,{{"price":"150.4","quantity":3}}]}}}}'
    (merged,) = conflation.merge([good, bad.encode()])
    assert merged == update % (b'{"price":"150.4","quantity":3}', small)
    assert conflation.discarded == len(odd) + 1


changes = st.lists(
    st.tuples(st.sampled_from(["bids", "asks"]), st.integers(1, 5), st.integers(0, 9)), max_size=6
)


@given(st.lists(changes, min_size=1, max_size=8))
def test_a_merged_update_leads_to_the_same_book_as_all_updates(
    updates: list[list[tuple[str, int, int]]],
) -> None:
    payloads = []
    for update in updates:
        sides: dict[str, list[dict[str, object]]] = {}
        for side, price, quantity in update:
            sides.setdefault(side, []).append({"price": price, "quantity": quantity})
        payloads.append(book("x", **sides))
    assert applied([merged_to_one(payloads)]) == applied(payloads)


def applied(payloads: list[bytes]) -> dict[tuple[str, int], int]:
    levels: dict[tuple[str, int], int] = {}
    for payload in payloads:
        for side, side_changes in json.loads(payload)["changes"].items():
            for change in side_changes:
                levels[side, change["price"]] = change["quantity"]
    return levels


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
    )
)
def test_exact_json_says_what_it_was_given(value: object) -> None:
    assert json.loads(exact_json(value)) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["price", "bids", "asks", "x"]), inner)
    ),
    max_leaves=8,
)
updates = st.fixed_dictionaries(
    {"type": st.just("orderbook_update")},
    optional={
        "changes": json_values
        | st.dictionaries(
            st.sampled_from(["bids", "asks"]),
            st.lists(st.fixed_dictionaries({}, optional={"price": json_values})),
        )
    },
)


@given(st.lists(updates, min_size=1, max_size=4))
def test_nothing_in_a_message_makes_merging_fail(messages: list[dict[str, object]]) -> None:
    for merged in MarketConflation().merge([json.dumps(message).encode() for message in messages]):
        assert isinstance(json.loads(merged), dict)


@pytest.mark.parametrize("depth", [700, 200_000])
def test_a_message_too_deep_to_write_is_not_merged(depth: int) -> None:
    deep = b'{"type":"orderbook_update","changes":{},"x":' + b"[" * depth + b"]" * depth + b"}"
    merged = MarketConflation().merge([BOOK, deep])
    # Python 3.13 writes the less deep of them.
    assert merged == [BOOK, deep] or (depth == 700 and json.loads(merged[0])["x"] == json.loads(deep)["x"])


def test_a_number_that_no_decimal_can_hold_ends_nothing() -> None:
    huge = b'{"type":"orderbook_update","changes":{"bids":[{"price":1e9999999999999999999,"size":1}]}}'
    for payloads in ([BOOK, huge], [huge, BOOK]):
        changes = json.loads(merged_to_one(payloads))["changes"]
        assert changes["bids"] == json.loads(BOOK)["changes"]["bids"]  # all but the one that is none
