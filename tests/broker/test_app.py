"""The whole process without the process: a row committed in a real Postgres reaches clients through one nursery."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
import trio
from support.mqtt_stream import PacketStream
from support.postgres import cluster, database

from broker import Broker, Config, Listener
from broker.config.model import Security
from broker.config.toml import configuration as toml
from broker.links.listening.accept import ListenError
from protocol.mqtt.packets import Connack, Connect, Puback, Publish, Suback, Subscribe

__all__ = ["cluster", "database"]

CONFIGURATION = """
[database]
dsn = "{dsn}"

[[listener]]
port = 0
host = "127.0.0.1"

[security]
allow_anonymous = true
anonymous_access = "read"

[source.events]
listen = ["fill"]

[[mqtt.route]]
from = "events"
topics = "fill/{{market}}/{{account}}"
"""


class Client(PacketStream):
    """An MQTT client on any stream."""

    async def subscribe(self, client_id: bytes, topic_filter: bytes, qos: int) -> None:
        await self.send(Connect(client_id, True, 0), Subscribe(1, ((topic_filter, qos),)))
        assert await self.receive() == Connack(False, 0)
        assert await self.receive() == Suback(1, (qos,))


@asynccontextmanager
async def feeding(dsn: str, folder: Path) -> AsyncIterator[Broker]:
    """A broker whose feed is live."""
    path = folder / "rowcast.toml"
    path.write_text(CONFIGURATION.format(dsn=dsn))
    async with Broker(toml.load(path, {})) as broker:
        with trio.fail_after(60):
            (status,) = broker.app.feeds.values()
            while status.state != "live":
                await trio.testing.wait_all_tasks_blocked(0.01)
            yield broker


async def test_a_burst_in_one_transaction_is_lost_to_nobody(database: str, tmp_path: Path) -> None:
    """3000 rows at once: Mosquitto's queue of 1000 would drop most of them for a QoS 1 subscriber."""
    rows = 3000
    async with feeding(database, tmp_path) as broker:
        careful, quick = Client(broker.connect()), Client(broker.connect())
        await careful.subscribe(b"careful", b"fill/#", 1)
        await quick.subscribe(b"quick", b"fill/+/0xc0deface", 0)
        with psycopg.connect(database) as connection:
            connection.execute(
                "select pg_notify('fill', json_build_object('market', n, 'account', '0xc0deface')::text)"
                " from generate_series(1, %s) n",
                (rows,),
            )
        for number in range(1, rows + 1):
            packet = await quick.receive()
            assert isinstance(packet, Publish)
            assert packet.topic == b"fill/%d/0xc0deface" % number
        for number in range(1, rows + 1):
            packet = await careful.receive()
            assert isinstance(packet, Publish)
            assert (packet.topic, packet.qos) == (b"fill/%d/0xc0deface" % number, 1)
            await careful.send(Puback(packet.packet_id))
        assert broker.app.engine.counters.publishes_dropped() == 0


async def test_an_embedded_broker_publishes_and_subscribes() -> None:
    async with Broker() as broker:
        await broker.publish("greeting/en", b"hello", retain=True)
        seen = []
        async for message in broker.subscribe("greeting/#"):
            seen.append((message.topic, message.payload, message.retain))
            if len(seen) == 2:
                break
            await broker.publish("greeting/de", b"hallo")
        assert seen == [("greeting/en", b"hello", True), ("greeting/de", b"hallo", False)]


@pytest.mark.parametrize(("topic", "qos"), [("a/+", 0), ("", 0), ("a", 3)])
async def test_an_embedded_broker_refuses_what_is_no_message(topic: str, qos: int) -> None:
    async with Broker() as broker:
        with pytest.raises(ValueError, match=r"topic name|qos is"):
            await broker.publish(topic, b"", qos=qos)


async def test_what_a_listener_admits_goes_over_tcp() -> None:
    listener = Listener(port=0, host="127.0.0.1", security=Security(allow_anonymous=True))
    async with Broker(Config(listeners=(listener,))) as broker:
        client = Client(await trio.open_tcp_stream("127.0.0.1", broker.ports[0]))
        await client.subscribe(b"c", b"t", 0)
        await broker.publish("t", b"over tcp")
        assert await client.receive() == Publish(b"t", b"over tcp")


async def test_a_listener_that_cannot_be_opened_ends_the_start() -> None:
    listener = Listener(port=0, host="127.0.0.1", security=Security(allow_anonymous=True))
    async with Broker(Config(listeners=(listener,))) as broker:
        taken = Listener(port=broker.ports[0], host="127.0.0.1")
        with pytest.RaisesGroup(ListenError, allow_unwrapped=True, flatten_subgroups=True):
            async with Broker(Config(listeners=(taken,))):
                raise AssertionError("it started")
