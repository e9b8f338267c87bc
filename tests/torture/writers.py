"""Writers that commit numbered rows in every awkward way, and write down what they did."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import psycopg
import trio
from torture.ledger import Transaction

from broker.feed.driver.connection import TrioConnection

LARGE_ROWS = 10_000
BIG_BYTES = 1_000_000
INSERT = """
INSERT INTO torture SELECT number, %s, %s, repeat(%s, %s) FROM generate_series(%s::bigint, %s::bigint) AS number
"""
TABLE = """
CREATE TABLE torture (number bigint PRIMARY KEY, txn bigint NOT NULL, size integer NOT NULL, note text NOT NULL)
"""

PLACES = """
SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint,
       pg_sequence_last_value(to_regclass('rowcast.outbox_seq'))
"""
"""Where a commit lies between, as the kinds of feeds count: bytes of WAL, numbers of transactions."""


class Book:
    """All transactions of all writers, and the numbers they take."""

    def __init__(self) -> None:
        self.transactions: list[Transaction] = []
        self._number = 0

    def begin(self) -> Transaction:
        transaction = Transaction(len(self.transactions) + 1)
        self.transactions.append(transaction)
        return transaction

    def take(self, count: int) -> range:
        first = self._number + 1
        self._number += count
        return range(first, first + count)

    def settle(self, committed: set[int]) -> None:
        """Who committed, as the table says; a commit whose answer was lost may have happened or not."""
        for transaction in self.transactions:
            transaction.committed = transaction.ident in committed


class Writer:
    """One connection's worth of work, seeded.  Survives the death of its connections."""

    def __init__(self, dsn: str, book: Book, seed: int, publishes: bool, notes_max: int) -> None:
        self._dsn = dsn
        self._book = book
        self._random = random.Random(seed)
        self._publishes = publishes
        self._notes_max = notes_max

    async def write_until(self, stopped: Callable[[], bool]) -> None:
        while not stopped():
            try:
                async with await TrioConnection.connect(
                    self._dsn, autocommit=True, connect_timeout=5
                ) as connection:
                    while not stopped():
                        await self._transaction(connection)
                        await trio.sleep(self._random.expovariate(1 / 0.02))
            except (psycopg.Error, OSError):
                await trio.sleep(0.1)

    async def write_one(self) -> Transaction:
        """One row in a transaction of its own; which, whether it succeeded or not."""
        transaction = self._book.begin()
        async with await TrioConnection.connect(self._dsn, autocommit=True, connect_timeout=5) as connection:
            await connection.execute("BEGIN")
            await self._rows(connection, transaction, 1)
            await self._commit(connection, transaction)
        return transaction

    async def _commit(self, connection: TrioConnection, transaction: Transaction) -> None:
        transaction.places_before = await _places(connection)
        transaction.commit_began = time.monotonic()
        await connection.execute("COMMIT")
        transaction.commit_ended = time.monotonic()
        transaction.places_after = await _places(connection)

    async def _transaction(self, connection: TrioConnection) -> None:
        transaction = self._book.begin()
        await connection.execute("BEGIN")
        await self._rows(connection, transaction, self._random.randint(1, 5))
        kind = self._random.choices(
            ["small", "undone", "savepoint", "held", "published", "large", "big"], [60, 10, 8, 12, 8, 1, 1]
        )[0]
        if kind == "savepoint":
            await connection.execute("SAVEPOINT s")
            before = list(transaction.numbers)
            await self._rows(connection, transaction, self._random.choice([3, 2000]))
            await connection.execute("ROLLBACK TO s")
            transaction.undone = transaction.numbers[len(before) :]
            transaction.numbers = before
        elif kind == "held":
            await trio.sleep(self._random.uniform(0.05, 1.0))
        elif kind == "published" and self._publishes:
            await self._publish(connection, transaction)
        elif kind == "large":
            await self._rows(connection, transaction, LARGE_ROWS)
        elif kind == "big":
            await self._rows(connection, transaction, 1, min(BIG_BYTES, self._notes_max))
        if kind != "small":
            await self._rows(connection, transaction, 1)
        if kind == "undone":
            await connection.execute("ROLLBACK")
            return
        await self._commit(connection, transaction)

    async def _rows(
        self, connection: TrioConnection, transaction: Transaction, count: int, size: int = 0
    ) -> None:
        numbers = self._book.take(count)
        size = size or self._random.randint(1, 300)
        letter = self._random.choice("abcxyz")
        transaction.numbers.append(numbers)
        await connection.execute(INSERT, [transaction.ident, size, letter, size, numbers[0], numbers[-1]])

    async def _publish(self, connection: TrioConnection, transaction: Transaction) -> None:
        numbers = self._book.take(1)
        size = self._random.randint(1, 1000)
        body = f'{{"number":{numbers[0]},"txn":{transaction.ident},"size":{size},"note":"{"p" * size}"}}'
        transaction.numbers.append(numbers)
        transaction.messages.add(numbers[0])
        if transaction.ident % 2:
            await connection.execute("SELECT rowcast.notify('said', %s::text)", [body])
            return
        topic = f"torture/{transaction.ident}/{numbers[0]}"
        await connection.execute("SELECT rowcast.publish(%s::text, %s::text)", [topic, body])


async def _places(connection: TrioConnection) -> dict[str, int]:
    row = await (await connection.execute(PLACES)).fetchone()
    assert row is not None
    return {"wal": row[0], "outbox": row[1] or 0}
