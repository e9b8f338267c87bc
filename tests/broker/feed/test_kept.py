"""What is kept in `rowcast.feed` goes into the columns that are there, whichever version made the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import psycopg
import pytest

from broker.feed.driver.connection import TrioConnection
from broker.feed.kept import write_as_installed

STATEMENTS = [("all", [1, 2, 3]), ("some", [1, 2]), ("one", [1])]


class Table:
    """A connection to a table that has the columns of these statements alone."""

    def __init__(self, *known: str, fault: type[psycopg.Error] = psycopg.errors.UndefinedColumn) -> None:
        self.known = known
        self.fault = fault
        self.written: list[tuple[bytes, Sequence[object]]] = []
        self.tried = 0

    async def execute(self, query: bytes, values: Sequence[object]) -> None:
        self.tried += 1
        if query.decode() not in self.known:
            raise self.fault
        self.written.append((query, values))


async def write(table: Table) -> int:
    return await write_as_installed(cast("TrioConnection", table), *STATEMENTS)


@pytest.mark.parametrize(
    ("known", "which"), [(("all", "some", "one"), 0), (("some", "one"), 1), (("one",), 2)]
)
async def test_the_first_that_fits_is_written_and_no_other(known: tuple[str, ...], which: int) -> None:
    table = Table(*known)
    assert await write(table) == which
    query, values = STATEMENTS[which]
    assert table.written == [(query.encode(), values)]


async def test_a_table_of_which_nothing_fits_is_no_success() -> None:
    table = Table()
    with pytest.raises(psycopg.errors.UndefinedColumn):
        await write(table)
    assert table.tried == len(STATEMENTS)


async def test_any_other_fault_is_told_at_once() -> None:
    table = Table("one", fault=psycopg.errors.InsufficientPrivilege)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await write(table)
    assert table.tried == 1
