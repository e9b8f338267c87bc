"""Columns of a batch, made in bulk, against rows made one by one; and texts that Postgres reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config.ingest import Expression, SinkConfig, parse_expression, parse_pattern
from broker.core.publication import Publication
from broker.ingest.rows import Rows
from broker.ingest.sink import Waiting
from broker.ingest.times import Refused
from broker.ingest.values import column_text, json_text, parsed

EXPRESSIONS = (
    "$.v",
    "$.ts",
    "$.list[0]",
    "$",
    "{device}",
    "{$payload}",
    "{$qos}",
    "a-{device}",
    "const",
    "{$now}",
)
TYPES = ("text", "timestamptz", "_int4", "jsonb", "text", "bytea", "int2", "text", "text", "text")


MEMBERS = ("$.v", "$.v", "$.ts", "$.ts ms", "$.list", "$.list", "{$client}", "{$topic}-{$retain}")
MEMBER_TYPES = ("text", "jsonb", "timestamptz", "timestamptz", "_int4", "numeric", "text", "text")


def rows(expressions: tuple[str, ...], types: tuple[str, ...], on_null: str = "null") -> Rows:
    pattern = parse_pattern("t/{device}")
    columns = tuple((str(n), parse_expression(text, pattern.names)) for n, text in enumerate(expressions))
    return Rows(SinkConfig("s", (pattern,), columns=columns, on_null=on_null), types)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["v", "ts", "list"]), inner),
    max_leaves=6,
)
flat_values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["1700000000123", "1700000000", "2024-01-01", 'q"', "ü", "\\", "", 1700000000123, 17e8])
)
flat_objects = st.dictionaries(st.sampled_from(["v", "ts", "list", "x"]), flat_values | json_values)
payloads = (
    st.binary(max_size=6)
    | json_values.map(lambda value: f" {json.dumps(value)} ".encode())
    | st.builds(
        lambda value, ascii_only: json.dumps(value, ensure_ascii=ascii_only).encode(),
        flat_objects,
        st.booleans(),
    )
    | st.just(b'{"v": 1, "v": "2", "ts": "x", "ts": null}')
)


@pytest.mark.parametrize("on_null", ["null", "refuse"])
@pytest.mark.parametrize(("expressions", "types"), [(EXPRESSIONS, TYPES), (MEMBERS, MEMBER_TYPES)])
@given(bodies=st.lists(payloads, max_size=8))
def test_a_batch_makes_the_same_as_its_messages_one_by_one(
    expressions: tuple[str, ...], types: tuple[str, ...], on_null: str, bodies: list[bytes]
) -> None:
    batch = [Waiting(Publication(b"t/d", body, 1), ("d", "t/d"), 10**18, "") for body in bodies]
    maker = rows(expressions, types, on_null)
    taken, columns, refused = maker.columns(batch)
    wanted = []
    for one in batch:
        try:
            wanted.append((one, maker.of(one)))
        except Refused:
            assert any(one is other for other, _ in refused)
    assert taken == [one for one, _ in wanted]
    assert [list(row) for row in zip(*columns, strict=True)] == [row for _, row in wanted]
    assert len(taken) + len(refused) == len(batch)


def test_numbers_stay_digit_for_digit_however_deep_they_are() -> None:
    text = '{"a":[1.10,{"b":12345678901234567890.000}],"c":1e400}'
    assert json_text(parsed(text.encode())) == text


def test_texts_of_columns_are_quoted_where_they_must_be() -> None:
    assert column_text(["a", 'b"', "c\\", "NULL", ""]) == '{"a","b\\"","c\\\\","NULL",""}'
    assert column_text([None, "a,b"]) == '{NULL,"a,b"}'
    assert column_text(['","']) == '{"\\",\\""}'


@pytest.mark.parametrize("text", ["{", "{x}", "$..a", "$.a hours", "{device", "$a"])
def test_expressions_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_expression(text, ("device",))


@pytest.mark.parametrize("text", ["", "a/{b}c", "{a}/{a}", "{r...}/x", "$SYS/{a}", "a/#/b", "a+"])
def test_patterns_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_pattern(text)


def test_an_expression_knows_its_only_name(tmp_path: Path) -> None:
    assert parse_expression("{device}", ("device",)).sole == "device"
    assert parse_expression("x{device}", ("device",)).sole == ""
    assert Expression("").names == ()
