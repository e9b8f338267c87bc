"""History begins with the process, ages while it runs, and is kept at an orderly end where anything is kept."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio
import trio.testing
from attrs import evolve

from broker.config.feeds import FeedConfig
from broker.config.history import HistoryRule
from broker.config.model import Config, Persistence
from broker.core.engine import Engine
from broker.core.history import History
from broker.core.publication import Publication
from broker.feed.reread import OutboxRows
from broker.process.history import (
    LOOK_INTERVAL_S,
    age,
    keep_history,
    open_history,
    renew_history,
    tables_of,
)


def config(folder: Path, *, persistence: bool = True, age_s: float = 60.0, history: bool = True) -> Config:
    rules = (HistoryRule(("row/#",), count=10, age_s=age_s),) if history else ()
    return Config(
        history=rules,
        persistence=Persistence(
            persistence=persistence, persistence_location=folder, persistence_file="r.db"
        ),
    )


def payloads(history: History) -> list[bytes]:
    return [one.payload for ring in history.rings for one, _, _ in ring.kept()]


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_what_was_kept_at_the_end_is_there_at_the_start(tmp_path: Path) -> None:
    engine = Engine()
    history = open_history(config(tmp_path), engine, {})
    engine.publish(Publication(b"row/1", b"x"))
    engine.publish(Publication(b"other", b"y"))
    keep_history(history, config(tmp_path))
    assert names_in(tmp_path) == ["r.db-history"]
    assert payloads(open_history(config(tmp_path), Engine(), {})) == [b"x"]


async def test_where_nothing_outlives_the_process_nothing_is_read(tmp_path: Path) -> None:
    engine = Engine()
    history = open_history(config(tmp_path), engine, {})
    engine.publish(Publication(b"row/1", b"x"))
    keep_history(history, config(tmp_path))
    without = config(tmp_path, persistence=False)
    assert payloads(open_history(without, Engine(), {})) == []
    assert names_in(tmp_path) == ["r.db-history"]


async def test_without_rings_nothing_is_written_and_nothing_ages(tmp_path: Path) -> None:
    history = open_history(config(tmp_path, history=False), Engine(), {})
    keep_history(history, config(tmp_path, history=False))
    assert names_in(tmp_path) == []
    await age(history)


async def test_what_is_too_old_is_forgotten_while_it_runs(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    engine = Engine()
    history = open_history(config(tmp_path, age_s=5.0), engine, {})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(age, history)
        await trio.testing.wait_all_tasks_blocked()
        engine.publish(Publication(b"row/1", b"x"))
        await trio.sleep(5.0 - LOOK_INTERVAL_S)
        assert payloads(history) == [b"x"]
        await trio.sleep(3 * LOOK_INTERVAL_S)
        assert payloads(history) == []
        nursery.cancel_scope.cancel()


async def test_a_disk_that_does_not_take_it_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    where = config(tmp_path / "nowhere")
    history = open_history(where, Engine(), {})
    with caplog.at_level(logging.ERROR):
        keep_history(history, where)
    assert caplog.messages == [
        f"The history can't be kept in {tmp_path / 'nowhere' / 'r.db-history'}: No such file or directory"
    ]


def test_without_a_feed_that_shows_rows_no_table_is_a_state(tmp_path: Path) -> None:
    assert tables_of(config(tmp_path), {}) == {}


async def test_rings_that_are_there_read_rows_as_a_later_configuration_says(tmp_path: Path) -> None:
    rules = (HistoryRule(("row/#",), count=1, source_count=10),)
    before = evolve(config(tmp_path), history=rules, feeds=(FeedConfig("main", "then", "outbox"),))
    after = evolve(before, feeds=(FeedConfig("main", "now", "outbox"),))
    history = open_history(before, Engine(), {})
    traces = history.rings[0].traces
    assert traces is not None
    renew_history(history, after, {})
    assert traces._sources is history.sources
    (source,) = history.sources.values()
    assert isinstance(source, OutboxRows)
    assert source._config.dsn == "now"
