"""A persistence file that can't be used is refused by name, with what is wrong and what to do, and left as it is."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.peer5 import connected5

from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.storage.database import open_database, read_database
from broker.storage.errors import StorageError
from broker.storage.records import snapshot
from broker.storage.schema import FORMAT_VERSION, TABLE_NAMES, register
from broker.storage.writing import Writer
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import Publish, Subscribe, Will
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import SESSION_EXPIRY, WILL_DELAY

MOSQUITTO_FILE = b"\x00\xb5\x00mosquitto db" + bytes(4) + b"\x00\x00\x00\x06" + bytes(64)


def saved_file(folder: Path, messages: int = 200, repeats: int = 400) -> Path:
    """A file with one durable session that is owed messages: of 1200 bytes, which have rows of their own."""
    path = folder / "rowcast.db"
    engine = Engine()
    engine.window.queued_messages = 0
    session, _ = engine.open_session(b"away", False)
    engine.subscribe_session(session, b"t", 1)
    for number in range(messages):
        engine.publish(Publication(b"t", b"%03d" % number * repeats, 1))
    connection, _ = open_database(path)
    with closing(connection):
        Writer(connection).write(snapshot(engine, 0.0), pause_s=0)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refusal(path: Path) -> str:
    """What the owner of a refused file reads; every file beside it is as it was."""
    before = contents(path.parent)
    with pytest.raises(StorageError) as refused:
        open_database(path)
    assert contents(path.parent) == before
    return str(refused.value)


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        register(connection)
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_a_new_file_is_empty_and_nobody_elses_business(tmp_path: Path) -> None:
    path = tmp_path / "rowcast.db"
    connection, saved = open_database(path)
    connection.close()
    assert (saved.sessions, saved.retained) == ([], [])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(contents(tmp_path)) == ["rowcast.db"]


def test_what_mosquitto_wrote_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mosquitto.db"
    path.write_bytes(MOSQUITTO_FILE)
    text = refusal(path)
    assert f"{path}: Mosquitto wrote it" in text
    assert "`persistence_file rowcast.db`" in text


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "rowcast.db")
    with pytest.raises(StorageError, match="it is no file"):
        open_database(tmp_path / "rowcast.db")


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rowcast.db"
    execute(path, "CREATE TABLE cookies (name TEXT)")
    assert "of some other program" in refusal(path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = saved_file(tmp_path)
    newer = FORMAT_VERSION + 1
    execute(
        path,
        f"PRAGMA user_version = {newer}",
        *(f"ALTER TABLE {name} ADD more DEFAULT 1" for name in TABLE_NAMES),
    )
    assert (
        f"its format is number {newer}, and this version of Rowcast knows number {FORMAT_VERSION}"
        in refusal(path)
    )


@pytest.mark.parametrize("text", [b"", b"not a database", bytes(5000)])
def test_what_is_no_database_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "rowcast.db"
    path.write_bytes(text)
    assert "damaged" in refusal(path)


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zero_a_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096 * (path.stat().st_size // 4096 - 2))
        file.write(bytes(4096))


def change_a_payload(path: Path) -> None:
    data = path.read_bytes()
    assert b"199199199" in data
    path.write_bytes(data.replace(b"199199199", b"199198199", 1))


@pytest.mark.parametrize("damage", [shorten, zero_a_page, change_a_payload])
def test_what_is_right_of_a_damaged_file_is_served(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = saved_file(tmp_path)
    damage(path)
    _, unfit = read_database(path)
    assert unfit.damage
    before = path.read_bytes()
    connection, saved = open_database(path)
    with closing(connection), caplog.at_level(logging.ERROR):
        assert f"{path} is damaged: " in caplog.text
        assert [record.client_id for record in saved.sessions] == [b"away"]
        assert (0 if damage is shorten else 50) <= len(saved.sessions[0].queued) < 200
    (kept,) = tmp_path.glob("rowcast.db.damaged-*")
    assert kept.read_bytes() == before


def test_messages_in_flight_whose_state_is_none_are_refused(tmp_path: Path) -> None:
    path = saved_file(tmp_path)
    row = "1, 1, 1, 1, 1, 0, 2, x''"
    execute(path, f"INSERT INTO inflight VALUES ({row}, row_checksum({row}))")
    assert "a state that its QoS does not know" in refusal(path)


@pytest.mark.parametrize(
    ("statement", "what", "served"),
    [
        ("DELETE FROM message WHERE number = 7", "lost: message 7 in queued of 'away'", 199),
        ("DELETE FROM session", "of a session that is lost", None),
        ("UPDATE message SET topic = 'a/#' WHERE number = 7", "1 row is not what was written", 199),
        ("UPDATE message SET payload = x'00' WHERE number = 7", "lost: message 7 in queued of 'away'", 199),
        ("DROP TABLE inbound", f"its tables are not those of format {FORMAT_VERSION}", 200),
        ("ALTER TABLE queued ADD COLUMN more", f"its tables are not those of format {FORMAT_VERSION}", 200),
    ],
)
def test_rows_that_contradict_each_other_are_left_out(
    tmp_path: Path, statement: str, what: str, served: int | None
) -> None:
    path = saved_file(tmp_path)
    execute(path, statement)
    assert any(what in damage for damage in read_database(path)[1].damage)
    connection, saved = open_database(path)
    connection.close()
    assert [len(session.queued) for session in saved.sessions] == ([] if served is None else [served])


def rows(connection: sqlite3.Connection) -> list[list[tuple[object, ...]]]:
    return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLE_NAMES]


def every_kind(folder: Path) -> tuple[Path, list[list[tuple[object, ...]]]]:
    """A file with rows in every table, and these."""
    path = folder / "rowcast.db"
    engine = Engine(window=Window(inflight_messages=2))
    will = Will(b"w", b"gone", 1, False, Properties({WILL_DELAY: 1000}))
    away = connected5(engine, b"away", will=will, properties=Properties({SESSION_EXPIRY: 5000}))
    away.send(Subscribe(1, ((b"t/#", 2), (b"u", 0)), Properties(subscription_ids=[9])))
    away.send(Publish(b"t/mine", b"mine", 2, packet_id=7))
    for number in range(4):
        engine.publish(
            Publication(b"t/%d" % number, b"payload %d" % number, 1, True, b"writer", b"user", 1883)
        )
    for number in range(3):
        engine.publish(Publication(b"t/small", b"payload %d" % number, 1, False, b"writer", b"user", 1883))
    away.drop()
    connection, _ = open_database(path)
    with closing(connection):
        Writer(connection).write(snapshot(engine, 100.0), pause_s=0)
        saved = rows(connection)
    assert all(saved)
    return path, saved


def test_a_value_that_is_another_is_found_in_every_column_of_every_table(tmp_path: Path) -> None:
    path, _ = every_kind(tmp_path)
    before = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        columns = [
            (table, column[1])
            for table in TABLE_NAMES
            for column in connection.execute(f"PRAGMA table_info({table})")
        ]
    assert len(columns) > 50
    unnoticed = []
    for table, column in columns:
        path.write_bytes(before)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute(
                f"UPDATE {table} SET {column} = CASE typeof({column}) WHEN 'blob' THEN {column} || x'01'"
                f" WHEN 'null' THEN 1 ELSE {column} + 1 END"
                f" WHERE {column} IS (SELECT {column} FROM {table} ORDER BY {column} DESC LIMIT 1)"
            )
        if not read_database(path)[1].damage:
            unnoticed.append((table, column))
    assert unnoticed == []


def test_a_log_that_lost_its_file_is_refused_and_an_empty_one_is_not(tmp_path: Path) -> None:
    """Move the file away, as one does with a damaged one, and leave its log."""
    path = saved_file(tmp_path)
    connection, _ = open_database(path)
    with closing(connection):
        Writer(connection).write(snapshot(Engine(), 0.0), pause_s=0)
        left = tmp_path / "left"
        left.mkdir()
        shutil.copy(tmp_path / "rowcast.db-wal", left)
    assert "it is gone, and its write-ahead log rowcast.db-wal is still there" in refusal(left / "rowcast.db")
    (left / "rowcast.db-wal").write_bytes(b"")
    connection, saved = open_database(left / "rowcast.db")
    connection.close()
    assert saved.sessions == []


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        StorageError, match=r"No such file or directory\. persistence_location must be a folder"
    ):
        open_database(tmp_path / "nowhere" / "rowcast.db")


def test_a_second_process_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    path = saved_file(tmp_path)
    connection, _ = open_database(path)
    with closing(connection):
        program = f"""
