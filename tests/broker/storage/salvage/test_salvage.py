"""One bit flipped anywhere in the file or its log: it is noticed, and all that does not stand there is served."""

from __future__ import annotations

import logging
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.peer5 import Peer5, connected5

from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.storage.backlog import bodies
from broker.storage.database import open_database, read_database
from broker.storage.records import restore, snapshot
from broker.storage.salvage.log_file import log_of, read_log
from broker.storage.salvage.pages import OVERFLOW, Pages
from broker.storage.salvage.salvage import tables
from broker.storage.salvage.trees import Trees
from broker.storage.schema import TABLE_NAMES
from broker.storage.writing import Writer
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import Publish, Subscribe, Will
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import SESSION_EXPIRY, WILL_DELAY

Rows = dict[str, list[tuple[Any, ...]]]

PLACE_BYTES = 16
"""What an entry of the backlog begins with: the number of its session, and its position."""

FLIPS = 16
"""Of one seed."""

SEEDS = [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 60))]


def people(engine: Engine, count: int) -> list[Peer5]:
    """Clients with everything that a session can have."""
    peers = []
    for number in range(count):
        will = Will(b"w/%d" % number, b"gone", 1, False, Properties({WILL_DELAY: 1000}))
        properties = Properties({SESSION_EXPIRY: 5000})
        away = connected5(engine, b"away%d" % number, will=will, properties=properties)
        filters = ((b"t/#", 2), (b"u/%d" % number, 0), (b"own/%d" % number, 1))
        away.send(Subscribe(1, filters, Properties(subscription_ids=[9])))
        away.send(Publish(b"t/mine", b"mine", 2, packet_id=7))
        peers.append(away)
    return peers


def talk(engine: Engine, first: int, count: int, chance: random.Random) -> None:
    """Messages of all lengths: some of them do not fit on a page."""
    for number in range(first, first + count):
        payload = chance.randbytes(chance.choice((3, 40, 300, 9000)))
        engine.publish(Publication(b"t/%d" % number, payload, 1, number % 3 == 0, b"writer", b"user", 1883))
        engine.publish(Publication(b"own/%d" % (number % 5), payload, 1, False, b"writer", b"user", 1883))


def save(path: Path, engine: Engine, saved_at: float = 1_800_000_000.25) -> None:
    connection, saved = open_database(path)
    with closing(connection):
        Writer(connection, saved).write(snapshot(engine, saved_at), pause_s=0)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def large(folder: Path, chance: random.Random) -> Path:
    """A file with rows in every table, trees of several levels, and pages that are free."""
    path = folder / "rowcast.db"
    engine = Engine(window=Window(inflight_messages=3))
    peers = people(engine, 5)
    talk(engine, 0, 50, chance)
    for peer in peers:
        peer.drop()
    save(path, engine)
    for number in range(0, 5, 3):
        connected5(engine, b"away%d" % number, clean=True).drop()
    talk(engine, 60, 10, chance)
    save(path, engine)
    return path


def with_log(folder: Path, chance: random.Random) -> Path:
    """A file, and a log of several saves that the process did not live to move into it."""
    path = folder / "rowcast.db"
    engine = Engine(window=Window(inflight_messages=3))
    for peer in people(engine, 3):
        peer.drop()
    save(path, engine)
    working = folder / "working"
    working.mkdir()
    shutil.move(path, working / "rowcast.db")
    connection, saved = open_database(working / "rowcast.db")
    with closing(connection):
        writer = Writer(connection, saved)
        for round_ in range(4):
            talk(engine, round_ * 5, 5, chance)
            writer.write(snapshot(engine, 1_800_000_001.5 + round_), pause_s=0)
        for name in ("rowcast.db", "rowcast.db-wal"):
            shutil.copy(working / name, folder / name)
    shutil.rmtree(working)
    return path


def rows_of(connection: sqlite3.Connection) -> Rows:
    return {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLE_NAMES}


def content(path: Path, folder: Path) -> Rows:
    """What a good file holds, read by SQLite from a copy."""
    for name in (path, log_of(path)):
        if name.exists():
            shutil.copy(name, folder / name.name)
    with closing(sqlite3.connect(folder / path.name)) as connection:
        return rows_of(connection)


