"""Rows that were found become a file that holds together; what names a row that is lost is lost, and told."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from broker.core.publication import Publication
from broker.storage.backlog import entry, row_of
from broker.storage.reading import read
from broker.storage.salvage.rows import load, prune
from broker.storage.schema import TABLE_NAMES, Row, Value, checked
from broker.storage.unfit import Unfit
from protocol.mqtt.outbound import Queued

Rows = dict[str, list[Row]]


def message(number: int) -> tuple[Value, ...]:
    return (number, b"t/%d" % number, b"x", 1, 0, b"p", None, 1883, b"", 0.0)


def session(number: int, client_id: bytes, will: int | None = None) -> tuple[Value, ...]:
    return (number, client_id, None, 1883, b"", 0, 12, 0, 9e999, 3600.0, will, 5.5)


def backlog(owner: int) -> Row:
    waiting = Publication(b"small", b"x", 1)
    return row_of(owner, [entry(owner, Queued(waiting, 1, False, position=1), waiting, 0.0)])


def rows() -> Rows:
    """Two sessions with something in every table, each with messages of its own."""
    made: Rows = {name: [] for name in TABLE_NAMES}
    made["state"] = [checked(1, 1000.5)]
    made["message"] = [checked(*message(number)) for number in (10, 11, 12, 13, 20, 21, 22, 23, 30)]
    for number, client_id in ((1, b"one"), (2, b"two")):
        first = 10 * number
        made["session"].append(checked(*session(number, client_id, first)))
        made["subscription"].append(checked(number, b"#", 1, 0))
        made["queued"].append(checked(number, 2, first + 1, 1, 0, 0, b""))
        made["inflight"].append(checked(number, 1, 5, first + 2, 1, 0, 1, b""))
        made["inbound"].append(checked(number, 7, first + 3))
        made["backlog"].append(backlog(number))
    made["retained"] = [checked(1, 30)]
    return made


def without(made: Rows, table: str, *keys: int) -> Rows:
    made[table] = [row for row in made[table] if row[0] not in keys]
    return made


def pruned(made: Rows) -> tuple[dict[str, int], list[str]]:
    """How many rows of each table are left, in which there is no contradiction, and what is said of the others."""
    with closing(load(made, 2000.0)) as connection:
        said = prune(connection)
        unfit = Unfit()
        read(connection, unfit)
        assert not unfit
        left = {name: count(connection, name) for name in TABLE_NAMES}
        assert prune(connection) == []
        return left, said


def count(connection: sqlite3.Connection, table: str) -> int:
    (found,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert isinstance(found, int)
    return found


WHOLE = {name: len(found) for name, found in rows().items()}


def test_of_what_is_whole_nothing_is_lost() -> None:
    assert pruned(rows()) == (WHOLE, [])


@pytest.mark.parametrize(
    ("number", "table", "said"),
    [
        (10, None, "message 10, the will of 'one'"),
        (11, "queued", "message 11 in queued of 'one'"),
        (12, "inflight", "message 12 in inflight of 'one'"),
        (13, "inbound", "message 13 in inbound of 'one'"),
        (30, "retained", "message 30, which was retained"),
    ],
)
def test_a_message_that_is_lost_takes_with_it_what_names_it_and_no_more(
    number: int, table: str | None, said: str
) -> None:
    left, lost = pruned(without(rows(), "message", number))
    wanted = {**WHOLE, "message": WHOLE["message"] - 1}
    if table is not None:
        wanted[table] -= 1
    assert left == wanted
    assert lost == [said]


def test_a_session_that_is_lost_takes_with_it_all_that_was_its() -> None:
    left, lost = pruned(without(rows(), "session", 1))
    owned = ("session", "subscription", "queued", "inflight", "inbound", "backlog")
    assert left == {**WHOLE, **dict.fromkeys(owned, 1), "message": 5}
    assert lost == [
        "the subscription to '#' of a session that is lost",
        "message 11 in queued of a session that is lost",
        "message 12 in inflight of a session that is lost",
        "message 13 in inbound of a session that is lost",
        "1 messages that waited for session 1, which is lost",
        "message 10 to 't/10': what says whose it is, is lost",
        "message 11 to 't/11': what says whose it is, is lost",
        "message 12 to 't/12': what says whose it is, is lost",
        "message 13 to 't/13': what says whose it is, is lost",
    ]


def test_a_message_that_nothing_names_is_lost_too() -> None:
    left, lost = pruned(without(rows(), "queued", 1))
    assert left["message"] == WHOLE["message"] - 1
    assert lost == ["message 11 to 't/11': what says whose it is, is lost"]


@pytest.mark.parametrize(
    ("tables", "saved_at"), [(("session",), 2000.0), (("retained", "message"), 2000.0), (("message",), 0.0)]
)
def test_without_the_row_that_says_when_it_was_saved_the_files_own_time_counts(
    tables: tuple[str, ...], saved_at: float
) -> None:
    made: Rows = {name: [] for name in TABLE_NAMES}
    made |= {name: rows()[name] for name in tables}
    with closing(load(made, 2000.0)) as connection:
        prune(connection)
        assert read(connection, Unfit()).saved_at == saved_at


def test_a_row_that_was_found_twice_counts_once() -> None:
    made = rows()
    made["session"] *= 2
    made["message"].append(checked(*message(10)[:2], b"another", *message(10)[3:]))
    assert pruned(made) == (WHOLE, [])
