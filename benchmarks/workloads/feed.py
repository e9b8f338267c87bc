"""Rows committed in Postgres to MQTT subscribers: how many per second, and how soon after COMMIT.

The bare LISTEN loop answers the same questions with nothing between Postgres and the socket: each notification
becomes one byte.
"""

from __future__ import annotations

import itertools
import select
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import psycopg

from benchmarks.arithmetic import median
from benchmarks.clients import PATIENCE_S, Client, Lost, open_socket, read_exactly, read_into, subscriber
from benchmarks.measurement import WARM_UP_S, Clocks, Measurement, Target, repeat
from benchmarks.workloads import websocket

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS bench_rows (
    id bigint PRIMARY KEY, market_id numeric NOT NULL, account text NOT NULL, note text NOT NULL);
CREATE OR REPLACE FUNCTION bench_notify() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_notify('bench', row_to_json(NEW)::text); RETURN NULL; END $$;
CREATE OR REPLACE TRIGGER bench_notify AFTER INSERT ON bench_rows FOR EACH ROW EXECUTE FUNCTION bench_notify();
TRUNCATE bench_rows;
"""
_FIRST: Final = 1_000_000_000
_INSERT: Final = """
INSERT INTO bench_rows SELECT i, 7, '0xc0deface', repeat('n', 100) FROM generate_series(%s::bigint, %s::bigint) i
"""


class Rows:
    """A writer, and everybody who must get what it commits."""

    def __init__(self, target: Target, subscribers: int) -> None:
        self._dsn = target.facts["dsn"]
        self.writer = psycopg.connect(self._dsn, autocommit=True)
        self.writer.execute(SCHEMA)
        self._next = _FIRST
        self._receivers = [_receiver(target, number) for number in range(subscribers)]
        self._view = memoryview(bytearray(16 * 1024 * 1024))
        self._row_bytes = [self._measure(receiver) for receiver in self._first_row()]

    def _first_row(self) -> list[Client]:
        """A broker answers clients before its feed has connected: rows until one comes."""
        for _ in range(PATIENCE_S):
            self.insert(1)
            if select.select([self._receivers[0]], [], [], 1.0)[0]:
                break
        return self._receivers

    def _measure(self, receiver: Client) -> int:
        """The size of what one row becomes: all rows are equally long."""
        head = read_exactly(receiver, 1)
        if head == b".":
            return 1
        length, shift = 0, 0
        taken = 1
        while True:
            byte = read_exactly(receiver, 1)[0]
            taken += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        read_exactly(receiver, length)
        return taken + length

    def insert(self, count: int) -> None:
        self.writer.execute(_INSERT, (self._next, self._next + count - 1))
        self._next += count

    def insert_singly(self, ids: Iterator[int], seconds: float) -> int:
        """Commit row after row on a connection of its own; how many."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:

            def insert() -> None:
                number = next(ids)
                connection.execute(_INSERT, (number, number))

            return repeat(insert, seconds)

    def receive(self, count: int) -> None:
        for receiver, row_bytes in zip(self._receivers, self._row_bytes, strict=True):
            read_into(receiver, self._view, row_bytes * count)

    def close(self) -> None:
        self.writer.close()
        for receiver in self._receivers:
            receiver.close()


def _receiver(target: Target, number: int) -> Client:
    if "bare" in target.facts:
        return open_socket(target.mqtt)
    return subscriber(target.mqtt, b"sub-%d" % number, b"rows/#")


def drain(target: Target, seconds: float, subscribers: int, per_transaction: int) -> Measurement:
    """Transactions of `per_transaction` rows, each awaited by every subscriber; counted while they are delivered.

    The clock runs from the end of a COMMIT until the last subscriber has its last row: the time in which
    Postgres works alone is nobody's merit.
    """
    rows = Rows(target, subscribers)
    delivering_s = 0.0
    samples_us: list[float] = []

    def one_transaction() -> None:
        nonlocal delivering_s
        rows.insert(per_transaction)
        began = time.perf_counter()
        rows.receive(per_transaction)
        delivering_s += time.perf_counter() - began
        samples_us.append((time.perf_counter() - began) * 1e6)

    repeat(one_transaction, WARM_UP_S)
    samples_us.clear()
    delivering_s = 0.0
    clocks = Clocks(target)
    count = repeat(one_transaction, seconds) * per_transaction * subscribers
    measured = clocks.measure(count, samples_us, drained_per_s=count / delivering_s)
    if not count:
        raise Lost("no transaction was delivered in time")
    return measured


