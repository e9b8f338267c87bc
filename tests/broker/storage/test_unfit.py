"""Limits hold for what is kept, and what a file holds beyond them is set aside, and the rest served."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve
from support.peer import OPEN_DOOR, Peer

from broker.config.model import Limits
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.links.listening.door import Door
from broker.storage.database import open_database
from broker.storage.records import restore, snapshot
from broker.storage.writing import Writer
from protocol.mqtt.packets import Connect, Packet, Publish, Subscribe, Will

MOUNTED = Door(evolve(OPEN_DOOR.listener, mount_point="tenant/"), Limits(), connection_messages=False)
LONG = [b"/" * 200, b"x" * 65_530]


def mounted(engine: Engine) -> Peer:
    peer = Peer(engine, MOUNTED)
    peer.send(Connect(b"c", False, 60))
    peer.read()
    return peer


@pytest.mark.parametrize("topic", LONG, ids=["levels", "bytes"])
@pytest.mark.parametrize("kind", ["publish", "subscribe", "shared", "will"])
def test_limits_hold_with_the_mount_point(kind: str, topic: bytes) -> None:
    engine = Engine()
    if kind == "will":
        peer = Peer(engine, MOUNTED)
        packet: Packet = Connect(b"c", False, 60, will=Will(topic, b"", 0, True))
    else:
        peer = mounted(engine)
        shared = b"$share/g/" + topic[: 65_535 - 9]
        packets: dict[str, Packet] = {
            "publish": Publish(topic, b"kept", retain=True),
            "subscribe": Subscribe(1, ((topic, 1),)),
            "shared": Subscribe(1, ((shared, 1),)),
        }
        packet = packets[kind]
    peer.send(packet)
    assert peer.closed
    assert engine.counters.protocol_errors == 1
    assert len(engine.retained) == 0
    assert all(not session.subscriptions for session in engine.sessions.values())


def test_an_empty_topic_is_not_the_mount_point_itself() -> None:
    peer = mounted(Engine())
    peer.write(b"\x30\x02\x00\x00")
    assert peer.closed


def test_what_is_unfit_is_set_aside_and_the_rest_is_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rowcast.db"
    engine = Engine()
    session, _ = engine.open_session(b"away", False)
    for topic_filter in (b"fit/#", b"/" * 201):
        engine.subscribe_session(session, topic_filter, 1)
    for topic in (b"fit/1", b"/" * 201, b"fit/2"):
        engine.publish(Publication(topic, b"payload", 1, True))
    connection, _ = open_database(path)
    with closing(connection):
        Writer(connection).write(snapshot(engine, 0.0), pause_s=0)

    with caplog.at_level(logging.ERROR):
        connection, saved = open_database(path)
    assert "set aside" in caplog.text
    with closing(connection):
        served = Engine()
        restore(served, saved, 0.0)
        assert sorted(message.topic for message in served.retained.all()) == [b"fit/1", b"fit/2"]
        kept = served.sessions[b"away"]
        assert list(kept.subscriptions) == [b"fit/#"]
        assert [waiting.message.topic for waiting in kept.outbound.queued()] == [b"fit/1", b"fit/2"]
        rows = connection.execute("SELECT client_id, topic, payload FROM set_aside").fetchall()
        assert sorted(rows, key=str) == [(b"", b"/" * 201, b"payload"), (b"away", b"/" * 201, None)]
        served.publish(Publication(b"fit/3", b"x", 1, True))
        Writer(connection, saved).write(snapshot(served, 0.0), pause_s=0)

    caplog.clear()
    connection, saved = open_database(path)  # and it is not met again
    with closing(connection):
        assert len(saved.retained) == 3
        assert connection.execute("SELECT count(*) FROM set_aside").fetchone() == (2,)
    assert caplog.text == ""
