"""Properties of MQTT 5.0 from a row's columns: what comes out is what a packet can carry, or the row is dropped."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from broker.config.feeds import FeedConfig, Route, Source
from broker.config.properties import PropertyTemplates
from broker.core.added import Added
from broker.feed.routing.properties import expiry_of
from broker.feed.routing.routes import Router
from broker.feed.routing.templates import Unfit
from broker.feed.status import FeedStatus
from protocol.mqtt.framing import encode_variable
from protocol.mqtt.v5.properties import Properties, read_properties

ALL = PropertyTemplates(
    60,
    "",
    "application/{format}",
    "answers/{who}",
    "{reply}",
    (("op", "{$operation}"), ("at", "{$position}"), ("of", "{$kind}/{who}"), ("fixed", "yes"), ("of", "{n}")),
)
ROUTE = Route("s", ("t",), properties=ALL)


def added(route: Route, columns: dict[str, Any], operation: str = "", position: bytes = b"") -> Added | None:
    """What a row's one message gets; None if it was dropped."""
    status = FeedStatus("main")
    router = Router(FeedConfig("main", "", sources=(Source("s", ("k",)),), routes=(route,)), status)
    row = router.notification(b"k", json.dumps(columns).encode(), 0.0)
    assert row is not None
    row.operation, row.position = operation, position
    found = router.publications(row, 0.0)
    assert bool(found) != bool(status.dropped)
    if not found:
        return None
    (outgoing,) = found
    assert len(outgoing) == 5
    return outgoing[4]


def properties(found: Added | None) -> Properties:
    assert found is not None
    inner = found.properties
    read, end = read_properties(
        encode_variable(len(inner)) + inner, 0, len(encode_variable(len(inner)) + inner), 3
    )
    assert end == len(encode_variable(len(inner)) + inner)
    return read


def test_every_property_is_filled_in_and_in_order() -> None:
    row = {"format": "json", "who": "ada", "reply": "\\x00ff", "n": 12345678901234567890}
    found = added(ROUTE, row, "update", b"0/16B3740/3")
    assert found is not None
    assert found.expiry_s == 60.0
    read = properties(found)
    assert read.texts == {3: b"application/json", 8: b"answers/ada", 9: b"\x00\xff"}
    assert read.user == [
        (b"op", b"update"), (b"at", b"0/16B3740/3"), (b"of", b"k/ada"), (b"fixed", b"yes"),
        (b"of", b"12345678901234567890"),
    ]  # fmt: skip


def test_null_and_what_a_row_does_not_bring_are_left_out() -> None:
    read = properties(added(ROUTE, {"format": "json", "who": None, "n": True}))
    assert read.texts == {3: b"application/json"}
    assert read.user == [(b"fixed", b"yes"), (b"of", b"true")]
    read = properties(
        added(evolve(ROUTE, on_null="nobody"), {"format": None, "who": None, "reply": None, "n": None})
    )
    assert read.texts == {3: b"application/nobody", 8: b"answers/nobody", 9: b"nobody"}


@pytest.mark.parametrize("who", ["a/b", "+", "#", "", "a\nb", ["x"], {"x": 1}])
def test_what_can_not_be_in_a_response_topic_drops_the_row_or_is_replaced(who: Any) -> None:
    route = evolve(ROUTE, properties=PropertyTemplates(response_topic="answers/{who}"))
    assert added(route, {"who": who}) is None
    if isinstance(who, str):
        replaced = properties(added(evolve(route, on_unsafe="x"), {"who": who}))
        assert replaced.texts == {8: b"answers/x"}
    if isinstance(who, str) and who:
        escaped = properties(added(evolve(route, on_unsafe="percent"), {"who": who})).texts[8]
        assert escaped == b"answers/" + b"".join(
            b"%%%02X" % byte if byte in b"/+#\n" else bytes([byte]) for byte in who.encode()
        )


def test_a_line_break_is_no_text_of_mqtt() -> None:
    route = evolve(ROUTE, properties=PropertyTemplates(user_properties=(("note", "{note}"),)))
    assert added(route, {"note": "a\nb"}) is None
    read = properties(added(evolve(route, on_unsafe="percent"), {"note": "50%\nb"}))
    assert read.user == [(b"note", b"50%25%0Ab")]
    assert properties(added(evolve(route, on_unsafe="?"), {"note": "a\nb"})).user == [(b"note", b"?")]
    assert properties(added(route, {"note": "a/b +#"})).user == [(b"note", b"a/b +#")]


def test_too_long_a_text_drops_the_row() -> None:
    for wanted in (
        PropertyTemplates(content_type="{x}"),
        PropertyTemplates(correlation_data="{x}"),
        PropertyTemplates(user_properties=(("x", "{x}"),)),
    ):
        route = evolve(ROUTE, properties=wanted)
        assert added(route, {"x": "é" * 32_768}) is None
        assert added(route, {"x": "y" * 65_535}) is not None


def as_postgres_writes(number: float) -> float | str:
    """JSON has no infinity and no NaN: `row_to_json` makes texts of them."""
    return number if math.isfinite(number) else str(number).replace("inf", "Infinity").replace("nan", "NaN")


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(),
    st.floats().map(as_postgres_writes),
    st.lists(st.text()),
)


@given(
    st.dictionaries(st.sampled_from(["format", "who", "reply", "n", "until"]), ODD),
    st.sampled_from(["drop", "percent", "x"]),
)
def test_whatever_is_in_a_row_gives_properties_that_every_client_can_read(
    row: dict[str, Any], unsafe: str
) -> None:
    route = evolve(ROUTE, on_unsafe=unsafe, properties=evolve(ALL, expiry_s=None, expiry_column="until"))
    found = added(route, row, "insert", b"1/2")
    if found is not None:
        properties(found)
        assert found.expiry_s is None or found.expires_unix_s is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("30", (30.0, None)),
        ("0.5", (1.0, None)),
        ("-5", (-5.0, None)),
        ("30s", (30.0, None)),
        ("1.5 h", (5400.0, None)),
        ("00:05:00", (300.0, None)),
        ("1 day 02:00:00.5", (93601.0, None)),
        ("-1 days +02:03:00", (-79020.0, None)),
        ("1 mon", (30 * 86400.0, None)),
        ("1 year 2 mons 3 days", (365.25 * 86400 + 63 * 86400, None)),
        ("-00:00:01", (-1.0, None)),
        ("99999999999", (4294967295.0, None)),
        ("2026-11-26T06:00:00+00:00", (None, 1795672800.0)),
        ("2026-11-26T07:00:00.25+01:00", (None, 1795672800.25)),
        ("2026-11-26T06:00:00", (None, 1795672800.0)),
        ("infinity", (None, None)),
        ("-infinity", (-1.0, None)),
    ],
)
def test_an_expiry_is_read_from_what_postgres_makes_of_its_types(
    value: str, expected: tuple[Any, Any]
) -> None:
    assert expiry_of("x", value) == expected


@pytest.mark.parametrize(
    "value", ["", "soon", "30 sheep", "2026-13-01T00:00:00", True, [], {}, "1" * 400, "nan"]
)
def test_what_is_no_expiry_drops_the_row(value: Any) -> None:
    with pytest.raises(Unfit):
        expiry_of("x", value)
