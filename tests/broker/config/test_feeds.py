"""What of a feed a reload may take over: all that needs no new connection, the same database however it is written."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from broker.config.feeds import FEED_KINDS, FeedConfig, Fetch, Recovery, Route, Source

OLD = FeedConfig("main", "postgres://reader:old@db/shop", sources=(Source("a", ("a",)),))


@pytest.mark.parametrize(
    "dsn",
    [
        "postgres://reader:new@db/shop",
        "postgres://reader@db/shop",
        "host=db dbname=shop user=reader password=new",
        "host=db dbname=shop user=reader sslcert=/c sslkey=/k sslrootcert=/r sslcrl=/l passfile=/p sslpassword=x",
    ],
)
def test_other_credentials_for_the_same_database_are_taken(dsn: str) -> None:
    assert OLD.adopting(evolve(OLD, dsn=dsn)).dsn == dsn


@pytest.mark.parametrize(
    "dsn",
    [
        "postgres://writer:old@db/shop",
        "postgres://reader:old@other/shop",
        "postgres://reader:old@db/other",
        "postgres://reader:old@db:5433/shop",
        "postgres://reader:old@db/shop?sslmode=require",
    ],
)
def test_another_database_is_not(dsn: str) -> None:
    assert OLD.adopting(evolve(OLD, dsn=dsn)).dsn == OLD.dsn


@pytest.mark.parametrize(
    ("name", "value", "is_taken"),
    [
        ("routes", (Route("a", ("t",)),), True),
        ("check_interval_s", 1.0, True),
        ("check_timeout_s", 1.0, True),
        ("sources", (), False),
        ("recoveries", (Recovery("t", ("k",), ()),), False),
        ("fetches", (Fetch("t", ("k",), ()),), False),
        ("name", "other", False),
        ("kind", "wal", False),
    ],
)
def test_what_needs_a_new_connection_is_left(name: str, value: Any, is_taken: bool) -> None:
    adopted = OLD.adopting(evolve(OLD, **{name: value}))
    assert adopted == (evolve(OLD, **{name: value}) if is_taken else OLD)


def test_only_listen_has_no_place_to_go_on_from() -> None:
    kinds = {name: evolve(OLD, kind=name) for name in FEED_KINDS}
    assert {name: feed.keeps_place for name, feed in kinds.items()} == {
        "listen": False, "wal": True, "outbox": True,
    }  # fmt: skip
    assert {name: feed.captures_by for name, feed in kinds.items()} == {
        "listen": "", "wal": "publication", "outbox": "trigger",
    }  # fmt: skip


def test_tables_that_are_read_by_key_are_those_of_both() -> None:
    recovery, fetch = Recovery("r", ("k",), ()), Fetch("f", ("k",), ())
    assert evolve(OLD, recoveries=(recovery,), fetches=(fetch,)).keyed_tables == (recovery, fetch)


def test_connection_strings_are_not_shown() -> None:
    assert "old@" not in repr(OLD)
