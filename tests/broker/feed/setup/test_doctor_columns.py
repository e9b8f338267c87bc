"""What the doctor says about columns that routes name."""

from __future__ import annotations

import pytest
from attrs import evolve
from support.doctored import as_kind, sql, texts
from support.installed import feed_config, install

from broker.config.feeds import Route

ROUTE = Route("tables", ("event/{id}",), where="rowcast.toml:12")


@pytest.mark.parametrize("kind", ["wal", "outbox", "listen"])
@pytest.mark.parametrize(
    ("route", "says"),
    [
        (
            evolve(ROUTE, topics=("event/{nte}",)),
            "rowcast.toml:12: public.event has no column nte; did you mean note?",
        ),
        (evolve(ROUTE, once_per=("ID",)), "rowcast.toml:12: public.event has no column ID; did you mean"),
        (
            evolve(ROUTE, topics=("a/{payload.temp}",)),
            "public.event has no column payload; it has id, note, tags",
        ),
        (evolve(ROUTE, topics=("a/{note.temp}",)), "note of public.event is text, which has no members"),
        (evolve(ROUTE, topics=("a/{tags.temp}/{$kind}",)), ""),
    ],
)
def test_column_that_the_table_lacks_is_named_with_the_right_one(
    dsn: str, kind: str, route: Route, says: str
) -> None:
    sql(dsn, "ALTER TABLE event ADD tags jsonb")
    config = evolve(as_kind(dsn, kind), routes=(route,))
    install(config)
    said = texts(config)
    assert says in said
    assert bool(says) == bool(said), said


def test_generated_column_is_in_no_wal(dsn: str) -> None:
    sql(dsn, "ALTER TABLE event ADD size int GENERATED ALWAYS AS (length(note)) STORED")
    route = evolve(ROUTE, topics=("event/{size}",))
    for kind, says in (("wal", "size of public.event is a generated column"), ("outbox", "")):
        config = feed_config(dsn, kind, routes=(route,))
        install(config)
        assert says in texts(config)
        assert bool(says) == bool(texts(config))


def test_topics_of_deletes_need_what_deletes_bring(dsn: str) -> None:
    route = evolve(ROUTE, topics=("event/{id}/{note}",), operations=("insert", "delete"))
    config = feed_config(dsn, routes=(route,))
    install(config)
    assert "deletes of public.event come without note" in texts(config, "unwise")
    assert "without id" not in texts(config, "unwise")
    sql(dsn, "ALTER TABLE event REPLICA IDENTITY FULL")
    assert "come without" not in texts(config, "unwise")
