"""A save writes what changed, and the file says the same as if all had been written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.budgets import cases
from support.clients import Client, Deed
from support.owed import lose
from support.peer import connected
from support.storage import engine_with

from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.core.session import DeliveryRules
from broker.storage.numbers import as_publication
from broker.storage.reading import read
from broker.storage.records import Snapshot, collect, restore, snapshot
from broker.storage.schema import TABLES
from broker.storage.unfit import Unfit
from broker.storage.writing import Writer
from protocol.mqtt.message import Message
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import Publish

NOW = 100.0
UNIX_NOW = 1_800_000_000.0


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(TABLES)
        yield connection


def collected(engine: Engine, *, is_whole: bool = False) -> Snapshot:
    saved = Snapshot(UNIX_NOW, UNIX_NOW - engine.now, is_whole=is_whole)
    for _ in collect(engine, saved):
        pass
    return saved


def told(message: Message) -> tuple[Any, ...]:
    assert isinstance(message, Publication)
    return (message.topic, message.payload, message.qos, message.retain, message.client_id)


def contents(connection: sqlite3.Connection) -> dict[str, Any]:
    """What the file says, without the numbers under which it says it."""
    saved = read(connection, Unfit())
    sessions = {
        record.client_id: (
            record.last_packet_id,
            record.ids_after,
            record.disconnected_at,
            record.subscriptions,
            [(one.packet_id, told(one.message), one.qos, one.retain, one.state) for one in record.inflight],
            [(told(one.message), one.qos, one.retain, one.ids_before) for one in record.queued],
            sorted((packet_id, told(message)) for packet_id, message in record.inbound),
        )
        for record in saved.sessions
    }
    messages = connection.execute("SELECT count(*) FROM message").fetchone()[0]
    return {"sessions": sessions, "retained": {told(one) for one in saved.retained}, "messages": messages}


def written_whole(engine: Engine) -> dict[str, Any]:
    """What a file says to which all of it is saved at once.  Leaves the engine as it found it."""
    names = engine.books.unsaved
    unsaved = {
        session: (session.outbound.unsaved, session.outbound.collected)
        for session in engine.sessions.values()
    }
    numbers = [(message, message.number) for message in map(as_publication, every_message(engine))]
    with database() as connection:
        Writer(connection).write(snapshot(engine, UNIX_NOW), pause_s=0)
        found = contents(connection)
    engine.books.unsaved = names
    for session, (flag, position) in unsaved.items():
        session.outbound.unsaved = flag
        session.outbound.collected = position
    for message, number in numbers:
        message.number = number
    return found


def every_message(engine: Engine) -> Iterator[Message]:
    yield from engine.retained.all()
    for session in engine.sessions.values():
        yield from (waiting.message for waiting in session.outbound.queued())
        yield from (entry.message for entry in session.outbound.inflight())
        if session.inbound is not None:
            yield from (message for _, message in session.inbound.pending())


topics = st.sampled_from([b"a", b"b", b"c"])
filters = st.sampled_from([b"a", b"b", b"+", b"#"])
clients = st.integers(0, 2)
deeds = st.one_of(
    st.builds(Deed, st.sampled_from(["connect", "drop", "end", "forbid"]), clients, topics),
    st.builds(Deed, st.just("subscribe"), clients, filters, st.integers(0, 2)),
    st.builds(Deed, st.just("unsubscribe"), clients, filters),
    st.builds(Deed, st.just("publish"), clients, topics, st.integers(0, 2), st.booleans()),
    st.builds(Deed, st.just("acknowledge"), clients, times=st.integers(1, 5)),
    st.builds(Deed, st.just("release"), clients, times=st.integers(0, 5)),
    st.builds(Deed, st.sampled_from(["save", "save", "save", "fail", "restart"]), clients),
)


class Broker:
    """An engine whose state is saved as a script wants it, by the rules that `Journal` and `Keeper` keep."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.engine = self._fresh()
        self.everybody = [Client(b"one"), Client(b"two"), Client(b"three")]
        self._writer = Writer(connection)
        self._needs_whole = False

    def _fresh(self) -> Engine:
        engine = Engine(
            window=Window(inflight_messages=3, queued_messages=8), rules=DeliveryRules(queue_qos0=True)
        )
        engine.now = NOW
        return engine

    def do(self, deed: Deed, number: int) -> None:
        client = self.everybody[deed.client]
        if deed.word == "connect":
            client.connect(self.engine)
        elif deed.word == "drop":
            client.drop()
        elif deed.word == "end":
            client.drop()
            self.engine.open_session(client.client_id, True)  # a clean session takes the place, and leaves
            self.engine.open_session(client.client_id, False)
        elif deed.word == "forbid":
            session = self.engine.sessions.get(client.client_id)
            if session is not None:
                lose(session.outbound, deed.topic)
        elif deed.word == "save":
            self.save()
        elif deed.word == "fail":
            collected(self.engine, is_whole=self._needs_whole)
            self._needs_whole = True
        elif deed.word == "restart":
            self.restart()
        else:
            client.do(deed, number)

    def save(self) -> None:
        saved = collected(self.engine, is_whole=self._needs_whole)
        self._writer.write(saved, pause_s=0)
        self._needs_whole = False
        assert contents(self.connection) == written_whole(self.engine)

    def restart(self) -> None:
        for client in self.everybody:
            client.drop()
        self.save()
        saved = read(self.connection, Unfit())
        self.engine = self._fresh()
        restore(self.engine, saved, UNIX_NOW)
        self._writer = Writer(self.connection, saved)
        self.everybody = [client.absent_twin() for client in self.everybody]