def meaning(rows: Rows) -> dict[str, set[tuple[Any, ...]]]:
    """What rows say without the numbers under which they say it, which a fresh file gives anew."""
    messages = {row[0]: row[1:-1] for row in rows["message"]}
    sessions = {row[0]: row[1] for row in rows["session"]}
    said: dict[str, set[tuple[Any, ...]]] = {"message": set(messages.values())}
    said["session"] = {(*row[1:10], messages.get(row[10]), row[11]) for row in rows["session"]}
    said["subscription"] = {(sessions[row[0]], *row[1:-1]) for row in rows["subscription"]}
    for table in ("inflight", "queued"):
        at = 3 if table == "inflight" else 2
        said[table] = {(sessions[row[0]], messages[row[at]], *row[at + 1 : -1]) for row in rows[table]}
    said["backlog"] = {
        (sessions[row[0]], body[PLACE_BYTES:]) for row in rows["backlog"] for body in bodies(row[4])
    }
    said["inbound"] = {(sessions[row[0]], row[1], messages[row[2]]) for row in rows["inbound"]}
    said["retained"] = {messages[row[1]] for row in rows["retained"]}
    return said


class GoodFile:
    """Which rows stand on which page; the pages on which long ones go on belong to where they begin."""

    def __init__(self, path: Path) -> None:
        found = read_log(path)
        self.pages = Pages(path.read_bytes(), *(found or (None, None)))
        self.trees = Trees(self.pages, tables())
        assert not self.trees.wrong

    def rows_on(self, page: int) -> set[tuple[str, tuple[Any, ...]]]:
        while self.pages.mapped(page)[0] in OVERFLOW:
            page = self.pages.mapped(page)[1]
        name, rows = self.trees.by_page.get(page, ("", []))
        return {(name, row) for row in rows}


def without(rows: Rows, lost: set[tuple[str, tuple[Any, ...]]]) -> Rows:
    """What is left when these rows are lost, and what depends on them."""
    kept = {table: [row for row in found if (table, row) not in lost] for table, found in rows.items()}
    sessions = {row[0] for row in kept["session"]}
    messages = {row[0] for row in kept["message"]}
    kept["session"] = [
        row if row[10] in messages else (*row[:10], None, *row[11:]) for row in kept["session"]
    ]
    for table, at in (("inflight", 3), ("queued", 2), ("inbound", 2)):
        kept[table] = [row for row in kept[table] if row[0] in sessions and row[at] in messages]
    kept["subscription"] = [row for row in kept["subscription"] if row[0] in sessions]
    kept["backlog"] = [row for row in kept["backlog"] if row[0] in sessions]
    kept["retained"] = [row for row in kept["retained"] if row[1] in messages]
    named = {row[10] for row in kept["session"]} | {row[1] for row in kept["retained"]}
    for table, at in (("inflight", 3), ("queued", 2), ("inbound", 2)):
        named |= {row[at] for row in kept[table]}
    kept["message"] = [row for row in kept["message"] if row[0] in named]
    return kept


Meaning = dict[str, set[tuple[Any, ...]]]


def assert_between(least: Meaning, served: Meaning, everything: Meaning, where: str) -> None:
    """Nothing is served that never was, and everything that need not be lost."""
    for table, wanted in least.items():
        # A will may be lost with its message, and the session is served without it.
        columns = 9 if table == "session" else None
        found = {row[:columns] for row in served[table]}
        assert {row[:columns] for row in wanted} <= found, (where, table)
        assert found <= {row[:columns] for row in everything[table]}, (where, table)


def page_at(log: bytes, byte: int) -> int:
    """The page whose frame a byte of a log is in."""
    frame = 32 + (byte - 32) // 4120 * 4120
    return int.from_bytes(log[frame : frame + 4], "big")


