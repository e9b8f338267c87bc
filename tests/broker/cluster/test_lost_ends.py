"""Nodes that begin after the log has lost its end set right the places of sessions that were away."""

from __future__ import annotations

import json
import time

import pytest
import trio
from support.attached import Attached
from support.memory_nats import MemoryNats
from support.memory_node import MemoryNode, running
from trio.testing import MockClock

from broker.cluster import log_end
from broker.cluster.link import Unavailable
from broker.cluster.lost_ends import ANYWHERE
from broker.cluster.names import Names

LOG = "shop_MSGS"
SHOP = Names("shop")


async def left_behind(server: MemoryNats, count: int = 4) -> None:
    """A client's session, which had so much, and no node any more."""
    async with running(server, "a") as (a,):
        client = await a.comes(filters=((b"t", 1),))
        publish(a, *range(count))
        await a.settled()
        acknowledge(client)
        await a.goes(client)


def publish(node: MemoryNode, *numbers: int) -> None:
    for number in numbers:
        node.publish(b"t", b"%d" % number)


def acknowledge(client: Attached) -> list[bytes]:
    payloads = client.payloads()
    for entry in list(client.session.outbound.inflight()):
        client.session.outbound.puback(entry.packet_id)
    return payloads


async def back(node: MemoryNode) -> list[bytes]:
    client = await node.comes()
    assert client.was_present
    await trio.sleep(6)
    return acknowledge(client)


@pytest.mark.parametrize("written_since", [0, 1, 2, 5])
async def test_a_session_goes_on_behind_what_was_left(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, written_since: int
) -> None:
    monkeypatch.setattr(log_end, "CLOCKS_NS", 0)
    server = MemoryNats()
    await left_behind(server)
    server.streams[LOG].lose(2)
    async with running(server, "b") as (b,):
        publish(b, *range(4, 4 + written_since))
        await b.settled()
        assert await back(b) == [b"%d" % number for number in range(4, 4 + written_since)]
        assert b.node.status.session_gaps == 1


async def test_one_that_lost_nothing_has_no_gap(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    await left_behind(server)
    async with running(server, "b") as (b,):
        publish(b, 4)
        await b.settled()
        assert await back(b) == [b"4"]
        assert b.node.status.session_gaps == 0


async def test_nor_has_one_whose_last_message_is_too_old_to_be_kept(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    await left_behind(server)
    del server.streams[LOG].kept[:]
    async with running(server, "b") as (b,):
        publish(b, 4)
        await b.settled()
        assert await back(b) == [b"4"]
        assert b.node.status.session_gaps == 0


async def test_a_record_of_an_older_version_is_taken_at_its_word(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    await left_behind(server)
    (record,) = server.streams["shop_SESS"].of(SHOP.record(SHOP.client(b"c")))
    said = json.loads(record.payload)
    assert said.pop("d")[0] == 4
    record.payload = json.dumps(said).encode()
    server.streams[LOG].lose(2)
    async with running(server, "b") as (b,):
        publish(b, 4, 5, 6)
        await b.settled()
        assert await back(b) == [b"6"]


async def test_who_leads_and_has_yet_to_catch_up_proves_nothing(autojump_clock: MockClock) -> None:
    """The client waits until a quorum has said what the log has."""
    server = MemoryNats()
    await left_behind(server)
    async with running(server, "b") as (b,):
        publish(b, 4, 5)
        await b.settled()
        server.streams[LOG].fall_behind(3)
        got: list[bytes] = []

        async def comes() -> None:
            got.extend(await back(b))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(comes)
            await trio.sleep(3)
            server.catch_up(LOG)
        assert got == [b"4", b"5"]
        assert b.node.status.session_gaps == 0


async def test_what_a_node_has_found_itself_counts_for_what_was_written_down_before(
    autojump_clock: MockClock,
) -> None:
    async with running(MemoryNats(), "a") as (a,):
        publish(a, *range(4))
        await a.settled()
        ends = a.node.reader.lost_ends
        now = time.time()
        ends.found(now, 2)
        assert await ends.still_there(4, 0, now - 1) == 2
        assert await ends.still_there(4, 0, now + 1) == ANYWHERE
        assert await ends.still_there(*a.node.reader.place_read(), now + 1) == ANYWHERE
        ends.read("another")
        assert await ends.still_there(4, 0, now - 1) == ANYWHERE
        with pytest.raises(Unavailable):
            await ends.still_there(4, 1, now)