def many_commits(target: Target, seconds: float, writers: int) -> Measurement:
    """One row per transaction from several connections at once; the clock stops when the last row is delivered.

    Args:
        writers: at most 7, so that every id has ten digits.
    """
    rows = Rows(target, 1)
    ids = [itertools.count((writer + 2) * _FIRST) for writer in range(writers)]
    for round_seconds in (WARM_UP_S, seconds):
        clocks = Clocks(target)
        with ThreadPoolExecutor(writers) as pool:
            counts = [pool.submit(rows.insert_singly, own, round_seconds) for own in ids]
        count = sum(done.result() for done in counts)
        rows.receive(count)
        measured = clocks.measure(count)
    return measured


class Pace:
    """So many turns per second; what is late is not made up for."""

    def __init__(self, per_second: int) -> None:
        self._between_s = 1 / per_second
        self._due = time.perf_counter()

    def wait(self) -> None:
        time.sleep(max(self._due - time.perf_counter(), 0))
        self._due = max(self._due + self._between_s, time.perf_counter())


def commit_to_client(target: Target, seconds: float, subscribers: int, per_second: int) -> Measurement:
    """One row per transaction at a fixed pace: from sending COMMIT until every subscriber has the row."""
    rows = Rows(target, subscribers)
    samples_us: list[float] = []
    pace = Pace(per_second)

    def one_row() -> None:
        pace.wait()
        rows.writer.execute("BEGIN")
        rows.insert(1)
        began = time.perf_counter()
        rows.writer.execute("COMMIT")
        rows.receive(1)
        samples_us.append((time.perf_counter() - began) * 1e6)

    repeat(one_row, WARM_UP_S)
    samples_us.clear()
    clocks = Clocks(target)
    count = repeat(one_row, seconds)
    return clocks.measure(count * subscribers, samples_us)


def commit_to_both(target: Target, seconds: float, per_second: int) -> Measurement:
    """As `commit_to_client`, with a WebSocket client of Econia's protocol beside the MQTT client, each in its thread.

    The latency is the WebSocket client's; `mqtt_us` and `later_us` are the medians of MQTT's, and of how much later
    the same transaction came to the WebSocket.
    """
    rows = Rows(target, 1)
    reader = websocket.Reader(websocket.open_econia(target, 0))
    pace = Pace(per_second)
    mqtt_us: list[float] = []
    websocket_us: list[float] = []

    def at(wait: Callable[[int], None]) -> float:
        wait(1)
        return time.perf_counter()

    def one_row() -> None:
        pace.wait()
        arrivals = [pool.submit(at, wait) for wait in (rows.receive, reader.expect)]
        rows.writer.execute("BEGIN")
        rows.insert(1)
        rows.writer.execute("SELECT pg_notify('econiaws', %s)", (websocket.econia_message(len(mqtt_us)),))
        began = time.perf_counter()
        rows.writer.execute("COMMIT")
        for samples, arrival in zip((mqtt_us, websocket_us), arrivals, strict=True):
            samples.append((arrival.result() - began) * 1e6)

    with ThreadPoolExecutor(2) as pool:
        repeat(one_row, WARM_UP_S)
        mqtt_us.clear()
        websocket_us.clear()
        clocks = Clocks(target)
        count = repeat(one_row, seconds)
        later = [mine - theirs for mine, theirs in zip(websocket_us, mqtt_us, strict=True)]
        return clocks.measure(2 * count, websocket_us, mqtt_us=median(mqtt_us), later_us=median(later))
