"""A primary dies while sinks write to it, and its synchronous standby takes over.  With two real servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from support.ingesting import TABLE, config_of, ingesting, rows_of
from support.installed import sql
from support.peer import connected
from support.polling import until
from support.postgres import Cluster, Standby

from protocol.mqtt.packets import Publish

pytestmark = pytest.mark.slow

COUNT = 400


@pytest.mark.parametrize("acknowledge", ["committed", "received"])
async def test_what_was_acknowledged_is_on_the_new_primary(
    tmp_path: Path, pair: tuple[Cluster, Standby], acknowledge: str
) -> None:
    primary, standby = pair
    sql(primary.dsn(), TABLE)
    sinks = f"""
[[mqtt.sink]]
topics = "telemetry/{{device}}"
table = "telemetry"
columns = {{ device = "{{device}}", id = "{{$message_id}}" }}
on_conflict = "nothing"
acknowledge = "{acknowledge}"
batch = {{ rows = 5, every = "1ms" }}
"""
    acknowledged: list[int] = []
    async with ingesting(config_of(tmp_path, standby.dsn_of_both(), sinks)) as (engine, _):
        peer = connected(engine, b"c")

        def send(first: int, last: int) -> None:
            peer.send(*[Publish(b"telemetry/%d" % n, b"{}", 1, False, False, n) for n in range(first, last)])

        def heard(count: int) -> bool:
            found: list[Any] = peer.read()
            acknowledged.extend(puback.packet_id for puback in found)
            return len(acknowledged) >= count

        send(1, COUNT // 2)
        await until(lambda: heard(20))
        await trio.to_thread.run_sync(primary.stop, "immediate")
        before = len(acknowledged)
        send(COUNT // 2, COUNT + 1)
        await trio.testing.wait_all_tasks_blocked(0.05)
        heard(0)
        if acknowledge == "committed":
            assert len(acknowledged) - before < COUNT // 2
        await trio.to_thread.run_sync(standby.promote)
        await until(lambda: heard(COUNT))
        count = "SELECT count(DISTINCT device), count(*) FROM telemetry"
        await until(lambda: rows_of(standby.dsn(), count) == [(COUNT, COUNT)])
    assert sorted(acknowledged) == list(range(1, COUNT + 1))
