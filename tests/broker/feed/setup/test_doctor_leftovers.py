"""What the doctor finds of other times."""

from __future__ import annotations

import pytest
from attrs import evolve
from support.doctored import as_kind, sql, texts
from support.installed import feed_config, install

from broker.config.feeds import Route, Source

LEFT_BY = {
    "wal": ["the slot rowcast_test_", "the publications rowcast_test, "],
    "outbox": ["fills the outbox"],
}


@pytest.mark.parametrize(
    ("before", "after"),
    [("wal", "outbox"), ("wal", "listen"), ("outbox", "wal"), ("outbox", "listen")],
)
def test_leftovers_of_another_kind_are_seen_and_an_installation_takes_them(
    dsn: str, before: str, after: str
) -> None:
    install(as_kind(dsn, before))
    config = as_kind(dsn, after)
    said = texts(config)
    assert all(what in said for what in LEFT_BY[before]), said
    install(config)
    assert texts(config) == ""


def test_leftovers_of_a_former_name_are_seen(dsn: str) -> None:
    install(feed_config(dsn, name="shop"))
    config = feed_config(dsn, name="main")
    install(config)
    said = texts(config, "unwise")
    assert "the slot rowcast_shop_" in said
    assert "pg_drop_replication_slot('rowcast_shop_" in said
    assert texts(config) == ""
    sql(
        dsn,
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'rowcast_shop%'",
    )
    assert 'DROP PUBLICATION "rowcast_shop_update"' in texts(config, "unwise")


def test_feed_that_reads_the_outbox_no_more_is_seen(dsn: str) -> None:
    for name in ("shop", "main"):
        install(feed_config(dsn, "outbox", name=name))
    sql(dsn, "INSERT INTO event VALUES (1, 'a')")
    assert "1 transactions for the feed shop" in texts(feed_config(dsn, "outbox", name="main"), "unwise")


def test_trigger_of_a_table_that_no_route_names_any_more_is_seen(dsn: str) -> None:
    sql(dsn, "CREATE TABLE other (id bigint PRIMARY KEY)")
    config = feed_config(dsn, "outbox")
    both = evolve(
        config,
        sources=(Source("tables", (), tables=("public.event", "public.other")),),
        routes=(*config.routes, Route("tables", ("other/{id}",), kind="public.other")),
    )
    install(both)
    assert "the trigger of public.other fills the outbox" in texts(config)
    install(config)
    assert texts(config) == ""
