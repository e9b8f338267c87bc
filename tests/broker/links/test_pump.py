"""The pump with real sockets: many connections on one epoll, and what a slow or broken one costs the others."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

import pytest
import trio
import trio.testing
from support.interpreted import interpreted_only
from support.polling import until

from broker.config.model import Limits, Listener, Security
from broker.core import barrier as barriers
from broker.core.engine import Engine
from broker.core.outbox import Outbox
from broker.core.publication import Publication
from broker.core.turn import NEVER
from broker.links.connection import Connection
from broker.links.gathering import AHEAD
from broker.links.linger import Deadlines
from broker.links.listening.door import Door
from broker.links.more_to_send import MANY
from broker.links.mqtt.connection import MqttConnection
from broker.links.mqtt.link import MqttLink
from broker.links.pump import (
    CLOSING_MAX,
    LONE_TURN_S_MAX,
    READY_MAX,
    SENDS_MAX,
    SENT_MAX,
    TURN_S_MAX,
    Pump,
)
from broker.links.readiness import READABLE, is_portable
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connect, Disconnect, Pingreq, Puback, Publish, Subscribe, Will

CONNACK = b"\x20\x02\x00\x00"
PINGRESP = b"\xd0\x00"


class Client:
    """The client's end of a socket pair whose other end the pump has."""

    def __init__(self, sock: socket.socket) -> None:
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))

    async def send(self, *packets: object) -> None:
        await self.stream.send_all(b"".join(encode(packet) for packet in packets))  # type: ignore[arg-type]

    def send_now(self, data: bytes) -> None:
        """Without giving way to anybody."""
        assert os.write(self.stream.socket.fileno(), data) == len(data)

    async def receive(self, size: int) -> bytes:
        """Exactly so many bytes."""
        data = b""
        while len(data) < size:
            more = await self.stream.receive_some(size - len(data))
            assert more, f"closed after {data!r}"
            data += more
        return bytes(data)


class Connector(Protocol):
    """Opens one connection."""

    async def __call__(self, client_id: bytes, will: Will | None = None) -> Client: ...


@asynccontextmanager
async def pumping(limits: Limits | None = None) -> AsyncIterator[tuple[Pump, set[MqttLink], Connector]]:
    engine = Engine()
    links: set[MqttLink] = set()
    pump = Pump(engine, links.add, links.remove)
    door = Door(
        Listener(port=0, security=Security(allow_anonymous=True)),
        limits or Limits(),
        connection_messages=False,
    )

    async def connect(client_id: bytes, will: Will | None = None) -> Client:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        pump.add(theirs, door, client_id.decode())
        client = Client(ours)
        await client.send(Connect(client_id, True, 60, will=will))
        assert await client.receive(4) == CONNACK
        return client

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        with trio.fail_after(60):
            yield pump, links, connect
        nursery.cancel_scope.cancel()


async def subscribed(connect: Connector, topic_filter: bytes, names: Iterable[bytes]) -> list[Client]:
    """Clients that have subscribed at QoS 0."""
    subscribers = [await connect(name) for name in names]
    for subscriber in subscribers:
        await subscriber.send(Subscribe(1, ((topic_filter, 0),)))
        await subscriber.receive(5)
    return subscribers


def plain_clients(pump: Pump, count: int, qos: int = 1) -> list[socket.socket]:
    """Clients named by their number, of a pump that nobody runs; all but the first have subscribed."""
    door = Door(
        Listener(port=0, security=Security(allow_anonymous=True)), Limits(), connection_messages=False
    )
    clients = []
    for number in range(count):
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        pump.add(theirs, door, "peer")
        ours.send(encode(Connect(b"%d" % number, True, 60)))
        if number:
            ours.send(encode(Subscribe(1, ((b"t", qos),))))
        clients.append(ours)
    pump.serve_round(pump.ready.poll(0, READY_MAX))
    assert [len(ours.recv(100)) for ours in clients] == [4] + [9] * (count - 1)
    return clients


async def test_one_publisher_reaches_many_subscribers() -> None:
    async with pumping() as (_, _, connect):
        subscribers = await subscribed(connect, b"t", [b"s%d" % number for number in range(50)])
        publisher = await connect(b"p")
        message = Publish(b"t", b"x" * 1000)
        await publisher.send(*[message] * 20)
        for subscriber in subscribers:
            assert await subscriber.receive(len(encode(message)) * 20) == encode(message) * 20


