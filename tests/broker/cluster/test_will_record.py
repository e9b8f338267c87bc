"""A client's will: where the other nodes find it, and that it comes once on every node."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from support.memory_nats import LOST, SILENT, MemoryNats, refused
from support.nats import Server
from support.nodes import Client, joined, watching
from trio.testing import MockClock

from broker.cluster import session_state
from broker.cluster.names import Names
from broker.cluster.will_record import REMOVE_S, WillRecord, came_back, id_of
from broker.core.engine import Engine
from broker.core.publication import Publication
from protocol.mqtt.packets import Will
from protocol.nats import jetstream
from protocol.nats.jetstream import ApiError, Stored

SHOP = Names("shop")
CLIENT = SHOP.client(b"c")[2:]
KEY = b"shop.SESS.w.n-1." + CLIENT


class Wills:
    """The stream of records, and wills of the client `c` at the node `n-1`."""

    def __init__(self) -> None:
        self.server = MemoryNats()
        self.records = self.server.stream("shop_SESS", ("shop.SESS.>",), max_msgs_per_subject=1)
        self.engine = Engine()
        self.link = self.server.connected(self.engine)

    def will(self, message_id: bytes = b"will:1", delay_s: int = 0, expiry_s: int = -1) -> WillRecord:
        said = Publication(b"w", b"gone", 1, True, b"c", b"user", 1883)
        return WillRecord(self.engine, self.link, SHOP, message_id, said, delay_s, expiry_s)

    def stored(self) -> dict[str, Any] | None:
        found = self.records.of(KEY)
        return json.loads(found[-1].payload) if found and found[-1].payload else None


async def test_it_says_all_that_another_node_needs(autojump_clock: MockClock) -> None:
    wills = Wills()
    await wills.will(delay_s=5, expiry_s=7).put(b"n-1")
    stored = wills.stored()
    assert stored is not None
    assert (stored["i"], stored["d"], stored["e"]) == ("will:1", 5, 7)
    said = session_state.read_message(stored["w"], 0.0, 0.0)
    assert (said.topic, said.payload, said.qos, said.retain) == (b"w", b"gone", 1, True)
    assert (said.client_id, said.user_name, said.listener_port) == (b"c", b"user", 1883)


async def test_the_will_of_the_next_connection_takes_its_place(autojump_clock: MockClock) -> None:
    wills = Wills()
    first, second = wills.will(b"will:1"), wills.will(b"will:2")
    await first.put(b"n-1")
    await second.put(b"n-1")
    stored = wills.stored()
    assert stored is not None
    assert stored["i"] == "will:2"
    await first.remove()
    assert wills.stored() == stored, "which is not the first any more"
    await second.remove()
    assert wills.stored() is None
    assert wills.records.kept[-1].ends_at - trio.current_time() == pytest.approx(1, abs=0.1)


async def test_a_write_that_somebody_else_was_faster_with_is_said(autojump_clock: MockClock) -> None:
    wills = Wills()
    wills.server.faults.append((KEY, refused(400, jetstream.WRONG_LAST_SEQUENCE)))
    with pytest.raises(ApiError):
        await wills.will().put(b"n-1")


@pytest.mark.parametrize(
    "fault",
    [LOST, SILENT, refused(503, 10008), refused(404, jetstream.NO_MESSAGE)],
    ids=["lost", "silent", "no leader", "yet to catch up"],
)
async def test_removing_is_tried_again(autojump_clock: MockClock, fault: object) -> None:
    wills = Wills()
    will = wills.will()
    await will.put(b"n-1")
    wills.server.faults += [(KEY, fault), (b"MSG.GET", fault)]
    await will.remove()
    assert wills.server.faults == []
    assert wills.stored() is None
    last = wills.records.last
    await will.remove()
    assert wills.records.last == last, "there is nothing to remove"


async def test_but_not_for_ever(autojump_clock: MockClock) -> None:
    wills = Wills()
    will = wills.will()
    await will.put(b"n-1")
    wills.server.drop(wills.link)
    began = trio.current_time()
    await will.remove()
    assert trio.current_time() - began == REMOVE_S


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (b'{"i":"will:1"}', b"will:1"),
        (b'{"i":7}', b"7"),
        (b"{}", b""),
        (b"[]", b""),
        (b"", b""),
        (b"{", b""),
        pytest.param(b"[" * 100_000, b"", id="deep"),
    ],
)
def test_the_id_of_what_is_stored(payload: bytes, found: bytes) -> None:
    assert id_of(Stored(KEY, 1, b"", payload)) == found


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


@pytest.mark.parametrize(
    "stored", [b"", b"no json", b'{"i": "will:1"}'], ids=["gone", "unreadable", "without delay"]
)
async def test_what_is_no_delayed_will_is_left_as_it_is(autojump_clock: MockClock, stored: bytes) -> None:
    wills = Wills()
    if stored:
        wills.records.put(KEY, b"", stored)
    last = wills.records.last
    await came_back(wills.link, SHOP, b"n-1", b"c", True)
    assert wills.records.last == last
