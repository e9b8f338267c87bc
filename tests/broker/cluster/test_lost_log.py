"""A log that was lost: its rows are read from Postgres again, and nobody who is connected gets one twice."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
from support.nats import Server
from support.node_rows import configured, ids, insert, reader_among
from support.nodes import Client, joined, node_of
from support.polling import until
from support.postgres import cluster, database

from broker import Broker
from broker.cluster import lease
from broker.cluster.setup import ask, info
from protocol.nats import jetstream

__all__ = ["cluster", "database"]


async def lose(broker: Broker) -> None:
    """The stream of messages, and what is retained."""
    node = node_of(broker)
    for stream in (node.names.messages, node.names.retained):
        await ask(node.link, (jetstream.API + b"STREAM.DELETE." + stream.encode(), b""))


async def rows_in_the_log(broker: Broker) -> list[int]:
    """The ids of the rows of `items/#` that the log has, in its order."""
    node = node_of(broker)
    found: list[int] = []
    state = (await info(node.link, node.names.messages) or {}).get("state", {})
    for sequence in range(int(state["first_seq"]), int(state["last_seq"]) + 1):
        request = (
            jetstream.API + b"STREAM.MSG.GET." + node.names.messages.encode(),
            jetstream.body({"seq": sequence}),
        )
        one = jetstream.stored(await node.link.request(*request, 5.0))
        if b".items." in one.subject:
            found.append(int(one.subject.rpartition(b".")[2]))
    return found


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_a_lost_log_is_filled_again_and_clients_get_every_row_once(
    nats_server: Server,
    cluster_name: str,
    database: str,
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 60)
    config = configured(tmp_path, database, kind)
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a", config) as a, joined(urls, cluster_name, "b", config) as b:
        await reader_among(a, b)
        clients = [Client(a), Client(b)]
        away = Client(b)
        await away.connect(b"away", clean=False)
        await away.subscribe((b"items/#", 1))
        await away.close()
        for client, name in zip(clients, (b"ca", b"cb"), strict=True):
            await client.connect(name)
            await client.subscribe((b"items/#", 1), (b"copies/#", 1))
        await insert(database, 1, 50)
        both = [one for number in range(1, 51) for one in (number, number)]
        for client in clients:
            assert await ids(client, 100) == both
        await lose(a)
        await insert(database, 51, 60)
        both = [one for number in range(51, 61) for one in (number, number)]
        for client in clients:
            assert await ids(client, 20) == both
        assert await rows_in_the_log(b) == list(range(1, 61))
        assert [node_of(one).status.gaps for one in (a, b)] == [1, 1]
        assert [node_of(one).status.repeated for one in (a, b)] == [100, 100]
        back = Client(a)
        await back.connect(b"away", clean=False)
        assert await ids(back, 60) == list(range(1, 61))
        await insert(database, 61, 61)
        assert await ids(clients[0], 2) == [61, 61]


async def test_a_gap_says_what_the_database_does_not_have_any_more(
    nats_server: Server, cluster_name: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 60)
    config = configured(tmp_path, database, "wal")
    urls = (nats_server.url,)
    more = {"keep_wal_s": 0.0}
    async with joined(urls, cluster_name, "a", config, more) as a:
        await reader_among(a)
        client = Client(a)
        await client.connect(b"c")
        await client.subscribe((b"items/#", 1), (b"$SYS/feed/+/gap", 1))
        await insert(database, 1, 50)
        assert await ids(client, 50) == list(range(1, 51))
        await until_confirmed(a)
        await lose(a)
        topic, payload, _, _ = await client.message()
        assert topic == b"$SYS/feed/main/gap"
        told = json.loads(payload)
        assert told["reason"] == "the cluster's log was made anew"
        await insert(database, 51, 60)
        assert await ids(client, 10) == list(range(51, 61))
        assert await rows_in_the_log(a) == list(range(51, 61))


async def until_confirmed(broker: Broker) -> None:
    """The database need keep nothing."""
    status = broker.app.feeds["main"]
    await until(lambda: status.acknowledged not in ("", "0/0") and status.acknowledged == status.position)


async def test_the_slot_stays_behind_what_the_log_has_and_a_successor_decodes_none_of_it_again(
    nats_server: Server, cluster_name: str, database: str, tmp_path: Path
) -> None:
    config = configured(tmp_path, database, "wal")
    urls = (nats_server.url,)
    slot = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE database = current_database()"
    with psycopg.connect(database, autocommit=True) as connection:
        async with joined(urls, cluster_name, "a", config) as a:
            await reader_among(a)
            (before,) = connection.execute(slot).fetchone() or ()
            client = Client(a)
            await client.connect(b"c")
            await client.subscribe((b"items/#", 1))
            await insert(database, 1, 50)
            assert await ids(client, 50) == list(range(1, 51))
        async with joined(urls, cluster_name, "b", config) as b:
            await reader_among(b)
            client = Client(b)
            await client.connect(b"c")
            await client.subscribe((b"items/#", 1))
            await insert(database, 51, 51)
            assert await ids(client, 1) == [51]
            status = b.app.feeds["main"]
            assert (status.received, status.repeated, status.gaps) == (1, 0, 0)
            assert connection.execute(slot).fetchone() == (before,)
