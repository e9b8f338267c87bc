"""What the doctor says of notifications that a `wal` or `outbox` feed carries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.doctored import said, undone
from support.installed import feed_config

from broker.config.feeds import FeedConfig, Route, Source
from broker.feed.cures import INSTALL
from broker.feed.setup.doctor_notices import check_notices
from broker.feed.setup.findings import Examination
from broker.feed.setup.install_notices import notice_steps
from broker.feed.setup.steps import base_step

SAYS = "CREATE OR REPLACE FUNCTION {}() RETURNS void LANGUAGE sql AS $$ SELECT pg_notify('plain', '') $$"


@pytest.fixture
def undoing(kept_database: str) -> Iterator[psycopg.Connection[Any]]:
    with undone(kept_database, base_step().statement) as connection:
        yield connection


def listening(kind: str) -> FeedConfig:
    source = Source("events", ("plain", "loud"))
    return feed_config("", kind, sources=(source,), routes=(Route("events", ("e/{id}",)),))


@pytest.mark.parametrize("kind", ["wal", "outbox"])
def test_way_of_notifications_is_followed(undoing: psycopg.Connection[Any], kind: str) -> None:
    examination = Examination(undoing, listening(kind))
    undoing.execute(SAYS.format("says"))
    assert said(check_notices, examination) == [
        ("wrong", "nothing brings notifications on plain, loud to the feed", INSTALL)
    ]
    for _, statement in notice_steps(listening(kind)):
        undoing.execute(statement)
    undoing.execute(SAYS.format("shouts"))
    heard = ("fine", "notifications on plain, loud come with the rows; says() send them", "")
    missed = ("wrong", "shouts() calls pg_notify, which only those hear who LISTEN", INSTALL)
    assert said(check_notices, examination) == [missed, heard]
    undoing.execute("DROP FUNCTION says")
    assert said(check_notices, examination) == [missed]


def test_feed_that_carries_none_is_not_asked(undoing: psycopg.Connection[Any]) -> None:
    undoing.execute(SAYS.format("says"))
    for config in (evolve(listening("wal"), kind="listen"), feed_config("")):
        assert said(check_notices, Examination(undoing, config)) == []
