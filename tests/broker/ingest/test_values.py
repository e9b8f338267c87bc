"""Columns of a batch, made in bulk, against rows made one by one; and texts that Postgres reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config.ingest import Expression, SinkConfig, parse_expression, parse_pattern
from broker.core.publication import Publication
from broker.ingest.rows import Rows
from broker.ingest.sink import Waiting
from broker.ingest.times import Refused, microseconds, number_time, time_text
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


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("1700000000", "", "2023-11-14T22:13:20.000000+00:00"),
        ("1700000000.25", "", "2023-11-14T22:13:20.250000+00:00"),
        ("1700000000123", "", "2023-11-14T22:13:20.123000+00:00"),
        ("1700000000123456", "", "2023-11-14T22:13:20.123456+00:00"),
        ("1700000000123", "ms", "2023-11-14T22:13:20.123000+00:00"),
        ("-1", "ms", "1969-12-31T23:59:59.999000+00:00"),
        ("1.7e9", "", "2023-11-14T22:13:20.000000+00:00"),
    ],
)
def test_times_that_are_numbers(text: str, unit: str, expected: str) -> None:
    assert time_text(microseconds(text, unit)) == expected
    assert number_time(text, unit) == expected


@given(st.integers(0, 10**17), st.sampled_from(["", "s", "ms", "us"]))
def test_the_quick_way_to_a_time_gives_the_same(number: int, unit: str) -> None:
    def either(make: Callable[[], str]) -> str:
        try:
            return make()
        except Refused as error:
            return f"refused: {error}"

    text = str(number)
    assert either(lambda: number_time(text, unit)) == either(lambda: time_text(microseconds(text, unit)))


@pytest.mark.parametrize("text", ["1e999999999", "9" * 400, "1e25", "NaN", "-1e400"])
def test_no_number_is_too_far_from_any_time_to_be_refused(text: str) -> None:
    with pytest.raises(Refused):
        time_text(microseconds(text, ""))


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
