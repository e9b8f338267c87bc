"""What the doctor says of the kind `listen`."""

from __future__ import annotations

import pytest
from support.doctored import as_kind, findings, listen_config, sql, texts
from support.installed import install

from broker.config.feeds import Fetch, Recovery


def test_doctor_examines_a_listen_feed(dsn: str) -> None:
    config = listen_config(dsn)
    assert "no function here notifies channel fill" in texts(config, "unwise")
    sql(
        dsn,
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_notify('fill', row_to_json(NEW)::text); RETURN NULL; END $$",
    )
    assert not findings(config)
    assert "channel fill" not in texts(config, "unwise")
    assert "can be read again by (id)" in texts(config, "fine")


@pytest.mark.parametrize(
    ("recovery", "level", "says"),
    [
        (Recovery("public.nothing", ("id",), ()), "wrong", "there is no table public.nothing"),
        (Recovery("public.event", ("id", "other"), ()), "wrong", "has not all of the columns id, other"),
        (Recovery("public.event", ("note",), ()), "unwise", "has no index on (note)"),
    ],
)
def test_doctor_examines_recovery(dsn: str, recovery: Recovery, level: str, says: str) -> None:
    assert says in texts(listen_config(dsn, recoveries=(recovery,)), level)


@pytest.mark.parametrize(
    ("key", "level", "says"),
    [
        (("id",), "fine", "public.event can be looked up by (id)"),
        (("note", "id"), "fine", "public.event can be looked up by (note, id)"),
        (("id", "other"), "wrong", "has not all of the columns id, other"),
        (("note",), "unwise", "has no unique index on (note)"),
    ],
)
def test_doctor_examines_what_is_fetched(dsn: str, key: tuple[str, ...], level: str, says: str) -> None:
    sql(dsn, "CREATE INDEX ON event (note)", "CREATE UNIQUE INDEX ON event (lower(note))")
    assert says in texts(listen_config(dsn, fetches=(Fetch("public.event", key, ()),)), level)


def test_place_that_is_not_kept_is_seen_for_listen(dsn: str) -> None:
    config = as_kind(dsn, "listen")
    assert "how far the feed got is not kept" in texts(config, "unwise")
    install(config)
    assert "how far the feed got" not in texts(config, "unwise")