@given(st.lists(deeds, min_size=10, max_size=80))
@settings(max_examples=cases(150))
def test_saved_bit_by_bit_the_file_says_what_it_would_say_saved_at_once(script: list[Deed]) -> None:
    """Play a random script, with saves, saves that fail and restarts in it; compare after each save."""
    with database() as connection:
        broker = Broker(connection)
        for client in broker.everybody:
            client.connect(broker.engine)
            client.do(Deed("subscribe", topic=b"#", qos=2), 0)
        for number, deed in enumerate(script, 1):
            broker.do(deed, number)
        broker.save()


@pytest.mark.parametrize("more", [0, 1, 7])
def test_only_what_changed_is_written(more: int) -> None:
    engine = engine_with(1000)
    with database() as connection:
        writer = Writer(connection)
        assert 10 < writer.write(collected(engine), pause_s=0) < 100
        for number in range(more):
            engine.publish(Publication(b"t", b"%d" % number, 1))
        # The new messages in one row of the backlog: the session is as it was, and the time of saving, too.
        assert writer.write(collected(engine), pause_s=0) == (1 if more else 0)


def test_a_replaced_retained_message_is_one_row_less_and_two_more() -> None:
    engine = Engine()
    for number in range(100):
        engine.publish(Publication(b"%d" % number, b"x", 1, True))
    with database() as connection:
        writer = Writer(connection)
        writer.write(collected(engine), pause_s=0)
        engine.publish(Publication(b"7", b"new", 1, True))
        assert writer.write(collected(engine), pause_s=0) == 3  # its row, both messages
        assert contents(connection) == written_whole(engine)


def test_a_message_for_many_stands_once_and_goes_with_the_last_who_is_owed_it() -> None:
    engine = Engine()
    for number in range(10):
        session, _ = engine.open_session(b"%d" % number, False)
        engine.subscribe_session(session, b"t", 1)
    engine.publish(Publication(b"t", b"x", 1))
    with database() as connection:
        writer = Writer(connection)
        for left in range(10, -1, -1):
            writer.write(collected(engine), pause_s=0)
            assert contents(connection)["messages"] == min(left, 1)
            if left:
                lose(engine.sessions[b"%d" % (left - 1)].outbound, b"t")


def test_a_message_given_up_before_its_pubrel_leaves_the_file() -> None:
    engine = Engine()
    peer = connected(engine, b"c", clean=False)
    peer.send(Publish(b"t", b"x", 2, packet_id=1))
    with database() as connection:
        writer = Writer(connection)
        writer.write(collected(engine), pause_s=0)
        assert contents(connection)["messages"] == 1
        peer.send(Publish(b"t", b"y", 1, packet_id=1))  # as mosquitto: the id has another use now
        writer.write(collected(engine), pause_s=0)
        assert contents(connection)["messages"] == 0


def test_who_was_here_when_the_broker_crashed_has_been_away_since_then_however_often_it_crashes() -> None:
    engine = Engine()
    engine.now = NOW
    connected(engine, b"here", clean=False)
    with database() as connection:
        Writer(connection).write(collected(engine), pause_s=0)
        for crash in range(3):
            saved = read(connection, Unfit())
            engine = Engine()
            engine.now = NOW
            restore(engine, saved, UNIX_NOW + 1000.0 * crash)
            assert engine.sessions[b"here"].disconnected_at == NOW - 1000.0 * crash
            saved_again = Snapshot(UNIX_NOW + 1000.0 * crash, UNIX_NOW + 1000.0 * crash - NOW, is_whole=False)
            for _ in collect(engine, saved_again):
                pass
            Writer(connection, saved).write(saved_again, pause_s=0)
