"""Routes: what they inherit, what stands in them, and each mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.toml_files import ECONIA, check_changed, mistakes, read

from broker.config.feeds import Route


def test_routes_inherit_and_override(tmp_path: Path) -> None:
    text = ECONIA.replace("qos = 1\n", 'qos = 2\nretain = true\non_null = "none"\non_unsafe = "percent"\n')
    text = text.replace("topics = [", 'qos = 0\nretain = false\nonce_per = "a"\nonce_for = "2h"\ntopics = [')
    first, second, _ = read(tmp_path, text).feeds[0].routes
    assert (first.qos, first.retain, first.on_null, first.on_unsafe) == (2, True, "none", "percent")
    assert (second.qos, second.retain, second.once_per, second.once_for_s) == (0, False, ("a",), 7200.0)


def test_a_bare_row_is_put_into_an_envelope_for_econia(tmp_path: Path) -> None:
    text = ECONIA + '[[websocket.route]]\nfrom = "events"\nchannel = "{$kind}_event"\n'
    assert read(tmp_path, text).feeds[0].routes[-1].body == "envelope"


# What is changed in ECONIA, into what, and the mistake that it makes: its line and its words.
MISTAKES = [
    ("qos = 1", "qos = 3", 18, "qos: 0, 1 or 2 is wanted, not 3"),
    ("qos = 1", 'body = "json"', 18, 'body: "row" or "raw" or "envelope" is wanted, not "json"'),
    ("qos = 1", 'on_null = "a/b"', 18, 'on_null: "drop" is wanted, or text to use instead, without .*'),
    ("qos = 1", 'on_unsafe = ""', 18, 'on_unsafe: "drop" or "percent" is wanted, or text to use instead.*'),
    ('from = "events"\nkind', 'from = "event"\nkind', 20, "from: no source event: there are events, econiaws"),
    ('from = "events"\nkind', "kind", 19, "from is missing: add `from = ...`"),
    ('kind = "fill"\n', 'kind = "fil"\n', 21, "kind: source events has no fil: its kinds are cancel, fill"),
    ('"fill/{market_id}/{maker}"', '"fill/{market_id/x"', 22, r"topics: unpaired '\{': a column is .*"),
    ('"fill/{market_id}/{maker}"', '["a", "b/+/{c}"]', 22, r"topics: a topic to publish to holds no \+, #.*"),
    ('"fill/{market_id}/{maker}"', '"$SYS/x"', 22, r"topics: topics that start with \$ are the broker's own.*"),
    ('"fill/{market_id}/{maker}"', "[]", 22, "topics: at least one is wanted"),
    ('once_per = ["market_id", "order_id"]', 'once_for = "1h"', 23, r"once_for without once_per: add .*"),
    ('once_per = ["market_id", "order_id"]', "snapshot = 'table'", 23, 'snapshot: only for the database kinds.*'),
    ('once_per = ["market_id", "order_id"]', "position = true", 23, "position: .*"),
    ('once_per = ["market_id", "order_id"]', 'channel = "x"', 23, "unknown key channel: .*"),
    ('channel = "{$kind}"', 'channel = "{$table}"', 29, r"channel: \{\$table\} is not known.*"),
    ('channel = "{$kind}"', 'dialect = "econ"\nchannel = "x"', 29, 'dialect: "econia" or .* is wanted, not "econ"'),
    ('channel = "{$kind}"', 'dialect = "canton"\nchannel = "x"', 27, "nobody can receive this: no listener .* canton"),
    ("[[mqtt.route]]\nfrom = \"events\"\ntopics", "[mqtt.more]\nfrom = \"events\"\ntopics", 24, "unknown key more: .*"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "line", "words"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_its_cure(
    tmp_path: Path, right: str, wrong: str, line: int, words: str
) -> None:
    check_changed(tmp_path, right, wrong, line, words)


WAL = """[[listener]]
port = 1883
[[listener]]
port = 3001
protocol = "websockets"
dialects = ["econia", "canton", "rowcast"]
[database]
dsn = "dbname=x"
kind = "wal"
[websocket.econia]
jwt = { secret = "env:SECRET" }
[websocket.canton]
jwt = { secret = "env:SECRET" }
[websocket.rowcast]
[source.a]
tables = "public.a"
[[mqtt.route]]
from = "a"
topics = "all"
[[websocket.route]]
from = "a"
dialect = "econia"
channel = "x"
[[websocket.route]]
from = "a"
dialect = "canton"
channel = "x"
[[mqtt.route]]
from = "a"
"""


def route(folder: Path, keys: str) -> Route:
    return read(folder, WAL + keys).feeds[0].routes[1]


@pytest.mark.parametrize(
    ("keys", "key", "expected"),
    [
        ('operations = ["update", "delete"]', "operations", ("update", "delete")),
        ('columns = ["a", "b"]', "columns", ("a", "b")),
        ('where = "price > 5"', "condition", "price > 5"),
        ("qos = 0", "qos", 0),
        ("qos = 2", "qos", 2),
        ('on_unsafe = "_"', "on_unsafe", "_"),
    ],
)
def test_what_a_route_says_is_taken(tmp_path: Path, keys: str, key: str, expected: object) -> None:
    assert getattr(route(tmp_path, f'topics = "t"\n{keys}\n'), key) == expected


LINE = WAL.count("\n") + 2


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ("operations = []", "operations: name at least one, or leave it out"),
        ('operations = ["insert", "upsert"]', 'operations: "insert" or "update" or "delete" is wanted, not "upsert"'),
        ('columns = [""]', "columns: an empty text is no column's name"),
        ('columns = ["a", "$kind"]', "columns: $kind is no column's name"),
        ('body = "rows"', 'body: "row" or "raw" or "envelope" is wanted, not "rows"'),
        ("qos = -1", "qos: 0, 1 or 2 is wanted, not -1"),
    ],
)  # fmt: skip
def test_what_it_can_t_say_is_told(tmp_path: Path, keys: str, what: str) -> None:
    assert mistakes(tmp_path, WAL + f'topics = "t"\n{keys}\n') == [f"{LINE}: {what}"]


def test_a_condition_that_is_none_is_told_where_it_stands(tmp_path: Path) -> None:
    [mistake] = mistakes(tmp_path, WAL + 'topics = "t"\nwhere = "price >"\n')
    assert mistake.startswith(f"{LINE}: where: ")


def test_each_dialect_gets_the_body_that_its_clients_want(tmp_path: Path) -> None:
    routes = read(tmp_path, WAL + 'topics = "t"\n').feeds[0].routes
    assert {one.target: (one.body, one.qos) for one in routes} == {
        "mqtt": ("row", 1), "econia": ("envelope", 0), "canton": ("row", 0),
    }  # fmt: skip
    told = read(
        tmp_path,
        WAL.replace("[websocket.econia]", '[websocket]\nbody = "row"\n[websocket.econia]') + 'topics = "t"\n',
    )
    assert {one.body for one in told.feeds[0].routes} == {"row"}


def test_a_dialect_without_channels_takes_no_route(tmp_path: Path) -> None:
    text = WAL.replace('dialect = "canton"\nchannel', 'dialect = "rowcast"\nchannel') + 'topics = "t"\n'
    what = "dialect: rowcast's clients read MQTT topics: make this an [[mqtt.route]] with `topics`"
    assert f"26: {what}" in mistakes(tmp_path, text)


@pytest.mark.parametrize(
    ("channel", "what"),
    [("[]", "channel: at least one is wanted"), ('""', "channel: an empty channel: write its name")],
)
def test_a_channel_has_a_name(tmp_path: Path, channel: str, what: str) -> None:
    text = (
        WAL.replace('dialect = "canton"\nchannel = "x"', f'dialect = "canton"\nchannel = {channel}')
        + 'topics = "t"\n'
    )
    assert mistakes(tmp_path, text) == [f"27: {what}"]