async def test_who_was_taken_just_now_is_read_before_epoll_tells_of_it() -> None:
    engine = Engine()
    pump = Pump(engine, lambda link: None, lambda link: None)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    door = Door(
        Listener(port=0, security=Security(allow_anonymous=True)), Limits(), connection_messages=False
    )
    pump.add(theirs, door, "peer")
    assert not pump.read_at_once(theirs)
    ours.send(encode(Connect(b"a", True, 60)))
    pump.holds_off = lambda: True
    assert not pump.read_at_once(theirs)
    pump.holds_off = lambda: False
    with engine.turn:
        assert pump.read_at_once(theirs)
    assert ours.recv(100) == CONNACK
    assert not pump.read_at_once(ours)  # not one of the pump's
    pump.close_all()
    ours.close()


@interpreted_only
@pytest.mark.skipif(is_portable(), reason="Trio tells of nothing during a turn")
async def test_who_sends_behind_a_signal_while_others_are_sent_to_waits_until_it_is_obeyed() -> None:
    engine = Engine()
    pump = Pump(engine, lambda link: None, lambda link: None)
    idle, *clients = plain_clients(pump, SENDS_MAX + 3, qos=0)
    speaker = clients[0]
    poll = pump.ready.poll

    def come(timeout: float, most: int) -> list[tuple[int, int]]:
        pump.holds_off = lambda: True
        speaker.send(encode(Pingreq()))
        return poll(timeout, most)

    pump.ready.poll = come  # type: ignore[method-assign]
    engine.publish(Publication(b"t", b"x"))
    pump.serve_round([])
    assert [ours.recv(100) for ours in clients] == [encode(Publish(b"t", b"x"))] * len(clients)
    pump.serve_round(poll(0, READY_MAX))
    assert speaker.recv(100) == PINGRESP
    pump.close_all()
    for ours in (idle, *clients):
        ours.close()


async def test_whoever_comes_enters_or_subscribes_is_told_from_messages() -> None:
    async with pumping() as (pump, _, connect):
        seen = [pump._population()]
        client = await connect(b"a")
        seen.append(pump._population())
        await client.send(Subscribe(1, ((b"t", 0),)))
        await client.receive(5)
        seen.append(pump._population())
        assert seen == sorted(set(seen))
        publication = encode(Publish(b"t", b"x"))
        await client.send(Publish(b"t", b"x"))
        assert await client.receive(len(publication)) == publication
        assert pump._population() == seen[-1]


async def test_a_subscriber_that_does_not_read_delays_nobody() -> None:
    async with pumping(Limits(outbox_bytes_max=100_000)) as (pump, links, connect):
        frozen, quick, publisher = await connect(b"frozen"), await connect(b"quick"), await connect(b"p")
        for client in (frozen, quick):
            await client.send(Subscribe(1, ((b"t", 0),)))
            await client.receive(5)
        message = Publish(b"t", bytes(10_000))
        for _ in range(200):
            await publisher.send(message)
            assert await quick.receive(len(encode(message))) == encode(message)
        assert pump.engine.counters.dropped_outbox_full > 0
        assert all(link.outbox.pending_bytes <= 100_000 for link in links)
        await frozen.send(Pingreq())
        # What it is owed comes first, whole packets all of them, then the answer.
        received = b""
        while not received.endswith(PINGRESP):
            received += await frozen.stream.receive_some(65_536)
        assert (len(received) - len(PINGRESP)) % len(encode(message)) == 0


class Sends:
    """Notes every send to the clients of these links, in order; and does something before the first."""

    def __init__(self, links: set[MqttLink], before_the_first: Callable[[], object]) -> None:
        self.to: list[tuple[bytes, int]] = []
        self._before_the_first = before_the_first
        for link in links:
            assert link.session is not None
            assert link.outbox._send is not None
            link.outbox._send = partial(self._send, link.session.client_id, link.outbox._send)

    def _send(self, client_id: bytes, send: Callable[[bytes], int], data: bytes) -> int:
        if not self.to:
            self._before_the_first()
        self.to.append((client_id, len(data)))
        return send(data)


@pytest.mark.skipif(is_portable(), reason="Trio tells of nothing during a turn")
async def test_what_comes_while_many_are_sent_to_leaves_with_what_the_others_are_owed() -> None:
    many = 3 * SENDS_MAX
    async with pumping() as (_, links, connect):
        names = [b"%d" % number for number in range(many)]
        subscribers = await subscribed(connect, b"t", names)
        publisher = await connect(b"p")
        packet = encode(Publish(b"t", b"x"))
        sends = Sends(links, lambda: publisher.send_now(packet))
        publisher.send_now(packet)
        for subscriber in subscribers:
            assert await subscriber.receive(2 * len(packet)) == packet * 2
        both = 2 * len(packet)
        assert [size for name, size in sends.to if name in names[SENDS_MAX:]] == [both] * (many - SENDS_MAX)
        first = [size for name, size in sends.to if name in names[:SENDS_MAX]]
        assert first == [len(packet)] * (2 * SENDS_MAX)


