"""MQTT messages into a plain table: rows a second, CPU for each message, and a bare batched writer beside it.

    python -m benchmarks.ingest [--messages 200000] [--publishers 4] [--rows 1000]

Starts a Postgres of its own (fsync off, so that the disk is not what is measured) and a `rowcast` of its own.  The
publishers, each a process, send QoS 1 with 1000 messages in flight each; the clock runs from their first message to
their last PUBACK, so to the last COMMIT.

Two peers, in the same run and by the same statement, in batches as large: the bare batched writer
(`peers/table_writer.py`) is fed by the same publishers over the same protocol, and acknowledges after the COMMIT, too;
the ready rows are made before the clock starts and come from nobody, which is what Postgres and the driver alone can do
while nothing else wants the machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psycopg
import trio

from benchmarks.ports import free_port
from broker.demo.postgres import running_postgres
from broker.ingest.values import column_text

TABLE = "CREATE TABLE {} (device text, metric text, value numeric, at timestamptz, qos smallint, client text)"
IN_FLIGHT = 1000
PAYLOAD = '{{"v": {}.25, "ts": 1700000000123}}'
BARE = (
    "INSERT INTO bare SELECT a, b, c::numeric, d::timestamptz, e::smallint, f FROM"
    " unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[]) AS given(a, b, c, d, e, f)"
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--publishers", type=int, default=4)
    parser.add_argument("--rows", type=int, default=1000, help="of one batch")
    args = parser.parse_args()
    trio.run(measure, args.messages, args.publishers, args.rows)


async def measure(messages: int, publishers: int, rows: int) -> None:
    async with running_postgres() as postgres:
        dsn = postgres.dsn
        with psycopg.connect(dsn, autocommit=True) as connection:
            for name in ("telemetry", "bare"):
                connection.execute(TABLE.format(name).encode())
        ready = ready_rows(dsn, messages, rows)
        bare = [through_the_bare_writer(dsn, messages, publishers, rows)]
        rate, cpu_us = through_the_broker(dsn, messages, publishers, rows)
        bare.append(through_the_bare_writer(dsn, messages, publishers, rows))
    best = max(bare)
    print(f"ready rows      {ready:10.0f} rows/s")
    for fed, used_us in bare:
        print(f"bare writer     {fed:10.0f} rows/s, {used_us:.2f} µs of its CPU a message")
    print(f"through MQTT    {rate:10.0f} rows/s, {cpu_us:.2f} µs of the broker's CPU a message")
    print(f"                {rate / best[0]:.2f} of the bare writer, {rate / ready:.2f} of the ready rows")


def ready_rows(dsn: str, messages: int, rows: int) -> float:
    """Rows a second."""
    row = ["d1", "temp", "12.25", "2023-11-14T22:13:20.123+00:00", "1", "c0"]
    columns = [[value] * rows for value in row]
    with psycopg.connect(dsn, autocommit=True) as connection:
        started = time.perf_counter()
        for _ in range(messages // rows):
            connection.execute(BARE, [column_text(list(column)) for column in columns], prepare=True)
        return messages / (time.perf_counter() - started)


def through_the_bare_writer(dsn: str, messages: int, publishers: int, rows: int) -> tuple[float, float]:
    """As `through_the_broker`."""
    port = free_port()
    module = ["-m", "benchmarks.peers.table_writer"]
    command = [sys.executable, *module, str(port), dsn, str(rows), BARE]
    return published(command, port, dsn, "bare", messages, publishers)


def through_the_broker(dsn: str, messages: int, publishers: int, rows: int) -> tuple[float, float]:
    """Rows a second, and microseconds of the broker's CPU for each message."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rowcast.toml"
        file.write_text(
            f'[database]\ndsn = "{dsn}"\n[security]\nallow_anonymous = true\n[[listener]]\nport = {port}\n'
            'host = "127.0.0.1"\n[[mqtt.sink]]\ntopics = "t/{device}/{metric}"\ntable = "telemetry"\n'
            'columns = { device = "{device}", metric = "{metric}", value = "$.v", at = "$.ts", qos = "{$qos}",'
            f' client = "{{$client}}" }}\nbatch = {{ rows = {rows}, every = "20ms" }}\n'
        )
        command = [sys.executable, "-m", "broker", "-c", str(file)]
        return published(command, port, dsn, "telemetry", messages, publishers)


def published(
    command: list[str], port: int, dsn: str, table: str, messages: int, publishers: int
) -> tuple[float, float]:
    """Rows a second through a program that all publishers send to, and microseconds of its CPU for each message."""
    each = messages // publishers
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"TRUNCATE {table}".encode())
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "writes to" in line:
                    break
            threading.Thread(target=process.stderr.read, daemon=True).start()
            before = cpu_s(process.pid)
            barrier = multiprocessing.Barrier(publishers + 1)
            peers = [
                multiprocessing.Process(target=publish, args=(port, f"c{n}", each, barrier))
                for n in range(publishers)
            ]
            for peer in peers:
                peer.start()
            barrier.wait()
            started = time.perf_counter()
            for peer in peers:
                peer.join()
            took_s = time.perf_counter() - started
            used_s = cpu_s(process.pid) - before
        finally:
            process.terminate()
    with psycopg.connect(dsn) as connection:
        counted = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        assert counted == (each * publishers,), counted
    return each * publishers / took_s, used_s / (each * publishers) * 1e6


def publish(port: int, client: str, messages: int, barrier: Barrier) -> None:
    """Send all, and read all PUBACKs."""
    packets = [packet(n) for n in range(messages)]
    with socket.create_connection(("127.0.0.1", port)) as sock:
        name = client.encode()
        body = b"\x00\x04MQTT\x04\x02\x00\x00" + len(name).to_bytes(2, "big") + name
        sock.sendall(b"\x10" + bytes([len(body)]) + body)
        left = 4
        while left:
            left -= len(sock.recv(left))
        barrier.wait()
        sent = acknowledged = rest = 0
        while acknowledged < messages:
            count = min(messages - sent, IN_FLIGHT - (sent - acknowledged))
            if count >= IN_FLIGHT // 4 or (count and sent + count == messages):
                sock.sendall(b"".join(packets[sent : sent + count]))
                sent += count
            data = sock.recv(65536)
            assert data, "the broker has closed"
            acknowledged += (rest + len(data)) // 4
            rest = (rest + len(data)) % 4


def packet(n: int) -> bytes:
    topic = b"t/d%d/temp" % (n % 100)
    body = len(topic).to_bytes(2, "big") + topic + (n % 65535 + 1).to_bytes(2, "big")
    body += PAYLOAD.format(n % 1000).encode()
    return b"\x32" + bytes([len(body)]) + body


def cpu_s(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
