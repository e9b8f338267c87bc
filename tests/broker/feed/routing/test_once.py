"""The memory for copies: exact, bounded, and as quick when it is full as when it is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.feed.routing.once import Once, key_of, key_of_texts

values = st.text("ab\0", max_size=3) | st.none() | st.booleans()


@given(steps=st.lists(st.tuples(st.integers(0, 5), st.floats(0, 4)), max_size=40), keys_max=st.integers(1, 8))
def test_it_remembers_as_a_plain_record_does(steps: list[tuple[int, float]], keys_max: int) -> None:
    once, record, now = Once(10.0, keys_max), list[tuple[int, float]](), 0.0
    for key, pause_s in steps:
        now += pause_s
        last = next((at for known, at in reversed(record) if known == key), None)
        is_repeated = last is not None and now - last < 10.0
        if once.is_repeated((key,), now):
            assert is_repeated
        else:
            # What is forgotten early is forgotten because there was more than it may keep.
            assert not is_repeated or len(record) > keys_max
            once.remember((key,), now)
            record.append((key, now))


def test_what_is_old_goes() -> None:
    once = Once(1.0, 1000)
    for number in range(5000):
        once.remember((number,), number / 100)
    assert len(once._seen) == len(once._order) == len(once._times) == 100


def test_a_key_remembered_again_counts_from_then_on() -> None:
    once = Once(10.0, 100)
    once.remember(("a",), 0.0)
    once.remember(("a",), 11.0)
    once.remember(("b",), 12.0)
    assert once.is_repeated(("a",), 20.0)
    assert not once.is_repeated(("a",), 21.0)


def test_a_memory_of_no_time_holds_nothing() -> None:
    once = Once(0.0, 100)
    for _ in range(3):
        assert not once.is_repeated("a", 1.0)
        once.remember("a", 1.0)
    assert not once._seen


@given(first=st.tuples(values, values), second=st.tuples(values, values))
def test_other_values_have_another_key(first: tuple[object, object], second: tuple[object, object]) -> None:
    assert (key_of(first) == key_of(second)) == (first == second)


def test_a_key_is_the_same_on_both_ways() -> None:
    assert key_of(("3", "é", "")) == key_of_texts([b"3", "é".encode(), b""])
