"""What a client was told is gone does not come back by a crash, where `acknowledge = "saved"` promises that."""

from __future__ import annotations

from support.peer import Peer, connected

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine
from broker.core.limits import FORGETTING_MAX, FORGETTING_OF_CLIENT_MAX
from broker.core.saving import Saving
from broker.links.listening.door import Door
from broker.storage.records import snapshot
from protocol.mqtt.packets import Connack, Connect, Pingreq, Pingresp, Publish, Suback, Subscribe, Will


def engine_that_promises() -> tuple[Engine, Saving]:
    engine = Engine()
    peer = connected(engine, b"x", clean=False)
    peer.send(Subscribe(1, ((b"t", 1),)))
    peer.drop()
    engine.saving = Saving(engine, engine.kept_changes())
    return engine, engine.saving


def saved(engine: Engine, saving: Saving) -> list[bytes]:
    """A save: the client ids that are on disk then."""
    kept = [record.client_id for record in snapshot(engine, 0.0).sessions]
    saving.reached(engine.kept_changes())
    engine.flush()
    return kept


def test_connack_waits_until_the_former_session_is_gone_from_the_disk() -> None:
    engine, saving = engine_that_promises()
    peer = Peer(engine)
    peer.send(Connect(b"x", True, 60), Pingreq())
    assert peer.read() == []
    assert saved(engine, saving) == []
    assert peer.read() == [Connack(False, 0), Pingresp()]
    assert saving.forgetting == {}


def test_who_ends_nothing_that_is_kept_does_not_wait() -> None:
    engine, _ = engine_that_promises()
    for client_id, clean in ((b"new", True), (b"other", False), (b"x", False)):
        peer = Peer(engine)
        peer.send(Connect(client_id, clean, 60))
        assert peer.read() == [Connack(client_id == b"x", 0)], client_id


def test_two_of_one_client_id_go_on_in_their_order() -> None:
    engine, saving = engine_that_promises()
    first, second = Peer(engine), Peer(engine)
    first.send(Connect(b"x", True, 60))
    second.send(Connect(b"x", False, 60), Subscribe(1, ((b"u", 1),)))
    assert (first.read(), second.read()) == ([], [])
    saved(engine, saving)
    assert first.read() == [Connack(False, 0)]
    assert first.closed
    assert second.read() == [Connack(False, 0)]
    saved(engine, saving)
    assert second.read() == [Suback(1, (1,))]


def test_who_leaves_meanwhile_has_published_and_its_will_goes_out() -> None:
    engine, saving = engine_that_promises()
    witness = connected(engine, b"witness")
    witness.send(Subscribe(1, ((b"w/#", 0),)))
    saved(engine, saving)
    witness.read()
    peer = Peer(engine)
    peer.send(Connect(b"x", True, 60, will=Will(b"w/will", b"", 0, False)), Publish(b"w/said", b""))
    peer.link.lost()
    assert witness.read() == []
    saved(engine, saving)
    assert witness.read() == [Publish(b"w/said", b""), Publish(b"w/will", b"")]


def test_the_older_connection_ends_at_once() -> None:
    engine, saving = engine_that_promises()
    older = connected(engine, b"x", clean=False, present=True)
    peer = Peer(engine)
    peer.send(Connect(b"x", True, 60))
    assert older.closed
    assert b"x" not in engine.sessions
    saved(engine, saving)
    assert peer.read() == [Connack(False, 0)]
    peer.drop()
    assert saved(engine, saving) == []


def test_who_may_not_come_in_any_more_when_it_is_saved_is_refused() -> None:
    engine, saving = engine_that_promises()
    door = Door(Listener(1883, security=Security(allow_anonymous=True)), Limits(), connection_messages=False)
    peer = Peer(engine, door)
    peer.send(Connect(b"x", True, 60))
    door.configure(Listener(1883, security=Security(allow_anonymous=False)), Limits(), False)
    saved(engine, saving)
    assert peer.read() == [Connack(False, 5)]
    assert peer.closed
    assert b"x" not in engine.sessions


def test_one_who_comes_again_and_again_while_the_disk_takes_nothing_is_refused() -> None:
    engine, saving = engine_that_promises()
    for _ in range(FORGETTING_OF_CLIENT_MAX):
        peer = Peer(engine)
        peer.send(Connect(b"x", True, 60))
        peer.link.lost()
    last = Peer(engine)
    last.send(Connect(b"x", True, 60))
    assert last.read() == [Connack(False, 3)]
    assert last.closed
    assert saving.waiting() == FORGETTING_OF_CLIENT_MAX
    saved(engine, saving)
    assert (saving.waiting(), saving.forgetting, saving.forgetting_count) == (0, {}, 0)
    again = Peer(engine)
    again.send(Connect(b"x", True, 60))
    assert again.read() == [Connack(False, 0)]


def test_more_than_so_many_do_not_wait_for_the_disk_and_their_sessions_stay() -> None:
    engine, saving = engine_that_promises()
    saving.forgetting_count = FORGETTING_MAX
    peer = Peer(engine)
    peer.send(Connect(b"x", True, 60))
    assert peer.read() == [Connack(False, 3)]
    assert b"x" in engine.sessions
    other = Peer(engine)
    other.send(Connect(b"x", False, 60))
    assert other.read() == [Connack(True, 0)]
