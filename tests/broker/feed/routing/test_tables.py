"""Which tables feed which routes."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.feeds import FeedConfig, Fetch, Recovery, Route, Source
from broker.config.toml import configuration as toml
from broker.feed.notices import carried_channels
from broker.feed.routing.tables import TableRoutes, snapshot_tables, table_operations
from broker.feed.status import FeedStatus
from broker.feed.wal.relations import Table
from protocol.pgoutput import DELETE, INSERT, KEY, UNCHANGED, UPDATE, Column, Relation, RowChange

EXAMPLES = Path(__file__).parents[4] / "examples"
RELATION = Relation(
    1,
    "public",
    "event",
    "d",
    (Column("id", 20, key=True), Column("note", 25), Column("done", 16), Column("tags", 1009)),
)


def test_operations_are_those_of_the_routes() -> None:
    config = FeedConfig(
        name="x",
        dsn="",
        sources=(Source("a", (), tables=("public.one", "two")),),
        routes=(
            Route("a", ("x",), kind="public.one", operations=("delete", "insert")),
            Route("a", ("y",), operations=("update",)),
        ),
    )
    assert table_operations(config) == {
        "public.one": ("insert", "update", "delete"),
        "public.two": ("update",),
    }


def test_table_without_a_route_is_not_wanted() -> None:
    config = FeedConfig(
        name="x",
        dsn="",
        sources=(Source("a", (), tables=("public.one", "public.two")),),
        routes=(Route("a", ("x",), kind="public.one"),),
        recoveries=(Recovery("public.three", ("id",), (("b", "three"),)),),
    )
    assert list(table_operations(config)) == ["public.one"]


def test_tables_of_a_snapshot_are_those_of_its_routes_each_once() -> None:
    routes = (
        Route("a", ("x",), kind="two", snapshot="table"),
        Route("a", ("y",), kind="two", snapshot="SELECT 1"),
        Route("a", ("z",), kind="public.one"),
    )
    config = FeedConfig("x", "", sources=(Source("a", (), tables=("public.one", "two")),), routes=routes)
    assert snapshot_tables(config) == ["public.two"]


def test_a_table_that_is_fetched_from_comes_by_itself_and_its_notifications_do_not() -> None:
    config = FeedConfig(
        name="x",
        dsn="",
        kind="wal",
        sources=(Source("a", ("one", "two")),),
        routes=(Route("a", ("{$kind}/{id}",)),),
        fetches=(Fetch("one", ("id",), (("a", "one"),)),),
    )
    assert table_operations(config) == {"public.one": ("insert",)}
    assert carried_channels(config) == ("two",)
    routes = TableRoutes(config, FeedStatus("x"))
    (published,) = routes.publications("public.one", "insert", b'{"id":7}', 0.0, False)
    assert published[0] == b"one/7"


def test_example_for_econia_moves_to_wal_by_one_word(tmp_path: Path) -> None:
    text = (EXAMPLES / "econia.toml").read_text()
    path = tmp_path / "econia.toml"
    path.write_text(text.replace('kind = "listen"', 'kind = "wal"', 1))
    environ = {"DATABASE_URL": "dbname=econia", "PGWS_JWT_SECRET": "x" * 40}
    (config,) = toml.load(path, environ).feeds
    assert config.kind == "wal"
    assert {table.removeprefix("public.") for table in table_operations(config)} == {
        "place_limit_order_events",
        "place_market_order_events",
        "place_swap_order_events",
        "change_order_size_events",
        "cancel_order_events",
        "fill_events",
        "market_registration_events",
        "recognized_market_events",
    }
    assert carried_channels(config) == ("econiaws",)
    row = b'{"market_id":3,"user":"0xc0","custodian_id":0}'
    routes = TableRoutes(config, FeedStatus("x"))
    published = routes.publications("public.cancel_order_events", "insert", row, 0.0, False)
    assert sorted(topic for topic, *_ in published) == [
        b"$ws/econia/cancel_order_event",
        b"cancel_order/3/0xc0/0",
    ]


def test_columns_are_what_topics_need() -> None:
    table = Table(RELATION, {})
    text, columns = table.render(RowChange(INSERT, 1, [b"7", b'a"b', b"t", None]))
    assert text == b'{"id":7,"note":"a\\"b","done":true,"tags":null}'
    assert [columns[name] for name in ("id", "note", "done", "tags")] == ["7", 'a"b', True, None]
    assert "other" not in columns


def test_absent_column_is_missing_and_a_deleted_row_has_its_key_only() -> None:
    table = Table(RELATION, {})
    text, columns = table.render(RowChange(UPDATE, 1, [b"7", UNCHANGED, b"f", None]))
    assert text == b'{"id":7,"done":false,"tags":null}'
    with pytest.raises(KeyError):
        columns["note"]
    text, columns = table.render(RowChange(DELETE, 1, None, KEY, [b"7", None, None, None]))
    assert (text, columns["id"]) == (b'{"id":7}', "7")
    with pytest.raises(KeyError):
        columns["done"]
