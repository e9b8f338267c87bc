"""What a logical replication slot costs the primary: its processor, by the number of slots.

    PYTHONPATH=.:tests python benchmarks/slots.py --slots 0 1 2 4 8 --rows 50000

A PostgreSQL of its own.  For each number, so many slots with pgoutput are read by pg_recvlogical while one session
inserts rows of 200 bytes, some in each transaction, as fast as it can.  Counted is the CPU of each walsender until it
has sent everything, and of the writer; the readers are other programs and count for nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from contextlib import ExitStack

import psycopg
from support.postgres import Cluster, binaries

from benchmarks.machine import cpu_seconds

SETTLE_S = 60.0
SENDERS = "SELECT pid FROM pg_stat_replication"
INSERT = "INSERT INTO items (body) SELECT repeat('x', 200) FROM generate_series(1, %s)"
SETTINGS = """
max_wal_senders = 70
max_replication_slots = 70
max_connections = 100
"""


def measured(dsn: str, count: int, rows: int, per_transaction: int) -> tuple[float, float, float, int]:
    """Seconds of the writer's CPU, of all walsenders', from begin to end, and the bytes of WAL."""
    with ExitStack() as stack:
        connection = stack.enter_context(psycopg.connect(dsn, autocommit=True))
        for number in range(count):
            name = f"slot_{number}"
            connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
            command = [
                str(binaries() / "pg_recvlogical"),
                "-d",
                dsn,
                "--slot",
                name,
                "--start",
                "-f",
                "/dev/null",
            ]
            command += ["-o", "proto_version=1", "-o", "publication_names=everything"]
            reader = subprocess.Popen(command)
            stack.callback(connection.execute, "SELECT pg_drop_replication_slot(%s)", [name])
            stack.callback(time.sleep, 0.2)
            stack.callback(reader.wait)
            stack.callback(reader.terminate)
        senders: list[int] = []
        while len(senders) < count:
            senders = [pid for (pid,) in connection.execute(SENDERS).fetchall()]
        (begin,) = connection.execute("SELECT pg_current_wal_lsn()").fetchone() or ()
        writer = connection.info.backend_pid
        before = cpu_seconds(writer), sum(map(cpu_seconds, senders))
        started = time.perf_counter()
        for _ in range(rows // per_transaction):
            connection.execute(INSERT, [per_transaction])
        (end,) = connection.execute("SELECT pg_current_wal_lsn()").fetchone() or ()
        written = cpu_seconds(writer)
        behind = "SELECT count(*) FROM pg_stat_replication WHERE sent_lsn < %s"
        deadline = time.monotonic() + SETTLE_S
        while (connection.execute(behind, [end]).fetchone() or (0,))[0] and time.monotonic() < deadline:
            time.sleep(0.01)
        took = time.perf_counter() - started
        after = sum(map(cpu_seconds, senders))
        (size,) = connection.execute("SELECT %s::pg_lsn - %s::pg_lsn", [end, begin]).fetchone() or (0,)
        return written - before[0], after - before[1], took, int(size)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slots", type=int, nargs="+", default=[0, 1, 2, 4, 8])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--per-transaction", type=int, default=10)
    args = parser.parse_args()
    cluster = Cluster()
    try:
        with (cluster.data / "postgresql.conf").open("a") as conf:
            conf.write(SETTINGS)
        cluster.restart()
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute("CREATE TABLE items (id bigserial PRIMARY KEY, body text)")
            connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        print(
            "slots  seconds  rows/s  writer us/row  walsenders us/row  each us/row  each by writer  ms/MB of WAL"
        )
        for count in args.slots:
            writer, senders, took, size = measured(cluster.dsn(), count, args.rows, args.per_transaction)
            each = senders / count if count else 0.0
            print(
                f"{count:5}  {took:7.2f}  {args.rows / took:6.0f}  {writer / args.rows * 1e6:13.1f}"
                f"  {senders / args.rows * 1e6:17.1f}  {each / args.rows * 1e6:11.1f}  {each / writer:14.2f}"
                f"  {each * 1e3 / (size / 1e6):12.1f}"
            )
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
