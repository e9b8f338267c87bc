"""What the doctor says of the kind `wal`."""

from __future__ import annotations

import pytest
from support.columns_and_rows import TABLE, has_lists
from support.doctored import findings, sql, texts
from support.installed import feed_config, install

from broker.config.feeds import Replication, Route


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()",
            "there is no slot rowcast_test",
        ),
        ("DROP PUBLICATION rowcast_test", "there is no publication rowcast_test"),
        ("ALTER PUBLICATION rowcast_test DROP TABLE event", "lacks the table public.event"),
        ("ALTER PUBLICATION rowcast_test SET (publish = 'delete')", "leaves out inserts"),
        ("DROP TABLE event", "there is no table public.event"),
        ("DROP SCHEMA rowcast CASCADE", "the schema rowcast is missing"),
        ("ALTER TABLE event REPLICA IDENTITY NOTHING", "updating or deleting its rows fails"),
    ],
)
def test_doctor_names_what_is_wrong_with_a_wal_feed(dsn: str, statement: str, says: str) -> None:
    route = Route("tables", ("e/{id}",), operations=("insert", "update"))
    config = feed_config(dsn, routes=(route,))
    install(config)
    assert not findings(config)
    sql(dsn, statement)
    assert says in texts(config)


def test_doctor_names_unbounded_wal(dsn: str) -> None:
    config = feed_config(dsn, replication=Replication())
    install(config)
    assert "max_slot_wal_keep_size is unlimited" in texts(config)


def test_hand_made_list_that_leaves_out_what_a_route_names_is_said(database: str) -> None:
    config = feed_config(database, routes=(Route("tables", ("event/{status}",), where="rowcast.toml:12"),))
    sql(config.dsn, TABLE)
    if not has_lists(config):
        pytest.skip("no lists of columns before PostgreSQL 15")
    install(config)
    sql(config.dsn, "ALTER PUBLICATION rowcast_test SET TABLE event (id)")
    assert "rowcast.toml:12 names status of public.event, which the publication leaves out" in texts(config)