@interpreted_only
@pytest.mark.skipif(is_portable(), reason="Trio tells of nothing during a turn")
async def test_where_many_are_sent_to_again_and_again_what_comes_a_moment_later_leaves_with_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.links.pump.monotonic", lambda: 0.0)  # no time passes between the rounds
    async with pumping() as (pump, links, connect):
        subscribers = await subscribed(connect, b"t", [b"%d" % number for number in range(MANY)])
        publisher = await connect(b"p")
        packet = encode(Publish(b"t", b"x"))
        within = pump.ready.within

        def come(timeout_s: float) -> bool:
            publisher.send_now(packet)
            return within(60.0)

        pump.ready.within = come  # type: ignore[method-assign]
        sends = Sends(links, lambda: None)
        publisher.send_now(packet)
        for subscriber in subscribers:
            assert await subscriber.receive(len(packet)) == packet
        publisher.send_now(packet)
        for subscriber in subscribers:
            assert await subscriber.receive(2 * len(packet)) == packet * 2
        assert [size for _, size in sends.to] == [len(packet)] * MANY + [2 * len(packet)] * MANY


class NobodyElse:
    """A linger of a loop in which nobody else wants a turn, and nothing more comes."""

    def others_wait(self) -> bool:
        return False

    def has_come(self, due: float) -> bool:
        return False

    def wait(self, count_max: int, may_look_out: bool, until: float) -> list[tuple[int, int]]:
        return []


@interpreted_only
@pytest.mark.skipif(is_portable(), reason="Trio tells of nothing during a turn")
def test_two_halves_of_a_window_meet_and_so_do_their_acknowledgements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.links.pump.monotonic", lambda: 0.0)  # no time passes between the rounds
    engine = Engine()
    links: set[MqttLink] = set()
    pump = Pump(engine, links.add, links.remove)
    pump._linger = NobodyElse()  # type: ignore[assignment]
    publisher, *receivers = plain_clients(pump, SENDS_MAX + 2)
    counters = engine.counters
    among = pump.ready.among
    heard: list[int] = []

    def come(fds: list[int], timeout_s: float) -> list[int]:
        """The next message, once all have acknowledged one of those before; in the end nothing."""
        heard.append(counters.packets_received)
        if len(heard) > 3:
            return []
        for receiver in receivers:
            receiver.send(encode(Puback(len(heard))))
        publisher.send(encode(Publish(b"t", b"x", 1, packet_id=2 + len(heard))))
        return among(fds, timeout_s)

    pump.ready.among = come  # type: ignore[method-assign]
    sends = Sends(links, lambda: None)
    size = len(encode(Publish(b"t", b"x", 1, packet_id=1)))
    for number in (1, 2):
        publisher.send(encode(Publish(b"t", b"x", 1, packet_id=number)))
        pump.serve_turn()
    many = len(receivers)
    lengths = [length for name, length in sends.to if name != b"0"]
    both = [size] * AHEAD + [2 * size] * (many - AHEAD) + [size] * AHEAD
    assert lengths == [size] * many + both + both
    assert heard[2] - heard[1] == 1  # the publisher's, while all others had something to say
    names = [name for name, _ in sends.to]
    assert names[many + 1] == names[many + 2 + AHEAD] == b"0"  # answered before the others
    pump.close_all()
    for client in (publisher, *receivers):
        client.close()


@interpreted_only
@pytest.mark.skipif(is_portable(), reason="Trio tells of nothing during a turn")
def test_a_publisher_that_leaves_where_two_halves_of_a_window_have_met_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.links.pump.monotonic", lambda: 0.0)  # no time passes between the rounds
    pump = Pump(Engine(), lambda link: None, lambda link: None)
    pump._linger = NobodyElse()  # type: ignore[assignment]
    publisher, *receivers = plain_clients(pump, SENDS_MAX + 2)
    among = pump.ready.among

    def come(fds: list[int], timeout_s: float) -> list[int]:
        """The next message, and its publisher's end."""
        publisher.send(encode(Publish(b"t", b"x", 1, packet_id=3)) + encode(Disconnect()))
        return among(fds, timeout_s)

    pump.ready.among = come  # type: ignore[method-assign]
    for number in (1, 2):
        publisher.send(encode(Publish(b"t", b"x", 1, packet_id=number)))
        pump.serve_turn()
    assert not pump._gathering.publishers
    size = len(encode(Publish(b"t", b"x", 1, packet_id=1)))
    assert [len(receiver.recv(1000)) for receiver in receivers] == [3 * size] * len(receivers)
    pump.close_all()
    for client in (publisher, *receivers):
        client.close()


