"""Rows committed in Postgres to MQTT subscribers: how many per second, and how soon after COMMIT.

The bare LISTEN loop answers the same questions with nothing between Postgres and the socket: each notification
becomes one byte.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import psycopg

from benchmarks.clients import Client, Lost, open_socket, read_exactly, read_into, subscriber
from benchmarks.measurement import WARM_UP_S, Clocks, Measurement, Target, repeat

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


class _Rows:
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
        self.insert(1)
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


def _receiver(target: Target, number: int) -> Client:
    if "bare" in target.facts:
        return open_socket(target.mqtt)
    return subscriber(target.mqtt, b"sub-%d" % number, b"rows/#")


def drain(target: Target, seconds: float, subscribers: int, per_transaction: int) -> Measurement:
    """Transactions of `per_transaction` rows, each awaited by every subscriber; counted while they are delivered.

    The clock runs from the end of a COMMIT until the last subscriber has its last row: the time in which
    Postgres works alone is nobody's merit.
    """
    rows = _Rows(target, subscribers)
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
    rows = _Rows(target, 1)
    ids = [itertools.count((writer + 2) * _FIRST) for writer in range(writers)]
    for round_seconds in (WARM_UP_S, seconds):
        clocks = Clocks(target)
        with ThreadPoolExecutor(writers) as pool:
            counts = [pool.submit(rows.insert_singly, own, round_seconds) for own in ids]
        count = sum(done.result() for done in counts)
        rows.receive(count)
        measured = clocks.measure(count)
    return measured


def commit_to_client(target: Target, seconds: float, subscribers: int, per_second: int) -> Measurement:
    """One row per transaction at a fixed pace: from sending COMMIT until every subscriber has the row."""
    rows = _Rows(target, subscribers)
    samples_us: list[float] = []
    due = time.perf_counter()

    def one_row() -> None:
        nonlocal due
        time.sleep(max(due - time.perf_counter(), 0))
        due = max(due + 1 / per_second, time.perf_counter())
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
