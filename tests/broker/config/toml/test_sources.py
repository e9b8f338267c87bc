"""[source.NAME], [[recover]] and [[fetch]]: where rows come from, and each mistake with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.toml_files import ECONIA, check_changed, mistakes, read

from broker.config.feeds import Fetch
from broker.config.market import SequencePaths
from broker.config.model import Config

FETCH = """\
[[fetch]]
table = "public.fill_events"
key = ["version", "index"]
kind = "fill"
when = "$.cut"
"""


def test_a_plain_kind_is_recovered_for_every_source_that_listens_to_it(tmp_path: Path) -> None:
    text = ECONIA.replace('{ events = "fill", econiaws = "fill_event" }', '"fill"')
    assert read(tmp_path, text).feeds[0].recoveries[0].kinds == (("events", "fill"),)
    text = ECONIA.replace('{ events = "fill", econiaws = "fill_event" }', '"fill_event"')
    assert read(tmp_path, text).feeds[0].recoveries[0].kinds == (("econiaws", "fill_event"),)


def test_rows_too_long_to_be_notified_are_fetched_from_their_table(tmp_path: Path) -> None:
    key = ("version", "index")
    (fetch,) = read(tmp_path, ECONIA + FETCH).feeds[0].fetches
    where = f"{tmp_path / 'rowcast.toml'}:34"
    assert fetch == Fetch("public.fill_events", key, (("events", "fill"),), ("cut",), where)
    (fetch,) = read(tmp_path, ECONIA + FETCH.replace('when = "$.cut"\n', "")).feeds[0].fetches
    assert fetch.when == ()


FETCH_MISTAKES = [
    ('"public.fill_events"', '""', 35, 'table: "schema.table" or "table" is wanted'),
    ('["version", "index"]', "[]", 36, "key: name the columns that identify a row"),
    ('"index"]', '"id"]', 36, r"key: add index, by which the \[\[recover\]\] of line 30 knows its rows"),
    ('kind = "fill"', 'kind = { events = "fil" }', 37, "kind: source events has no fil: its kinds are cancel, fill"),
    ('kind = "fill"', "", 34, 'kind: "KIND" is wanted, or { SOURCE = "KIND" } where sources differ'),
    ('"$.cut"', '"cut"', 38, r'when: \$ and keys with a point before each are wanted, such as "\$.channel"'),
    ("when = ", "if = ", 38, "unknown key if: known here: key, table, when"),
    ('when = "$.cut"', FETCH.replace("$.cut", "$.c"), 41, "kind: fill of events is fetched already, on line 34: .*"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "line", "words"), FETCH_MISTAKES)
def test_a_mistake_in_a_fetch_is_told_with_its_line_and_its_cure(
    tmp_path: Path, right: str, wrong: str, line: int, words: str
) -> None:
    assert right in FETCH
    (found,) = mistakes(tmp_path, ECONIA + FETCH.replace(right, wrong, 1))
    where = f"{line}: "
    assert found.startswith(where)
    assert re.fullmatch(words, found.removeprefix(where))


def test_a_plain_kind_that_several_sources_may_carry_is_asked_about(tmp_path: Path) -> None:
    text = ECONIA.replace('{ events = "fill", econiaws = "fill_event" }', '"other"')
    other = '[source.more]\nlisten = "more"\nkind = "$.k"\n[[mqtt.route]]\nfrom = "more"\ntopics = "m"\n'
    assert mistakes(tmp_path, text + other) == [
        '33: kind: no source is known to carry other, so say which: { econiaws = "other" }'
    ]


# What is changed in ECONIA, into what, and the mistake that it makes: its line and its words.
MISTAKES = [
    ('listen = ["fill", "cancel"]', "", 11, 'events listens to nothing: add `listen = "CHANNEL"`'),
    ('"cancel"]', "7]", 12, "listen: text in quotes is wanted, not a whole number"),
    ('"cancel"]', '"fill"]', 12, "listen: fill belongs to source events already: listen to it once"),
    ('"cancel"]', '"econiaws"]', 14, "listen: econiaws belongs to source events already: listen to it once"),
    ('"cancel"]', f'"{"x" * 64}"]', 12, "listen: a Postgres channel's name has 1 to 63 bytes"),
    ('"$.channel"', '"channel"', 15, r'kind: \$ and keys with a point before each are wanted, such as .*'),
    ('"$.payload"', '"$.channel.x"', 16, "row: one of kind and row lies inside the other"),
    ('row = "$.payload"', 'tables = ["t"]', 16, 'tables: only for the database kinds "wal" and "outbox"'),
    ("kind = { events", "kinds = { events", 33, "unknown key kinds: .*"),
    ('"public.fill_events"', '"a.b.c"', 31, 'table: "schema.table" or "table" is wanted'),
    ('["version", "index"]', "[]", 32, "key: name the columns that put the rows in their order"),
    ('{ events = "fill", ', '{ event = "fill", ', 33, "kind: no source event: there are events, econiaws"),
    ('{ events = "fill", ', "{ events = 1, ", 33, "kind: text in quotes is wanted for events: the kind's name"),
    ("[[recover]]", "[recover]", 30, r"recover: tables are wanted, each begun by \[\[recover\]\]"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "line", "words"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_its_cure(
    tmp_path: Path, right: str, wrong: str, line: int, words: str
) -> None:
    check_changed(tmp_path, right, wrong, line, words)


LISTENER = "[[listener]]\nport = 1883\n"
TICKS = '[[market.ticker]]\nfrom = "ticks"\n[[mqtt.route]]\nfrom = "market.ticker"\ntopics = "t/{symbol}"\n'


def intake(folder: Path, keys: str) -> Config:
    return read(folder, f"{LISTENER}[source.ticks]\n{keys}\n{TICKS}")


def intake_mistakes(folder: Path, keys: str) -> list[str]:
    return mistakes(folder, f"{LISTENER}[source.ticks]\n{keys}\n{TICKS}")


@pytest.mark.parametrize(
    ("keys", "kind", "place"),
    [
        ('tcp = "7001"', "tcp", ("127.0.0.1", 7001)),
        ('udp = "0.0.0.0:7001"', "udp", ("0.0.0.0", 7001)),
        ('tcp = "[::1]:0"', "tcp", ("::1", 0)),
        ('mqtt = "engine/+/trades"', "mqtt", ("", 0)),
    ],
)
def test_a_source_may_be_a_port_or_topics(
    tmp_path: Path, keys: str, kind: str, place: tuple[str, int]
) -> None:
    market = intake(tmp_path, keys).market
    assert market is not None
    [found] = market.intakes
    assert (found.kind, (found.host, found.port), found.feed.name) == (kind, place, "ticks")


@pytest.mark.parametrize(
    ("keys", "line", "what"),
    [
        ('tcp = "x"', 4, 'tcp: "HOST:PORT" is wanted, such as "127.0.0.1:7001", or a port'),
        ('tcp = "h:65536"', 4, 'tcp: "HOST:PORT" is wanted, such as "127.0.0.1:7001", or a port'),
        ('tcp = "1"\nudp = "1"', 3, "ticks: one of tcp and udp is wanted, not both: make them two sources"),
        (
            'tcp = "1"\nlisten = "a"',
            3,
            "ticks: one of tcp and listen is wanted, not both: make them two sources",
        ),
        ('mqtt = ["a/#", "a/#/b"]', 4, "mqtt: a topic filter is wanted, such as engine/+/trades"),
        ('mqtt = "$SYS/#"', 4, "mqtt: a topic filter is wanted, such as engine/+/trades"),
        (
            'tcp = "1"\nsequence = { last = "$.u", first = "$.U", previous = "$.p" }',
            5,
            "sequence: one of first and previous is wanted, not both",
        ),
    ],
)
def test_a_source_that_can_t_be_is_told(tmp_path: Path, keys: str, line: int, what: str) -> None:
    assert intake_mistakes(tmp_path, keys) == [f"{line}: {what}"]


@pytest.mark.parametrize(
    ("keys", "line", "what"),
    [
        ("", 4, "key is missing: name the columns that identify a row of the query"),
        (
            'key = "id"\nevery = "49ms"',
            6,
            'every: at least "50ms" is wanted',
        ),
        (
            'key = "id"\ncolumns = "id"',
            6,
            "columns: only for tcp, udp and mqtt, whose messages may have something around their rows",
        ),
    ],
)
def test_a_query_needs_a_key_and_a_pause(tmp_path: Path, keys: str, line: int, what: str) -> None:
    assert f"{line}: {what}" in intake_mistakes(tmp_path, f'query = "SELECT 1"\n{keys}')


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('"$.u"', SequencePaths(("u",))),
        ('{ last = "$.data[0].u", previous = "$.p" }', SequencePaths(("data", "[0]", "u"), (), ("p",))),
        ('{ last = "$.u", first = "$.U", by = "$.s" }', SequencePaths(("u",), ("U",), (), ("s",))),
        ('""', None),
    ],
)
def test_a_sequence_may_be_written_shortly(
    tmp_path: Path, written: str, expected: SequencePaths | None
) -> None:
    market = intake(tmp_path, f'tcp = "1"\nsequence = {written}').market
    assert market is not None
    assert market.intakes[0].sequence == expected


@pytest.mark.parametrize("named", ["public.*", "*", "a%"])
def test_patterns_are_no_tables(tmp_path: Path, named: str) -> None:
    text = f"""{LISTENER}[database]
dsn = "dbname=x"
kind = "wal"
[source.a]
tables = ["public.orders", "{named}"]
[[mqtt.route]]
from = "a"
topics = "t"
"""
    what = f'tables: {named} is no table: name each, as "public.orders"; patterns are not looked up'
    assert mistakes(tmp_path, text) == [f"7: {what}"]
