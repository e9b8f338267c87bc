"""What the doctor says of functions that somebody has altered, and of those of an earlier version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from support.doctored import said, undone
from support.installed import feed_config

from broker.feed.cures import INSTALL
from broker.feed.setup.doctor_publish import check_altered, check_properties
from broker.feed.setup.findings import Examination

Undoing = psycopg.Connection[Any]

LOSES = "{} is not as Rowcast has made it: rows or messages are lost"


@pytest.fixture
def undoing(outbox_database: str) -> Iterator[Undoing]:
    with undone(outbox_database) as connection:
        yield connection


RULE = "CREATE RULE greedy AS ON INSERT TO rowcast.outbox DO INSTEAD NOTHING"
TRIGGER = (
    "CREATE TRIGGER greedy BEFORE INSERT ON rowcast.outbox FOR EACH ROW"
    " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
)
FUNCTION = "CREATE OR REPLACE FUNCTION rowcast.{} LANGUAGE {} AS $$ {} $$"
MARK = FUNCTION.format("outbox_mark() RETURNS void", "sql", "SELECT")
PUBLISH = "ALTER FUNCTION rowcast.publish(text, text, integer, boolean, jsonb) SECURITY INVOKER"


@pytest.mark.parametrize(
    ("kind", "statement", "expected"),
    [
        ("outbox", "SELECT 1", []),
        ("outbox", RULE, [("the rule greedy of rowcast.outbox", "drop it")]),
        ("wal", RULE, []),
        ("outbox", TRIGGER, [("the trigger greedy of rowcast.outbox", "drop it")]),
        ("outbox", MARK, [("rowcast.outbox_mark()", INSTALL)]),
        ("outbox", PUBLISH, [("rowcast.publish(text,text,integer,boolean,jsonb)", INSTALL)]),
        ("wal", PUBLISH, [("rowcast.publish(text,text,integer,boolean,jsonb)", INSTALL)]),
        ("wal", "DROP SCHEMA rowcast CASCADE", []),
    ],
    ids=["as made", "rule", "rule elsewhere", "trigger", "mark", "publish", "publish wal", "nothing"],
)
def test_what_was_altered_is_named_with_its_cure(
    undoing: Undoing, kind: str, statement: str, expected: list[tuple[str, str]]
) -> None:
    undoing.execute(statement)
    if statement == PUBLISH:
        undoing.execute(
            "ALTER FUNCTION rowcast.publish(text, text, integer, boolean, jsonb) SET search_path = public"
        )
    examination = Examination(undoing, feed_config("user=postgres", kind))
    assert said(check_altered, examination) == [
        ("wrong", LOSES.format(what), cure) for what, cure in expected
    ]


def test_publish_without_properties_is_of_an_earlier_version(undoing: Undoing) -> None:
    examination = Examination(undoing, feed_config("user=postgres"))
    assert said(check_properties, examination) == []
    undoing.execute("DROP FUNCTION rowcast.publish_properties")
    undoing.execute("CREATE FUNCTION publish_properties() RETURNS void LANGUAGE sql AS 'SELECT'")
    assert said(check_properties, examination) == [
        ("unwise", "rowcast.publish() is of an earlier version, which takes no properties", INSTALL)
    ]