@interpreted_only
@pytest.mark.skipif(is_portable(), reason="Trio tells of nothing during a turn")
def test_a_publisher_that_is_paused_is_not_read_because_many_are_sent_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.links.pump.monotonic", lambda: 0.0)  # no time passes between the rounds
    engine = Engine()
    links: list[MqttLink] = []
    pump = Pump(engine, links.append, links.remove)
    pump._linger = NobodyElse()  # type: ignore[assignment]
    clients = plain_clients(pump, SENDS_MAX + 3)
    (one, other), receivers = (clients[0], clients[-1]), clients[1:-1]
    for number, publisher in enumerate((one, other, other), 1):
        if number == 3:
            links[0].outbox.pause(True)
            one.send(encode(Publish(b"t", b"y", 1, packet_id=9)))
        publisher.send(encode(Publish(b"t", b"x", 1, packet_id=number)))
        pump.serve_turn()
    assert all(b"y" not in receiver.recv(1000) for receiver in receivers)
    links[0].outbox.pause(False)
    pump.serve_turn()
    assert all(b"y" in receiver.recv(1000) for receiver in receivers)
    pump.close_all()
    for client in clients:
        client.close()


class LastWords(Connection):
    """Another server's end: what it says goes to many, and then it is watched no more."""

    def readable(self) -> None:
        self.pump.engine.publish(Publication(b"t", b"x"))
        self.pump.unwatch(self)


@interpreted_only
@pytest.mark.skipif(is_portable(), reason="Trio tells of nothing during a turn")
async def test_nobody_is_waited_for_whom_what_it_published_last_has_ended() -> None:
    pump = Pump(Engine(), lambda link: None, lambda link: None)
    clients = plain_clients(pump, SENDS_MAX + 2)
    ours, theirs = socket.socketpair()
    door = Door(Listener(port=0), Limits(), connection_messages=False)
    server = LastWords(pump, theirs, door)
    server.outbox = Outbox(pump.engine.round, 0, None)
    pump.watch(server)
    pump.serve_round([(server.fd, READABLE)])
    assert all(client.recv(100) for client in clients[1:])
    assert not pump._gathering.publishers
    pump.close_all()
    for sock in (ours, theirs, *clients):
        sock.close()


@interpreted_only
async def test_while_connections_are_to_be_closed_nothing_more_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.links.pump.monotonic", lambda: 0.0)  # no time passes between the rounds
    async with pumping() as (pump, _, connect):
        subscribers = await subscribed(connect, b"will", [b"%d" % number for number in range(MANY)])
        waits: list[float] = []

        def noted(timeout_s: float) -> bool:
            waits.append(timeout_s)
            return False

        pump.ready.within = noted  # type: ignore[method-assign]
        packet = encode(Publish(b"will", b"x"))
        leaving = [await connect(name, Will(b"will", b"x", 0, False)) for name in (b"one", b"other")]
        for client in leaving:
            client.stream.socket.close()
            for subscriber in subscribers:
                assert await subscriber.receive(len(packet)) == packet
        assert waits == []


@pytest.mark.skipif(is_portable(), reason="Trio tells of nothing during a turn")
async def test_who_asks_while_many_are_sent_to_is_answered_before_the_last_of_them() -> None:
    many = 3 * SENDS_MAX
    async with pumping() as (_, links, connect):
        subscribers = await subscribed(connect, b"t", [b"%d" % number for number in range(many)])
        publisher, other = await connect(b"p"), await connect(b"other")
        packet = encode(Publish(b"t", b"x"))
        sends = Sends(links, lambda: other.send_now(encode(Pingreq())))
        publisher.send_now(packet)
        for subscriber in subscribers:
            assert await subscriber.receive(len(packet)) == packet
        assert await other.receive(2) == PINGRESP
        assert [name for name, _ in sends.to].index(b"other") == SENDS_MAX


