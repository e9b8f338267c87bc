"""How much of what a bare LISTEN loop drains the feed `listen` delivers, and what a row costs either of them.

    python -m benchmarks.feed_listen [--rows 200000] [--seconds 6] [--rounds 3] [--profile]

Starts a Postgres of its own (fsync off, so that the server is not what is measured) whose trigger notifies rows of
17 columns, as Econia's fills.  Each round lets the bare loop and the feed drain the same load in turn:

    large    transactions of `rows` rows, from the first notification to the last
    single   one row per transaction by 8 clients of pgbench, for `seconds`

These rows take Postgres longer to send than the feed to read, on a machine with a core for each of them.  For
`python -m benchmarks --workloads feed-1` it is the other way round, so its ratio is nearer to that of the CPU times.

The bare loop counts notifications and does nothing more.  The feed routes each row to two topics of a real engine:
`plain`, and with `once_per` and `recover` as Econia's configuration has them.
"""

from __future__ import annotations

import argparse
import cProfile
import math
import pstats
import selectors
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
import trio
from attrs import evolve, frozen
from psycopg.conninfo import conninfo_to_dict

from broker.app import engine_for
from broker.config.feeds import FeedConfig, Recovery, Route, Source
from broker.config.model import Config
from broker.demo.postgres import find_binaries, running_postgres
from broker.feed.listen.feed import ListenFeed
from broker.feed.status import FeedStatus
from broker.outlet import EngineOutlet
from broker.process.garbage import collect_when_quiet
from broker.version import describe

SCHEMA: Final = """
CREATE TABLE fill_events (
    txn_version numeric(20) NOT NULL, event_idx numeric(20) NOT NULL, emit_address varchar(70) NOT NULL,
    "time" timestamptz NOT NULL, maker_address varchar(70) NOT NULL, maker_custodian_id numeric(20) NOT NULL,
    maker_order_id numeric(39) NOT NULL, maker_side boolean NOT NULL, market_id numeric(20) NOT NULL,
    price numeric(20) NOT NULL, sequence_number_for_trade numeric(20) NOT NULL, size numeric(20) NOT NULL,
    taker_address varchar(70) NOT NULL, taker_custodian_id numeric(20) NOT NULL, taker_order_id numeric(39) NOT NULL,
    taker_quote_fees_paid numeric(20) NOT NULL, note text, PRIMARY KEY (txn_version, event_idx));
CREATE FUNCTION notify_fill() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_notify('fill', row_to_json(NEW)::text); RETURN NULL; END $$;
CREATE TRIGGER notify_fill AFTER INSERT ON fill_events FOR EACH ROW EXECUTE FUNCTION notify_fill();
CREATE SEQUENCE versions;
"""
INSERT: Final = """
INSERT INTO fill_events SELECT nextval('versions'), 0, '0xc0deface', now(),
    '0x' || md5((i %% 100)::text) || md5((i %% 100)::text), 0, 340282366920938463463374607431768211455 - i, i %% 2 = 0,
    i %% 10, 4000 + i %% 100, i, 1000, '0x' || md5((i %% 77)::text) || md5((i %% 77)::text), 0,
    340282366920938463463374607431768211455 - i, 12, NULL
FROM generate_series(1, {rows}) i;
"""
PGBENCH_CLIENTS: Final = 8
_SILENT_S: Final = 1.0
"""The load is drained when nothing has come for so long."""

_FILL: Final = Route(
    "events",
    (
        "fill/{market_id}/{maker_address}/{maker_custodian_id}",
        "fill/{market_id}/{taker_address}/{taker_custodian_id}",
    ),
    kind="fill",
)
_PLAIN: Final = FeedConfig("bench", "", sources=(Source("events", ("fill",)),), routes=(_FILL,))
_ECONIA: Final = evolve(
    _PLAIN,
    routes=(evolve(_FILL, once_per=("market_id", "taker_order_id", "sequence_number_for_trade")),),
    recoveries=(Recovery("public.fill_events", ("txn_version", "event_idx"), (("events", "fill"),)),),
)
_CONFIGS: Final = {"plain": _PLAIN, "econia": _ECONIA}


@frozen
class Drained:
    """What one of them made of one load."""

    rows: int
    seconds: float
    """From the first row to the last."""
    cpu_us: float
    """Of this process, per row."""
    batches: int

    @property
    def per_s(self) -> float:
        return self.rows / self.seconds


class Meter:
    """When rows came, and the CPU time between the first and the last of them."""

    def __init__(self) -> None:
        self.rows = 0
        self.batches = 0
        self._first = self._last = (math.inf, 0.0)

    def batch(self, rows: int) -> None:
        if not rows:
            return
        now = (time.perf_counter(), time.process_time())
        if not self.rows:
            self._first = now
        else:
            self.batches += 1
        self.rows += rows
        self._last = now

    def is_silent(self) -> bool:
        return time.perf_counter() - self._last[0] > _SILENT_S

    def drained(self) -> Drained:
        seconds, cpu = self._last[0] - self._first[0], self._last[1] - self._first[1]
        return Drained(self.rows, seconds, cpu / self.rows * 1e6, self.batches)


