"""What the file has of a session is believed only as long as nothing that a row says can be different."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.core.publication import Publication
from broker.storage.known import CLOCK_S, SESSIONS_MAX, SUBSCRIPTIONS_MAX, Known, KnownSessions
from broker.storage.records import NEVER, SessionRecord
from protocol.mqtt.outbound import InFlight, Queued

OFFSET_S = 1_800_000_000.0


def session(client_id: bytes = b"c") -> SessionRecord:
    return SessionRecord(client_id, b"user", 1883, b"", False, 7, 0, 5.0, {b"t": 1}, [], b"", [], [])


def known(record: SessionRecord) -> Known:
    return Known(3, None, record, OFFSET_S)


def with_a_will(record: SessionRecord) -> None:
    record.will = Publication(b"w", b"", 1)
    record.will.number = 9


CHANGES: dict[str, Callable[[SessionRecord], None]] = {
    "user": lambda record: setattr(record, "user_name", None),
    "port": lambda record: setattr(record, "listener_port", 1884),
    "mount point": lambda record: setattr(record, "mount_point", b"m/"),
    "bridge": lambda record: setattr(record, "bridge", True),
    "packet id": lambda record: setattr(record, "last_packet_id", 8),
    "ids after": lambda record: setattr(record, "ids_after", 1),
    "left": lambda record: setattr(record, "disconnected_at", 6.0),
    "expiry": lambda record: setattr(record, "expiry_s", 60.0),
    "will": with_a_will,
    "will due": lambda record: setattr(record, "will_due", 9.0),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_session_whose_row_would_differ_is_written_again(change: Callable[[SessionRecord], None]) -> None:
    record = session()
    found = known(record)
    assert found.is_session(session(), OFFSET_S)
    change(record)
    assert not found.is_session(record, OFFSET_S)


def test_so_is_one_whose_times_would_be_a_second_off() -> None:
    assert known(session()).is_session(session(), OFFSET_S + CLOCK_S / 2)
    assert not known(session()).is_session(session(), OFFSET_S - CLOCK_S)


def test_subscriptions_are_compared_with_their_qos_and_with_what_they_still_have_to_get() -> None:
    found = known(session())
    assert found.is_subscriptions(session())
    for subscriptions, replays in (({b"t": 2}, set()), ({}, set()), ({b"t": 1}, {b"t"})):
        record = session()
        record.subscriptions, record.replays = subscriptions, replays
        assert not found.is_subscriptions(record)


def test_where_the_queue_begins_is_known_by_what_was_written_of_it() -> None:
    record = session()
    assert known(record).first == NEVER
    message = Publication(b"t", b"1", 1)
    record.queued = [Queued(message, 1, False, position=position) for position in (4, 5)]
    assert known(record).first == 4
    record.oldest = 2  # only what is new was collected
    assert known(record).first == 2


def test_rows_that_may_be_in_the_file_are_looked_after() -> None:
    record = session()
    assert (known(record).has_inflight, known(record).has_inbound) == (False, False)
    message = Publication(b"t", b"1", 1)
    record.inflight = [InFlight(1, message, 1, False, 1)]
    record.inbound = [(1, message)]
    assert (known(record).has_inflight, known(record).has_inbound) == (True, True)


def test_what_is_known_is_bounded_and_forgotten() -> None:
    sessions = KnownSessions()
    many = session()
    many.subscriptions = {b"%d" % number: 0 for number in range(SUBSCRIPTIONS_MAX + 1)}
    sessions.note(session(), known(session()))
    assert sessions.get(b"c") is not None
    sessions.note(many, known(many))
    assert sessions.get(b"c") is None, "too many subscriptions to keep, and it is not as it was"
    for number in range(SESSIONS_MAX + 1):
        record = session(b"%d" % number)
        sessions.note(record, known(record))
    assert sessions.get(b"0") is None
    assert sessions.get(b"%d" % SESSIONS_MAX) is not None
    sessions.forget(b"%d" % SESSIONS_MAX)
    assert sessions.get(b"%d" % SESSIONS_MAX) is None
    sessions.note(session(), known(session()))
    sessions.forget_all()
    assert sessions.get(b"c") is None
