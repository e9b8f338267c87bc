"""What waits for the log: its order, its count, and what goes together."""

from __future__ import annotations

from broker.cluster.batch import Waiting
from broker.cluster.unsent import (
    BATCH_BYTES,
    BATCH_MESSAGES,
    WAITING_BYTES_MAX,
    WAITING_MESSAGES_MAX,
    Unsent,
)
from broker.core.publication import Publication


def waiting(number: int, size: int = 10) -> Waiting:
    return Waiting(Publication(b"t", bytes(size), 1), b"shop.MSGS.c.m.t", b"", number)


def unsent(count: int, size: int = 10) -> Unsent:
    made = Unsent()
    for number in range(count):
        made.append(waiting(number, size))
    return made


def numbers(messages: list[Waiting]) -> list[int]:
    return [one.number for one in messages]


def test_batches_are_taken_in_order_and_bounded() -> None:
    made = unsent(BATCH_MESSAGES + 2)
    assert numbers(made.next_batch()) == list(range(BATCH_MESSAGES))
    assert (len(made), made.size) == (2, 20)
    assert numbers(made.next_batch()) == [BATCH_MESSAGES, BATCH_MESSAGES + 1]
    assert (len(made), made.size, made.next_batch()) == (0, 0, [])
    large = unsent(3, BATCH_BYTES)
    assert [numbers(large.next_batch()) for _ in range(4)] == [[0], [1], [2], []], "each alone"


def test_it_is_full_by_messages_or_by_bytes_and_takes_all_the_same() -> None:
    made = unsent(WAITING_MESSAGES_MAX - 1)
    assert (made.is_full(), made.is_half_empty()) == (False, False)
    made.append(waiting(7))
    assert made.is_full()
    made.restrict(made.all()[: WAITING_MESSAGES_MAX // 2 - 1])
    assert (made.is_full(), made.is_half_empty()) == (False, True)
    large = unsent(3, WAITING_BYTES_MAX // 2)
    assert large.is_full()
    large.next_batch()
    assert (large.is_full(), large.is_half_empty()) == (True, False)
    large.next_batch()
    assert (large.is_full(), large.is_half_empty()) == (False, False)


def test_what_is_too_much_is_the_oldest() -> None:
    made = unsent(WAITING_MESSAGES_MAX + 2)
    assert numbers(made.take_excess()) == [0, 1]
    assert (len(made), made.size) == (WAITING_MESSAGES_MAX, 10 * WAITING_MESSAGES_MAX)
    assert made.take_excess() == []
    made.restrict([one for one in made.all() if one.number % 2])
    assert made.size == 10 * len(made)
    assert numbers(made.all())[:2] == [3, 5]
