"""What came to a connection before another one takes its place counts; every kind of link: test_before_the_end.py."""

from __future__ import annotations

from support.interpreted import interpreted_only
from support.peer import OPEN_DOOR, Peer, connected

from broker.core import barrier as barriers
from broker.core.engine import Engine
from broker.core.limits import RECEIVE_BYTES_MAX
from broker.core.shell import ASK_AGAIN, Shell
from broker.links.mqtt.succeeding import ASKED_BYTES, HEARD_OUT_BYTES_MAX
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connack, Connect, Packet, Pingreq, Pingresp, Publish, Subscribe, Will


class Unheard(Shell):
    """Of a client whose packets are still with the kernel."""

    def __init__(self, peer: Peer, *turns: bytes | int) -> None:
        super().__init__()
        self.turns = list(turns)
        self.asked = 0
        self._peer = peer
        peer.link.shell = self

    def hear_out(self) -> int:
        self.asked += 1
        if not self.turns:
            return 0
        came = self.turns.pop(0)
        if isinstance(came, int):
            return came
        if not came:
            self._peer.link.lost()
            return 0
        self._peer.link.received(came)
        return len(came) if self.turns else 0

    def end_soon(self) -> None:
        self._peer.closed = True


class Turns:
    """The broker's turns, one after the other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.count = 0
        engine.slicing.on_waiting = lambda: None

    def finish(self) -> None:
        while self._engine.slicing.waits():
            self.count += 1
            with self._engine.turn:
                self._engine.slicing.turn()


def packets(*of: Packet) -> bytes:
    return b"".join(encode(packet) for packet in of)


def watched(engine: Engine) -> Peer:
    watcher = connected(engine, b"watcher")
    watcher.send(Subscribe(1, ((b"#", 0),)))
    watcher.read()
    return watcher


def test_what_is_there_is_taken_before_connack_at_once() -> None:
    engine = Engine()
    Turns(engine)
    watcher, older = watched(engine), connected(engine, b"x")
    Unheard(older, packets(Publish(b"t", b"1")))
    newer = Peer(engine)
    newer.send(Connect(b"x", True, 60), Publish(b"t", b"2"))
    assert newer.read() == [Connack(False, 0)]
    assert watcher.read() == [Publish(b"t", b"1"), Publish(b"t", b"2")]
    assert older.closed


def test_an_end_that_is_heard_is_that_connections_own() -> None:
    """Its will goes out, though the session lasts: nobody took its place."""
    engine = Engine()
    Turns(engine)
    watcher = watched(engine)
    older = Peer(engine)
    older.send(Connect(b"x", False, 60, will=Will(b"will", b"gone", 0, False)))
    Unheard(older, b"")
    newer = Peer(engine)
    newer.send(Connect(b"x", False, 60))
    assert newer.read() == [Connack(True, 0)]
    assert watcher.read() == [Publish(b"will", b"gone")]


def test_those_who_wait_are_let_in_in_their_order() -> None:
    engine = Engine()
    turns = Turns(engine)
    watcher, older = watched(engine), connected(engine, b"x")
    Unheard(older, ASK_AGAIN, packets(Publish(b"t", b"0")), b"")
    newer = [Peer(engine) for _ in range(3)]
    for number, peer in enumerate(newer):
        peer.send(Connect(b"x", number == 1, 60), Publish(b"t", b"%d" % (number + 1)), Pingreq())
        assert peer.read() == []
    turns.finish()
    assert watcher.read() == [Publish(b"t", b"%d" % number) for number in range(4)]
    assert [peer.read() for peer in newer] == [
        [Connack(False, 0), Pingresp()],
        [Connack(False, 0), Pingresp()],
        [Connack(False, 0), Pingresp()],
    ]
    assert [peer.closed for peer in newer] == [True, True, False]
    assert not engine.endings.succeeding


def test_who_leaves_while_it_waits_takes_nobodys_place() -> None:
    engine = Engine()
    turns = Turns(engine)
    older = connected(engine, b"x")
    Unheard(older, ASK_AGAIN, ASK_AGAIN)
    first, second = Peer(engine), Peer(engine)
    first.send(Connect(b"x", True, 60))
    first.drop()
    turns.finish()
    assert not older.closed
    assert first.read() == []
    second.send(Connect(b"x", True, 60))
    turns.finish()
    assert second.read() == [Connack(False, 0)]
    assert not engine.endings.succeeding


def test_who_goes_on_and_on_is_not_heard_for_ever() -> None:
    engine = Engine()
    turns = Turns(engine)
    for always, counts in ((RECEIVE_BYTES_MAX, RECEIVE_BYTES_MAX), (ASK_AGAIN, ASKED_BYTES)):
        shell = Unheard(connected(engine, b"x"), *[always] * 10_000)
        newer = Peer(engine)
        newer.send(Connect(b"x", True, 60))
        turns.finish()
        assert newer.read() == [Connack(False, 0)]
        assert shell.asked == HEARD_OUT_BYTES_MAX // counts


@interpreted_only
def test_a_bug_that_is_met_costs_the_older_one_only() -> None:
    engine = Engine()
    Turns(engine)
    older = connected(engine, b"x")

    class Broken(Unheard):
        def hear_out(self) -> int:
            raise RuntimeError("met while hearing")

    Broken(older)
    newer = Peer(engine, OPEN_DOOR)
    before, barriers.RERAISE = barriers.RERAISE, False
    try:
        newer.send(Connect(b"x", True, 60))
    finally:
        barriers.RERAISE = before
    assert newer.read() == [Connack(False, 0)]
    assert older.closed
    assert engine.counters.link_bugs == 1
