"""A history as the log has it: as much as a ring takes, and never with a hole in it."""

from __future__ import annotations

from typing import Any

import pytest
from support.nats import Server
from support.nodes import Client, joined, node_of
from support.polling import until

from broker import Config
from broker.cluster import refill
from broker.config.history import HistoryRule
from broker.core.history import History, Ring
from broker.core.positions import Positions

ROWS = 30


def config(topics: str = "t/#", count: int = 1000, age_s: float = 3600.0) -> Config:
    return Config((), history=(HistoryRule((topics,), count=count, age_s=age_s),))


async def publish(client: Client, count: int) -> None:
    for number in range(count):
        await client.publish(b"t/x", b"%d" % number)
        await client.publish(b"u/x", b"another's")
    await client.subscribe((b"none", 0))  # so its node has read back all of it


def numbers(history: History, since: str) -> list[int]:
    missed = history.missed(b"t/x", since)
    assert missed.recovered, missed.reason
    return [
        int(one.payload) for piece in missed.pieces for one in piece.publications(b"t/x", missed.narrower)
    ]


@pytest.mark.parametrize("topics", ["t/#", "t/x", "#", "+/x"])
@pytest.mark.parametrize("count", [3, 1000])
async def test_a_ring_takes_the_end_of_the_log(
    nats_server: Server, cluster_name: str, topics: str, count: int
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a", config(topics)) as a:
        publisher = Client(a)
        await publisher.connect(b"p")
        await publish(publisher, ROWS)
        ring = a.app.history.rings[0]
        await until(lambda: len(ring.kept()) == (ROWS if topics.startswith("t") else 2 * ROWS))
        other = ring.kept()
        async with joined(urls, cluster_name, "b", config(topics, count)) as b:
            history = b.app.history
            kept = numbers(history, "start")
            assert kept == list(range(ROWS))[-len(kept) :]
            assert len(history.rings[0].kept()) <= count
            assert (len(kept) == ROWS) is (count > ROWS)
            there = [(one.sequence, one.topic, one.payload) for one, _, _ in history.rings[0].kept()]
            assert there == [(one.sequence, one.topic, one.payload) for one, _, _ in other][-len(there) :]
            await publisher.publish(b"t/x", b"99")
            watcher = Client(b)
            await watcher.connect(b"w")
            await watcher.subscribe((b"none", 0))  # so node b has read everything
            assert numbers(history, "start")[-1] == 99


async def test_what_is_too_old_goes_as_if_it_had_been_there_all_the_time(
    nats_server: Server, cluster_name: str
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a", config()) as a:
        publisher = Client(a)
        await publisher.connect(b"p")
        await publish(publisher, 3)
        position = a.app.history.positions.here()
        async with joined(urls, cluster_name, "b", config(age_s=3600)) as b:
            ring = b.app.history.rings[0]
            ages = [ring.now - at for _, at, _ in ring.kept()]
            assert all(-5 < age < 60 for age in ages)
            b.app.history.tick(ring.now + 3610)
            assert ring.kept() == []
            assert "age" in b.app.history.missed(b"t/x", f"{position.partition('/')[0]}/1").reason


async def test_a_log_that_forgets_while_it_is_read_makes_no_hole(
    nats_server: Server, cluster_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a", config()) as a:
        publisher = Client(a)
        await publisher.connect(b"p")
        await publish(publisher, ROWS)
        node, history = node_of(a), a.app.history
        last = node.reader.last
        firsts = [5, 6, 40, 41]

        async def info(*args: object) -> dict[str, Any]:
            return {"state": {"first_seq": firsts.pop(0)}}

        monkeypatch.setattr(refill, "info", info)
        found = {"state": {"first_seq": 1, "messages": last, "bytes": 100 * last}}
        arguments = (node.link, node.names, node.reader.publication_of, found, last, 0.0)
        history.interrupt("a test")
        await refill.refill(history, *arguments)
        assert history.rings[0].lost_through == 2 * 5 - 1 - 1, "the second try read from behind what is gone"
        assert len(numbers(history, "start")) == ROWS - history.rings[0].lost_through // 2
        firsts[:] = [20, 60, 200]  # faster than it can be read
        history.interrupt("a test")
        await refill.refill(history, *arguments)
        assert numbers(history, "start") == []


@pytest.mark.parametrize(
    ("count", "size", "each", "most"),
    [(100, 2**30, 300, 100), (10**6, 2**30, 300, refill.MESSAGES_MAX), (10**6, 64_000, 1000, 64)],
)
def test_no_more_is_read_than_a_ring_may_take(count: int, size: int, each: int, most: int) -> None:
    ring = Ring(Positions("e"), b"#", size, count, 60.0)
    assert refill._most([ring], {"messages": 1000, "bytes": 1000 * each}) == most
    assert refill._most([], {}) == 0
