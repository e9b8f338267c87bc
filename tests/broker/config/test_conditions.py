"""`where`: what is decided here is what Postgres decides."""

from __future__ import annotations

import json
import re
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.budgets import cases
from support.postgres import cluster as cluster

from broker.config.conditions import parse_condition
from broker.feed.routing.rowtext import columns_of

ROWS: list[tuple[Any, ...]] = [
    (n, price, text, flag)
    for n in (1, None, -7)
    for price in ("10.50", "NaN", None, "0.1")
    for text in ("open", "", "it's", None, "a\\b")
    for flag in (True, None, False)
]


@pytest.fixture(scope="module")
def server(cluster: Any) -> Any:
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(
            'CREATE TEMP TABLE rows (at serial, "N" int, price numeric, text text, flag boolean)'
        )
        connection.cursor().executemany(
            'INSERT INTO rows ("N", price, text, flag) VALUES (%s, %s, %s, %s)', ROWS
        )
        yield connection


literals = st.sampled_from(["10.5", "-7", "1e0", "0.1", "+1"])
texts = st.sampled_from(["'open'", "''", "'it''s'", "'a\\b'", "'none'"])
signs = st.sampled_from(["=", "<>", "!=", "<", "<=", ">", ">="])
predicates = st.one_of(
    st.tuples(st.sampled_from(['"N"', "price", "PRICE"]), signs, literals).map(" ".join),
    st.tuples(st.just("text"), st.sampled_from(["=", "<>"]), texts).map(" ".join),
    st.tuples(
        st.sampled_from(['"N"', "price", "text", "flag"]), st.sampled_from(["IS NULL", "is not null"])
    ).map(" ".join),
    st.lists(literals, min_size=1, max_size=3).map(lambda some: f"price IN ({', '.join(some)})"),
    st.lists(texts, min_size=1, max_size=3).map(lambda some: f"text not in ({','.join(some)})"),
    st.sampled_from(["flag", "flag = TRUE", "flag <> false", "NOT flag"]),
)
conditions = st.recursive(
    predicates,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda some: f"({' '.join(some)})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
        inner.map(lambda text: f"not ({text})"),
    ),
    max_leaves=6,
)


@settings(max_examples=cases(150), deadline=None)
@given(text=conditions)
def test_it_is_decided_as_postgres_decides(server: Any, text: str) -> None:
    condition = parse_condition(text)
    query = f"SELECT row_to_json(r)::text, ({text}), ({condition.sql}) FROM rows r ORDER BY at"
    for row, by_text, by_sql in server.execute(query.encode()).fetchall():
        assert by_text == by_sql
        assert condition.decide(columns_of(row)) == by_text, json.loads(row)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a column is wanted instead of the end"),
        ("status = ", "a number, 'text', TRUE or FALSE is wanted instead of the end"),
        ('status = "open"', "text stands in single ones: 'open'"),
        ("status > 'a'", "> compares numbers"),
        ("status is open", "NULL or NOT NULL is wanted"),
        ("lower(status) = 'a'", "( is not expected here"),
        ("a = 1 b", "b is not expected here"),
        ("(a = 1", ") is wanted instead of the end"),
        ("a = 1; DROP TABLE x", "; DROP TABLE x can't be read"),
        ("a in ()", "is wanted instead of )"),
        ("(" * 60 + "a" + ")" * 60, "more than 50 parentheses"),
    ],
)
def test_what_it_can_t_be_is_said(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_condition(text)


def test_a_row_without_the_column_is_no_match_but_an_error() -> None:
    with pytest.raises(KeyError):
        parse_condition("a = 1 or b = 2").decide({"a": "1"})