class AlwaysReady:
    """Two descriptors that nobody has registered, each time."""

    def poll(self, timeout_s: float, count_max: int, /) -> list[tuple[int, int]]:
        return [(-7, 1), (-8, 1)]


@pytest.mark.parametrize(
    ("somebody_waits", "next_deadline", "turn_s"),
    [(True, None, TURN_S_MAX), (False, None, LONE_TURN_S_MAX), (False, 0.0, TURN_S_MAX)],
)
async def test_however_busy_its_sockets_are_others_have_their_turn(
    somebody_waits: bool, next_deadline: float | None, turn_s: float
) -> None:
    engine = Engine()
    pump = Pump(engine, lambda _: None, lambda _: None)
    real, pump.ready = pump.ready, AlwaysReady()  # type: ignore[assignment]
    linger = pump._linger = real.linger()
    if linger is not None:
        linger.knows_deadlines = next_deadline is not None
        linger._deadlines = None if next_deadline is None else Deadlines(lambda: next_deadline, None)
    ticks = itertools.count()
    engine.turn.clock = lambda: next(ticks) * 0.0005
    async with trio.open_nursery() as nursery:
        if somebody_waits:
            nursery.start_soon(trio.lowlevel.checkpoint)
        pump.serve_turn()
    if linger is None:  # nobody knows whether somebody waits
        turn_s = TURN_S_MAX
    assert turn_s < engine.now <= turn_s + TURN_S_MAX + 0.001
    real.close()


@pytest.mark.parametrize("others_wait", [False, True])
async def test_a_turn_that_is_due_comes_though_nothing_does(others_wait: bool) -> None:
    async with pumping() as (pump, _, connect), trio.open_nursery() as nursery:
        engine = pump.engine
        engine.turn.clock = trio.current_time
        client = await connect(b"c")
        turns: list[float] = []
        has_come = trio.Event()

        def end() -> None:
            turns.append(engine.now)
            if len(turns) == 1:
                engine.turn.due = engine.now + 0.02
            elif engine.now >= turns[0] + 0.02:
                has_come.set()

        async def others() -> None:
            while True:
                await trio.lowlevel.checkpoint()

        if others_wait:
            nursery.start_soon(others)
        engine.turn.on_batch_end(end)
        await client.send(Pingreq())
        await has_come.wait()
        assert engine.turn.due == NEVER
        engine.turn.forget(end)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("answers", "awaited_s"), [(True, 60.0), (False, 0.02)])
async def test_who_speaks_while_another_answer_is_awaited_is_heard_with_it(
    answers: bool, awaited_s: float
) -> None:
    """Or when that takes too long.  Without epoll nobody waits for one alone."""
    async with pumping() as (pump, _, connect):
        engine = pump.engine
        engine.turn.clock = trio.current_time
        client = await connect(b"c")
        near, far = socket.socketpair()
        turns: list[float] = []

        def end() -> None:
            turns.append(engine.now)
            if len(turns) == 1:
                if answers:
                    far.send(b"answer")
                client.send_now(encode(Pingreq()))
                pump.wait_for(near.fileno(), engine.now + awaited_s)

        with near, far:
            engine.turn.on_settled(end)
            client.send_now(encode(Pingreq()))  # so that no task can run when it is heard
            assert await client.receive(4) == 2 * PINGRESP
            is_late = turns[1] - turns[0] >= awaited_s
            assert is_late is not (answers or is_portable())
            engine.turn.forget(end)


async def test_a_peer_that_breaks_ends_alone() -> None:
    async with pumping() as (_pump, links, connect):
        rude, polite = await connect(b"rude"), await connect(b"polite")
        await rude.stream.send_all(b"\xff\xff\xff\xff\xff")
        assert await rude.stream.receive_some(1) == b""
        await polite.send(Pingreq())
        assert await polite.receive(2) == PINGRESP
        assert len(links) == 1


