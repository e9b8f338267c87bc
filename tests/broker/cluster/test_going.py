"""What came to a client's connection before the client went to another node counts."""

from __future__ import annotations

import socket
from collections import deque

import pytest
import trio
from support.attached import Attached
from support.memory_nats import SILENT, MemoryNats
from support.memory_node import MemoryNode, running
from support.nats import Server
from support.nodes import joined
from support.peer import Peer
from trio.testing import MockClock

from broker import Broker, Config, Listener
from broker.cluster.names import Names
from broker.config.model import Security
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.saving import Saving
from broker.core.shell import ASK_AGAIN
from broker.links.mqtt.admission import admit
from broker.links.mqtt.succeeding import ASKED_BYTES, HEARD_OUT_BYTES_MAX
from protocol.mqtt.codec import encode
from protocol.mqtt.connection import AUTHENTICATING
from protocol.mqtt.packets import Connack, Connect, Publish

SHOP = Names("shop")
HERE = Config(listeners=(Listener(0, host="127.0.0.1", security=Security(allow_anonymous=True)),))


class Unheard:
    """What is still with the kernel of a client: so many turns bring something, then it is all."""

    def __init__(self, node: MemoryNode, *turns: int) -> None:
        self.node = node
        self.turns = deque(turns)
        self.asked = 0

    def hear_out(self) -> int:
        self.asked += 1
        if not self.turns:
            return 0
        heard = self.turns.popleft()
        if heard > 0:
            self.node.engine.publish(Publication(b"t", b"%d" % self.asked, 0, False, b"c"))
        return heard


class Heard(Receiver):
    """Has room for so many messages."""

    def __init__(self, count: int) -> None:
        super().__init__(plain=False)
        self.count = count
        self.packets = b"".join(encode(Publish(b"t", b"%d" % number, 0)) for number in range(count))
        self.expect()

    def expect(self) -> None:
        self.numbers: list[int] = []
        self.all = trio.Event()

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self.numbers.append(int(publication.payload))
        if len(self.numbers) == self.count:
            self.all.set()


async def test_it_is_heard_out_before_another_node_has_the_client(autojump_clock: MockClock) -> None:
    async with running(MemoryNats(), "a", "b") as (a, b):
        client = await a.comes()
        watcher = await b.comes(b"watcher", filters=((b"t", 0),))
        await a.settled()
        unheard = Unheard(a, 9, 9, ASK_AGAIN, 9)
        client.hear_out = unheard.hear_out  # type: ignore[method-assign]
        newer = await b.comes()
        assert client.why == "disconnected: taken over on another node."
        assert watcher.payloads() == [b"1", b"2", b"4"]
        assert newer.was_present
        assert (a.node.status.moved_away, b.node.status.moved_here) == (1, 1)


@pytest.mark.parametrize(("each", "counts"), [(1 << 16, 1 << 16), (ASK_AGAIN, ASKED_BYTES)])
async def test_who_goes_on_and_on_is_not_heard_for_ever(
    autojump_clock: MockClock, each: int, counts: int
) -> None:
    async with running(MemoryNats(), "a", "b") as (a, b):
        client = await a.comes()
        await a.settled()
        unheard = Unheard(a, *[each] * 10_000)
        client.hear_out = unheard.hear_out  # type: ignore[method-assign]
        await b.comes()
        assert client.why
        assert unheard.asked == HEARD_OUT_BYTES_MAX // counts


async def test_a_client_that_leaves_meanwhile_is_free(autojump_clock: MockClock) -> None:
    async with running(MemoryNats(), "a", "b") as (a, b):
        client = await a.comes(filters=((b"u", 1),))
        await a.settled()
        unheard = Unheard(a, 9, 9)

        def hear_out() -> int:
            heard = unheard.hear_out()
            if not heard:
                client.close("closed its connection.")
            return heard

        client.hear_out = hear_out  # type: ignore[method-assign]
        newer = await b.comes()
        assert client.why == "closed its connection."
        assert newer.session.subscriptions == {b"u": 1}
        assert b"c" not in a.owners.owned


