"""The clients of a node as its door sees them: what of a will may be published is decided here."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from support.memory_nats import MemoryNats
from support.nats import Server
from support.nodes import Client, joined, watching
from trio.testing import MockClock

from broker import Listener
from broker.cluster import session_state
from broker.cluster.clients import Clients
from broker.cluster.names import Names
from broker.cluster.will_record import WillRecord
from broker.config.model import Security
from broker.core.access import Access
from broker.core.engine import Engine
from broker.gateway.authentication import Verdict
from protocol.mqtt.packets import Connect, Publish, Will
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import CONTENT_TYPE, MESSAGE_EXPIRY, SESSION_EXPIRY, WILL_DELAY

if TYPE_CHECKING:
    from broker.cluster.owners import Owners
    from broker.links.mqtt.link import MqttLink


class Claimed:
    """The owners, who say what they are told to."""

    def __init__(self, problem: str = "") -> None:
        self.problem = problem
        self.claims: list[tuple[bytes, WillRecord | None]] = []
        self.arrivals: list[tuple[bytes, WillRecord | None]] = []

    async def claim(
        self, client_id: bytes, packet: Connect, will: WillRecord | None, mount_point: bytes
    ) -> str:
        assert mount_point == b"m/"
        self.claims.append((client_id, will))
        return self.problem

    def arrived(self, client_id: bytes, will: WillRecord | None) -> None:
        self.arrivals.append((client_id, will))


class NotThere(Access):
    def may_write(self, topic: bytes) -> bool:
        return not topic.startswith(b"m/secret")


def link_at(
    mount_point: bytes = b"m/", access: Access | None = None
) -> tuple[MqttLink, list[tuple[bytes, bytes | None, Verdict]]]:
    """A client's link, and for whom its door was asked what they may do."""
    asked: list[tuple[bytes, bytes | None, Verdict]] = []

    def access_for(client_id: bytes, user_name: bytes | None, verdict: Verdict) -> Access | None:
        asked.append((client_id, user_name, verdict))
        return access

    door = SimpleNamespace(mount_point=b"m/", port=1883, access_for=access_for)
    return cast("MqttLink", SimpleNamespace(door=door)), asked


async def claimed(packet: Connect, link: MqttLink | None = None, problem: str = "") -> dict[str, Any] | None:
    """What the others would be told of its will."""
    server = MemoryNats()
    server.stream("shop_SESS", ("shop.SESS.>",), max_msgs_per_subject=1)
    owners, engine = Claimed(problem), Engine()
    clients = Clients(engine, server.connected(engine), Names("shop"), cast("Owners", owners))
    verdict = Verdict(b"user")
    assert await clients.claim(link or link_at()[0], packet, b"id", verdict) == problem
    ((client_id, will),) = owners.claims
    assert client_id == b"id"
    if not problem:
        clients.arrived(b"id")
        assert owners.arrivals == [(b"id", will)]
    with pytest.raises(KeyError):
        clients.arrived(b"id")
    if will is None:
        return None
    await will.put(b"n-1")
    value: dict[str, Any] = json.loads(server.said[-1][1])
    return value


async def test_a_client_without_a_will_has_none(autojump_clock: MockClock) -> None:
    assert await claimed(Connect(b"id", True, 0)) is None


async def test_its_will_is_said_as_it_would_be_published(autojump_clock: MockClock) -> None:
    said = await claimed(Connect(b"id", True, 0, 4, Will(b"w", b"gone", 1, True)))
    assert said is not None
    message = session_state.read_message(said["w"], 0.0, 0.0)
    assert (message.topic, message.payload, message.qos, message.retain) == (b"m/w", b"gone", 1, True)
    assert (message.client_id, message.user_name, message.listener_port) == (b"id", b"user", 1883)
    assert (message.properties, said["d"], said["e"]) == (b"", 0, -1)
    assert said["i"].startswith("will:")
    again = await claimed(Connect(b"id", True, 0, 4, Will(b"w", b"gone", 1, True)))
    assert again is not None
    assert again["i"] != said["i"], "each connection has another"


