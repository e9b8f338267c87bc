"""All links of a broker: who is counted, who has been silent for too long, and what they are owed at the end."""

from __future__ import annotations

import math
import shutil
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
import trio.testing
from support.certificates import Authority
from support.mqtt_stream import StreamClient
from support.peer import Peer

from broker.config.model import Limits, Listener, Security, Tls
from broker.core.engine import Engine, Policy
from broker.core.limits import CONNECT_TIMEOUT_S, STEPS_MAX, SWEEP_LINKS_MAX
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.session import DeliveryRules, Session
from broker.core.slicing import Work
from broker.gateway.authentication import Verdict
from broker.links.listening.deciding import Claims
from broker.links.listening.door import Door
from broker.links.listening.tls import server_context
from broker.links.mqtt.link import MqttLink
from broker.links.pump import CLOSING_MAX
from broker.links.server import WILLS_MAX, Server, has_expired
from broker.links.tls_socket import Buffers, TlsSocket
from protocol.mqtt.codec import encode
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import Connack, Connect, Pingreq, Pingresp, Subscribe, Will

DOOR = Door(Listener(port=0, security=Security(allow_anonymous=True)), Limits(), connection_messages=False)


class Collector(Receiver):
    """Gets every will, and knows how many each turn brought, with the messages that they became."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(plain=False)
        self.came: list[bytes] = []
        self.turns: list[tuple[int, int]] = []
        self._engine = engine
        self._before = (0, 0)
        engine.subscribe(self, b"will/#", 0)
        engine.turn.on_settled(self._turn_ended)

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self.came.append(publication.topic)

    def _turn_ended(self) -> None:
        now = (len(self.came), self._engine.counters.publishes_sent)
        if now != self._before:
            self.turns.append((now[0] - self._before[0], now[1] - self._before[1]))
        self._before = now


@asynccontextmanager
async def clients(count: int, *filters: bytes) -> AsyncIterator[tuple[Server, Collector]]:
    """A server with so many that have a will each, and have subscribed."""
    engine = Engine()
    collector = Collector(engine)
    async with trio.open_nursery() as nursery:
        server = Server(engine, nursery)
        ends = []
        for number in range(count):
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(server.serve_stream, theirs, DOOR, "client")
            will = Will(b"will/%d" % number, b"gone", 0, False)
            await ours.send_all(encode(Connect(b"c%d" % number, True, 60, will=will)))
            await ours.receive_some()
            if filters:
                await ours.send_all(encode(Subscribe(1, tuple((one, 0) for one in filters))))
                await ours.receive_some()
            ends.append(ours)
        yield server, collector
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_all_wills_go_out_some_in_each_turn(is_cancelled: bool) -> None:
    count = 3 * WILLS_MAX + 5
    async with clients(count) as (server, collector):
        with trio.CancelScope() as scope:
            if is_cancelled:
                scope.cancel()
            await server.send_wills()
        assert collector.came == [b"will/%d" % number for number in range(count)]
        assert [wills for wills, _ in collector.turns] == [WILLS_MAX] * 3 + [5]


async def test_who_has_not_been_let_in_yet_has_no_will() -> None:
    async with clients(1) as (server, collector):
        server.opened(Peer(server.engine).link)
        await server.send_wills()
        assert collector.came == [b"will/0"]


async def test_wills_that_very_many_get_are_fewer_in_a_turn() -> None:
    count = 50
    async with clients(count, b"will/#") as (server, collector):
        await server.send_wills()
        assert len(collector.came) == count
        assert sum(sent for _, sent in collector.turns) == count * count
        assert max(sent for _, sent in collector.turns) <= STEPS_MAX + count


async def test_others_have_their_turns_in_between() -> None:
    """Trio chooses who is first in each of its rounds, so one of four turns has another task before or behind it."""
    async with clients(4 * WILLS_MAX) as (server, collector), trio.open_nursery() as nursery:
        seen: list[int] = []

        async def look() -> None:
            while True:
                seen.append(len(collector.came))
                await trio.lowlevel.checkpoint()

        nursery.start_soon(look)
        await server.send_wills()
        nursery.cancel_scope.cancel()
    assert {WILLS_MAX, 2 * WILLS_MAX, 3 * WILLS_MAX} & set(seen)


class Here:
    """A server whose clients come over streams in memory."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.engine = Engine()
        self.server = Server(self.engine, nursery)
        self.door = Door(
            Listener(0, security=Security(allow_anonymous=True)), Limits(), connection_messages=False
        )

    def client(self) -> StreamClient:
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.server.serve_stream, ours, self.door, "10.0.0.1:7")
        return StreamClient(theirs)

    async def connected(
        self, client_id: bytes, keep_alive_s: int = 0, will: Will | None = None
    ) -> StreamClient:
        client = self.client()
        await client.send(Connect(client_id, True, keep_alive_s, will=will))
        assert await client.receive() == Connack(False, 0)
        return client


