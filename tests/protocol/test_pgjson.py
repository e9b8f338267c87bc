"""The JSON made of a value's text is the JSON that the server makes of the value.

Goal: `row_to_json` is the oracle.  Method: Hypothesis invents values for columns of many types; one query
returns both the row's JSON and what each type's output function prints, from which we make the JSON again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.budgets import cases
from support.postgres import cluster, database  # noqa: F401

from broker.feed.driver.catalog import TYPES_SQL, type_entry
from protocol.pgjson import RowRenderer, TypeEntry, escape, renderer

SCHEMA = """
CREATE EXTENSION hstore;
CREATE DOMAIN attributes AS hstore;
CREATE TYPE mood AS ENUM ('ok', 'not "ok"', 'a,b', 'NULL', '{}');
CREATE DOMAIN price AS numeric CHECK (VALUE IS NULL OR VALUE < 1e60 OR VALUE = 'NaN' OR VALUE = 'Infinity');
CREATE DOMAIN labels AS text[];
CREATE TYPE leg AS ("user" text, size numeric, at timestamptz, mood mood);
CREATE TYPE trade AS (id bigint, legs leg[], best leg, flag boolean, note json);
CREATE DOMAIN best_leg AS leg;
"""

LONG = timedelta(days=9999)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
awkward = st.sampled_from(
    ['"', "\\", ",", "{", "}", "(", ")", "NULL", "null", " ", "\n", "", "\x7f", "é🙂", "\x1f"]
)
any_text = texts | st.lists(awkward, max_size=4).map("".join)
integers = st.integers(-(2**63), 2**63 - 1).map(str)
numerics = st.decimals(
    allow_nan=False, allow_infinity=False, places=9, min_value=-(10**38), max_value=10**38
).map(str) | st.sampled_from(
    ["NaN", "Infinity", "-Infinity", "1e-30", "340282366920938463463374607431768211455"]
)
floats = st.floats(width=64).map(repr).map(lambda text: text.replace("inf", "Infinity"))
small_floats = st.floats(width=32).map(repr).map(lambda text: text.replace("inf", "Infinity"))
timestamps = st.datetimes().map(str) | st.sampled_from(
    ["infinity", "-infinity", "0044-03-15 12:00 BC", "12345-01-01 00:00", "1890-01-01 00:00:00.5"]
)
zoned = st.tuples(timestamps, st.sampled_from(["", "+00", "-05:30", " Europe/Amsterdam"])).map(
    lambda pair: pair[0] if "infinity" in pair[0] else pair[0].replace(" BC", "") + pair[1]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
json_texts = json_values.map(lambda value: json.dumps(value).replace("\\u0000", ""))


def quoted(item: str | None) -> str:
    return "NULL" if item is None else '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'


def arrays(items: st.SearchStrategy[str], delimiter: str = ",") -> st.SearchStrategy[str]:
    flat = st.lists(st.none() | items, max_size=4).map(
        lambda some: "{" + delimiter.join(map(quoted, some)) + "}"
    )
    pairs = st.lists(st.tuples(items, st.none() | items), min_size=1, max_size=3).map(
        lambda some: "{" + ",".join("{" + f"{quoted(a)},{quoted(b)}" + "}" for a, b in some) + "}"
    )
    return flat | pairs if delimiter == "," else flat


def record(*fields: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def write(values: tuple[str | None, ...]) -> str:
        return "(" + ",".join("" if value is None else quoted(value) for value in values) + ")"

    return st.tuples(*[st.none() | field for field in fields]).map(write)


def pairs(values: list[tuple[str, str | None]]) -> str:
    return ", ".join(f'"{quoted(key)[1:-1]}"=>{quoted(value)}' for key, value in values)


hstores = st.lists(st.tuples(any_text, st.none() | any_text), max_size=4).map(pairs)
moods = st.sampled_from(["ok", 'not "ok"', "a,b", "NULL", "{}"])
legs = record(any_text, numerics, zoned, moods)
TYPES: dict[str, st.SearchStrategy[str]] = {
    "boolean": st.sampled_from(["t", "f"]),
    "smallint": st.integers(-32768, 32767).map(str),
    "bigint": integers,
    "oid": st.integers(0, 2**32 - 1).map(str),
    "real": small_floats,
    "double precision": floats,
    "numeric": numerics,
    "price": numerics,
    "money": st.sampled_from(["12.50", "-3"]),
    "text": any_text,
    "character(5)": st.sampled_from(["a", "abcde", ""]),
    "name": st.sampled_from(["user", 'a"b']),
    '"char"': st.sampled_from(["a", '"', ""]),
    "bytea": st.binary(max_size=9).map(lambda data: "\\x" + data.hex()),
    "date": st.dates().map(str) | st.sampled_from(["infinity", "-infinity", "0044-03-15 BC"]),
    "time": st.times().map(str),
    "timetz": st.times().map(lambda value: f"{value}+05:30"),
    "timestamp": timestamps,
    "timestamptz": zoned,
    "interval": st.timedeltas(-LONG, LONG).map(lambda delta: f"{delta.days} days {delta.seconds} seconds"),
    "uuid": st.uuids().map(str),
    "json": json_texts,
    "jsonb": json_texts,
    "inet": st.ip_addresses().map(str),
    "bit varying": st.text("01", max_size=9),
    "point": st.just("(1,2.5)"),
    "int4range": st.sampled_from(["[1,5)", "empty", "(,7]"]),
    "nummultirange": st.sampled_from(["{[1,5),[7,8]}", "{}"]),
    "tsvector": st.just("'it''s':1 'b'"),
    "xml": st.just('<a b="c">\n</a>'),
    "mood": moods,
    "labels": arrays(any_text),
    "int2vector": st.sampled_from(["1 2 3", ""]),
    "oidvector": st.sampled_from(["1 2", ""]),
    "integer[]": arrays(st.integers(-9, 9).map(str)) | st.just("[0:1]={7,8}"),
    "numeric[]": arrays(numerics),
    "text[]": arrays(any_text),
    "boolean[]": arrays(st.sampled_from(["t", "f"])),
    "jsonb[]": arrays(json_texts),
    "timestamptz[]": arrays(zoned),
    "price[]": arrays(numerics),
    "mood[]": arrays(moods),
    "box[]": arrays(st.just("(3,4),(1,2)"), ";"),
    "bytea[]": arrays(st.binary(max_size=5).map(lambda data: "\\x" + data.hex())),
    "hstore": hstores,
    "hstore[]": arrays(hstores),
    "attributes": hstores,
    "leg": legs,
    "leg[]": arrays(legs),
    "best_leg": legs,
    "trade": record(integers, arrays(legs), legs, st.sampled_from(["t", "f"]), json_texts),
}


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:  # noqa: F811
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute("SET lc_monetary = 'C'; SET IntervalStyle = postgres")
        yield connection


def render_as_server(
    connection: psycopg.Connection[Any], values: dict[str, str | None]
) -> tuple[bytes, bytes]:
    """The server's JSON of a row with one column per type, and ours from the printed values."""
    columns = ", ".join(f'%s::text::{name} AS "{name.replace(chr(34), "q")}"' for name in values)
    printed = ", ".join(f"format('%%s', t.\"{name.replace(chr(34), 'q')}\")" for name in values)
    oids = ", ".join(f"'{name}'::regtype::bigint" for name in values)
    row = connection.execute(
        f"SELECT row_to_json(t)::text, ARRAY[{printed}], ARRAY[{oids}] FROM (SELECT {columns}) t",
        list(values.values()),
    ).fetchone()
    assert row is not None
    expected, values_printed, type_oids = row
    catalog = dict(map(type_entry, connection.execute(TYPES_SQL, [type_oids]).fetchall()))
    names = [name.replace('"', "q") for name in values]
    renderers = [renderer(oid, catalog) for oid in type_oids]
    pairs = zip(values.values(), values_printed, strict=True)
    made = RowRenderer(list(zip(names, renderers, strict=True))).render(
        [None if value is None else text.encode() for value, text in pairs], b"\0"
    )
    return expected.encode(), made


