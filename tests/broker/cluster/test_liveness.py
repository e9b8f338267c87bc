"""A node that reaches no NATS server any more, while the others do."""

from __future__ import annotations

import pytest
import trio
from support import nats
from support.nodes import Client, joined
from support.ports import free_port
from torture.cables import CUT, HANGING, OPEN, Cable


@pytest.mark.parametrize("how", [CUT, HANGING])
async def test_its_clients_are_closed_before_another_node_takes_them(how: str, cluster_name: str) -> None:
    """So that a client id has one owner at any moment; afterwards the node takes clients again."""
    with nats.NatsCluster(3) as servers:
        cables = [Cable(free_port(), server.port) for server in servers.servers]
        urls = tuple(f"nats://127.0.0.1:{cable.port}" for cable in cables)
        async with trio.open_nursery() as nursery:
            for cable in cables:
                await nursery.start(cable.run)
            async with joined(urls, cluster_name, "a") as a, joined(servers.urls, cluster_name, "b") as b:
                older, newer = Client(a), Client(b)
                await older.connect(b"c", False)
                for cable in cables:
                    await cable.become(how)
                closed_at: list[float] = []
                async with trio.open_nursery() as both:

                    async def watch() -> None:
                        with pytest.raises(EOFError):
                            await older.receive(60)
                        closed_at.append(trio.current_time())

                    both.start_soon(watch)
                    assert await newer.connect(b"c", False)
                    connected_at = trio.current_time()
                assert closed_at[0] <= connected_at
                for cable in cables:
                    await cable.become(OPEN)
                again = Client(a)
                assert await again.connect(b"c", False)
            nursery.cancel_scope.cancel()
