"""How an option's range is written: in mistakes, and on the page."""

from __future__ import annotations

from typing import Any

import pytest

from broker.config.mosquitto.option import Kind, Level, Option


@pytest.mark.parametrize(
    ("kind", "more", "expected"),
    [
        (Kind.INTEGER, {"low": 1, "high": 2}, "1 to 2"),
        (Kind.INTEGER, {"high": 2}, "0 to 2"),
        (Kind.INTEGER, {"low": -1, "high": 2, "clamp": -1}, "-1 to 2"),
        (Kind.INTEGER, {"low": 20}, "at least 20"),
        (Kind.INTEGER, {"low": 0, "clamp": 0}, ""),
        (Kind.INTEGER, {}, ""),
        (Kind.TEXT, {"high": 50}, "at most 50"),
        (Kind.WORD, {"words": ("a",)}, "a"),
        (Kind.WORD, {"words": ("a", "b")}, "a or b"),
        (Kind.SPECIAL, {"words": ("a", "b", "c")}, "a, b or c"),
    ],
)
def test_a_range_in_words(kind: Kind, more: dict[str, Any], expected: str) -> None:
    assert Option("name", Level.BROKER, kind, "", "meaning", **more).range_text == expected


def test_a_title_stands_for_the_name_in_messages() -> None:
    assert Option("name", Level.BROKER, Kind.TEXT, "", "").titled == "name"
    assert Option("name", Level.BROKER, Kind.TEXT, "", "", title="bridge name").titled == "bridge name"