some_types = st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=8, unique=True)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=cases(100)
)
@given(data=st.data())
def test_any_row_renders_as_row_to_json_does(
    connection: psycopg.Connection[Any], data: st.DataObject
) -> None:
    values = {name: data.draw(st.none() | TYPES[name]) for name in data.draw(some_types)}
    expected, made = render_as_server(connection, values)
    assert made == expected


def test_every_type_renders_null_as_row_to_json_does(connection: psycopg.Connection[Any]) -> None:
    expected, made = render_as_server(connection, dict.fromkeys(TYPES))
    assert made == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=4)
@given(data=st.data())
@pytest.mark.parametrize("name", TYPES)
def test_each_type_alone_renders_as_row_to_json_does(
    connection: psycopg.Connection[Any], name: str, data: st.DataObject
) -> None:
    expected, made = render_as_server(connection, {name: data.draw(TYPES[name])})
    assert made == expected


def test_column_names_are_escaped() -> None:
    assert RowRenderer([('a"b', escape)]).render([b"x"], b"\0") == b'{"a\\"b":"x"}'


def test_absent_value_leaves_its_column_out() -> None:
    row = RowRenderer([("a", escape), ("b", escape), ("c", escape)])
    assert row.render([b"\0", b"2", None], b"\0") == b'{"b":"2","c":null}'
    assert row.render([b"\0", b"\0", b"\0"], b"\0") == b"{}"


def test_record_of_another_shape_than_the_catalog_says_stays_a_string() -> None:
    """The type was altered after the row was written."""
    render = renderer(9999, {9999: TypeEntry(attributes=(("a", 25), ("b", 25)))})
    assert render(b"(1,2,3)") == b'"(1,2,3)"'


def test_unknown_type_is_rendered_as_string() -> None:
    assert renderer(99999, {})(b'a"b') == b'"a\\"b"'
