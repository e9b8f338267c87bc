"""[database] and its routes together: what nothing takes, and what a kind of feed can say of its rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.toml_files import ECONIA, mistakes, read


def test_sources_and_kinds_that_nothing_takes_are_mistakes(tmp_path: Path) -> None:
    unrouted = ECONIA.replace('from = "events"\ntopics', 'from = "events"\nkind = "fill"\ntopics')
    assert mistakes(tmp_path, unrouted) == [
        "11: no route takes cancel of events: add a route, or don't listen to it"
    ]
    unused = ECONIA + '[source.more]\nlisten = "more"\n'
    assert mistakes(tmp_path, unused) == ["34: no route takes anything from more: add a route, or remove it"]
    twice = ECONIA + '[[mqtt.route]]\nfrom = "events"\ntopics = ["{$kind}/{market_id}"]\n'
    assert mistakes(tmp_path, twice) == [
        "34: the same route as on line 24: it would publish everything twice"
    ]


def test_a_database_that_nothing_is_taken_from_is_a_mistake(tmp_path: Path) -> None:
    text = ECONIA[: ECONIA.index("[websocket.econia]")].replace('"econia", ', "")
    assert mistakes(tmp_path, text) == [
        "1: nothing is taken from the database: add [source.NAME], or [[mqtt.sink]] to write to it"
    ]
    by_sql = text.replace("[database]", '[database]\nkind = "wal"')  # `rowcast.publish()` needs no source
    assert read(tmp_path, by_sql).feeds[0].sources == ()


def document(
    kind: str = "wal", source: str = 'tables = "public.a"', route: str = "", topics: str = '"t"'
) -> str:
    return f"""[[listener]]
port = 1883
[database]
dsn = "dbname=x"
kind = "{kind}"
[source.a]
{source}
[[mqtt.route]]
from = "a"
topics = {topics}
{route}
"""


LISTENS = {"kind": "listen", "source": 'listen = "a"'}
ASKS = {"kind": "listen", "source": 'query = "SELECT 1 AS id"\nkey = "id"'}
KINDS = 'only for the database kinds "wal" and "outbox"'
KNOWN = 'is known only with the database kinds "wal" and "outbox"'


@pytest.mark.parametrize(
    ("route", "is_told_of_a_query"),
    [
        ('operations = ["insert", "delete"]', False),
        ("operation = true", False),
        ('retain = true\noperations = "delete"\ndelete_clears = true', False),
        ("position = true", True),
        ('snapshot = "table"', True),
    ],
)
def test_what_a_row_s_source_does_not_know_can_t_be_asked_for(
    tmp_path: Path, route: str, is_told_of_a_query: bool
) -> None:
    envelope = f'body = "envelope"\n{route}'
    assert len(read(tmp_path, document(route=envelope)).feeds[0].routes) == 1
    names = {line.partition(" ")[0] for line in route.splitlines()} - {"retain"}
    told = {mistake.partition(": ")[2] for mistake in mistakes(tmp_path, document(route=envelope, **LISTENS))}
    assert told == {f"{name}: {KINDS}" for name in names}
    if is_told_of_a_query:
        told = {
            mistake.partition(": ")[2] for mistake in mistakes(tmp_path, document(route=envelope, **ASKS))
        }
        assert told == {f"{name}: {KINDS}" for name in names}
    else:
        market = read(tmp_path, document(route=envelope, **ASKS)).market
        assert market is not None
        assert len(market.intakes[0].feed.routes) == 1


def test_what_was_done_to_a_row_may_be_a_level_where_it_is_known(tmp_path: Path) -> None:
    topics = '"t/{$operation}"'
    assert read(tmp_path, document(topics=topics)).feeds
    assert read(tmp_path, document(topics=topics, **ASKS)).market is not None
    assert mistakes(tmp_path, document(topics=topics, **LISTENS)) == [f"8: topics: {{$operation}} {KNOWN}"]


def test_a_position_is_a_property_only_where_a_feed_has_one(tmp_path: Path) -> None:
    route = 'content_type = "{$operation}"\nuser_properties = { at = "{$position}" }'
    assert read(tmp_path, document(route=route)).feeds
    assert mistakes(tmp_path, document(route=route, **ASKS)) == [
        f"13: user_properties: {{$position}} {KNOWN}"
    ]
    told = [f"11: content_type: {{$operation}} {KNOWN}", f"12: user_properties: {{$position}} {KNOWN}"]
    assert mistakes(tmp_path, document(route=route, **LISTENS)) == told


CLEARS = 'delete_clears: only with `retain = true` and "delete" among the operations'


@pytest.mark.parametrize(
    ("route", "what"),
    [
        ('operations = "delete"\ndelete_clears = true', CLEARS),
        ("retain = true\ndelete_clears = true", CLEARS),
        (
            'body = "raw"\ncolumns = "a"',
            'columns: body "raw" is the whole text, in which no column is left out: use "row" or "envelope"',
        ),
        ("position = true", 'position: a row\'s own text has no room for it: use body "envelope"'),
        ("operation = true", 'operation: a row\'s own text has no room for it: use body "envelope"'),
    ],
)  # fmt: skip
def test_keys_that_can_t_be_together(tmp_path: Path, route: str, what: str) -> None:
    line = 10 + len(route.splitlines())
    assert mistakes(tmp_path, document(route=route)) == [f"{line}: {what}"]


def test_a_database_that_is_only_asked_has_no_feed(tmp_path: Path) -> None:
    config = read(tmp_path, document(**ASKS))
    assert config.feeds == ()
    assert config.market is not None


def test_whatever_needs_a_database_is_told_without_one(tmp_path: Path) -> None:
    bare = "[[listener]]\nport = 1883\n"
    table = 'table = "a"\nkey = "k"\nkind = { a = "a" }\n'
    found = mistakes(tmp_path, f'{bare}[source.a]\nlisten = "a"\n[[recover]]\n{table}[[fetch]]\n{table}')
    for name, line in (("source", 3), ("recover", 5), ("fetch", 9)):
        assert f"{line}: {name} without a database: add [database] with its dsn" in found


def test_a_table_that_is_read_under_a_kind_that_nobody_takes_is_told(tmp_path: Path) -> None:
    text = document(source='listen = ["a", "b"]', kind="listen", route='kind = "a"')
    text += '[[mqtt.route]]\nfrom = "a"\nkind = "b"\ntopics = "u"\n'
    text += '[[recover]]\ntable = "x"\nkey = "k"\nkind = { a = "c" }\n'
    assert "19: kind: no route takes c of a" in mistakes(tmp_path, text)
