"""Small messages that wait in one queue alone stand many in a row, and are lost, or set aside, one by one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.storage.backlog import ENTRY_MAX, bodies, entry, intact, opened, row_of
from broker.storage.database import open_database, read_database
from broker.storage.records import Snapshot, collect, snapshot
from broker.storage.writing import Writer
from protocol.mqtt.outbound import Queued


def publication(number: int = 0) -> Publication:
    message = Publication(b"a/%d" % number, b"payload %d" % number, 2, True, b"writer", b"", 1883)
    message.properties = b"\x01\x01"
    message.expires_at = 50.5
    return message


def queued(number: int = 1) -> Queued:
    return Queued(publication(number), 1, True, 3, b"\x0b\x09", number)


def owed(engine: Engine) -> list[bytes]:
    return [waiting.message.payload for waiting in engine.sessions[b"away"].outbound.queued()]


def engine_with_one_away() -> Engine:
    engine = Engine()
    engine.window.queued_messages = 0
    session, _ = engine.open_session(b"away", False)
    engine.subscribe_session(session, b"#", 1)
    return engine


def publish(engine: Engine, first: int, count: int, topic: bytes = b"t") -> None:
    for number in range(first, first + count):
        engine.publish(Publication(topic, b"%d" % number, 1))


def file_with(path: Path, *topics: bytes) -> None:
    """A session that is owed ten messages of each topic."""
    engine = engine_with_one_away()
    for topic in topics:
        publish(engine, 0, 10, topic)
    connection, _ = open_database(path)
    with closing(connection):
        Writer(connection).write(snapshot(engine, 0.0), pause_s=0)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def changed(engine: Engine) -> Snapshot:
    saved = Snapshot(0.0, 0.0, is_whole=False)
    for _ in collect(engine, saved):
        pass
    return saved


def served(path: Path) -> list[bytes]:
    connection, saved = open_database(path)
    connection.close()
    return [waiting.message.payload for record in saved.sessions for waiting in record.queued]


def test_an_entry_says_all_of_a_message() -> None:
    waiting = queued()
    found = opened(entry(7, waiting, publication(1), 1000.0))
    assert found is not None
    message = found.message
    assert isinstance(message, Publication)
    assert (found.qos, found.retain, found.ids_before, found.ids, found.position) == (
        1,
        True,
        3,
        b"\x0b\x09",
        1,
    )
    assert (message.topic, message.payload, message.qos, message.retain) == (b"a/1", b"payload 1", 2, True)
    assert (message.client_id, message.user_name, message.listener_port) == (b"writer", b"", 1883)
    assert (message.properties, message.expires_at) == (b"\x01\x01", 1050.5)


def test_a_flipped_bit_costs_one_message_and_no_other() -> None:
    row = row_of(7, [entry(7, queued(number), publication(number), 0.0) for number in range(1, 6)])
    good = row[4]
    assert isinstance(good, bytearray)
    for bit in range(8 * len(good)):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        ((session, _, _, count, _, _),) = intact([7, 5, 1, 5, bytes(data), row[5]])  # type: ignore[list-item]
        assert (session, count) == (7, 4), bit


def test_a_key_that_the_disk_changed_costs_nothing() -> None:
    row = row_of(7, [entry(7, queued(number), publication(number), 0.0) for number in (1, 2)])
    assert isinstance(row[4], bytearray)
    assert intact([8, 66, 1, 2, bytes(row[4]), row[5]]) == [row]  # type: ignore[list-item]


def test_a_payload_that_the_disk_changed_is_named_and_the_others_are_served(tmp_path: Path) -> None:
    path = tmp_path / "rowcast.db"
    engine = engine_with_one_away()
    for number in range(100):
        engine.publish(Publication(b"t", b"message %03d" % number, 1))
    connection, _ = open_database(path)
    with closing(connection):
        Writer(connection).write(snapshot(engine, 0.0), pause_s=0)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = path.read_bytes()
    assert data.count(b"message 050") == 1
    path.write_bytes(data.replace(b"message 050", b"message 150"))
    damage = read_database(path)[1].damage
    assert any("of the table backlog: 1 row is not what was written" in what for what in damage)
    assert served(path) == [b"message %03d" % number for number in range(100) if number != 50]


def test_what_waited_for_a_session_that_is_lost_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "rowcast.db"
    file_with(path, b"t")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM session")
        connection.commit()
    damage = read_database(path)[1].damage
    assert "lost: 10 messages that waited for session 1, which is lost" in damage


def test_topics_that_are_none_are_set_aside_and_the_rest_is_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rowcast.db"
    file_with(path, b"fit/1", b"/" * 201, b"fit/2")
    assert served(path) == [b"%d" % number for number in range(10)] * 2
    assert "has a topic that is none" in caplog.text
    caplog.clear()
    assert len(served(path)) == 20
    assert caplog.text == ""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*), min(topic) FROM set_aside").fetchone() == (10, b"/" * 201)


@pytest.mark.parametrize("left", [300, 299, 200, 1, 0])
def test_a_queue_that_was_read_from_begins_where_it_is_left(tmp_path: Path, left: int) -> None:
    path = tmp_path / "rowcast.db"
    engine = engine_with_one_away()
    publish(engine, 0, 150)
    connection, _ = open_database(path)
    with closing(connection):
        writer = Writer(connection)
        writer.write(snapshot(engine, 0.0), pause_s=0)
        publish(engine, 150, 150)
        writer.write(changed(engine), pause_s=0)
        outbound = engine.sessions[b"away"].outbound
        queue = outbound.queued()
        outbound.restore([], queue[300 - left :], 0, 0, outbound.collected)
        if not left:
            outbound.discard()
        outbound.mark_unsaved()
        writer.write(changed(engine), pause_s=0)
        publish(engine, 300, 5)
        writer.write(changed(engine), pause_s=0)
    assert served(path) == [b"%d" % number for number in range(300 - left, 305)]


def test_a_session_that_is_kept_again_is_kept_whole(tmp_path: Path) -> None:
    """A client of 5.0 may say that its session ends with its connection, and later that it does not."""
    path = tmp_path / "rowcast.db"
    engine = engine_with_one_away()
    session = engine.sessions[b"away"]
    publish(engine, 0, 10)
    connection, _ = open_database(path)
    with closing(connection):
        writer = Writer(connection)
        for clean in (False, True, False):
            session.clean = clean
            session.outbound.mark_unsaved()
            writer.write(changed(engine), pause_s=0)
    assert len(served(path)) == 10


def test_what_is_large_or_kept_by_others_has_its_own_row(tmp_path: Path) -> None:
    path = tmp_path / "rowcast.db"
    engine = engine_with_one_away()
    for payload in (b"1", b"x" * ENTRY_MAX, b"2"):
        engine.publish(Publication(b"t", payload, 1))
    engine.publish(Publication(b"t", b"kept", 1, True))
    engine.publish(Publication(b"t", b"3", 1))
    connection, _ = open_database(path)
    with closing(connection):
        Writer(connection).write(snapshot(engine, 0.0), pause_s=0)
        assert connection.execute("SELECT count(*) FROM message").fetchone() == (2,)
        assert connection.execute("SELECT count FROM backlog").fetchall() == [(3,)]
    assert served(path) == owed(engine) == [b"1", b"x" * ENTRY_MAX, b"2", b"kept", b"3"]


def test_a_file_of_format_4_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "rowcast.db"
    engine = engine_with_one_away()
    engine.publish(Publication(b"t", b"x" * 2000, 1))
    connection, _ = open_database(path)
    with closing(connection):
        Writer(connection).write(snapshot(engine, 0.0), pause_s=0)
        connection.executescript("DROP TABLE backlog; PRAGMA user_version = 4")
    for _ in range(2):
        assert served(path) == [b"x" * 2000]


def test_all_between_the_entries_is_passed_over() -> None:
    row = row_of(7, [entry(7, queued(number), publication(number), 0.0) for number in (1, 2)])
    assert isinstance(row[4], bytearray)
    whole = bytes(row[4])
    assert bodies(b"") == bodies(bytes(500)) == []
    assert len(bodies(bytes(33) + whole + b"\xff" * 80 + whole[:-1])) == 3
