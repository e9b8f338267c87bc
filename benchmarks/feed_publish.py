"""What publishing from SQL costs a writer: transactions per second of pgbench, in turn, many short rounds.

    python -m benchmarks.feed_publish [--clients 32] [--seconds 3] [--rounds 12] [--feed]

Starts a Postgres of its own with fsync and synchronous_commit on.  Each transaction inserts one row; one variant
does nothing more, one calls `rowcast.publish()`, one `pg_notify()` with the same payload.  With `--feed` a feed of
kind `wal` reads along, and a LISTEN connection, on the same machine.

Every other round goes through the variants backwards, so that what else the machine does hits all of them alike.  The
server's CPU time per transaction, which that does not touch, stands beside.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import psycopg  # noqa: E402
import trio  # noqa: E402
from support.postgres import Cluster, binaries  # noqa: E402

from broker.config.feeds import FeedConfig, Replication  # noqa: E402
from broker.feed.setup.install import install_steps  # noqa: E402
from broker.feed.status import FeedStatus  # noqa: E402
from broker.feed.supervise import supervise  # noqa: E402

GONE_S = 0.3
"""After pgbench has ended, until its last connection is gone on the server, too."""

SET = "\\set id random(1, 1000000000)\n"
PAYLOAD = """'{"txn_version":123456789,"maker_address":"0xc0deface","price":4000,"id":' || :id::text || '}'"""
INSERT = f"INSERT INTO t (payload) VALUES ({PAYLOAD})"
WITH = f"{SET}WITH row AS ({INSERT} RETURNING payload)"
# One statement each, so that no variant pays for more messages between client and server than another.
VARIANTS = {
    "insert": f"{WITH} SELECT payload FROM row;\n",
    "insert + rowcast.publish": f"{WITH} SELECT rowcast.publish('fill/3/0xc0deface', payload) FROM row;\n",
    "insert + pg_notify": f"{WITH} SELECT pg_notify('fill', payload) FROM row;\n",
}


class NoOutlet:
    def publish(self, topic: bytes, payload: bytes, qos: int, retain: bool, added: object = None) -> None:
        pass

    def flush(self) -> None:
        pass

    async def durable(self) -> None:
        pass


def prepared() -> tuple[Cluster, FeedConfig]:
    """A server as durable as in production, with a table and `rowcast.publish()`."""
    cluster = Cluster()
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        for setting in (
            "fsync = on",
            "full_page_writes = on",
            "max_connections = 200",
            "shared_buffers = '256MB'",
        ):
            connection.execute(f"ALTER SYSTEM SET {setting}")
    cluster.restart()
    config = FeedConfig(
        "bench", cluster.dsn(unix=True), "wal", replication=Replication(allow_unbounded_wal=True)
    )
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id bigserial PRIMARY KEY, payload text)")
        for step in install_steps(config):
            connection.execute(step.statement)
    return cluster, config


def pgbench(cluster: Cluster, script: str, clients: int, seconds: int) -> float:
    """Transactions per second."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        command = [
            str(binaries() / "pgbench"),
            "-n",
            "-M",
            "prepared",
            "-f",
            file.name,
            "-c",
            str(clients),
            "-j",
            "2",
        ]
        where = [
            "-T",
            str(seconds),
            "-h",
            str(cluster.directory),
            "-p",
            str(cluster.port),
            "-U",
            "postgres",
            "postgres",
        ]
        done = subprocess.run(command + where, capture_output=True, text=True, check=True)
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    return float(found.group(1))


def server_cpu_s(cluster: Cluster) -> float:
    """CPU time of the server's processes that have ended, those of pgbench's connections among them."""
    time.sleep(GONE_S)
    pid = int((cluster.data / "postmaster.pid").read_text().split()[0])
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


async def measure(args: argparse.Namespace) -> None:
    cluster, config = prepared()
    rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
    cpu_us: dict[str, list[float]] = {name: [] for name in VARIANTS}
    try:
        async with trio.open_nursery() as nursery:
            if args.feed:
                nursery.start_soon(supervise, config, NoOutlet(), FeedStatus("bench"))
            with psycopg.connect(cluster.dsn(), autocommit=True) as listener:
                if args.feed:
                    listener.execute("LISTEN fill")
                for number in range(args.rounds):
                    for name in list(VARIANTS)[:: -1 if number % 2 else 1]:
                        before_s = server_cpu_s(cluster)
                        rate = await trio.to_thread.run_sync(
                            pgbench, cluster, VARIANTS[name], args.clients, args.seconds
                        )
                        rates[name].append(rate)
                        cpu_us[name].append((server_cpu_s(cluster) - before_s) / rate / args.seconds * 1e6)
            nursery.cancel_scope.cancel()
    finally:
        cluster.close()
    plain = rates["insert"]
    feed = "with readers" if args.feed else "nobody reads"
    print(f"{args.clients} clients, {args.seconds} s each, {args.rounds} rounds, fsync on, {feed}")
    for name, some in rates.items():
        ratios = [rate / base for rate, base in zip(some, plain, strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        print(
            f"{name:26} {statistics.mean(some):>9,.0f} tps  {sum(some) / sum(plain):6.1%} of plain"
            f"  (half of the rounds {low:.1%} to {high:.1%})"
            f"  {statistics.median(cpu_us[name]):4.0f} us CPU of the server"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--feed", action="store_true", help="let a wal feed and a LISTEN read along")
    trio.run(measure, parser.parse_args())
