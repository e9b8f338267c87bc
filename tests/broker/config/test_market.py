"""What calculators are called, and what of their sources can be told without reading them."""

from __future__ import annotations

import pytest
from attrs import evolve

from broker.config.feeds import FeedConfig
from broker.config.market import DepthConfig, Intake, MarketConfig, RowsConfig, Tap, shown_name


@pytest.mark.parametrize(
    ("rows", "kind_path", "expected"),
    [
        (RowsConfig(), (), True),
        (RowsConfig((("data", "row"),)), ("type",), True),
        (RowsConfig((("data", "[0]"),)), (), False),
        (RowsConfig((("data",),)), ("[0]",), False),
        (RowsConfig((("a",), ("b",))), (), False),
        (RowsConfig(columns=("price",)), (), False),
        (RowsConfig(format="csv"), (), False),
    ],
)
def test_rows_are_plain_if_names_alone_find_them(
    rows: RowsConfig, kind_path: tuple[str, ...], expected: bool
) -> None:
    assert rows.is_plain(kind_path) == expected


def test_a_tap_s_key_is_that_of_what_it_takes_wherever_it_stands() -> None:
    tap = Tap("trades", (("depth", 0),))
    assert evolve(tap, calculators=(("kline", 4), ("depth", 1))).key == tap.key
    others = [
        evolve(tap, source="other"),
        evolve(tap, kind="x"),
        evolve(tap, kind=""),
        evolve(tap, is_removal=True),
        evolve(tap, part="x"),
        evolve(tap, snapshot="x"),
    ]
    assert len({one.key for one in (tap, *others)}) == 7


def test_a_calculator_has_its_name_or_its_kind_and_number() -> None:
    assert shown_name("depth", 0, DepthConfig("s")) == "market.depth"
    assert shown_name("depth", 1, DepthConfig("s")) == "market.depth2"
    assert shown_name("depth", 1, DepthConfig("s", name="book")) == "market.book"


def test_a_source_alone_is_a_use() -> None:
    assert not MarketConfig().is_used
    assert MarketConfig(taps=(Tap("s", ()),)).is_used
    assert MarketConfig(intakes=(Intake("tcp", FeedConfig("s", "")),)).is_used
