"""`rowcast feed install` in two places at once, as two containers do that start together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from support.feed_files import feed_file
from support.installed import connect
from support.polling import until
from support.postgres import cluster, database

from broker.cli.main import main

__all__ = ["cluster", "database"]

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rowcast feed' AND wait_event_type = 'Lock'"


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_installations_at_once_follow_upon_each_other(
    database: str, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = feed_file(tmp_path, database, kind, "event")
    statuses: list[int] = []

    def install() -> None:
        statuses.append(main(["feed", "install", "-c", file, "--apply"]))

    def are_waiting(count: int) -> Callable[[], bool]:
        return lambda: (watcher.execute(WAITING).fetchone() or (0,))[0] == count

    with connect(database) as first, connect(database) as watcher:
        first.execute("CREATE TABLE event (id bigint PRIMARY KEY)")
        first.execute("BEGIN; CREATE SCHEMA rowcast")
        threads = [threading.Thread(target=install) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            await until(are_waiting(2))
        finally:
            first.execute("ROLLBACK")
            for thread in threads:
                await trio.to_thread.run_sync(thread.join)
    assert statuses == [0, 0], capsys.readouterr().err
    assert main(["feed", "check", "-c", file]) == 0