def fresh_folder(folder: Path) -> Path:
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    return work


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bit_of_the_file_costs_what_stands_on_its_page_at_most(
    tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(seed)
    path = large(tmp_path, chance)
    good = path.read_bytes()
    rows = content(path, fresh_folder(tmp_path))
    assert all(rows.values())
    good_file = GoodFile(path)
    everything = meaning(rows)
    noticed = 0
    # Half of them where there is least room for them to do no harm: the header and tables of contents of pages.
    for flip in range(FLIPS):
        byte = chance.randrange(len(good))
        if flip % 2:
            byte -= byte % 4096 - chance.randrange(120)
        bit = chance.randrange(8)
        where = f"seed {seed}, bit {bit} of byte {byte}, page {byte // 4096 + 1} + {byte % 4096}"
        work = fresh_folder(tmp_path) / "rowcast.db"
        data = bytearray(good)
        data[byte] ^= 1 << bit
        work.write_bytes(data)
        named = read_database(work)[1].damage
        assert work.read_bytes() == data, where
        caplog.clear()
        connection, saved = open_database(work)
        with closing(connection):
            served = meaning(rows_of(connection))
        restore(Engine(), saved, 1_800_000_000.5)
        if served != everything:
            assert "damaged" in caplog.text, where
            assert named, where
        noticed += bool(named)
        if named:
            (kept,) = work.parent.glob("rowcast.db.damaged-*")
            assert kept.read_bytes() == data, where
        least = meaning(without(rows, good_file.rows_on(byte // 4096 + 1)))
        assert_between(least, served, everything, where)
    assert noticed > FLIPS // 4


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bit_of_the_log_costs_nothing(tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(seed)
    path = with_log(tmp_path, chance)
    log = log_of(path).read_bytes()
    rows = content(path, fresh_folder(tmp_path))
    everything = meaning(rows)
    good_file = GoodFile(path)
    found = 0
    for flip in range(FLIPS):
        byte = chance.randrange(len(log))
        if flip % 2:
            byte = chance.randrange(32 + 24)
            byte += 0 if byte < 32 else chance.randrange(len(log) // 4120) * 4120
        bit = chance.randrange(8)
        where = f"seed {seed}, bit {bit} of byte {byte} of {len(log)}"
        work = fresh_folder(tmp_path) / "rowcast.db"
        shutil.copy(path, work)
        data = bytearray(log)
        data[byte] ^= 1 << bit
        log_of(work).write_bytes(data)
        assert read_database(work)[1].damage, where
        assert log_of(work).read_bytes() == data, where
        caplog.clear()
        connection, _ = open_database(work)
        with closing(connection):
            served = meaning(rows_of(connection))
        put_right = f"bit {bit} of byte {byte} was not what was written; it is put right" in caplog.text
        found += put_right
        if put_right:
            assert served == everything, where
        else:
            assert "a bit of page" in caplog.text, where
            least = meaning(without(rows, good_file.rows_on(page_at(log, byte))))
            assert_between(least, served, everything, where)
    assert found > FLIPS // 4


def test_what_a_power_cut_tore_is_no_flipped_bit(tmp_path: Path) -> None:
    """The last save was not acknowledged: it ends with a frame of which only a part was written."""
    path = with_log(tmp_path, random.Random(1))
    found = read_log(path)
    assert found is not None
    whole, wal = found
    assert not wal.put_right
    assert not wal.trouble
    for cut in (len(whole) - 4096, len(whole) - 512, len(whole) - 1):
        torn = bytearray(whole)
        torn[cut:] = bytes(len(whole) - cut)
        log_of(path).write_bytes(torn)
        found = read_log(path)
        assert found is not None
        assert not found[1].put_right
        assert found[1].page_count > 0


@pytest.mark.parametrize("step", ["write", "keep", "log", "name"])
def test_a_crash_in_the_midst_of_mending_loses_nothing(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = with_log(tmp_path, random.Random(2))
    everything = meaning(content(path, fresh_folder(tmp_path)))
    data = bytearray(path.read_bytes())
    data[72] ^= 255  # no row is lost
    path.write_bytes(data)

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    target = {
        "write": "broker.storage.salvage.replace.shutil.copymode",
        "keep": "broker.storage.salvage.replace._keep",
        "log": "broker.storage.salvage.replace.os.rename",
        "name": "broker.storage.salvage.replace._sync_folder",
    }[step]
    with monkeypatch.context() as patch:
        patch.setattr(target, kill)
        with pytest.raises(Killed):
            open_database(path)
    connection, _ = open_database(path)
    with closing(connection):
        assert meaning(rows_of(connection)) == everything
    caplog.set_level(logging.ERROR)
    caplog.clear()
    connection, _ = open_database(path)
    connection.close()
    assert caplog.text == ""
