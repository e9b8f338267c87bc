"""Rows of a log that is filled again: none is handed on twice, and none is left out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.cluster.rows_seen import ANEW, RowsSeen

FEED = b"f-main"


def block(value: bytes) -> bytes:
    return b"NATS/1.0\r\nRowcast: n 1 1 - - 0 - -\r\nRowcast-Row: " + value + b"\r\n\r\n"


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), max_size=12),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=4),
)
def test_each_publication_once_however_often_the_log_is_lost(
    rows: list[tuple[int, int]], losses: list[tuple[int, int]]
) -> None:
    """`rows`: changes of each transaction, and publications of each; `losses`: read up to, filled again from."""
    messages: list[tuple[bytes, int]] = []
    for transaction, (changes, publications) in enumerate(rows, 1):
        for change in range(1, changes + 1):
            value = b"%d/%d" % (100 * transaction, change)
            messages += [(value, number) for number in range(publications)]
    seen = RowsSeen()
    handed_on: list[tuple[bytes, int]] = []
    start = reached = 0
    for upto, back in [*losses, (len(messages), 0)]:
        end = min(len(messages), max(upto, start))
        handed_on += [one for one in messages[start:end] if not seen.is_repeated(FEED, block(one[0]))]
        reached = max(reached, end)
        seen.log_lost()
        start = max(0, min(back, reached))
        while 0 < start < len(messages) and messages[start][1] != 0:  # a log ends with a whole row
            start -= 1
    handed_on += [one for one in messages[start:] if not seen.is_repeated(FEED, block(one[0]))]
    assert handed_on == messages


def test_places_that_begin_anew_are_not_taken_for_earlier_ones() -> None:
    seen = RowsSeen()
    assert not seen.is_repeated(FEED, block(b"900/1"))
    seen.log_lost()
    assert seen.is_repeated(FEED, block(b"900/1"))
    assert not seen.is_repeated(b"f-other", block(b"10/1"))
    assert not seen.is_repeated(FEED, block(ANEW))
    assert not seen.is_repeated(FEED, block(b"10/1"))
    assert not seen.is_repeated(FEED, block(b"0/0"))
    assert not seen.is_repeated(FEED, b"NATS/1.0\r\nRowcast: n 1 1 - - 0 - -\r\n\r\n")


def of(source: bytes, value: bytes) -> bytes:
    return block(value)[:-2] + b"Rowcast-Source: " + source + b"\r\n\r\n"


def test_rows_of_another_database_are_not_taken_for_earlier_ones() -> None:
    seen = RowsSeen()
    assert not seen.is_repeated(FEED, of(b"aa", b"900/1"))
    seen.log_lost()
    assert seen.is_repeated(FEED, of(b"aa", b"900/1"))
    assert not seen.is_repeated(FEED, of(b"bb", b"10/1"))
    seen.log_lost()
    assert seen.is_repeated(FEED, of(b"bb", b"10/1")), "the one that was seen last"
    assert not seen.is_repeated(FEED, of(b"bb", b"11/1"))


def test_rows_of_nodes_that_name_no_database_are_not_repeated_by_those_that_do() -> None:
    """Which have filled the log again just after an upgrade."""
    seen = RowsSeen()
    assert not seen.is_repeated(FEED, block(b"900/1"))
    seen.log_lost()
    assert seen.is_repeated(FEED, of(b"aa", b"899/1"))
    seen.log_lost()
    assert seen.is_repeated(FEED, of(b"aa", b"900/1")), "the last one of both"
    assert not seen.is_repeated(FEED, of(b"aa", b"901/1"))


def test_a_database_that_was_named_once_is_known_though_its_next_row_does_not_name_it() -> None:
    seen = RowsSeen()
    assert not seen.is_repeated(FEED, of(b"aa", b"900/1"))
    seen.log_lost()
    assert seen.is_repeated(FEED, block(b"900/1"))
    seen.log_lost()
    assert not seen.is_repeated(FEED, of(b"bb", b"10/1"))