def clients_of(broker: Here) -> list[bytes]:
    return [link.session.client_id for link in broker.server.links() if link.session is not None]


@asynccontextmanager
async def here() -> AsyncIterator[Here]:
    async with trio.open_nursery() as nursery:
        yield Here(nursery)
        nursery.cancel_scope.cancel()


async def test_connections_are_counted_from_their_first_byte_to_their_last() -> None:
    async with here() as broker:
        ours, theirs = trio.testing.memory_stream_pair()
        broker.nursery.start_soon(broker.server.serve_stream, ours, broker.door, "10.0.0.1:7")
        await broker.connected(b"stays")
        counters = broker.engine.counters
        assert (counters.sockets_opened, counters.sockets_closed) == (2, 0)
        assert (len(broker.server.links()), broker.door.open_count) == (2, 2)
        await theirs.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert (counters.sockets_opened, counters.sockets_closed) == (2, 1)
        assert clients_of(broker) == [b"stays"]
        assert broker.door.open_count == 1


async def test_silence_ends_a_connection_at_the_next_sweep(autojump_clock: trio.testing.MockClock) -> None:
    """Without CONNECT after a while, with it after one and a half times its keep-alive time, and without one never."""
    left: dict[str, float] = {}

    async def stay(name: str, client: StreamClient) -> None:
        begun = trio.current_time()
        while await client._stream.receive_some():
            pass
        left[name] = trio.current_time() - begun

    async with here() as broker:
        broker.nursery.start_soon(broker.server.sweep)
        clients = {
            "mute": broker.client(),
            "10": await broker.connected(b"a", 10),
            "0": await broker.connected(b"b", 0),
        }
        for name, client in clients.items():
            broker.nursery.start_soon(stay, name, client)
        pinging = await broker.connected(b"c", 10)
        for _ in range(10):
            await trio.sleep(10)
            await pinging.send(Pingreq())
            assert await pinging.receive() == Pingresp()
    assert left == {"10": pytest.approx(16, abs=0.01), "mute": pytest.approx(CONNECT_TIMEOUT_S + 1, abs=0.01)}


