"""A session that moves to another node, to somebody else or below another mount point: as on one node (issue 11 A)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.nats import Server
from support.nodes import Client, joined, node_of

from broker import Broker, Listener
from broker.config.model import Security
from protocol.mqtt.packets import Publish, Pubrec, Pubrel, Will

RULES = """
user alice
topic readwrite #
user bob
topic readwrite public/#
"""


class Doors:
    """Two nodes; `alice` may do everything, and `bob` what is public, on either."""

    def __init__(self, a: Broker, b: Broker, rules: Path) -> None:
        self.a, self.b, self.rules = a, b, rules

    def client(self, broker: Broker, mount_point: str = "") -> Client:
        security = Security(allow_anonymous=True, acl_file=self.rules)
        return Client(broker, Listener(port=1, security=security, mount_point=mount_point))

    async def publisher(self) -> Client:
        client = self.client(self.a)
        await client.connect(b"p", user=b"alice")
        return client


@pytest.fixture
async def doors(nats_server: Server, cluster_name: str, tmp_path: Path) -> AsyncIterator[Doors]:
    rules = tmp_path / "acl"
    rules.write_text(RULES)
    rules.chmod(0o600)
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        yield Doors(a, b, rules)


@pytest.mark.parametrize("stays", [False, True], ids=["away", "connected"])
async def test_who_takes_a_session_over_gets_what_it_may_read(doors: Doors, stays: bool) -> None:
    publisher, alice, bob = await doors.publisher(), doors.client(doors.a), doors.client(doors.b)
    await alice.connect(b"x", False, user=b"alice")
    await alice.subscribe((b"secret/+", 1), (b"public/+", 1))
    if stays:
        await publisher.publish(b"secret/0", b"in flight")
        assert (await alice.receive()).__class__ is Publish
    else:
        await alice.close()
    await publisher.publish(b"secret/1", b"1")
    await publisher.publish(b"public/1", b"2")
    assert await bob.connect(b"x", False, user=b"bob")
    assert (await bob.message())[:2] == (b"public/1", b"2")
    await publisher.publish(b"secret/2", b"3")
    await publisher.publish(b"public/2", b"4")
    assert (await bob.message())[:2] == (b"public/2", b"4")
    alice = doors.client(doors.a)
    assert await alice.connect(b"x", False, user=b"alice")
    await publisher.publish(b"secret/3", b"5")
    assert (await alice.message())[:2] == (b"secret/3", b"5")


async def test_what_it_may_not_write_is_in_nobody_s_name(doors: Doors) -> None:
    """Bob's message to what he may not write comes not at alice's PUBREL, either."""
    watcher, bob, alice = await doors.publisher(), doors.client(doors.a), doors.client(doors.b)
    await watcher.subscribe((b"#", 1))
    await bob.connect(b"x", False, user=b"bob")
    await bob.send(Publish(b"secret/1", b"bob's", 2, False, False, 7))
    assert isinstance(await bob.receive(), Pubrec)
    assert await alice.connect(b"x", False, user=b"alice")
    await alice.send(Pubrel(7))
    await alice.receive()
    await alice.publish(b"public/1", b"last")
    assert (await watcher.message())[:2] == (b"public/1", b"last")


@pytest.mark.parametrize("stays", [False, True], ids=["away", "connected"])
async def test_below_another_mount_point_the_session_ends(doors: Doors, stays: bool) -> None:
    publisher = await doors.publisher()
    watcher = doors.client(doors.b)
    await watcher.connect(b"w", user=b"alice")
    await watcher.subscribe((b"+/gone", 1))
    first = doors.client(doors.a, "one/")
    await first.connect(b"x", False, Will(b"gone", b"will", 1, False), b"alice")
    await first.subscribe((b"t", 1), (b"longer/than/the/other", 1))
    if not stays:
        await first.close()
        assert (await watcher.message())[:2] == (b"one/gone", b"will")
    await publisher.publish(b"one/t", b"1")
    second = doors.client(doors.b, "another/")
    assert not await second.connect(b"x", False, user=b"alice")
    if stays:
        assert (await watcher.message())[:2] == (b"one/gone", b"will"), "as the session has ended"
    await second.subscribe((b"u", 1))
    await publisher.publish(b"one/t", b"2")
    await publisher.publish(b"another/u", b"3")
    assert (await second.message())[:2] == (b"u", b"3")
    await second.close()
    third = doors.client(doors.a, "one/")
    assert not await third.connect(b"x", False, user=b"alice")
    assert node_of(doors.b).owners.behind.readings == {}
    assert node_of(doors.a).owners.behind.readings == {}
