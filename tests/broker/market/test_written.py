"""Goal: a side that is not read says the same levels as one that is read by JSON."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.market.numbers import BadValue
from broker.market.written import (
    EMPTY,
    LINES,
    Form,
    Unread,
    Written,
    are_alike,
    unread_at,
    written_from,
    written_of,
)

numbers = st.decimals("0.001", "99999", places=3).map(str)
levels = st.lists(st.tuples(numbers, numbers), max_size=6)


def spelled(levels: list[tuple[str, str]], form: str, separators: tuple[str, str]) -> str:
    """The side as a source would write it."""
    rows: list[Any] = [list(level) for level in levels]
    if form == "numbers":
        rows = [[float(price), float(size)] for price, size in levels]
    elif form == "objects":
        rows = [{"p": price, "q": size} for price, size in levels]
    return json.dumps(rows, separators=separators)


def unread(text: str) -> Unread:
    return Unread(text, json.loads)


@given(levels, st.sampled_from(("texts", "numbers", "objects")), st.sampled_from(((",", ":"), (", ", " : "))))
def test_pairs_are_those_of_the_json_whatever_its_form(
    levels: list[tuple[str, str]], form: str, separators: tuple[str, str]
) -> None:
    text = spelled(levels, form, separators)
    pairs = written_pairs(text)
    assert [tuple(map(float, pair)) for pair in pairs] == [tuple(map(float, level)) for level in levels]
    if form != "numbers":
        assert pairs == levels


def written_pairs(text: str) -> list[tuple[str, str]]:
    """By its form where it has one; one level alone doesn't show what stands between two."""
    read = json.loads(text)
    if len(read) != 1:
        return written_of(unread(text), LINES, "p", "q").pairs()
    with pytest.raises(BadValue, match="irregular"):
        written_of(unread(text), LINES, "p", "q")
    if isinstance(read[0], list):
        read = [[str(number) for number in read[0]]]
    return written_from(read, "p", "q").pairs()


@given(levels, st.integers(0, 8))
def test_more_than_so_many_levels_is_said_without_reading_them(
    levels: list[tuple[str, str]], count: int
) -> None:
    written = written_from([list(level) for level in levels], "p", "q")
    assert written.has_more_than(count) == (len(levels) > count)


def test_the_shortest_levels_are_counted() -> None:
    assert written_of(unread("[[1,2],[3,4],[5,6]]"), LINES, "p", "q").has_more_than(2)


@pytest.mark.parametrize(
    "text",
    [
        '[["1","2"]]',  # what stands between two levels is not seen
        '[["1","2","3"],["1","2","3"]]',
        '[{"q":"2","p":"1"},{"q":"2","p":"1"}]',
        '[{"p":"1","q":"2"},["1","2"]]',
        '[[null,"2"],["1","2"]]',
        '[["1","2"],["3","4"] ]',
    ],
)
def test_what_has_no_form_is_to_be_read(text: str) -> None:
    with pytest.raises(BadValue, match="irregular"):
        written_of(unread(text), LINES, "p", "q")


def test_the_form_of_before_is_taken_for_one_level_and_for_none() -> None:
    before = written_of(unread('[["1","2"],["3","4"]]'), LINES, "p", "q")
    one = written_of(unread('[["5","6"]]'), before.form, "p", "q")
    none = written_of(unread("[]"), before.form, "p", "q")
    assert (one.pairs(), one.form) == ([("5", "6")], before.form)
    assert (none.pairs(), none.form) == ([], before.form)


@pytest.mark.parametrize("text", ['[["', '"]]', '[["]]'])
def test_a_text_in_which_begin_and_end_overlap_is_of_no_form(text: str) -> None:
    assert not Form('[["', '","', '"],["', '"]]', False).is_of(text)


@pytest.mark.parametrize(
    ("number", "is_padded"), [("01", True), ("-00.5", True), ("0.5", False), ("0", False), ("-0", False)]
)
def test_leading_zeros_are_no_json_but_may_stand_in_texts(number: str, is_padded: bool) -> None:
    as_texts = Form("", ",", "],[", "", False)
    as_numbers = Form("", ",", "],[", "", True)
    assert Decimal(as_texts.level(number, "1")[0].text) == Decimal(number)
    for price, size in ((number, "1"), ("1", number.lstrip("-"))):
        if is_padded:
            with pytest.raises(BadValue, match=r"^not_json$"):
                as_numbers.level(price, size)
        else:
            as_numbers.level(price, size)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Written("1,2;", Form("[", ",", ";", "]", False)), Written("3,4;", Form("(", ",", ";", ")", False)), True),
        (Written("1,2;", Form("[", ",", ";", "]", False)), Written("3:4;", Form("[", ":", ";", "]", False)), False),
        (Written("1,2;", Form("[", ",", ";", "]", False)), Written("3,4/", Form("[", ",", "/", "]", False)), False),
        (Written("1,2;", Form("[", ",", ";", "]", False)), Written("3,4;", Form("[", ",", ";", "]", True)), False),
        (Written("1,2;", Form("[", ",", ";", "]", False)), EMPTY, True),
        (EMPTY, Written("1,2;", Form("[", ",", ";", "]", False)), True),
    ],
)  # fmt: skip
def test_sides_are_alike_where_equal_texts_are_equal_levels(
    one: Written, other: Written, expected: bool
) -> None:
    assert are_alike(one, other) == expected


def test_a_level_without_a_second_number_is_bad() -> None:
    with pytest.raises(BadValue, match=r"^bad_level$"):
        Written("1,2;3;", Form("", ",", ";", "", False)).pairs()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ('{"b":[["1","2"]],"a":[]}', '[["1","2"]]'),
        ('{"b":[],"a":[["1","2"]]}', "[]"),
        ('{"b":[{"p":"1"},{"p":"2"}],"a":[]}', '[{"p":"1"},{"p":"2"}]'),
        ('{"b":[ ["1","2"]]}', None),
        ('{"b":[["1","2"] ]}', None),
        ('{"b":null}', None),
    ],
)
def test_where_an_array_ends_is_found_without_reading_it(row: str, expected: str | None) -> None:
    found = unread_at(row, row.index("[") if "[" in row else row.index("null"), json.loads)
    assert (found.text if found else None) == expected


@pytest.mark.parametrize("error", [ValueError(), IndexError(), StopIteration()])
def test_whatever_a_reader_finds_wrong_is_a_bad_value(error: Exception) -> None:
    def read(text: str) -> object:
        raise error

    with pytest.raises(BadValue, match=r"^not_json$"):
        Unread("[[", read).levels()


@pytest.mark.parametrize(
    ("text", "is_json"), [('[["1","2"],["3","4"]]', False), ('[[1,"2"],[3,"4"]]', True), ("[[1,2],[3,4]]", True)]
)  # fmt: skip
def test_one_number_without_quotes_makes_them_json_s(text: str, is_json: bool) -> None:
    assert written_of(unread(text), LINES, "p", "q").form.is_json == is_json


@pytest.mark.parametrize(
    "levels", [[["1"]], [[]], [5], [None], ["12"], [["1", 2]], [{"p": "1"}], [["1", "]"]]]
)
def test_what_was_read_and_has_no_texts_for_price_and_size_is_bad(levels: list[Any]) -> None:
    with pytest.raises(BadValue, match=r"^bad_level$"):
        written_from(levels, "p", "q")


def test_objects_and_long_arrays_are_cut_to_price_and_size() -> None:
    written = written_from([["1", "2", "3"], {"p": "4", "q": "5", "r": "6"}], "p", "q")
    assert written.pairs() == [("1", "2"), ("4", "5")]
