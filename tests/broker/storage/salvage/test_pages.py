"""The pages as they are after the last commit: of the log where it has them, else of the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from broker.storage.salvage.log_file import read_log
from broker.storage.salvage.pages import FREE, NODE, OVERFLOW, ROOT, Pages

PAGE = 4096


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "file", isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x BLOB)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, bytes(3000)) for n in range(20)])
        connection.execute("INSERT INTO t VALUES (50, ?)", (bytes(10_000),))
        connection.execute("DELETE FROM t WHERE n < 4")
        connection.execute("COMMIT")
        yield connection


def test_the_pointer_map_says_what_each_page_is_and_who_points_to_it(
    connection: sqlite3.Connection, tmp_path: Path
) -> None:
    pages = Pages((tmp_path / "file").read_bytes(), None, None)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master").fetchone()
    (count,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    assert (pages.count, pages.size) == (count, PAGE)
    kinds = [pages.mapped(number)[0] for number in range(1, count + 1)]
    assert kinds[:2] == [0, 0]  # the first page and the map itself are in no map
    assert pages.mapped(root) == (ROOT, 0)
    assert kinds.count(FREE) == free > 0
    assert sum(kind in OVERFLOW for kind in kinds) == 2
    nodes = [number for number in range(1, count + 1) if pages.mapped(number)[0] == NODE]
    assert {pages.mapped(number)[1] for number in nodes} == {root}


@pytest.mark.parametrize(
    ("size", "maps"), [(512, [2, 105, 208]), (1024, [2, 207]), (4096, [2, 822]), (65_536, [2, 13110])]
)
def test_maps_stand_before_the_pages_that_they_are_of(size: int, maps: list[int]) -> None:
    header = bytearray(size)
    header[16:18] = (1 if size == 65_536 else size).to_bytes(2, "big")
    pages = Pages(bytes(header), None, None)
    assert pages.size == size
    assert [number for number in range(1, maps[-1] + 2) if pages.is_map(number)] == maps


def test_each_page_has_its_entry_in_the_map_before_it() -> None:
    """Entries of five bytes follow each other, in the order of the pages that follow the map."""
    size, count = 512, 320
    data = bytearray(size * count)
    data[16:18] = size.to_bytes(2, "big")
    at = 0
    for number in range(2, count + 1):
        if number in (2, 105, 208, 311):
            at = (number - 1) * size
        else:
            data[at : at + 5] = bytes((NODE,)) + number.to_bytes(4, "big")
            at += 5
    pages = Pages(bytes(data), None, None)
    for number in range(1, count + 1):
        expected = (0, 0) if number in (1, 2, 105, 208, 311) else (NODE, number)
        assert pages.mapped(number) == expected, number


@pytest.mark.parametrize(("said", "length"), [(0, 8192), (513, 8192), (256, 8192), (8192, 12_288), (2, 8192)])
def test_a_size_that_can_not_be_is_that_of_a_new_file(said: int, length: int) -> None:
    header = bytearray(length)
    header[16:18] = said.to_bytes(2, "big")
    pages = Pages(bytes(header), None, None)
    assert (pages.size, pages.count) == (PAGE, length // PAGE)


def test_a_page_that_is_not_there_is_empty(connection: sqlite3.Connection, tmp_path: Path) -> None:
    data = (tmp_path / "file").read_bytes()
    pages = Pages(data, None, None)
    assert pages.page(1) == data[:PAGE]
    assert pages.page(pages.count) == data[-PAGE:]
    assert [pages.page(number) for number in (-1, 0, pages.count + 1)] == [b"", b"", b""]
    assert pages.mapped(pages.count + 1) == (0, 0)
    torn = Pages(data[:-1], None, None)
    assert torn.count == pages.count - 1


def test_a_log_has_the_newer_page_and_says_how_many_there_are(
    connection: sqlite3.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    connection.execute("PRAGMA journal_mode = WAL")
    before = path.read_bytes()
    connection.execute("INSERT INTO t VALUES (60, ?)", (b"newer" * 3000,))
    found = read_log(path)
    assert found is not None
    pages = Pages(path.read_bytes(), *found)
    (count,) = connection.execute("PRAGMA page_count").fetchone()
    assert pages.count == count
    newer = [
        number for number in range(1, count + 1) if pages.page(number) != before[(number - 1) * PAGE :][:PAGE]
    ]
    assert any(b"newer" in pages.page(number) for number in newer)
    assert set(newer) <= set(found[1].offsets)
    found[1].unreadable.add(newer[0])
    assert pages.page(newer[0]) == b""
