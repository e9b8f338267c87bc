"""What one session is owed: counted, kept once by the store, and let go a little at a time."""

from __future__ import annotations

import pytest

from protocol.mqtt.books import Books
from protocol.mqtt.message import Message
from protocol.mqtt.owed import Owed
from protocol.mqtt.window import InFlight, Queued, Window


def message(payload: bytes = b"12345", expires_at: float = 0.0) -> Message:
    made = Message(b"t", payload, 1, False)
    made.expires_at = expires_at
    return made


def restored(books: Books) -> Owed:
    owed = Owed(Window(), b"c", books)
    owed.restore(
        [InFlight(7, message(b"1"), 1, False, 0), InFlight(9, message(b"22"), 2, False, 0)],
        [Queued(message(b"333", 50.0), 1, False), Queued(message(b"4444", 20.0), 0, False)],
        last_packet_id=9,
        ids_after=2,
        last_position=40,
    )
    return owed


def test_what_a_snapshot_kept_is_counted_and_in_its_order() -> None:
    owed = restored(Books())
    assert [one.packet_id for one in owed.inflight()] == [7, 9]
    assert [one.message.payload for one in owed.queued()] == [b"333", b"4444"]
    assert (owed.inflight_count(), owed.queued_count(), owed.queued_qos_0) == (2, 2, 1)
    assert owed.queued_qos_0_bytes == 4
    assert (owed.inflight_bytes, owed.queued_bytes) == (3, 7)
    assert [one.position for one in owed.queued()] == [41, 42]
    assert owed.first_expiry == 20.0


@pytest.mark.parametrize(
    ("owed", "most", "behind"), [(1, 3, True), (1, 2, False), (1, 0, True), (2, 20, False), (3, 20, False)]
)
def test_a_client_is_behind_whose_window_takes_as_many_again(owed: int, most: int, behind: bool) -> None:
    """Of its two in flight so many are what it is owed just now."""
    client = restored(Books())
    client.window = Window(inflight_messages=most)
    assert client.is_behind(owed) == behind


def test_what_has_expired_before_the_clock_began_is_known_to_have_expired() -> None:
    owed = Owed(Window())
    owed.restore([], [Queued(message(b"1", -5.0), 1, False), Queued(message(b"2", 9.0), 1, False)], 0, 0)
    assert owed.first_expiry == -5.0


def test_a_session_that_ends_lets_go_of_its_messages_a_few_at_a_time() -> None:
    books = Books()
    owed = restored(books)
    held = [one.message for one in owed.inflight()] + [one.message for one in owed.queued()]
    discarded = owed.discard()
    assert (owed.inflight_bytes, owed.queued_bytes, owed.inflight(), owed.queued()) == (0, 0, [], [])
    assert owed.discard() is None
    assert discarded is not None
    assert all(one.holders == 1 for one in held)
    assert discarded.release(3) == 3
    assert not discarded.is_empty()
    assert discarded.release(3) == 1
    assert discarded.is_empty()
    assert all(one.holders == 0 for one in held)


def test_a_change_of_what_outlives_the_connection_is_noted() -> None:
    books = Books()
    books.unsaved = set()
    owed = Owed(Window(), b"c", books)
    owed._note_change()
    assert (books.changes, books.unsaved) == (0, set())
    owed.durable = True
    owed._note_change()
    owed._note_change()
    assert (books.changes, books.unsaved, owed.unsaved) == (2, {b"c"}, True)