Load = Callable[[], None]


def drain_bare(dsn: str, load: Load) -> Drained:
    """The least that a program can do."""
    meter = Meter()
    with psycopg.connect(dsn, autocommit=True) as connection, selectors.DefaultSelector() as waiting:
        connection.execute("LISTEN fill")
        waiting.register(connection.pgconn.socket, selectors.EVENT_READ)
        with running(load) as writer:
            while writer.is_alive() or not meter.is_silent():
                if not waiting.select(0.1):
                    continue
                connection.pgconn.consume_input()
                count = 0
                while connection.pgconn.notifies() is not None:
                    count += 1
                meter.batch(count)
    return meter.drained()


def metered_outlet(status: FeedStatus, meter: Meter) -> EngineOutlet:
    """The product's outlet; where the server would send to its connections, rows are counted."""
    engine = engine_for(Config())

    engine.turn.on_settled(lambda: meter.batch(status.received - meter.rows))
    return EngineOutlet(engine, None)


def drain_by_feed(config: FeedConfig, load: Load) -> Drained:
    return trio.run(_drain_by_feed, config, load)


async def _drain_by_feed(config: FeedConfig, load: Load) -> Drained:
    status, meter = FeedStatus("bench"), Meter()
    feed = ListenFeed(config, metered_outlet(status, meter), status)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.attempt)
        nursery.start_soon(collect_when_quiet, lambda: status.received)
        while status.state != "live":  # noqa: ASYNC110
            await trio.sleep(0.01)
        with running(load) as writer:
            while writer.is_alive() or not meter.is_silent():  # noqa: ASYNC110
                await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert not status.dropped, status.dropped
    assert status.published + 2 * status.repeated == 2 * meter.rows
    return meter.drained()


@contextmanager
def running(load: Load) -> Iterator[threading.Thread]:
    """The load beside us.  Its thread only waits for a server or for a process, so its CPU time is next to none."""
    writer = threading.Thread(target=load)
    writer.start()
    yield writer
    writer.join()


def large(dsn: str, rows: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(INSERT.replace("%%", "%").format(rows=rows))


def single(dsn: str, script: Path, seconds: float) -> None:
    where = conninfo_to_dict(dsn)
    command = [str(find_binaries().directory / "pgbench"), "-n", "-M", "prepared", "-f", str(script)]
    command += ["-c", str(PGBENCH_CLIENTS), "-j", "1", "-T", f"{seconds:.0f}", "-h", str(where["host"])]
    command += ["-U", str(where["user"]), str(where["dbname"])]
    environment = {"PGPORT": str(where.get("port", 5432))}
    subprocess.run(command, capture_output=True, check=True, env=environment)


def compare(dsn: str, loads: dict[str, Load], rounds: int) -> None:
    for name, load in loads.items():
        kept: dict[str, list[Drained]] = {who: [] for who in ("bare", *_CONFIGS)}
        for _ in range(rounds):
            kept["bare"].append(drain_bare(dsn, load))
            for config_name, config in _CONFIGS.items():
                kept[config_name].append(drain_by_feed(evolve(config, dsn=dsn), load))
        for who, some in kept.items():
            ratios = [one.per_s / bare.per_s for one, bare in zip(some, kept["bare"], strict=True)]
            print(
                f"{name:7}{who:7}{statistics.median(one.per_s for one in some):>10,.0f} rows/s"
                f"{statistics.median(one.cpu_us for one in some):8.2f} us CPU/row"
                f"{statistics.median(one.rows / max(one.batches, 1) for one in some):8.1f} rows/batch"
                f"   {statistics.median(ratios):.2f} of bare ({min(ratios):.2f} to {max(ratios):.2f})",
                flush=True,
            )


def profile(dsn: str, load: Load) -> None:
    profiler = cProfile.Profile()
    profiler.enable()
    drain_by_feed(evolve(_ECONIA, dsn=dsn), load)
    profiler.disable()
    pstats.Stats(profiler, stream=sys.stdout).sort_stats("tottime").print_stats(25)


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    print(describe())
    async with running_postgres() as postgres:
        with psycopg.connect(postgres.dsn, autocommit=True) as connection:
            connection.execute(SCHEMA)
        script = postgres.directory / "single.sql"
        script.write_text(INSERT.replace("%%", "%").format(rows=1))
        loads: dict[str, Load] = {
            "large": lambda: large(postgres.dsn, args.rows),
            "single": lambda: single(postgres.dsn, script, args.seconds),
        }
        for load in loads.values() if args.profile else ():
            await trio.to_thread.run_sync(profile, postgres.dsn, load)
        if not args.profile:
            await trio.to_thread.run_sync(compare, postgres.dsn, loads, args.rounds)


if __name__ == "__main__":
    trio.run(main)