@pytest.mark.parametrize(("topic", "has_will"), [(b"secret", False), (b"open", True)])
async def test_what_it_may_not_publish_is_not_its_will(
    autojump_clock: MockClock, topic: bytes, has_will: bool
) -> None:
    link, asked = link_at(access=NotThere())
    said = await claimed(Connect(b"id", True, 0, 4, Will(topic, b"", 0, False)), link)
    assert (said is not None) is has_will
    ((client_id, user_name, _),) = asked
    assert (client_id, user_name) == (b"id", b"user")


@pytest.mark.parametrize(
    ("session_expiry", "will_delay", "delay_s"),
    [(None, None, 0), (None, 9, 0), (5, None, 0), (5, 9, 5), (9, 5, 5), (0xFFFFFFFF, 9, 9)],
)
async def test_a_will_of_5_0_waits_no_longer_than_its_session_lives(
    autojump_clock: MockClock, session_expiry: int | None, will_delay: int | None, delay_s: int
) -> None:
    of_will = Properties({MESSAGE_EXPIRY: 7}, {CONTENT_TYPE: b"text"})
    if will_delay is not None:
        of_will.numbers[WILL_DELAY] = will_delay
    of_session = Properties({} if session_expiry is None else {SESSION_EXPIRY: session_expiry})
    will = Will(b"w", b"", 0, False, of_will)
    said = await claimed(Connect(b"id", True, 0, 5, will, properties=of_session))
    assert said is not None
    assert (said["d"], said["e"]) == (delay_s, 7)
    assert b"text" in session_state.read_message(said["w"], 0.0, 0.0).properties


async def test_who_is_not_let_in_leaves_no_will(autojump_clock: MockClock) -> None:
    packet = Connect(b"id", True, 0, 4, Will(b"w", b"", 0, False))
    assert await claimed(packet, problem="its node does not answer") is not None


@pytest.fixture
def restricted(tmp_path: Path) -> Listener:
    """Whose clients may do what they like below `ok/`, and nothing else."""
    path = tmp_path / "acl"
    path.write_text("topic readwrite ok/#\n")
    return Listener(port=0, security=Security(allow_anonymous=True, acl_file=path))


async def test_a_will_that_may_not_be_published_is_not(
    nats_server: Server, cluster_name: str, restricted: Listener
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "b") as b:
        there = await watching(b, b"#")
        async with joined(urls, cluster_name, "a", crashes=True) as a:
            bad, good = Client(a, restricted), Client(a, restricted)
            await bad.connect(b"bad", True, Will(b"secret", b"", 1, False))
            await good.connect(b"good", True, Will(b"ok/1", b"", 1, False))
        assert (await there.message(20))[0] == b"ok/1"
        publisher = Client(b)
        await publisher.connect(b"p")
        await publisher.publish(b"end", b"")
        assert (await there.message())[0] == b"end"


async def test_a_session_that_moves_is_judged_anew(
    nats_server: Server, cluster_name: str, restricted: Listener
) -> None:
    """What waits for it was for whoever it was then; it gets what it may read by who it is now."""
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        client, publisher = Client(a), Client(a)
        await publisher.connect(b"p")
        await client.connect(b"c", False)
        await client.subscribe((b"#", 1))
        await publisher.publish(b"secret", b"in flight")
        assert isinstance(await client.receive(), Publish)
        await client.close()
        await publisher.publish(b"secret", b"while away")
        await publisher.publish(b"ok/1", b"1")
        b.app.engine.trie.restrict(True)  # as with a listener that has rules in the configuration
        client = Client(b, restricted)
        assert await client.connect(b"c", False)
        assert (await client.message())[:2] == (b"ok/1", b"1")
        await publisher.publish(b"secret", b"live")
        await publisher.publish(b"ok/2", b"2")
        assert (await client.message())[:2] == (b"ok/2", b"2")
