"""Rows per second through the feeds `wal` and `outbox`, and the memory that takes.

    python -m benchmarks.feed_throughput [--rows 1000000] [--kind wal] [--profile]

Starts a Postgres of its own (fsync off, so that the server is not what is measured), inserts one large
transaction of Econia-like rows, and drains it through the whole feed (decoding, JSON, routing to topics) into a
outlet that counts.  The clock starts with the first row that arrives and stops with the last.  With
`streamed`, the server streams the transaction while it runs, and the feed spools it until the commit.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import time
from pathlib import Path

import psycopg
import trio

from broker.config.feeds import FeedConfig, Replication, Route, Source
from broker.demo.postgres import running_postgres
from broker.feed.kinds import kind_of
from broker.feed.setup.install import install_steps
from broker.feed.status import FeedStatus

TABLE = """
CREATE TABLE fill_events (
    txn_version numeric(20) NOT NULL, event_idx numeric(20) NOT NULL, emit_address varchar(70) NOT NULL,
    "time" timestamptz NOT NULL, maker_address varchar(70) NOT NULL, maker_custodian_id numeric(20) NOT NULL,
    maker_order_id numeric(39) NOT NULL, maker_side boolean NOT NULL, market_id numeric(20) NOT NULL,
    price numeric(20) NOT NULL, size numeric(20) NOT NULL, taker_address varchar(70) NOT NULL)
"""
INSERT = """
INSERT INTO fill_events
SELECT i, 0, '0xc0deface', now(), '0x' || md5((i %% 100)::text), 0, 340282366920938463463374607431768211455 - i,
       i %% 2 = 0, i %% 10, 4000 + i %% 100, 1000, '0x' || md5((i %% 77)::text)
FROM generate_series(1, %(rows)s) i
"""
TICK_S = 0.2


class CountingOutlet:
    """Counts, and remembers when the first and the last publication came."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.count = 0
        self.bytes = 0
        self.first_at = 0.0
        self.last_at = 0.0
        self.first_cpu = 0.0
        self.last_cpu = 0.0
        self.done = trio.Event()

    def publish(self, topic: bytes, payload: bytes, qos: int, retain: bool, added: object = None) -> None:
        if self.count == 0:
            self.first_at = time.perf_counter()
            self.first_cpu = time.process_time()
        self.count += 1
        self.bytes += len(payload)
        if self.count == self.wanted:
            self.last_at = time.perf_counter()
            self.last_cpu = time.process_time()
            self.done.set()

    def flush(self) -> None:
        pass

    async def durable(self) -> None:
        pass


def rss_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


async def watch_memory(into: list[float]) -> None:
    while True:
        into.append(rss_mb())
        await trio.sleep(TICK_S)


async def measure(dsn: str, kind: str, rows: int, streamed: bool, profile: bool) -> None:
    config = FeedConfig(
        name="bench",
        dsn=dsn,
        kind=kind,
        sources=(Source("tables", (), tables=("public.fill_events",)),),
        routes=(Route("tables", ("fill/{market_id}/{maker_address}/{maker_custodian_id}",)),),
        replication=Replication(allow_unbounded_wal=True),
    )
    with psycopg.connect(dsn, autocommit=True) as connection:
        for step in install_steps(config):
            connection.execute(step.statement)
    outlet = CountingOutlet(rows)
    status = FeedStatus("bench")
    memory: list[float] = []
    profiler = cProfile.Profile()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kind_of(config).feed(config, outlet, status).attempt)
        while status.state != "live":  # noqa: ASYNC110
            await trio.sleep(0.01)
        before_mb = rss_mb()
        nursery.start_soon(watch_memory, memory)
        if profile:
            profiler.enable()
        await trio.to_thread.run_sync(insert, dsn, rows)
        await outlet.done.wait()
        if profile:
            profiler.disable()
        nursery.cancel_scope.cancel()
    seconds = outlet.last_at - outlet.first_at
    cpu_us = (outlet.last_cpu - outlet.first_cpu) / rows * 1e6
    print(
        f"{kind:7}{' streamed' if streamed else '':9} {rows:>9,} rows  {rows / seconds:>9,.0f} rows/s"
        f"  {cpu_us:5.1f} us CPU/row  {outlet.bytes / rows:.0f} B/row"
        f"  memory {before_mb:.0f} MB before, {max(memory):.0f} MB at most"
    )
    if profile:
        pstats.Stats(profiler, stream=sys.stdout).sort_stats("tottime").print_stats(25)


def insert(dsn: str, rows: int) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(INSERT, {"rows": rows})


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--kind", choices=["wal", "outbox", "all"], default="all")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    print(f"python {sys.version.split()[0]}")
    for kind in ["wal", "outbox"] if args.kind == "all" else [args.kind]:
        for streamed in [False, True] if kind == "wal" else [False]:
            async with running_postgres() as postgres:
                with psycopg.connect(postgres.dsn, autocommit=True) as connection:
                    connection.execute("SET client_min_messages = error")
                    connection.execute(TABLE)
                    work_mem = "64kB" if streamed else "4GB"
                    connection.execute(f"ALTER SYSTEM SET logical_decoding_work_mem = '{work_mem}'")
                    connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '-1'")
                    connection.execute("SELECT pg_reload_conf()")
                await measure(postgres.dsn, kind, args.rows, streamed, args.profile)


if __name__ == "__main__":
    trio.run(main)