from pathlib import Path
from broker.storage.database import open_database, read_database
open_database(Path({str(path)!r}))
"""
        second = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert "another process is using it" in second.stderr
        Writer(connection).write(snapshot(Engine(), 0.0), pause_s=0)
    _, saved = open_database(path)
    assert saved.sessions == []


def test_a_crash_before_the_log_was_moved_loses_nothing(tmp_path: Path) -> None:
    """Copy file and write-ahead log as a killed process leaves them; also with the file proper damaged."""
    path = saved_file(tmp_path, messages=3)
    connection, _ = open_database(path)
    left = tmp_path / "left"
    left.mkdir()
    with closing(connection):
        Writer(connection).write(snapshot(Engine(), 0.0), pause_s=0)
        for name in ("rowcast.db", "rowcast.db-wal"):
            shutil.copy(tmp_path / name, left)
    assert (left / "rowcast.db-wal").stat().st_size > 0
    damaged = tmp_path / "damaged"
    shutil.copytree(left, damaged)

    connection, saved = open_database(left / "rowcast.db")
    connection.close()
    assert saved.sessions == []

    os.truncate(damaged / "rowcast.db", 5000)
    with (damaged / "rowcast.db-wal").open("r+b") as log:
        log.write(bytes(100))  # without its header the log is worth nothing
    assert "damaged" in refusal(damaged / "rowcast.db")
