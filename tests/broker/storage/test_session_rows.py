"""Of a session only what differs is written, and in steps; and it is gone with all that it named."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from broker.core.publication import Publication
from broker.storage.backlog import ENTRY_MAX, ROW_BYTES
from broker.storage.batches import Batches
from broker.storage.numbers import Numbers
from broker.storage.reading import read
from broker.storage.records import NEVER, SessionRecord, Snapshot
from broker.storage.schema import TABLES
from broker.storage.session_rows import SessionRows
from broker.storage.unfit import Unfit
from protocol.mqtt.outbound import AWAIT_PUBACK, AWAIT_PUBCOMP, AWAIT_PUBREC, InFlight, Queued

SESSION = 3


class File:
    """A file in memory, and the numbers of its messages."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        connection.executescript(TABLES)
        self.connection = connection
        self.numbers = Numbers(Snapshot(0.0, 0.0))
        self.pauses = 0
        self._is_new = True

    def write(self, record: SessionRecord) -> int:
        """Save this session; how many rows were written."""
        will = None
        if not self._is_new:
            (will,) = self.connection.execute("SELECT will FROM session").fetchone()
        return self._run(record, will)

    def remove(self) -> None:
        self._run(None, None)

    def read(self) -> SessionRecord:
        (record,) = read(self.connection, Unfit()).sessions
        return record

    def count(self, table: str) -> int:
        (found,) = self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        assert isinstance(found, int)
        return found

    def _run(self, record: SessionRecord | None, will: int | None) -> int:
        batches = Batches(self.connection)
        self.numbers.begin()
        rows = SessionRows(SESSION, self._is_new, self.numbers, batches, will)
        self.pauses = sum(1 for _ in (rows.remove() if record is None else rows.write(record, 0.0)))
        for _ in self.numbers.end(batches):
            pass
        batches.flush()
        self._is_new = record is None
        return batches.written


@pytest.fixture
def file() -> Iterator[File]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield File(connection)


def record() -> SessionRecord:
    return SessionRecord(
        client_id=b"c",
        user_name=None,
        listener_port=0,
        mount_point=b"",
        bridge=False,
        last_packet_id=0,
        ids_after=0,
        disconnected_at=math.inf,
        subscriptions={},
        inflight=[],
        states=b"",
        queued=[],
        inbound=[],
    )


def large(number: int) -> Publication:
    """A message that has a row of its own."""
    return Publication(b"t/%d" % number, bytes(ENTRY_MAX + 1), 2)


def small(number: int) -> Publication:
    return Publication(b"t/%d" % number, b"x", 2)


def topics(saved: SessionRecord) -> list[bytes]:
    return [one.message.topic for one in saved.queued]


def test_only_the_subscription_that_changed_is_written(file: File) -> None:
    one = record()
    one.subscriptions = {b"a": 1, b"b": 2, b"c": 0}
    one.replays = {b"b"}
    assert file.write(one) == 1 + 3
    assert file.write(one) == 1
    one.subscriptions = {b"a": 2, b"b": 2}
    one.replays = set()
    assert file.write(one) == 1 + 1 + 2
    found = file.read()
    assert (found.subscriptions, found.replays) == ({b"a": 2, b"b": 2}, set())


def test_entries_in_flight_leave_anywhere_come_behind_and_change_their_state(file: File) -> None:
    one = record()
    entries = [InFlight(at, large(at), 2, False, AWAIT_PUBREC) for at in (1, 2, 3)]
    one.inflight = list(entries)
    one.states = bytes((AWAIT_PUBREC,) * 3)
    file.write(one)
    one.inflight = [entries[0], entries[2], InFlight(4, large(4), 1, True, AWAIT_PUBACK, b"\x0b\x07")]
    one.states = bytes((AWAIT_PUBCOMP, AWAIT_PUBREC, AWAIT_PUBACK))
    # The session; a state; what left, with its message; what came, with its message.
    assert file.write(one) == 1 + 1 + 2 + 2
    found = file.read()
    assert [(entry.packet_id, entry.message.topic) for entry in found.inflight] == [
        (1, b"t/1"),
        (3, b"t/3"),
        (4, b"t/4"),
    ]
    assert found.states == one.states
    assert (found.inflight[2].retain, found.inflight[2].ids) == (True, b"\x0b\x07")


