"""Properties of MQTT 5.0 on an [[mqtt.route]]: what is read, and every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.model import ConfigError
from broker.config.properties import NO_PROPERTIES, PropertyTemplates
from broker.config.toml.configuration import load

HEAD = """[security]
allow_anonymous = true
[[listener]]
port = 1883
[database]
dsn = "dbname=x"
kind = "{kind}"

[source.s]
{source}

[[mqtt.route]]
from = "s"
topics = "t/{{id}}"
"""


def written(tmp_path: Path, keys: str, kind: str = "wal") -> Path:
    path = tmp_path / "c.toml"
    source = 'listen = "k"' if kind == "listen" else 'tables = ["public.event"]'
    path.write_text(HEAD.format(kind=kind, source=source) + keys)
    return path


def read(tmp_path: Path, keys: str, kind: str = "wal") -> PropertyTemplates:
    return load(written(tmp_path, keys, kind), {}).feeds[0].routes[0].properties


def test_none_is_none(tmp_path: Path) -> None:
    assert read(tmp_path, "") == NO_PROPERTIES


def test_all_of_them(tmp_path: Path) -> None:
    keys = """
expiry = "30s"
content_type = "application/json"
response_topic = "answers/{who}"
correlation_data = "{reply}"
user_properties = { op = "{$operation}", at = "{$position}", table = "{$kind}", tag = ["a", "{b}"], none = "" }
"""
    assert read(tmp_path, keys) == PropertyTemplates(
        30,
        "",
        "application/json",
        "answers/{who}",
        "{reply}",
        (
            ("op", "{$operation}"),
            ("at", "{$position}"),
            ("table", "{$kind}"),
            ("tag", "a"),
            ("tag", "{b}"),
            ("none", ""),
        ),
    )
    assert read(tmp_path, 'expiry = { column = "valid_for" }') == PropertyTemplates(expiry_column="valid_for")
    assert read(tmp_path, 'expire = "1h"') == read(tmp_path, 'expiry = "1h"')


SECONDS = 'a duration is wanted, such as "30s" (units: ms, s, m, h, d), or { column = "NAME" }'
BRACE = "unpaired '{': a column is written {column}, a brace {{ or }}"
TOPIC = "a topic to publish to holds no +, #, control character, and at most 65535 bytes"
KINDS = 'is known only with the database kinds "wal" and "outbox"'
NAMES = "is not known: the only names with a $ are {$kind}, {$operation} and {$position}"
TABLE = 'names and texts are wanted, such as { op = "{$operation}" }'
LINE = 15


@pytest.mark.parametrize(
    ("keys", "kind", "line", "what"),
    [
        ('expiry = "soon"', "wal", LINE, f"expiry: {SECONDS}"),
        (
            'expire = "1h"\nexpiry = "1h"',
            "wal",
            LINE,
            "expire: it is another name of expiry, which stands there, too",
        ),
        ('expiry = "0s"', "wal", LINE, "expiry: 1 second to 4294967295 are wanted, not 0"),
        ("expiry = -1", "wal", LINE, f"expiry: {SECONDS}"),
        (
            'expiry = { col = "x" }',
            "wal",
            LINE,
            'expiry: a duration such as "30s" is wanted, or { column = "NAME" }',
        ),
        ('content_type = "a\\u0001"', "wal", LINE, "content_type: MQTT forbids control characters in it"),
        ('content_type = "{a"', "wal", LINE, f"content_type: {BRACE}"),
        ('response_topic = "a/#"', "wal", LINE, f"response_topic: {TOPIC}"),
        ('correlation_data = "{$place}"', "wal", LINE, f"correlation_data: {{$place}} {NAMES}"),
        ('user_properties = "x"', "wal", LINE, f"user_properties: {TABLE}"),
        (
            "user_properties = { n = 1 }",
            "wal",
            LINE,
            "user_properties: n: text in quotes is wanted, or an array of texts",
        ),
        ('\n[mqtt.route.user_properties]\na = "x"\nb = "{"', "wal", LINE + 3, f"b: {BRACE}"),
        (
            'user_properties = { at = "{$position}" }',
            "listen",
            LINE,
            f"user_properties: {{$position}} {KINDS}",
        ),
        ('content_type = "{$operation}"', "listen", LINE, f"content_type: {{$operation}} {KINDS}"),
        ('content_typ = "x"', "wal", LINE, "unknown key content_typ: did you mean content_type?"),
    ],
)
def test_mistakes_are_told_with_their_line(
    tmp_path: Path, keys: str, kind: str, line: int, what: str
) -> None:
    path = written(tmp_path, keys, kind)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert list(caught.value.mistakes) == [f"{path}:{line}: {what}"]


def test_websocket_routes_have_none(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    text = HEAD.format(kind="wal", source='tables = ["public.event"]').replace(
        "mqtt.route", "websocket.route"
    )
    path.write_text(text.replace("topics", 'dialect = "econia"\nchannel') + 'expiry = "30s"\n')
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert any("unknown key expiry" in mistake for mistake in caught.value.mistakes)


@pytest.mark.parametrize(
    "keys", ['content_type = "application/json"', 'expiry = "1h"', 'user_properties = { a = "b" }']
)
def test_messages_of_calculators_have_none(tmp_path: Path, keys: str) -> None:
    market = '[[market.ticker]]\nfrom = "s"\n[[mqtt.route]]\nfrom = "market.ticker"\ntopics = "m/{symbol}"\n'
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, market + keys), {})
    name = keys.partition(" ")[0]
    wanted = f"{name}: messages of market.ticker have no properties: only those of rows do"
    assert [mistake for mistake in caught.value.mistakes if wanted in mistake], caught.value.mistakes
