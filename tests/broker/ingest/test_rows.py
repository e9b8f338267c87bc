"""Columns of a batch stay in step whatever a message is: each is taken whole, or refused with its reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config.ingest import SinkConfig, parse_expression, parse_pattern
from broker.core.publication import Publication
from broker.ingest.rows import MEMBERS_MAX, Rows, _slots_of
from broker.ingest.sink import Waiting

GOOD, BAD, NULL = b'{"a":"1","b":"2"}', b"no json", b'{"a":null}'


def rows(*texts: str, on_null: str = "null") -> Rows:
    pattern = parse_pattern("t/{device}")
    columns = tuple((f"c{n}", parse_expression(text, pattern.names)) for n, text in enumerate(texts))
    return Rows(SinkConfig("s", (pattern,), columns=columns, on_null=on_null), ("text",) * len(texts))


def waiting(*payloads: bytes) -> list[Waiting]:
    return [
        Waiting(Publication(b"t/%d" % number, payload), (str(number), f"t/{number}"), 0, "")
        for number, payload in enumerate(payloads)
    ]


@given(
    st.lists(st.sampled_from((GOOD, BAD, NULL, b"[]", b"\xff")), max_size=6),
    st.sampled_from(("null", "refuse")),
)
def test_every_message_is_taken_or_refused_and_columns_are_in_step(
    payloads: list[bytes], on_null: str
) -> None:
    batch = waiting(*payloads)
    taken, columns, refused = rows("{device}", "$.a", "$.b", on_null=on_null).columns(batch)
    assert sorted([*taken, *(one for one, _ in refused)], key=batch.index) == batch
    assert [len(column) for column in columns] == [len(taken)] * 3
    assert columns[0] == [message.levels[0] for message in taken]
    assert all(reason for _, reason in refused)


def test_a_null_is_refused_by_name_where_it_is_asked_for() -> None:
    _, _, [(_, reason)] = rows("{device}", "$.a", on_null="refuse").columns(waiting(NULL))
    assert reason == "column c1: $.a is missing or null"
    _, columns, _ = rows("{device}", "$.a").columns(waiting(NULL))
    assert columns[1] == [None]


def test_what_reads_no_json_takes_any_payload() -> None:
    taken, _, refused = rows("{device}", "{$payload}").columns(waiting(GOOD, BAD, b"\xff"))
    assert len(taken) == 2
    [(_, reason)] = refused
    assert "bytea" in reason, "no text column takes that"


@pytest.mark.parametrize(
    ("texts", "slots"),
    [
        (("$.a", "{device}", "$.b", "$.a"), {"a": 0, "b": 1}),
        (("{device}",), {}),
        (("$.a", "$.b.c"), {}),
        (("$.a", "$[0]"), {}),
        (("$.a", "$"), {}),
        (tuple(f"$.m{number}" for number in range(MEMBERS_MAX)), {f"m{n}": n for n in range(MEMBERS_MAX)}),
        (tuple(f"$.m{number}" for number in range(MEMBERS_MAX + 1)), {}),
    ],
)
def test_members_of_a_flat_object_are_looked_for_without_parsing(
    texts: tuple[str, ...], slots: dict[str, int]
) -> None:
    assert _slots_of([parse_expression(text, ("device",)) for text in texts]) == slots


@pytest.mark.parametrize("depth", [100, 400, 600, 900, 2000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")], ids=["lists", "objects"])
@pytest.mark.parametrize("kind", ["text", "jsonb", "text[]", "timestamptz"])
def test_what_is_nested_too_deep_costs_itself(depth: int, opening: bytes, closing: bytes, kind: str) -> None:
    """Between what Python reads and what it writes lay messages that ended the process, at each start again."""
    deep = b'{"a":%b,"b":"x"}' % (opening * depth + b"1" + closing * depth)
    config = SinkConfig(
        "s", (parse_pattern("t/{device}"),), columns=(("c", parse_expression("$.a", ("device",))),)
    )
    batch = waiting(GOOD, deep, GOOD)
    taken, (column,), refused = Rows(config, (kind,)).columns(batch)
    assert len(taken) + len(refused) == 3
    assert len(column) == len(taken)
    assert {one for one, _ in refused} <= {batch[1]}
    assert depth < 100_000 or refused
