"""A fresh file takes the place of a damaged one, which is kept with its log under a name that nothing had."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from broker.storage.salvage.log_file import log_of
from broker.storage.salvage.replace import finish, is_in_use, replace


@pytest.fixture
def path(tmp_path: Path) -> Path:
    damaged = tmp_path / "rowcast.db"
    damaged.write_bytes(b"damaged")
    damaged.chmod(0o640)
    log_of(damaged).write_bytes(b"its log")
    return damaged


def write_fresh(fresh: Path) -> None:
    assert not fresh.exists()
    fresh.write_bytes(b"fresh")


def test_the_fresh_file_has_the_place_and_the_rights_and_the_damaged_one_has_its_log(path: Path) -> None:
    kept = replace(path, write_fresh)
    assert path.read_bytes() == b"fresh"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert not log_of(path).exists()
    assert (kept.read_bytes(), log_of(kept).read_bytes()) == (b"damaged", b"its log")
    assert kept.name.startswith("rowcast.db.damaged-2")
    assert sorted(left.name for left in path.parent.iterdir()) == sorted(
        [path.name, kept.name, log_of(kept).name]
    )


def test_no_damaged_file_takes_the_name_of_another(path: Path) -> None:
    kept = [replace(path, write_fresh) for _ in range(3)]
    assert len(set(kept)) == 3
    assert [one.read_bytes() for one in kept] == [b"damaged", b"fresh", b"fresh"]


def test_a_log_without_a_file_has_taken_its_name_too(path: Path) -> None:
    first = replace(path, write_fresh)
    first.unlink()
    assert replace(path, write_fresh) != first


def test_what_an_earlier_attempt_left_is_in_nobodys_way(path: Path) -> None:
    left = path.with_name("rowcast.db.salvaging")
    left.write_bytes(b"half")
    log_of(left).write_bytes(b"half")
    replace(path, write_fresh)
    assert path.read_bytes() == b"fresh"
    assert not left.exists()
    assert not log_of(left).exists()


def test_where_the_fresh_one_can_not_be_written_all_is_as_it_was(path: Path) -> None:
    def fail(fresh: Path) -> None:
        fresh.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        replace(path, fail)
    finish(path)
    assert (path.read_bytes(), log_of(path).read_bytes()) == (b"damaged", b"its log")


@pytest.mark.parametrize(
    ("has_log", "has_salvaged", "served"),
    [
        (False, False, b"damaged"),
        (True, False, b"damaged"),
        (True, True, b"damaged"),
        (False, True, b"salvaged"),
    ],
)
def test_after_a_crash_a_file_never_meets_the_log_of_another(
    path: Path, has_log: bool, has_salvaged: bool, served: bytes
) -> None:
    salvaged = path.with_name("rowcast.db.salvaged")
    if not has_log:
        log_of(path).unlink()
    if has_salvaged:
        salvaged.write_bytes(b"salvaged")
    finish(path)
    assert path.read_bytes() == served
    assert log_of(path).exists() == has_log
    assert not salvaged.exists()


def test_a_file_that_another_process_writes_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "rowcast.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (n)")
    assert not is_in_use(path)
    script = (
        "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "connection.execute('BEGIN EXCLUSIVE'); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-ISc", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert is_in_use(path)
        other.communicate(b"")
    assert not is_in_use(path)


def test_a_file_system_without_hard_links_gets_a_copy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert replace(path, write_fresh).read_bytes() == b"damaged"
