"""Groups over nodes: every message to one member, wherever it is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from support.nats import Server
from support.nodes import Client, joined, node_of

from broker import Broker
from broker.cluster.gossip import Gossip
from broker.cluster.names import Names
from broker.cluster.setup import ask
from broker.cluster.shares import Shares, name_of
from broker.cluster.status import ClusterStatus
from broker.core.engine import Engine
from protocol.mqtt.packets import Puback, Publish
from protocol.nats import jetstream, wire


class Silent:
    """A connection to NATS that nothing comes by."""

    def subscribe(self, subject: bytes, take: Callable[[wire.Message], None]) -> int:
        return 1

    def send(self, data: bytes) -> bool:
        return True


class Member:
    """Takes what it gets, and acknowledges it."""

    def __init__(self, broker: Broker) -> None:
        self.client = Client(broker)
        self.got: list[int] = []

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            try:
                packet = await self.client.receive(60)
            except (EOFError, trio.ClosedResourceError):
                return
            if isinstance(packet, Publish):
                self.got.append(int(packet.payload))
                if packet.qos == 1:
                    await self.client.send(Puback(packet.packet_id or 0))


async def all_came(members: list[Member], count: int) -> Counter[int]:
    with trio.fail_after(60):
        while True:
            came = Counter(number for member in members for number in member.got)
            if len(came) >= count:
                return came
            await trio.sleep(0.02)


@pytest.mark.parametrize("qos", [0, 1])
async def test_each_message_goes_to_one_member_of_the_group(
    nats_server: Server, cluster_name: str, qos: int
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        publisher = Client(b)
        await publisher.connect(b"p")
        members = [Member(a), Member(a), Member(b)]
        async with trio.open_nursery() as nursery:
            for number, member in enumerate(members):
                await member.client.connect(b"m%d" % number)
                await member.client.subscribe((b"$share/g/t/#", 1))
                await nursery.start(member.run)
            if qos == 0:
                await trio.sleep(0.3)  # the nodes have told each other
            for number in range(60):
                await publisher.publish(b"t/x", b"%d" % number, qos)
            came = await all_came(members, 60)
            assert set(came.values()) == {1}
            assert all(member.got for member in members[:1] + members[2:])
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("clean", [False, True])
async def test_what_a_member_leaves_others_get(nats_server: Server, cluster_name: str, clean: bool) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        publisher, lazy = Client(b), Client(a)
        await publisher.connect(b"p")
        await lazy.connect(b"lazy", clean)
        await lazy.subscribe((b"$share/g/t", 1))
        keeper = Client(a)  # so that the group lasts while nobody is connected
        await keeper.connect(b"keeper", False)
        await keeper.subscribe((b"$share/g/t", 1))
        await keeper.close()
        await trio.sleep(0.3)
        for number in range(5):
            await publisher.publish(b"t", b"%d" % number)
        for _ in range(5):
            assert isinstance(await lazy.receive(), Publish)
        await lazy.close()
        for number in range(5, 10):
            await publisher.publish(b"t", b"%d" % number)
        member = Member(b)
        async with trio.open_nursery() as nursery:
            await member.client.connect(b"m")
            await member.client.subscribe((b"$share/g/t", 1))
            await nursery.start(member.run)
            assert set(await all_came([member], 10)) == set(range(10))
            nursery.cancel_scope.cancel()


async def test_members_of_a_node_that_crashes_are_replaced(nats_server: Server, cluster_name: str) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "b") as b:
        member = Member(b)
        async with trio.open_nursery() as nursery:
            await member.client.connect(b"m")
            await member.client.subscribe((b"$share/g/t", 1))
            async with joined(urls, cluster_name, "a", crashes=True) as a:
                lazy, publisher = Client(a), Client(a)
                await publisher.connect(b"p")
                await lazy.connect(b"lazy")
                await lazy.subscribe((b"$share/g/t", 1))
                await nursery.start(member.run)
                for number in range(10):
                    await publisher.publish(b"t", b"%d" % number)
                with trio.fail_after(60):
                    await lazy.receive()
            came = await all_came([member], 10)
            assert set(came) == set(range(10))
            nursery.cancel_scope.cancel()


async def test_a_group_lasts_for_a_persistent_member_that_is_away(
    nats_server: Server, cluster_name: str
) -> None:
    """Though the last clean member leaves on a node that knows of no other."""
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        publisher, keeper, clean = Client(a), Client(a), Client(b)
        await publisher.connect(b"p")
        await keeper.connect(b"keeper", False)
        await keeper.subscribe((b"$share/g/t", 1))
        await keeper.close()
        await clean.connect(b"clean")
        await clean.subscribe((b"$share/g/t", 1))
        await clean.close()
        with trio.fail_after(60):
            while b.app.engine.shared.all_keys():  # noqa: ASYNC110 - plain data, has no event
                await trio.sleep(0.01)
        await trio.sleep(0.3)  # what it would do, it has done
        await publisher.publish(b"t", b"1")
        keeper = Client(b)
        assert await keeper.connect(b"keeper", False)
        assert (await keeper.message())[:2] == (b"t", b"1")


async def test_a_group_whose_consumer_is_gone_goes_on_where_it_was(
    nats_server: Server, cluster_name: str
) -> None:
    """As after somebody deleted it, or NATS forgot it because no node could fetch for a while."""
    async with joined((nats_server.url,), cluster_name, "a") as a:
        publisher, member = Client(a), Client(a)
        await publisher.connect(b"p")
        await member.connect(b"m")
        await member.subscribe((b"$share/g/t", 1))
        await publisher.publish(b"t", b"0")
        assert (await member.message())[:2] == (b"t", b"0")
        names = node_of(a).names
        await ask(node_of(a).link, jetstream.consumer_delete(names.messages, name_of((b"g", b"t"))))
        await publisher.publish(b"t", b"1")
        assert (await member.message())[:2] == (b"t", b"1")


async def test_a_node_whose_members_have_nothing_wakes_up_for_nothing() -> None:
    engine, names, status = Engine(), Names("shop"), ClusterStatus()
    link: Any = Silent()
    reader: Any = None
    gossip = Gossip(engine, link, names, b"n1.1", status)
    shares = Shares(engine, link, names, b"n1.1", reader, gossip, 60.0, status)
    async with trio.open_nursery() as nursery:
        await nursery.start(shares.run)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf
        nursery.cancel_scope.cancel()
