"""What the doctor says of the kind `outbox`."""

from __future__ import annotations

import pytest
from support.doctored import findings, sql, texts
from support.installed import feed_config, install


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DROP TRIGGER rowcast_capture ON event", "its rows are not seen"),
        ("ALTER TABLE event DISABLE TRIGGER rowcast_capture", "is disabled"),
        ("ALTER TABLE rowcast.outbox_commit DISABLE TRIGGER outbox_number", "not numbered at their commit"),
        ("DELETE FROM rowcast.feed", "does not know the feed test"),
        ("DROP TABLE rowcast.outbox_pruned", "rowcast.outbox_pruned is missing"),
        ("DELETE FROM rowcast.outbox_pruned", "rowcast.outbox_pruned is empty"),
    ],
)
def test_doctor_names_what_is_wrong_with_an_outbox_feed(dsn: str, statement: str, says: str) -> None:
    config = feed_config(dsn, "outbox")
    install(config)
    assert not findings(config)
    sql(dsn, statement)
    assert says in texts(config)


def test_the_trigger_of_a_partition_that_is_off_is_seen_and_an_installation_turns_it_on(
    database: str,
) -> None:
    sql(
        database,
        "CREATE TABLE event (id bigint PRIMARY KEY, note text) PARTITION BY RANGE (id)",
        "CREATE TABLE event_a PARTITION OF event FOR VALUES FROM (0) TO (100)",
    )
    config = feed_config(database, "outbox")
    install(config)
    assert texts(config) == ""
    sql(database, "ALTER TABLE event_a DISABLE TRIGGER rowcast_capture")
    assert "the trigger of event_a, a partition of public.event, is disabled" in texts(config)
    install(config)
    assert texts(config) == ""
