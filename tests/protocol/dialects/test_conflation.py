"""A backlog holds the newest of each key, merges what can be merged, and says what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from protocol.dialects.base import Meter
from protocol.dialects.conflation import WAITING_PER_KEY_MAX, Backlog, Conflation


class Joining(Conflation):
    """Messages that start with `+` are merged by joining them, but for `+!`; others are replaced."""

    def key(self, channel: str, payload: bytes) -> str:
        return channel + ("+" if payload.startswith(b"+") else "=")

    def is_mergeable(self, key: str) -> bool:
        return key.endswith("+")

    def merge(self, payloads: Sequence[bytes]) -> Sequence[bytes]:
        return list(payloads) if b"+!" in payloads else [b"".join(payloads)]


def taken(backlog: Backlog) -> list[tuple[str, bytes | None, int]]:
    found = []
    while (entry := backlog.take()) is not None:
        found.append(entry)
    return found


def test_the_newest_of_each_channel_wins_and_the_others_are_counted() -> None:
    backlog = Backlog(Conflation(), 1000)
    for channel, payload in [("a", b"1"), ("b", b"2"), ("a", b"3"), ("a", b"4")]:
        backlog.offer(channel, payload)
    assert len(backlog) == 2
    assert taken(backlog) == [("a", b"4", 2), ("b", b"2", 0)]
    assert not backlog


def test_what_can_be_merged_is_merged_and_nothing_is_missing() -> None:
    backlog = Backlog(Joining(), 1000)
    for payload in [b"+1", b"x", b"+2", b"y", b"+3"]:
        backlog.offer("a", payload)
    assert taken(backlog) == [("a", b"+1+2+3", 0), ("a", b"y", 1)]


def test_too_much_to_merge_is_skipped_as_a_whole() -> None:
    backlog = Backlog(Joining(), 10_000)
    for _ in range(WAITING_PER_KEY_MAX + 1):
        backlog.offer("a", b"+")
    assert taken(backlog) == [("a", b"+", WAITING_PER_KEY_MAX)]


def test_too_much_to_merge_is_merged_early_where_that_is_wanted() -> None:
    backlog = Backlog(Joining(), 10_000, merges_early=True)
    for _ in range(WAITING_PER_KEY_MAX * 3):
        backlog.offer("a", b"+")
    assert taken(backlog) == [("a", b"+" * WAITING_PER_KEY_MAX * 3, 0)]


def test_where_one_can_not_stand_for_all_they_come_one_by_one() -> None:
    backlog = Backlog(Joining(), 1000)
    for payload in (b"+1", b"+!", b"+2"):
        backlog.offer("a", payload)
    assert backlog.take() == ("a", b"+1", 0)
    backlog.offer("a", b"+3")
    assert taken(backlog) == [("a", b"+!", 0), ("a", b"+2", 0), ("a", b"+3", 0)]
    backlog.offer("a", b"1" * 1000)
    assert taken(backlog) == [("a", b"1" * 1000, 0)], "nothing is counted as waiting still"


def test_too_much_that_can_not_be_merged_early_leaves_no_room() -> None:
    backlog = Backlog(Joining(), 10_000, merges_early=True)
    for _ in range(WAITING_PER_KEY_MAX):
        backlog.offer("a", b"+!")
    assert [backlog.has_room("a", bytes(size)) for size in (9_000, 10_000)] == [True, False]
    backlog.offer("a", b"+!")
    assert (backlog.has_room("a", b"+!"), backlog.has_hole) == (False, False)
    assert taken(backlog) == [("a", b"+!", 0)] * (WAITING_PER_KEY_MAX + 1)
    assert backlog.has_room("a", b"+!")


def test_what_takes_the_place_of_another_has_its_room_too() -> None:
    backlog = Backlog(Joining(), 10)
    backlog.offer("a", b"12345678")
    assert backlog.has_room("a", b"1234567890")
    assert not backlog.has_room("a", b"12345678901")
    assert not backlog.has_room("b", b"123")
    assert not backlog.has_room("a", b"+12")
    backlog.offer("b", b"+1")
    assert not backlog.has_room("b", b"+"), "of these none takes the place of another"


def test_a_backlog_never_holds_more_bytes_than_it_may() -> None:
    backlog = Backlog(Conflation(), 10)
    backlog.offer("a", b"12345678")
    backlog.offer("b", b"12345678")
    assert taken(backlog) == [("a", b"12345678", 0), ("b", None, 1)]
    backlog.offer("c", b"1234567890")
    assert taken(backlog) == [("c", b"1234567890", 0)]


def test_a_channel_that_was_left_is_forgotten() -> None:
    backlog = Backlog(Joining(), 4)
    backlog.offer("a", b"x")
    backlog.offer("a", b"+")
    backlog.offer("b", b"y")
    backlog.forget("a")
    backlog.offer("b", b"1234")
    assert taken(backlog) == [("b", b"1234", 1)]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.binary(min_size=1, max_size=9)), max_size=80),
    st.integers(0, 60),
)
def test_every_message_is_delivered_merged_or_counted(
    messages: list[tuple[str, bytes]], bytes_max: int
) -> None:
    backlog = Backlog(Conflation(), bytes_max)
    for channel, payload in messages:
        backlog.offer(channel, payload)
    entries = taken(backlog)
    delivered = sum(payload is not None for _, payload, _ in entries)
    assert delivered + sum(skipped for _, _, skipped in entries) == len(messages)
    assert sum(len(payload) for _, payload, _ in entries if payload is not None) <= bytes_max


def test_a_meter_allows_a_second_worth_at_once_and_then_its_rate() -> None:
    meter = Meter(100, now=0.0)
    assert [meter.allows(0.0) for _ in range(101)] == [True] * 100 + [False]
    assert not meter.allows(0.005)
    assert meter.allows(0.02)
    assert [meter.allows(10.0) for _ in range(101)] == [True] * 100 + [False]
