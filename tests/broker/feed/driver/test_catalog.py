"""What a type is made of, all the way down: what is needed to write its values as Postgres writes them as JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broker.feed.driver.catalog import load_types, type_entry
from broker.feed.driver.connection import TrioConnection
from protocol.pgjson import TypeEntry

INT4, TEXT, INT4_ARRAY, TEXT_ARRAY, BOX, BOX_ARRAY, POINT, NAME = 23, 25, 1007, 1009, 603, 1020, 600, 19
SCHEMA = """
CREATE EXTENSION hstore;
CREATE DOMAIN price AS int4;
CREATE DOMAIN prices AS price[];
CREATE DOMAIN attributes AS hstore;
CREATE TYPE leg AS ("user" text, gone int4, size price, at text[]);
ALTER TYPE leg DROP ATTRIBUTE gone;
CREATE TYPE trade AS (id int4, legs leg[]);
CREATE TABLE tree (id int4, of text);
CREATE TYPE mood AS ENUM ('ok');
"""


@pytest.fixture
async def connection(database: str) -> AsyncIterator[TrioConnection]:
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        await connection.execute(SCHEMA)
        yield connection


async def oid(connection: TrioConnection, name: str) -> int:
    row = await (await connection.execute("SELECT %s::regtype::oid::bigint", [name])).fetchone()
    assert row is not None
    return int(row[0])


async def test_types_of_the_server_s_own(connection: TrioConnection) -> None:
    assert await load_types(connection, [INT4, TEXT_ARRAY, BOX_ARRAY, NAME]) == {
        INT4: TypeEntry(0, 0, b",", None, False),
        TEXT_ARRAY: TypeEntry(0, TEXT, b",", None, False),
        TEXT: TypeEntry(0, 0, b",", None, False),
        BOX_ARRAY: TypeEntry(0, BOX, b";", None, False),  # the only one with another delimiter
        BOX: TypeEntry(0, 0, b",", None, False),
        NAME: TypeEntry(0, 0, b",", None, False),  # of a fixed length, whatever it is made of
    }


async def test_a_type_comes_with_all_that_it_is_made_of(connection: TrioConnection) -> None:
    names = ("trade", "leg[]", "leg", "price")
    trade, legs, leg, price = [await oid(connection, name) for name in names]
    assert await load_types(connection, [trade]) == {
        trade: TypeEntry(0, 0, b",", (("id", INT4), ("legs", legs)), False),
        legs: TypeEntry(0, leg, b",", None, False),
        leg: TypeEntry(0, 0, b",", (("user", TEXT), ("size", price), ("at", TEXT_ARRAY)), False),
        price: TypeEntry(INT4, 0, b",", None, False),
        INT4: TypeEntry(0, 0, b",", None, False),
        TEXT: TypeEntry(0, 0, b",", None, False),
        TEXT_ARRAY: TypeEntry(0, TEXT, b",", None, False),
    }


@pytest.mark.parametrize(
    ("name", "base", "element", "is_composite", "is_hstore"),
    [
        ("price[]", "", "price", False, False),
        ("prices", "price[]", "", False, False),
        ("hstore", "", "", False, True),
        ("attributes", "hstore", "", False, False),
        ("tree", "", "", True, False),
        ("tree[]", "", "tree", False, False),
        ("mood", "", "", False, False),
        ("json", "", "", False, False),
    ],
)
async def test_what_a_type_is(
    connection: TrioConnection, name: str, base: str, element: str, is_composite: bool, is_hstore: bool
) -> None:
    number = await oid(connection, name)
    found = await load_types(connection, [number])
    entry = found[number]
    bases = [await oid(connection, one) if one else 0 for one in (base, element)]
    assert [entry.base_oid, entry.element_oid] == bases
    assert (entry.attributes is not None, entry.is_hstore) == (is_composite, is_hstore)
    assert {one for one in bases if one} <= found.keys()


async def test_what_was_dropped_meanwhile_is_left_out(connection: TrioConnection) -> None:
    gone = await oid(connection, "mood")
    await connection.execute("DROP TYPE mood")
    assert list(await load_types(connection, [gone, INT4])) == [INT4]
    assert await load_types(connection, []) == {}


def test_attributes_are_those_of_composite_types_alone() -> None:
    assert type_entry((7, 1, 2, ";", False, [], [], True)) == (7, TypeEntry(1, 2, b";", None, True))
    assert type_entry((7, 0, 0, ",", True, [], [], False)) == (7, TypeEntry(0, 0, b",", (), False))