async def test_those_who_are_silent_together_leave_in_the_order_in_which_they_came(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with here() as broker:
        collector = Collector(broker.engine)
        topics = [b"will/%d" % number for number in range(5)]
        for topic in topics:
            await broker.connected(topic, 10, Will(topic, b"gone", 0, False))
        broker.nursery.start_soon(broker.server.sweep)
        await trio.sleep(60)
        assert collector.came == topics


@pytest.mark.parametrize(
    ("expires_unix_s", "now", "expired"), [(10, 9.9, False), (10, 10, True), (math.inf, 1e12, False)]
)
def test_token_is_good_until_it_expires(expires_unix_s: float, now: float, expired: bool) -> None:
    link = Peer(Engine()).link
    assert not has_expired(link, now)
    link.verdict = Verdict(expires_unix_s=float(expires_unix_s))
    assert has_expired(link, float(now)) is expired


async def test_client_whose_token_has_expired_is_sent_away(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with here() as broker:
        broker.door.connection_messages = True
        clients = [await broker.connected(name) for name in (b"stays", b"goes")]
        _, link = broker.server.links()
        link.verdict = Verdict(expires_unix_s=1.0)
        broker.nursery.start_soon(broker.server.sweep)
        assert await clients[1].read_to_end() == b""
        assert clients_of(broker) == [b"stays"]
    assert "its token has expired" in caplog.text


async def test_sessions_and_handshakes_that_last_too_long_end_with_a_sweep(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A client that is away for longer than its session is kept, and a WebSocket of which no byte has come."""
    async with here() as broker:
        broker.engine.adopt(Policy(persistent_client_expiration_s=5.0), Window(), DeliveryRules())
        client = broker.client()
        await client.connect(b"kept", clean=False)
        await client._stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        proceeded: list[object] = []
        with broker.engine.turn, theirs:
            broker.server.arrivals.await_bytes(
                ours, broker.door, "10.0.0.1:7", None, lambda *given: proceeded.append(given)
            )
        broker.nursery.start_soon(broker.server.sweep)
        assert (b"kept" in broker.engine.sessions, broker.door.open_count) == (True, 1)
        await trio.sleep(CONNECT_TIMEOUT_S + 2)
        assert (b"kept" in broker.engine.sessions, broker.door.open_count) == (False, 0)
        assert proceeded == []


async def test_a_bug_met_by_the_end_of_one_keeps_no_other_from_being_swept(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.core.barrier.RERAISE", False)

    def bug(session: Session) -> None:
        raise ArithmeticError

    async with here() as broker:
        clients = [await broker.connected(name, 10) for name in (b"a", b"b")]
        broker.engine.on_detached = bug
        broker.nursery.start_soon(broker.server.sweep)
        for client in clients:
            assert await client.read_to_end() == b""
        assert broker.engine.counters.link_bugs == 2


async def test_others_have_their_turns_while_many_are_swept(autojump_clock: trio.testing.MockClock) -> None:
    """As for wills: of four parts one at least has another task before or behind it."""
    count = 4 * CLOSING_MAX
    async with here() as broker:
        peers = [Peer(broker.engine) for _ in range(count)]
        for peer in peers:
            broker.server.opened(peer.link)
        seen: list[int] = []
        closed = 0

        async def see() -> None:
            while closed < count:
                seen.append(closed)
                await trio.lowlevel.checkpoint()

        def look() -> None:
            nonlocal closed
            before, closed = closed, sum(peer.closed for peer in peers)
            if closed and not before:
                broker.nursery.start_soon(see)

        broker.engine.turn.on_settled(look)
        broker.nursery.start_soon(broker.server.sweep)
        await trio.sleep(CONNECT_TIMEOUT_S + 2)
        assert closed == count
        assert {CLOSING_MAX, 2 * CLOSING_MAX, 3 * CLOSING_MAX} & set(seen)


async def swept(silent: int, loud: int) -> list[int]:
    """How many links are left to be looked at after each part of a sweep."""
    async with here() as broker:
        peers = [Peer(broker.engine) for _ in range(silent + loud)]
        links = [peer.link for peer in peers]
        for number, link in enumerate(links):
            broker.server.opened(link)
            link.last_received = broker.engine.now - (1000 if number < silent else 0)
        left = []
        while links:
            broker.server._sweep(links, 0.0)
            left.append(len(links))
        assert [peer.closed for peer in peers] == [True] * silent + [False] * loud
        return left


async def test_sweep_looks_at_some_at_a_time_and_closes_fewer() -> None:
    assert await swept(0, SWEEP_LINKS_MAX + 5) == [5, 0]
    assert await swept(CLOSING_MAX * 2 + 3, 0) == [CLOSING_MAX + 3, 3, 0]
    assert await swept(CLOSING_MAX - 1, 10) == [0]


async def test_what_is_owed_is_summed_over_all_links() -> None:
    async with here() as broker:
        peers = [Peer(broker.engine) for _ in range(3)]
        for peer in peers:
            broker.server.opened(peer.link)
        assert broker.server.owed() == (0, 0)
        for peer, sizes in zip(peers, ((3,), (), (2, 5)), strict=True):
            peer.takes = 0
            for size in sizes:
                peer.outbox.push(b"x" * size)
        assert broker.server.owed() == (3, 10)


async def test_all_are_closed_when_the_broker_ends() -> None:
    async with here() as broker:
        clients = [await broker.connected(b"a"), await broker.connected(b"b"), broker.client()]
        await trio.testing.wait_all_tasks_blocked()
        broker.server.close_all()
        for client in clients:
            assert await client.read_to_end() == b""
        await trio.testing.wait_all_tasks_blocked()
        assert broker.server.links() == []


async def test_logins_wait_while_other_rules_are_read() -> None:
    async with here() as broker:
        broker.server.hold_logins()
        client = broker.client()
        await client.send(Connect(b"a", True, 0))
        await trio.testing.wait_all_tasks_blocked()
        assert clients_of(broker) == []
        broker.server.let_logins_on()
        assert await client.receive() == Connack(False, 0)


async def test_will_of_who_leaves_before_it_is_decided_about_goes_out_once_it_is() -> None:
    async with here() as broker:
        collector = Collector(broker.engine)
        broker.server.hold_logins()
        for number in range(2):
            client = broker.client()
            await client.send(
                Connect(b"c%d" % number, True, 0, will=Will(b"will/%d" % number, b"gone", 0, False))
            )
            await trio.testing.wait_all_tasks_blocked()
            await client._stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
        assert collector.came == []
        broker.server.let_logins_on()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(collector.came) == [b"will/0", b"will/1"]
        assert broker.server.links() == []


class Shared(Claims):
    """Client ids beginning with x are another node's."""

    def __init__(self) -> None:
        self.came: list[bytes] = []

    async def claim(self, link: MqttLink, packet: Connect, client_id: bytes, verdict: Verdict) -> str:
        return "another node has it" if client_id.startswith(b"x") else ""

    def arrived(self, client_id: bytes) -> None:
        self.came.append(client_id)


async def test_clients_come_in_once_they_are_this_nodes() -> None:
    async with here() as broker:
        claims = Shared()
        broker.server.share_clients(claims)
        await broker.connected(b"a")
        client = broker.client()
        await client.send(Connect(b"xa", True, 0))
        assert (await client.read_to_end())[:4] == b"\x20\x02\x00\x03"  # CONNACK, server unavailable
        assert claims.came == [b"a"]


async def test_retained_messages_for_one_client_come_while_another_is_answered() -> None:
    async with here() as broker:
        for number in range(3000):
            broker.engine.publish(Publication(b"t/%d" % number, b"x" * 100, retain=True))
        one, other = await broker.connected(b"one"), await broker.connected(b"other")
        await one.subscribe(b"t/#", 0)
        await other.send(Pingreq())
        assert await other.receive() == Pingresp()
        assert broker.engine.replaying.waits(), "it has not come to its end before"
        topics = {(await one.receive()).topic for _ in range(3000)}  # type: ignore[union-attr]
        assert len(topics) == 3000
        await trio.testing.wait_all_tasks_blocked()
        assert not broker.engine.replaying.waits()


class Counted(Work):
    """Takes three turns."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0

    def go_on(self, steps: int) -> int:
        self.turns += 1
        self.is_over = self.turns == 3
        return steps


async def test_long_work_is_done_in_turns_to_its_end() -> None:
    async with here() as broker:
        work = Counted()
        with broker.engine.turn:
            broker.engine.slicing.wait(work)
        await trio.testing.wait_all_tasks_blocked()
        assert (work.turns, broker.engine.slicing.waits()) == (3, False)


class Broken(Work):
    """Has a bug."""

    def go_on(self, steps: int) -> int:
        raise ArithmeticError


async def test_long_work_that_meets_a_bug_keeps_no_other_from_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.core.barrier.RERAISE", False)
    async with here() as broker:
        work = Counted()
        with broker.engine.turn:
            broker.engine.slicing.wait(Broken())
            broker.engine.slicing.wait(work)
        await trio.testing.wait_all_tasks_blocked()
        assert (work.turns, broker.engine.counters.link_bugs) == (3, 1)


async def test_whoever_waits_for_the_end_waits_for_what_a_socket_is_owed() -> None:
    async with here() as broker:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            broker.server.add_socket(ours, broker.door, "10.0.0.1:7")
            (link,) = broker.server.links()
            broker.nursery.start_soon(broker.server.pump.run)
            size = 4 * 1024 * 1024
            with broker.engine.turn:
                link.outbox.push(b"x" * size)
            drained = trio.Event()

            async def wait() -> None:
                await broker.server.drained()
                drained.set()

            broker.nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert not drained.is_set(), "the kernel has not taken all of it"
            theirs.setblocking(False)
            while size:
                await trio.lowlevel.wait_readable(theirs)
                size -= len(theirs.recv(1 << 20))
            await drained.wait()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates")
async def test_connect_that_comes_with_the_end_of_a_tls_handshake_is_answered(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server", "/CN=localhost", host=True)
    context = server_context(Tls(tmp_path / "server.crt", tmp_path / "server.key"))
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    came, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=authority.ca).wrap_bio(
        came, to_send, server_hostname="localhost"
    )
    encrypted = TlsSocket(ours, context, Buffers())
    with theirs:
        for data in (b"", encode(Connect(b"a", True, 0))):
            with suppress(ssl.SSLWantReadError):
                client.do_handshake()
            if data:
                client.write(data)
            theirs.send(to_send.read())
            is_complete = encrypted.shake_hands(encrypted.receive_handshake())
            with suppress(BlockingIOError):
                came.write(theirs.recv(1 << 16))
        assert is_complete
        async with here() as broker:
            broker.server.add_socket(encrypted, broker.door, "10.0.0.1:7")
            assert clients_of(broker) == [b"a"]


async def test_certificates_identity_is_known_before_the_first_packet() -> None:
    async with here() as broker:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            broker.server.add_socket(ours, broker.door, "10.0.0.1:7", b"certified")
            (link,) = broker.server.links()
            assert (link.certificate_identity, link.peer) == (b"certified", "10.0.0.1:7")
            broker.nursery.start_soon(broker.server.pump.run)
            theirs.sendall(encode(Connect(b"a", True, 0)))
            await trio.lowlevel.wait_readable(theirs)
            assert theirs.recv(9) == b"\x20\x02\x00\x00"
            await broker.server.drained()


async def test_work_for_a_thread_is_done_there_and_its_end_in_a_turn() -> None:
    async with here() as broker:
        done = trio.Event()
        seen: list[object] = []

        def work() -> None:
            seen.append(threading.current_thread() is threading.main_thread())

        def then() -> None:
            seen.append(broker.engine.turn.is_under_way)
            done.set()

        broker.server._in_thread(work, then)
        await done.wait()
        assert seen == [False, True]