async def test_who_comes_back_to_its_node_meanwhile_is_heard_in_its_turn(autojump_clock: MockClock) -> None:
    """The other node, which was told to wait, gets the client then: it has come there, too."""
    async with running(MemoryNats(), "a", "b") as (a, b):
        client = await a.comes()
        await a.settled()
        own = a.owners.owned[b"c"]
        unheard = Unheard(a, 9, 9)

        def hear_out() -> int:
            own.is_arriving = unheard.asked > 0
            return unheard.hear_out()

        client.hear_out = hear_out  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.comes)
            await trio.sleep(0.05)
            assert unheard.asked == 3
            assert client.why == ""
            client.hear_out = Unheard(a).hear_out  # type: ignore[method-assign]
            own.is_arriving = False
        assert client.why == "disconnected: taken over on another node."


@pytest.mark.parametrize(("clean", "leaves"), [(True, False), (False, True)])
async def test_over_sockets_nothing_is_lost(
    nats_server: Server, cluster_name: str, clean: bool, leaves: bool
) -> None:
    """What the kernel had of the older connection, beside what a turn takes."""
    urls = (nats_server.url,)
    async with (
        joined(urls, cluster_name, "a", HERE) as a,
        joined(urls, cluster_name, "b", HERE) as b,
    ):
        heard = Heard(50_000)
        b.app.engine.subscribe(heard, b"t", 0)
        older = await trio.to_thread.run_sync(entered, a, clean)
        for number in range(2):
            newer = socket.create_connection(("127.0.0.1", [b, a][number % 2].ports[0]))
            heard.expect()
            older.sendall(heard.packets)
            if leaves:
                older.close()
            newer.sendall(encode(Connect(b"c", clean, 0)))
            with trio.fail_after(60):
                await heard.all.wait()
            assert heard.numbers == list(range(heard.count))
            await trio.to_thread.run_sync(until_connack, newer)
            older.close()
            older = newer
        older.close()


def entered(broker: Broker, clean: bool) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", broker.ports[0]))
    client.sendall(encode(Connect(b"c", clean, 0)))
    until_connack(client)
    return client


def until_connack(client: socket.socket) -> None:
    client.settimeout(60)
    assert client.recv(4096)[3:] == b"\0"


@pytest.mark.parametrize("is_here", [True, False])
async def test_a_session_that_a_client_ends_does_not_come_back_after_a_crash(
    autojump_clock: MockClock, is_here: bool
) -> None:
    """Also where the client comes to the node that it is at; CONNACK has told it that there is none."""
    server = MemoryNats()
    async with running(server, "b") as (b,):
        async with MemoryNode(server, "a").running() as a:
            older = await (a if is_here else b).comes(filters=((b"t", 1),))
            await a.settled()
            assert await a.owners.claim(b"c", Connect(b"c", True, 0), None) == ""
            server.faults += [(b"shop.SESS", SILENT)] * 50
            with a.engine.turn:
                assert not Attached(a.engine, b"c", True).was_present
                a.owners.arrived(b"c", None)
            assert (
                older.why
                == f"disconnected: taken over {'by another connection' if is_here else 'on another node'}."
            )
        server.faults.clear()
        assert not (await b.comes()).was_present


async def test_where_acknowledgements_wait_for_the_disk_it_is_gone_from_there_before_the_client_is_let_in(
    autojump_clock: MockClock,
) -> None:
    """And it is let in as a client of this node."""
    async with running(MemoryNats(), "a") as (a,):
        await a.comes(filters=((b"t", 1),))
        await a.settled()
        engine = a.engine
        saving = engine.saving = Saving(engine, engine.kept_changes())
        packet = Connect(b"c", True, 0)
        let_in = trio.Event()

        async def comes() -> None:
            assert await a.owners.claim(b"c", packet, None) == ""
            with engine.turn:
                peer = Peer(engine)
                peer.link.state = AUTHENTICATING
                admit(peer.link, packet, in_turn=True, is_claimed=True)
                a.owners.arrived(b"c", None)
            assert peer.read() == [Connack(False, 0)]
            let_in.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(comes)
            await trio.sleep(2)
            assert not let_in.is_set()
            with engine.turn:
                saving.reached(engine.kept_changes())
            await let_in.wait()
        await trio.sleep(3)
        assert a.owners.owned[b"c"].session is engine.sessions[b"c"]
