"""Rows in messages, as a table: where they may lie, what they get from around them, and what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.config.feeds import FeedConfig, Route, Source
from broker.config.market import AddedColumn, RowsConfig
from broker.feed.routing.routes import Router
from broker.feed.routing.rowtext import NotARow
from broker.feed.status import FeedStatus
from broker.marketdata.intake import envelope
from broker.marketdata.intake.envelope import Envelope


def opened(
    config: RowsConfig, kind_path: tuple[str, ...] = (), text: bytes = b""
) -> list[tuple[str, dict[str, Any]]]:
    """Kind and columns of each row, without what routing adds."""
    row_path = config.paths[0] if config.paths and config.is_plain(kind_path) else ()
    source = Source("s", ("s",), kind_path, row_path)
    router = Router(FeedConfig("s", "", "tcp", (source,), (Route("s", ("t",)),)), FeedStatus("s"))
    rows = Envelope("s", kind_path, config).rows(router, text)
    return [(row.kind, dict(row.columns)) for row in rows]


CHANNEL = AddedColumn("symbol", (("ch",), ("e",)), "", "book_(.+)", {"btc": "BTC"})


@pytest.mark.parametrize(
    ("config", "kind_path", "message", "expected"),
    [
        (RowsConfig(), (), {"a": "1"}, [("s", {"a": "1"})]),
        (RowsConfig((("d",),)), ("k",), {"k": "x", "d": {"a": "1"}}, [("x", {"a": "1"})]),
        (RowsConfig((("d",),)), (), {"d": [{"a": "1"}, {"a": "2"}]}, [("s", {"a": "1"}), ("s", {"a": "2"})]),
        (RowsConfig((("d",),)), (), {"d": []}, []),
        (RowsConfig((("d", "[0]"),)), (), {"d": [{"a": "1"}]}, [("s", {"a": "1"})]),
        (RowsConfig((("d",), ("e",))), (), {"e": {"a": "1"}}, [("s", {"a": "1"})]),
        (RowsConfig((("d",), ("e",))), (), {"d": {"a": "2"}, "e": {"a": "1"}}, [("s", {"a": "2"})]),
        (RowsConfig(columns=("p", "", "q")), (), ["1", "x", "2", "y"], [("s", {"p": "1", "q": "2"})]),
        (RowsConfig(columns=("p",)), (), [["1"], {"a": "2"}], [("s", {"p": "1"}), ("s", {"a": "2"})]),
        (RowsConfig(columns=("p",)), (), [], []),
        (RowsConfig((("[1]",),)), ("[0]",), ["k", {"a": "1"}], [("k", {"a": "1"})]),
        (RowsConfig(added=(CHANNEL,)), (), {"ch": "book_eth"}, [("s", {"ch": "book_eth", "symbol": "eth"})]),
        (RowsConfig(added=(CHANNEL,)), (), {"e": "book_btc"}, [("s", {"e": "book_btc", "symbol": "BTC"})]),
        (RowsConfig(added=(CHANNEL,)), (), {"ch": "x"}, [("s", {"ch": "x", "symbol": None})]),
        (RowsConfig(added=(CHANNEL,)), (), {"symbol": "own"}, [("s", {"symbol": "own"})]),
        (RowsConfig(added=(AddedColumn("v", value="1"),)), (), {"v": "own"}, [("s", {"v": "1"})]),
        (
            RowsConfig((("d",),), added=(AddedColumn("n", (("n",),)),)),
            (),
            {"n": "N", "d": [{"a": "1"}, {"a": "2"}]},
            [("s", {"a": "1", "n": "N"}), ("s", {"a": "2", "n": "N"})],
        ),
    ],
)
def test_rows_lie_where_it_is_said(
    config: RowsConfig, kind_path: tuple[str, ...], message: object, expected: list[object]
) -> None:
    assert opened(config, kind_path, json.dumps(message).encode()) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b'1,"a, b",', {"p": "1", "q": "a, b", "r": None}), (b"1", {"p": "1"}), ("ü,2".encode(), {"p": "ü", "q": "2"})],
)  # fmt: skip
def test_a_line_of_csv_is_a_row(text: bytes, expected: dict[str, Any]) -> None:
    config = RowsConfig(columns=("p", "q", "r"), format="csv")
    assert opened(config, (), text) == [("s", expected)]


@pytest.mark.parametrize(
    ("config", "kind_path", "text", "reason"),
    [
        (RowsConfig(), (), b"[]", "not_an_object"),
        (RowsConfig((("d",),)), (), b'{"d":5}', "not_an_object"),
        (RowsConfig((("d",),)), (), b'{"d":[5]}', "not_an_object"),
        (RowsConfig((("d",), ("e",))), (), b'{"d":5}', "no_row"),
        (RowsConfig((("d",), ("e",))), (), b"{", "not_json"),
        (RowsConfig((("d",), ("e",))), (), b"\xff", "not_utf8"),
        (RowsConfig((("[1]",),)), ("[0]",), b'[null,{"a":1}]', "no_kind"),
        (RowsConfig((("[1]",),)), ("[5]",), b'["k",{"a":1}]', "no_kind"),
        (RowsConfig((("d",), ("e",))), (), b'{"d":[["1"]]}', "not_an_object"),
        (RowsConfig(columns=("p",), format="csv"), (), b'"a', "not_csv"),
        (RowsConfig(columns=("p",), format="csv"), (), b'"a"b', "not_csv"),
        (RowsConfig(columns=("p",), format="csv"), (), b"a\rb", "not_csv"),
    ],
)
def test_what_is_no_row_has_a_reason(
    config: RowsConfig, kind_path: tuple[str, ...], text: bytes, reason: str
) -> None:
    with pytest.raises(NotARow) as refused:
        opened(config, kind_path, text)
    assert refused.value.reason == reason


@pytest.mark.parametrize("config", [RowsConfig((("d",),)), RowsConfig((("d",), ("e",)))])
def test_a_message_has_only_so_many_rows(config: RowsConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "ROWS_MAX", 2)
    assert len(opened(config, (), b'{"d":[{},{}]}')) == 2
    with pytest.raises(NotARow) as refused:
        opened(config, (), b'{"d":[{},{},{}]}')
    assert refused.value.reason == "too_many_rows"


@pytest.mark.parametrize(
    ("config", "kind_path", "takes_arrays", "is_bare"),
    [
        (RowsConfig(), (), False, True),
        (RowsConfig(), ("k",), False, False),
        (RowsConfig((("d",),)), (), False, False),
        (RowsConfig(added=(AddedColumn("v", value="1"),)), (), False, False),
        (RowsConfig(columns=("p",)), (), True, False),
        (RowsConfig((("d",),), columns=("p",)), (), False, False),
        (RowsConfig((("[1]",),)), (), True, False),
        (RowsConfig(), ("[0]",), True, False),
        (RowsConfig(added=(AddedColumn("v", (("[0]",),)),)), (), True, False),
        (RowsConfig(columns=("p",), format="csv"), (), True, False),
    ],
)
def test_what_a_message_is(
    config: RowsConfig, kind_path: tuple[str, ...], takes_arrays: bool, is_bare: bool
) -> None:
    made = Envelope("s", kind_path, config)
    assert (made.takes_arrays, made.is_bare) == (takes_arrays, is_bare)
