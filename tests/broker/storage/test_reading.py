"""Nothing in the file is believed: rows whose checksum is right and that still can't be are refused, in words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from broker.core.publication import Publication
from broker.storage.backlog import entry, row_of
from broker.storage.reading import Damaged, read
from broker.storage.schema import TABLES, Value, checked
from broker.storage.unfit import Unfit
from protocol.mqtt.outbound import Queued

MESSAGE: tuple[Value, ...] = (7, b"t", b"x", 1, 0, b"p", None, 1883, b"", 0.0)
SESSION: tuple[Value, ...] = (3, b"c", None, 1883, b"", 0, 12, 0, 9e999, 3600.0, None, 0.0)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(TABLES.replace("CHECK (", "CHECK (1 OR "))
        yield connection


def insert(connection: sqlite3.Connection, table: str, *values: Value) -> None:
    marks = ", ".join("?" * (len(values) + 1))
    connection.execute(f"INSERT INTO {table} VALUES ({marks})", checked(*values))


def with_a_session(connection: sqlite3.Connection) -> None:
    insert(connection, "message", *MESSAGE)
    insert(connection, "session", *SESSION)


def changed(row: tuple[Value, ...], at: int, value: Value) -> tuple[Value, ...]:
    return (*row[:at], value, *row[at + 1 :])


Rows = tuple[tuple[str, tuple[Value, ...]], ...]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((("queued", (3, 1, 8, 1, 0, 0, b"")),), "a row names a session or message that is not there"),
        ((("queued", (4, 1, 7, 1, 0, 0, b"")),), "a row names a session or message that is not there"),
        ((("inbound", (3, 5, 8)),), "a row names a session or message that is not there"),
        ((("retained", (1, 8)),), "a row names a session or message that is not there"),
        ((("subscription", (4, b"#", 1, 0)),), "a row names a session or message that is not there"),
        ((("subscription", (4, b"a/#/b", 1, 0)),), "a row names a session or message that is not there"),
        (
            (("session", changed((4, b"d", *SESSION[2:]), 10, 8)),),
            "a row names a session or message that is not",
        ),
        (
            (("inflight", (3, 1, 5, 7, 1, 0, 2, b"")),),
            "a message in flight has a state that its QoS does not",
        ),
        (
            (("inflight", (3, 1, 5, 7, 2, 0, 1, b"")),),
            "a message in flight has a state that its QoS does not",
        ),
        (
            (("inflight", (3, 1, 5, 7, 1, 0, 1, b"")), ("inflight", (3, 2, 5, 7, 1, 0, 1, b""))),
            "two messages in flight have the same packet id",
        ),
        (
            (("message", changed((8, *MESSAGE[1:]), 8, b"\x0b\x01")),),
            "the properties of a message can't be read",
        ),
        (
            (("message", changed((8, *MESSAGE[1:]), 8, b"\x02\x00\x00\x00\x01")),),
            "a message has properties that are not handed on",
        ),
        ((("message", changed((8, *MESSAGE[1:]), 1, 5)),), "a row of the table message has a number where"),
        ((("session", changed((4, *SESSION[1:]), 1, 5)),), "a row of the table session has a number where"),
        ((("backlog", (3, 1, 1, 0, 5)),), "a row of the table backlog has a number where"),
        ((("backlog", (3, 1, 1, 0, b"")),), "a row of the table backlog does not hold what it says"),
    ],
)
def test_what_can_not_have_been_written_by_us_is_refused(
    connection: sqlite3.Connection, rows: Rows, said: str
) -> None:
    with_a_session(connection)
    for table, values in rows:
        insert(connection, table, *values)
    with pytest.raises(Damaged) as refused:
        read(connection, Unfit())
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE session SET user_name = 'text'", "a row of the table session is not what was saved"),
        ("UPDATE message SET payload = x'01'", "its checksum differs (it begins with 7)"),
        # One bit of what SQLite says of a column's type: 8 is the number 0, and 12 are no bytes.
        ("UPDATE message SET retain = x''", "a row of the table message has a number where bytes belong"),
        (
            "UPDATE message SET properties = 0",
            "a row of the table message has a number where bytes belong",
        ),
        ("UPDATE session SET mount_point = 0", "a row of the table session has a number where bytes belong"),
    ],
)
def test_a_row_whose_checksum_differs_is_named(
    connection: sqlite3.Connection, statement: str, said: str
) -> None:
    with_a_session(connection)
    connection.execute(statement)
    with pytest.raises(Damaged) as refused:
        read(connection, Unfit())
    assert said in str(refused.value)


def waiting(position: int, topic: bytes = b"small") -> bytes:
    message = Publication(topic, b"%d" % position, 1)
    return entry(3, Queued(message, 1, False, position=position), message, 0.0)


@pytest.mark.parametrize(("at", "value"), [(0, 4), (1, 3), (2, 2), (3, 1), (3, 3)])
def test_a_row_of_the_backlog_holds_what_its_columns_say(
    connection: sqlite3.Connection, at: int, value: int
) -> None:
    with_a_session(connection)
    insert(connection, "session", 4, b"other", *SESSION[2:])
    session, last, first, count, messages, _ = row_of(3, [waiting(1), waiting(2)])
    columns: list[Value] = [session, last, first, count, bytes(messages)]  # type: ignore[list-item, arg-type]
    columns[at] = value
    insert(connection, "backlog", *columns)
    with pytest.raises(Damaged, match="does not hold what it says"):
        read(connection, Unfit())


def test_a_subscription_that_has_not_got_all_retained_messages_goes_on_with_them(
    connection: sqlite3.Connection,
) -> None:
    with_a_session(connection)
    insert(connection, "subscription", 3, b"a", 1, 1)
    insert(connection, "subscription", 3, b"b", 2, 0)
    (record,) = read(connection, Unfit()).sessions
    assert (record.subscriptions, record.replays) == ({b"a": 1, b"b": 2}, {b"a"})


@pytest.mark.parametrize("properties", [b"\x02\x00\x00\x00\x00", b"\x23\x00\x01"])
def test_what_is_not_handed_on_is_no_property_of_a_message(
    connection: sqlite3.Connection, properties: bytes
) -> None:
    insert(connection, "message", *changed(MESSAGE, 8, properties))
    with pytest.raises(Damaged, match="not handed on"):
        read(connection, Unfit())


def test_what_waits_comes_in_one_order_wherever_it_stands(connection: sqlite3.Connection) -> None:
    with_a_session(connection)
    insert(connection, "queued", 3, 2, 7, 1, 0, 0, b"")
    insert(connection, "queued", 3, 5, 7, 1, 0, 0, b"")
    for entries in ([waiting(1)], [waiting(3), waiting(4)]):
        *columns, _ = row_of(3, entries)
        insert(connection, "backlog", *columns[:4], bytes(columns[4]))  # type: ignore[arg-type]
    (record,) = read(connection, Unfit()).sessions
    assert [one.position for one in record.queued] == [1, 2, 3, 4, 5]
    assert record.last_position == 5


def test_what_was_taken_once_and_can_not_be_served_is_left_out_and_told(
    connection: sqlite3.Connection,
) -> None:
    insert(connection, "message", 7, b"a/#", *MESSAGE[2:])
    insert(connection, "message", 8, b"t" * 200 + b"+", *MESSAGE[2:])
    insert(connection, "session", *changed(SESSION, 10, 7))
    insert(connection, "queued", 3, 6, 7, 1, 0, 0, b"")
    insert(connection, "inflight", 3, 1, 5, 7, 1, 0, 1, b"")
    insert(connection, "inbound", 3, 5, 7)
    insert(connection, "retained", 1, 7)
    insert(connection, "subscription", 3, b"a/#/b", 1, 0)
    *columns, _ = row_of(3, [waiting(1), waiting(2, b"b/+")])
    insert(connection, "backlog", *columns[:4], bytes(columns[4]))  # type: ignore[arg-type]
    unfit = Unfit()
    saved = read(connection, unfit)
    (record,) = saved.sessions
    assert (record.will, record.inflight, record.inbound, record.subscriptions) == (None, [], [], {})
    assert [one.position for one in record.queued] == [1]
    assert record.last_position == 6
    assert saved.retained == []
    shown = "t" * 100
    assert unfit.whys() == [
        "message 7 has a topic that is none: 'a/#'",
        f"message 8 has a topic that is none: '{shown}'...",
        "message 2 in the queue of 'c' has a topic that is none: 'b/+'",
        "a subscription of 'c' has a topic filter that is none: 'a/#/b'",
    ]
