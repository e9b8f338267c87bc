"""A client's will comes once on every node."""

from __future__ import annotations

import pytest
from support.nats import Server
from support.nodes import Client, joined, watching

from protocol.mqtt.packets import Will


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_lost_connection_s_will_comes_once_on_each_node(
    nats_server: Server, cluster_name: str, qos: int
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        there, here = await watching(b, b"#"), Client(a)
        await here.connect(b"here")
        await here.subscribe((b"#", 1))
        client = Client(a)
        await client.connect(b"c", True, Will(b"w", b"gone", qos, True))
        await client.close()
        for one in (there, here):
            assert await one.message() == (b"w", b"gone", qos, False)
        publisher = Client(b)
        await publisher.connect(b"p")
        await publisher.publish(b"end", b"")
        for one in (there, here):
            assert (await one.message())[0] == b"end"
