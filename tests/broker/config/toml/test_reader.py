"""Tables to classes: names and units of keys, types in words, and which mistakes follow from others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from support.toml_files import noted, reader_of

from broker.config.toml.lines import Lines
from broker.config.toml.reader import Reader, keys_of, label, unknown_key, whole_duration


@attrs.frozen
class Inner:
    deep: int = 0


@attrs.frozen
class Table:
    name: str
    is_on: bool = False
    count: int = 1
    share: float = 0.5
    wait_s: float = 1.0
    keep_s: int = 1
    queue_bytes: int = 0
    piece_bytes_max: int = 0
    place: Path | None = None
    texts: tuple[str, ...] = ()
    from_: str = ""
    hidden: int = 0
    inner: Inner = attrs.field(factory=Inner)


RENAMES: dict[type, dict[str, str | None]] = {Table: {"from_": "from", "hidden": None}}


def reader(text: str = "") -> Reader:
    return Reader(Path("/etc/rowcast/r.toml"), Lines(text), RENAMES)


def test_keys_are_the_attributes_names_without_their_units() -> None:
    assert keys_of(Table, RENAMES) == {
        "name", "is_on", "count", "share", "wait", "keep", "queue", "piece_bytes_max", "place", "texts", "from",
        "inner",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "attribute", "expected"),
    [
        ("wait", "1.5 m", "wait_s", 90.0),
        ("wait", "20ms", "wait_s", 0.02),
        ("wait", 3, "wait_s", 3.0),
        ("wait", "2h", "wait_s", 7200.0),
        ("keep", "1d", "keep_s", 86400),
        ("keep", 2.0, "keep_s", 2),
        ("queue", "3kB", "queue_bytes", 3072),
        ("queue", "1 GB", "queue_bytes", 2**30),
        ("queue", "7B", "queue_bytes", 7),
        ("piece_bytes_max", "2MB", "piece_bytes_max", 2**21),
        ("queue", 5, "queue_bytes", 5),
        ("share", 1, "share", 1.0),
        ("place", "a/b", "place", Path("/etc/rowcast/a/b")),
        ("place", "/b", "place", Path("/b")),
        ("texts", "one", "texts", ("one",)),
        ("texts", ["one", "two"], "texts", ("one", "two")),
        ("from", "x", "from_", "x"),
        ("inner", {"deep": 2}, "inner", Inner(2)),
    ],
)
def test_a_value_is_read(key: str, value: object, attribute: str, expected: object) -> None:
    taking = reader()
    found = taking.structure({"name": "n", key: value}, Table, ())
    assert taking.mistakes() == []
    assert getattr(found, attribute) == expected
    assert type(getattr(found, attribute)) is type(expected)


DURATION = 'a duration is wanted, such as "30s" (units: ms, s, m, h, d)'
SIZE = 'a size is wanted, such as "16MB" (units: B, kB, MB, GB)'


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("is_on", 1, "true or false is wanted, not a whole number"),
        ("is_on", "true", "true or false is wanted, not text"),
        ("count", True, "a whole number is wanted, not true or false"),
        ("count", 1.0, "a whole number is wanted, not a number"),
        ("share", "1", "a number is wanted, not text"),
        ("name", ["n"], "text in quotes is wanted, not an array"),
        ("place", 5, "a path in quotes is wanted, not a whole number"),
        ("inner", 5, "a table is wanted, not a whole number"),
        ("texts", 5, "text in quotes is wanted, not a whole number"),
        ("wait", "30", DURATION),
        ("wait", "30 S", DURATION),
        ("wait", "-1s", DURATION),
        ("wait", -1, DURATION),
        ("wait", True, DURATION),
        ("wait", float("inf"), DURATION),
        ("wait", float("nan"), DURATION),
        ("wait", 10**400, DURATION),
        ("keep", "20ms", 'whole seconds are wanted, such as "30s"'),
        ("keep", float("inf"), DURATION),
        ("queue", "1KB", SIZE),
        ("queue", "1.5MB", SIZE),
        ("queue", -1, SIZE),
        ("queue", True, SIZE),
    ],
)
def test_what_is_wanted_instead_is_said(key: str, value: object, what: str) -> None:
    taking = reader()
    taking.structure({"name": "n", key: value}, Table, ("table",))
    assert noted(taking) == [f"{key}: {what}"]


@pytest.mark.parametrize("value", [float("inf"), 10**400, "1.5s", None])
def test_a_duration_that_no_class_asks_for_is_refused_in_the_same_way(value: Any) -> None:
    with pytest.raises(ValueError, match="wanted"):
        whole_duration(value)


def test_what_is_wrong_is_as_if_it_were_not_there_so_that_the_rest_is_read() -> None:
    taking = reader()
    found = taking.structure({"name": "n", "count": "x", "wait": "2s", "cuont": 1}, Table, ("table",))
    assert found == Table("n", wait_s=2.0)
    assert sorted(noted(taking)) == [
        "count: a whole number is wanted, not text",
        "unknown key cuont: did you mean count?",
    ]


@pytest.mark.parametrize("value", [{}, {"name": 5}, 5, []])
def test_without_what_it_needs_there_is_none(value: object) -> None:
    assert reader().structure(value, Table, ("table",)) is None


def test_a_key_of_a_table_inside_is_said_to_belong_there() -> None:
    taking = reader()
    taking.structure({"name": "n", "deep": 1}, Table, ("outer", 0, "table"))
    assert noted(taking) == ["deep belongs in [outer.table.inner]"]


def test_a_hidden_attribute_is_no_key() -> None:
    taking = reader()
    found = taking.structure({"name": "n", "hidden": 5}, Table, ())
    assert found == Table("n")
    assert len(taking.mistakes()) == 1


def test_what_follows_from_a_mistake_is_no_second_one() -> None:
    taking = reader()
    taking.structure({"name": "n", "count": "x"}, Table, ("table",))
    taking.wrong(("table",), "table: what it lacks is its count")
    taking.wrong(("table", "count"), "count: not above 0")
    assert len(taking.mistakes()) == 1
    taking.wrong(("table", "share"), "share: too large")
    taking.wrong(("table", "share"), "share: too large")
    assert noted(taking)[1:] == ["share: too large"]


def test_mistakes_come_by_line_and_say_which_tables_are_in_doubt() -> None:
    taking = reader("a = 1\n[b]\nc = 2\n")
    taking.wrong(("b", "c"), "second")
    taking.wrong(("a",), "first")
    taking.wrong((), "whole")
    assert [mistake.place for mistake in taking.mistakes()] == [
        f"/etc/rowcast/r.toml:{line}" for line in (1, 1, 3)
    ]
    assert [mistake.rpartition(" ")[2] for mistake in taking.mistakes()] == ["first", "whole", "second"]
    assert taking.doubts == {"a", "b", ""}
    assert (taking.line_of(("b", "c")), taking.where(("b", "x"))) == (3, "/etc/rowcast/r.toml:2")


def test_a_warning_comes_once() -> None:
    taking = reader_of()
    for what in ("one", "two", "one"):
        taking.warn(what)
    assert taking.warnings == ["one", "two"]


def test_a_key_is_called_by_its_name_whatever_index_stands_behind() -> None:
    assert label(("mqtt", "route", 0, "topics", 1)) == "topics"
    assert label((0,)) == "the document"


def test_an_unknown_key_brings_the_one_that_was_meant_or_all_there_are() -> None:
    assert unknown_key("prot", ["host", "port"]) == "unknown key prot: did you mean port?"
    assert unknown_key("x", ["host", "port"]) == "unknown key x: known here: host, port"
