"""What MQTT 5.0 adds survives a restart, and a file of the format before is taken over."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.peer import connected
from support.peer5 import connected5

from broker.core.engine import Engine
from broker.storage import schema_2, schema_3
from broker.storage.database import open_database
from broker.storage.errors import StorageError
from broker.storage.records import restore, snapshot
from broker.storage.schema import APPLICATION_ID
from broker.storage.schema_3 import checksum
from broker.storage.writing import Writer
from protocol.mqtt.packets import Publish, Subscribe, Will
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import MESSAGE_EXPIRY, SESSION_EXPIRY, WILL_DELAY

STARTED = 1_700_000_000.0


def restarted(path: Path, engine: Engine, away_s: float) -> Engine:
    """The engine is saved and stopped; another one reads the file after so many seconds."""
    connection, saved = open_database(path)
    with closing(connection):
        Writer(connection, saved).write(snapshot(engine, STARTED), pause_s=0.0)
    connection, saved = open_database(path)
    connection.close()
    fresh = Engine()
    fresh.now = 5.0
    restore(fresh, saved, STARTED + away_s)
    return fresh


def lasting(seconds: int) -> Properties:
    return Properties({SESSION_EXPIRY: seconds})


def test_queue_retained_subscriptions_and_expiry_are_as_they_were(tmp_path: Path) -> None:
    engine = Engine()
    engine.now = 1000.0
    peer = connected5(engine, b"s", properties=lasting(500))
    peer.send(Subscribe(1, ((b"t", 1 | 8),), Properties(subscription_ids=[9])))
    peer.drop()
    short, long = (Properties({MESSAGE_EXPIRY: s}, user=[(b"k", b"v")]) for s in (50, 300))
    writer = connected5(engine, b"w")
    writer.send(Publish(b"t", b"short", 1, packet_id=1, properties=short))
    writer.send(Publish(b"t", b"long", 1, True, packet_id=1, properties=long))
    engine = restarted(tmp_path / "rowcast.db", engine, 100)
    back = connected5(engine, b"s", clean=False, properties=lasting(500), present=True)
    (publish,) = back.read()
    assert isinstance(publish, Publish)
    assert (publish.payload, publish.retain) == (b"long", True)
    assert publish.properties == Properties({MESSAGE_EXPIRY: 200}, user=[(b"k", b"v")], subscription_ids=[9])
    engine.now += 201
    engine.expire()
    assert len(engine.retained) == 0


def test_a_session_expires_though_the_broker_was_down(tmp_path: Path) -> None:
    engine = Engine()
    connected5(engine, b"s", properties=lasting(50)).drop()
    connected5(engine, b"longer", properties=lasting(5000)).drop()
    assert list(restarted(tmp_path / "rowcast.db", engine, 100).sessions) == [b"longer"]


def test_a_delayed_will_survives_and_is_published_once(tmp_path: Path) -> None:
    engine = Engine()
    will = Will(b"will", b"gone", 1, True, Properties({WILL_DELAY: 60}))
    connected5(engine, b"s", will=will, properties=lasting(500)).drop()
    engine = restarted(tmp_path / "rowcast.db", engine, 10)
    engine.now += 49
    engine.expire()
    assert len(engine.retained) == 0
    engine.now += 2
    engine.expire()
    assert [kept.payload for kept in engine.retained.all()] == [b"gone"]
    engine = restarted(tmp_path / "other.db", engine, 10)
    assert not engine.sessions[b"s"].will


def older_file(path: Path, version: int) -> None:
    """A session that is owed a message of each kind, and a retained message, in a format before this one."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.executescript(schema_2.TABLES if version == 2 else schema_3.TABLES)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("PRAGMA journal_mode = WAL")
        more = {"message": "", "session": "", "ids": ""}
        if version == 3:
            more = {"message": ", x'', 0.0", "session": ", 9e999, NULL, 0.0", "ids": ", x''"}
        connection.execute("INSERT INTO state VALUES (1, ?)", (STARTED,))
        row = (3, b"t", b"p", 1, 1, b"w", None, 1883, checksum(b"t", b"p"))
        connection.execute(f"INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?{more['message']})", row)
        connection.execute(
            f"INSERT INTO session VALUES (1, ?, NULL, 1883, x'', 0, 4, 0, ?{more['session']})",
            (b"s", STARTED),
        )
        connection.execute("INSERT INTO subscription VALUES (1, ?, 1)", (b"t",))
        connection.execute(f"INSERT INTO inflight VALUES (1, 1, 4, 3, 1, 0, 1{more['ids']})")
        connection.execute(f"INSERT INTO queued VALUES (1, 1, 3, 1, 0, 0{more['ids']})")
        connection.execute("INSERT INTO retained VALUES (1, 3)")


@pytest.mark.parametrize("version", [2, 3])
def test_a_file_of_a_format_before_is_taken_over(tmp_path: Path, version: int) -> None:
    path = tmp_path / "rowcast.db"
    older_file(path, version)
    for _ in range(2):
        connection, saved = open_database(path)
        connection.close()
    engine = Engine()
    restore(engine, saved, STARTED + 10)
    peer = connected(engine, b"s", clean=False, present=True)
    assert peer.read() == [Publish(b"t", b"p", 1, False, True, 4), Publish(b"t", b"p", 1, packet_id=5)]
    assert [kept.topic for kept in engine.retained.all()] == [b"t"]
    engine.now += 1e9
    engine.expire()
    assert engine.sessions


@pytest.mark.parametrize("version", [2, 3])
def test_a_message_that_the_disk_changed_is_not_taken_over(tmp_path: Path, version: int) -> None:
    path = tmp_path / "rowcast.db"
    older_file(path, version)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE message SET payload = x'71'")
    for _ in range(2):
        with pytest.raises(StorageError, match="message 3 is not what was saved"):
            open_database(path)
