"""What sessions keep together."""

from __future__ import annotations

from protocol.mqtt.books import UNSAVED_MAX, Books
from protocol.mqtt.message import Message
from protocol.mqtt.window import EXPIRED


def test_who_changed_is_remembered_until_they_are_too_many() -> None:
    one = Books()
    one.note_unsaved(b"a")
    assert one.unsaved is None  # nobody asked
    one.unsaved = set()
    for number in range(UNSAVED_MAX):
        one.note_unsaved(b"%d" % number)
    one.note_unsaved(b"0")
    assert one.unsaved is not None
    assert len(one.unsaved) == UNSAVED_MAX
    one.note_unsaved(b"one more")
    assert one.unsaved is None


def test_positions_rise() -> None:
    one = Books()
    assert [one.next_position() for _ in range(3)] == [1, 2, 3]
    one.last_position = 40
    assert one.next_position() == 41


def test_the_clock_and_what_is_given_up_are_the_owners() -> None:
    one = Books()
    assert one.now() == 0.0
    one.discarded(EXPIRED)
    told: list[int] = []
    one.on_discarded = told.append
    one.clock = lambda: 7.0
    one.discarded(EXPIRED)
    assert (one.now(), told) == (7.0, [EXPIRED])


def test_the_clock_is_asked_only_for_what_expires() -> None:
    one = Books()
    asked: list[int] = []

    def clock() -> float:
        asked.append(1)
        return 7.0

    one.clock = clock
    message = Message(b"t", b"x")
    assert (one.now_for(message), asked) == (0.0, [])
    message.expires_at = 9.0
    assert (one.now_for(message), asked) == (7.0, [1])