def test_a_packet_id_with_another_message_is_another_entry(file: File) -> None:
    one = record()
    one.inflight = [InFlight(1, large(1), 1, False, AWAIT_PUBACK)]
    one.states = bytes((AWAIT_PUBACK,))
    file.write(one)
    one.inflight = [InFlight(1, large(2), 1, False, AWAIT_PUBACK)]
    file.write(one)
    assert [entry.message.topic for entry in file.read().inflight] == [b"t/2"]
    assert file.count("message") == 1


@pytest.mark.parametrize("message", [small, large])
@pytest.mark.parametrize("left", range(5))
def test_of_a_queue_the_first_leave_and_new_ones_come_behind(file: File, message: object, left: int) -> None:
    assert callable(message)
    one = record()
    queue = [Queued(message(at), 1, False, position=at) for at in range(1, 5)]
    one.queued = list(queue)
    file.write(one)
    one.queued = [*queue[left:], Queued(message(5), 1, False, position=5)]
    file.write(one)
    assert topics(file.read()) == [b"t/%d" % at for at in range(left + 1, 6)]
    assert file.count("message") == (5 - left if message is large else 0)


def test_a_long_queue_stands_in_rows_that_fill_a_page_and_no_more(file: File) -> None:
    one = record()
    one.queued = [Queued(small(at), 1, False, position=at) for at in range(1, 401)]
    file.write(one)
    sizes = [row[0] for row in file.connection.execute("SELECT length(messages) FROM backlog")]
    assert len(sizes) > 5
    assert all(ROW_BYTES <= size < ROW_BYTES + 2 * ENTRY_MAX for size in sizes[:-1])
    assert topics(file.read()) == [b"t/%d" % at for at in range(1, 401)]


def test_what_is_only_new_leaves_what_still_waits_in_the_file(file: File) -> None:
    one = record()
    one.queued = [Queued(small(at), 1, False, position=at) for at in (1, 2, 3)]
    file.write(one)
    one.queued = [Queued(small(4), 1, False, position=4)]
    one.oldest = 2
    file.write(one)
    assert topics(file.read()) == [b"t/2", b"t/3", b"t/4"]
    one.queued = []
    one.oldest = NEVER
    file.write(one)
    assert topics(file.read()) == []


def test_an_empty_queue_leaves_nothing_in_the_file(file: File) -> None:
    one = record()
    one.queued = [Queued(message(at), 1, False, position=at) for at, message in enumerate((small, large), 1)]
    file.write(one)
    one.queued = []
    file.write(one)
    assert [file.count(name) for name in ("queued", "backlog", "message")] == [0, 0, 0]


def test_what_came_at_qos_2_is_there_until_it_is_released(file: File) -> None:
    one = record()
    first, second = large(1), large(2)
    one.inbound = [(1, first), (2, second)]
    file.write(one)
    one.inbound = [(2, second), (1, large(3))]
    file.write(one)
    assert {(at, message.topic) for at, message in file.read().inbound} == {(1, b"t/3"), (2, b"t/2")}
    assert file.count("message") == 2


def test_a_will_stays_while_it_waits_and_makes_room_for_another(file: File) -> None:
    one = record()
    one.will, one.will_due = large(1), 5.0
    assert file.write(one) == 2
    assert file.write(one) == 1
    one.will = large(2)
    file.write(one)
    found = file.read()
    assert found.will is not None
    assert (found.will.topic, found.will_due) == (b"t/2", 5.0)
    one.will = None
    file.write(one)
    assert (file.read().will, file.read().will_due) == (None, 0.0)
    assert file.count("message") == 0


def test_a_session_that_ended_leaves_nothing(file: File) -> None:
    one = record()
    one.subscriptions = {b"#": 1}
    one.inflight, one.states = [InFlight(1, large(1), 1, False, AWAIT_PUBACK)], bytes((AWAIT_PUBACK,))
    one.queued = [Queued(message(at), 1, False, position=at) for at, message in enumerate((small, large), 1)]
    one.inbound = [(1, large(3))]
    one.will = large(4)
    file.write(one)
    file.remove()
    tables = ("session", "subscription", "inflight", "queued", "inbound", "backlog", "message")
    assert {name: file.count(name) for name in tables} == dict.fromkeys(tables, 0)


def test_much_is_written_in_steps_that_others_come_between(file: File) -> None:
    one = record()
    one.subscriptions = {b"%d" % number: 1 for number in range(500)}
    file.write(one)
    assert file.pauses == 10
    file.write(one)  # to look is work, too
    assert file.pauses == 10
