"""What a node that crashes leaves behind is seen to by the others, once."""

from __future__ import annotations

from support.nats import Server
from support.nodes import Client, joined, watching

from protocol.mqtt.packets import Disconnect, Will


async def test_wills_of_a_node_that_crashes_come_once(nats_server: Server, cluster_name: str) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "b") as b, joined(urls, cluster_name, "c") as c:
        there, third = await watching(b, b"w/#", b"end"), Client(c)
        await third.connect(b"third")
        await third.subscribe((b"w/#", 1), (b"end", 0))
        async with joined(urls, cluster_name, "a", crashes=True) as a:
            left, stays, moves = Client(a), Client(a), Client(a)
            await left.connect(b"left", True, Will(b"w/left", b"", 1, False))
            await left.send(Disconnect())
            await stays.connect(b"stays", True, Will(b"w/stays", b"1", 1, True))
            await moves.connect(b"moves", False, Will(b"w/moves", b"1", 1, False))
            moved = Client(b)
            await moved.connect(b"moves", False)
        assert (await there.message(20))[:2] == (b"w/stays", b"1")
        assert (await third.message())[:2] == (b"w/stays", b"1")
        publisher = Client(c)
        await publisher.connect(b"p")
        await publisher.publish(b"end", b"")
        for one in (there, third):
            assert (await one.message())[0] == b"end"
        late = Client(b)
        await late.connect(b"late")
        await late.subscribe((b"w/#", 1))
        assert await late.message() == (b"w/stays", b"1", 1, True)
