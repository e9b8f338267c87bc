"""Where JSON values end: as the JSON parser says, for whatever it is given."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.feed.routing.rowtext import _scan
from protocol.json_scan import DEPTH_MAX, is_utf8, is_word, value_end

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def parsed_end(text: bytes) -> int:
    """What the parser says, in bytes; -1 if it refuses."""
    try:
        return len(text.decode()[: _scan(text.decode(), 0)[1]].encode())
    except (ValueError, StopIteration):
        return -1


@given(
    value=values,
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
    tail=st.sampled_from(["", ",", " }", "x"]),
)
def test_a_value_ends_where_it_ends_however_it_is_printed(
    value: Any, indent: int | None, ascii_only: bool, tail: str
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    assert value_end(text + (tail if tail != "x" or text[-1:] in b'"}]el' else "").encode(), 0) == len(text)


@given(value=values, place=st.integers(0), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_value_is_taken_only_where_the_parser_takes_it(
    value: Any, place: int, byte: int, cut: bool
) -> None:
    text = bytearray(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    if cut:
        del text[place % len(text) :]
    else:
        text[place % len(text)] = byte
    end = value_end(bytes(text), 0)
    assert end == -1 or parsed_end(bytes(text[:end])) == end


@pytest.mark.parametrize(
    "text",
    ["", "-", "+1", "01", ".5", "1.", "1e", "1e+", "tru", "nul", "NaN", "Infinity", '"', '"\\', '"\\x"', '"\\u12"',
     '"\t"', '"\\u12g4"', "[", "[1", "[1 2]", "[,]", "[1,]", "{", '{"a"}', '{"a":}', '{"a":1,}', "{1:2}", "}"],
)  # fmt: skip
def test_what_is_no_value_has_no_end(text: str) -> None:
    end = value_end(text.encode(), 0)
    assert end == -1 or text[:end] in ("0", "1")
    assert end == -1 or text in ("01", "1.", "1e", "1e+")


def test_text_that_is_not_utf8_is_no_string() -> None:
    for wrong in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc0\x80"):
        assert value_end(b'"' + wrong + b'"', 0) == -1
    assert value_end('"☃ 🎉"'.encode(), 0) == 10


def test_what_nests_too_deeply_is_left_to_the_parser() -> None:
    assert value_end(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX, 0) == 2 * DEPTH_MAX
    assert value_end(b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1), 0) == -1


@pytest.mark.parametrize(
    ("start", "end", "word", "is_there"),
    [
        (1, 3, b"bc", True),
        (1, 1, b"", True),
        (1, 2, b"bc", False),
        (1, 4, b"bc", False),
        (1, 3, b"bd", False),
        (3, 4, b"de", False),
    ],
    ids=["it", "nothing", "its front", "more", "another", "the end"],
)
def test_just_a_word(start: int, end: int, word: bytes, is_there: bool) -> None:
    assert is_word(b"abcd", start, end, word) is is_there


def test_text_is_utf8_or_not() -> None:
    assert is_utf8("ü".encode())
    assert not is_utf8(b"\xff")
