"""Which tables may have been silent: those of which a trigger that was there is not as it was."""

from __future__ import annotations

import pytest
from support.installed import connect

from broker.config.feeds import FeedConfig, Recovery, Route, Source
from broker.feed.driver.connect import connected
from broker.feed.listen.telling import Telling, Triggers


@pytest.mark.parametrize(
    ("known", "now", "silenced"),
    [
        (None, {"a": ["1"]}, []),
        ({"a": ["1"]}, {"a": ["1"]}, []),
        ({"a": ["1"]}, {"a": ["1", "2"]}, []),
        ({"a": ["1"]}, {"a": []}, ["a"]),
        ({"a": ["1", "2"]}, {"a": ["2"]}, ["a"]),
        ({"a": ["1/7/O"]}, {"a": ["1/8/O"]}, ["a"]),
        ({"a": [], "b": ["1"]}, {"a": [], "b": ["2"]}, ["b"]),
        ({"a": ["1"]}, {"a": ["1"], "b": ["2"]}, []),
        ({"a": ["1", "function/5/7"]}, {"a": ["1", "function/5/8"]}, ["a"]),
    ],
)
def test_a_trigger_or_function_that_was_touched_may_have_been_silent(
    known: Triggers | None, now: Triggers, silenced: list[str]
) -> None:
    telling = Telling([Recovery("a", ("id",), ()), Recovery("b", ("id",), ())])
    telling.known = known
    assert telling.silenced(now) == silenced
    assert telling.known == known, "looking changes nothing"
    assert telling.take(now) == silenced
    assert telling.take(now) == [], "said once"


def test_of_a_table_that_is_not_there_the_triggers_of_before_are_known() -> None:
    """So that one is noticed that was off meanwhile."""
    telling = Telling([Recovery("a", ("id",), ()), Recovery("b", ("id",), ())])
    telling.known = {"a": ["1/7/O"], "b": ["2"], "no table of ours any more": ["3"]}
    assert telling.take({"b": ["2"]}) == []
    assert telling.known == {"a": ["1/7/O"], "b": ["2"]}
    assert telling.take({"a": ["1/8/O"], "b": ["2"]}) == ["a"]


TELL = """CREATE OR REPLACE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_notify('event', row_to_json(NEW)::text); RETURN NULL; END $$"""
SILENT = "CREATE OR REPLACE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
ELSEWHERE = "ALTER FUNCTION tell() SET search_path = elsewhere"


@pytest.mark.parametrize(
    ("act", "is_silenced"),
    [
        ("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO PUBLIC", False),
        ("GRANT EXECUTE ON FUNCTION tell() TO pg_monitor", False),
        (TELL, False),
        (SILENT, True),
        (ELSEWHERE, True),
    ],
    ids=["rights as they were", "other rights", "made as it was", "silent", "other names"],
)
async def test_a_function_that_does_what_it_did_is_not_silent(
    database: str, act: str, is_silenced: bool
) -> None:
    with connect(database) as writer:
        writer.execute("CREATE TABLE event (id bigint PRIMARY KEY)")
        writer.execute(TELL)
        writer.execute("CREATE TRIGGER tell AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION tell()")
        recovery = Recovery("public.event", ("id",), (("events", "event"),))
        config = FeedConfig(
            name="test",
            dsn=database,
            sources=(Source("events", ("event",)),),
            routes=(Route("events", ("event/{id}",)),),
            recoveries=(recovery,),
        )
        telling = Telling(config.recoveries)
        async with connected(config) as connection:
            telling.take(await telling.look(connection))
            writer.execute(act)
            silenced = telling.silenced(await telling.look(connection))
    assert silenced == ["public.event"] * is_silenced