@interpreted_only
@pytest.mark.parametrize("where", ["received", "lost", "blocked", "gone"])
async def test_our_own_bug_ends_the_connection_that_met_it_and_nobody_else(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(barriers, "RERAISE", False)
    async with pumping() as (pump, links, connect):
        broken, other = await connect(b"broken"), await connect(b"other")
        connection = next(one for one in pump._connections.values() if isinstance(one, MqttConnection))

        def bug(*_: object) -> None:
            raise ArithmeticError("nobody expected this")

        monkeypatch.setattr(connection, where, bug)
        if where == "blocked":
            await broken.send(Subscribe(1, ((b"t", 0),)))
            await broken.receive(5)
            while not pump.engine.counters.link_bugs:
                await other.send(Publish(b"t", bytes(1_000_000)))
                await trio.lowlevel.checkpoint()
            connection.link.close("it is over")
        elif where == "received":
            await broken.send(Pingreq())
        await broken.stream.aclose()
        await other.send(Pingreq())
        assert await other.receive(2) == PINGRESP
        await until(lambda: len(pump._connections) == 1)
        assert pump.engine.counters.link_bugs >= 1
        assert len(links) == (2 if where == "gone" else 1)


async def test_what_was_to_be_told_of_a_descriptor_is_not_told_to_the_next_one_that_has_it() -> None:
    async with pumping() as (pump, links, connect):
        clients = [await connect(name) for name in (b"old", b"other")]
        old, other = pump._connections
        pump._rest = [(old, READABLE), (other, READABLE)]
        connection = pump._connections[old]
        assert isinstance(connection, MqttConnection)
        with pump.engine.turn:
            connection.link.close("it is over")
        assert pump._rest == [(other, READABLE)]
        assert len(links) == len(clients) - 1


async def test_cancelling_the_pump_closes_its_connections() -> None:
    async with pumping() as (_, _, connect):
        client = await connect(b"c")
    assert await client.stream.receive_some(1) == b""


async def test_drained_waits_for_what_is_owed() -> None:
    async with pumping() as (pump, _links, connect):
        slow, publisher = await connect(b"slow"), await connect(b"p")
        await slow.send(Subscribe(1, ((b"t", 0),)))
        await slow.receive(5)
        message = Publish(b"t", bytes(1_000_000), 1, packet_id=7)
        await publisher.send(message)
        assert await publisher.receive(4) == encode(Puback(7))
        drained = trio.Event()

        async def wait() -> None:
            await pump.drained()
            drained.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert not drained.is_set()
            await slow.receive(len(encode(Publish(b"t", bytes(1_000_000)))))
            await drained.wait()


async def test_a_flooding_publisher_does_not_starve_others() -> None:
    async with pumping() as (_, _, connect):
        flooder, other = await connect(b"flooder"), await connect(b"other")
        flood = encode(Publish(b"t", b"x" * 100)) * 1000

        async def flood_on() -> None:
            while True:
                await flooder.stream.send_all(flood)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood_on)
            for _ in range(50):
                await other.send(Pingreq())
                assert await other.receive(2) == PINGRESP
            nursery.cancel_scope.cancel()


async def test_of_many_who_vanish_at_once_some_end_in_each_round_and_every_will_comes() -> None:
    many = CLOSING_MAX + 20
    async with pumping() as (pump, links, connect):
        reader = await connect(b"reader")
        await reader.send(Subscribe(1, ((b"will/+", 0),)))
        await reader.receive(5)
        clients = [
            await connect(b"%d" % number, Will(b"will/%03d" % number, b"x", 0, False))
            for number in range(many)
        ]
        ended = [0]
        left = len(links)

        def note() -> None:
            nonlocal left
            ended.append(left - len(links))
            left = len(links)

        pump.engine.turn.on_settled(note)
        for client in clients:
            client.stream.socket.close()
        packet = encode(Publish(b"will/000", b"x"))
        wills = await reader.receive(len(packet) * many)
        names = {wills[start + 4 : start + 12] for start in range(0, len(wills), len(packet))}
        assert names == {b"will/%03d" % number for number in range(many)}
        while len(links) > 1:
            await trio.testing.wait_all_tasks_blocked()
        assert max(ended) <= CLOSING_MAX
        assert sum(ended) == many


async def test_wills_that_go_to_very_many_are_served_in_more_rounds() -> None:
    readers, many = 60, 50
    async with pumping() as (pump, links, connect):
        wills = Will(b"will", b"x", 0, False)
        listening = [await connect(b"r%d" % number) for number in range(readers)]
        for reader in listening:
            await reader.send(Subscribe(1, ((b"will", 0),)))
            await reader.receive(5)
        clients = [await connect(b"%d" % number, wills) for number in range(many)]
        sent = [pump.engine.counters.publishes_sent]
        pump.engine.turn.on_settled(lambda: sent.append(pump.engine.counters.publishes_sent))
        for client in clients:
            client.stream.socket.close()
        while len(links) > readers:
            await trio.testing.wait_all_tasks_blocked()
        assert sent[-1] - sent[0] == readers * many
        assert max(after - before for before, after in itertools.pairwise(sent)) <= SENT_MAX + readers
