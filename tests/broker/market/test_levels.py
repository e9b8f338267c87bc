"""What the words of a source's rows mean, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from broker.market.levels import (
    DepthNames,
    Said,
    action_of,
    is_one_level,
    level_of,
    level_said,
    said_of,
)
from broker.market.numbers import BadValue

ACTIONS = {"0": "whole", "true": "remove", "false": "set", "match": "reduce"}


@pytest.mark.parametrize(
    ("word", "actions", "expected"),
    [
        ("snapshot", None, "whole"),
        ("partial", None, "whole"),
        ("update", None, "set"),
        (None, None, "set"),
        (["snapshot"], None, "set"),
        ("0", ACTIONS, "whole"),
        ("match", ACTIONS, "reduce"),
        (True, ACTIONS, "remove"),
        (False, ACTIONS, "set"),
        (None, ACTIONS, "set"),
    ],
)
def test_an_action_is_that_of_the_word(word: object, actions: dict[str, str] | None, expected: str) -> None:
    row = {} if word is None else {"what": word}
    assert action_of(row, DepthNames(action="what", actions=actions)) == expected


@pytest.mark.parametrize("word", ["snapshot", ["0"], {}])
def test_a_word_that_the_source_was_not_said_to_have_is_refused(word: object) -> None:
    with pytest.raises(BadValue, match=r"^unknown_action$"):
        action_of({"type": word}, DepthNames(actions=ACTIONS))


@pytest.mark.parametrize(
    ("level", "names", "side", "expected"),
    [
        (["1", "2"], {}, 1, (1, "1", "2", None)),
        (["sell", "1", "2"], {}, 0, (-1, "1", "2", None)),
        ({"side": "buy", "price": "1", "size": "2"}, {}, 0, (1, "1", "2", None)),
        # A list of one side decides, whatever the level says of itself.
        ({"side": "buy", "price": "1", "size": "2"}, {}, -1, (-1, "1", "2", None)),
        ({"price": "1", "size": "2"}, {}, 0, (0, "1", "2", None)),
        (["7", "1", "9", "2"], {"id": "n", "level": ["n", "price", "", "size"]}, 1, (1, "1", "2", "7")),
        (["1", "-2"], {"is_signed": True}, 1, (-1, "1", "2", None)),
        (["1", "2"], {"is_signed": True}, 1, (1, "1", "2", None)),
        (["1", "0", "5"], {"level": ["price", "count", "size"], "removed_by": "count"}, 1, (1, "1", "0", None)),
        (["1", "0.00", "5"], {"level": ["price", "count", "size"], "removed_by": "count"}, 1, (1, "1", "0", None)),
        (["1", "0e3", "5"], {"level": ["price", "count", "size"], "removed_by": "count"}, 1, (1, "1", "0", None)),
        (["1", "10", "5"], {"level": ["price", "count", "size"], "removed_by": "count"}, 1, (1, "1", "5", None)),
        (["1", None, "5"], {"level": ["price", "count", "size"], "removed_by": "count"}, 1, (1, "1", "5", None)),
    ],
)  # fmt: skip
def test_a_level_says_side_price_and_size_in_any_form(
    level: object, names: dict[str, Any], side: int, expected: tuple[object, ...]
) -> None:
    said = said_of(level, DepthNames(**names), side)
    assert (said.side, said.price, said.size, said.id) == expected


@pytest.mark.parametrize("text", ["", "-", ".", "0.0.0", "-.", "x"])
def test_only_a_number_that_is_zero_removes(text: str) -> None:
    names = DepthNames(level=["price", "count", "size"], removed_by="count")
    assert said_of(["1", text, "5"], names, 1).size == "5"


@pytest.mark.parametrize(
    ("level", "side", "reason"),
    [
        (["1"], 1, "bad_level"),
        (["1", "2"], 0, "bad_level"),
        ("1", 1, "bad_level"),
        (None, 1, "bad_level"),
        (["up", "1", "2"], 0, "bad_side"),
    ],
)
def test_what_is_no_level_is_refused(level: object, side: int, reason: str) -> None:
    with pytest.raises(BadValue, match=f"^{reason}$"):
        said_of(level, DepthNames(), side)


@pytest.mark.parametrize(
    ("price", "size", "reason"),
    [
        (None, "1", "missing_price"),
        ("1", None, "missing_size"),
        ("1", "-0.1", "negative_size"),
        ("x", "1", "not_a_number"),
        ("1", 1, "not_a_number"),
    ],
)
def test_a_level_without_a_number_is_refused(price: object, size: object, reason: str) -> None:
    with pytest.raises(BadValue, match=f"^{reason}$"):
        level_of(price, size)


def test_prices_may_be_below_zero_and_sizes_zero() -> None:
    price, size = level_of("-1.5", "0.0")
    assert (price.text, size.units) == ("-1.5", 0)


def test_a_removal_needs_no_size_and_a_reduction_is_an_orders() -> None:
    assert level_said(Said(1, "1", None, None), "remove")[1].units == 0
    assert level_said(Said(1, "1", "2", None), "set")[1].text == "2"
    with pytest.raises(BadValue, match=r"^no_id$"):
        level_said(Said(1, "1", "2", None), "reduce")
    with pytest.raises(BadValue, match=r"^bad_side$"):
        level_said(Said(0, "1", "2", None), "set")


@pytest.mark.parametrize(
    ("changes", "expected"), [(["1", "2"], True), ([["1", "2"]], False), ([{"price": "1"}], False), ([], False)]
)  # fmt: skip
def test_one_level_is_told_from_a_list_of_them(changes: list[object], expected: bool) -> None:
    assert is_one_level(changes) == expected


@pytest.mark.parametrize(
    "more", [{"level": ["price", "size"]}, {"removed_by": "count"}, {"is_signed": True}, {"id": "order"}]
)
def test_a_source_of_pairs_alone_is_plain(more: dict[str, Any]) -> None:
    assert DepthNames(changes="c", actions=ACTIONS).is_plain
    assert not DepthNames(**more).is_plain
