"""Rows are delivered where they were seen to come; the task wakes for what must wait, and for what fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import trio
from support.peer import connected as client
from support.polling import until
from trio.testing import wait_all_tasks_blocked

from broker.config.feeds import FeedConfig, Route, Source
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.feed.driver.connection import TrioConnection
from broker.feed.listen.attention import Attention
from broker.feed.listen.feed import SEND_ROWS
from broker.feed.listen.listener import BATCH_MAX, MUCH, PIECE
from broker.feed.outlet import Watch
from broker.feed.status import FeedStatus
from broker.feed.supervise import supervise
from broker.links.readiness import is_portable
from broker.links.server import Server
from broker.outlet import EngineOutlet
from protocol.mqtt.packets import Subscribe
from protocol.notifications import Notification

ROW: Notification = (b"c", b"{}")


class Loop:
    """An outlet's loop, which rings when it is told to."""

    def __init__(self) -> None:
        self.is_watching = False
        self.rung: Callable[[], None]

    def watch(self, fd: int, rung: Callable[[], None]) -> Watch | None:
        self.rung = rung
        return self

    def begin(self) -> None:
        assert not self.is_watching
        self.is_watching = True

    def end(self) -> None:
        assert self.is_watching
        self.is_watching = False


class Heard:
    """A listener whose next reads are given."""

    def __init__(self) -> None:
        self.reads: list[list[Notification] | psycopg.Error | None] = []
        self.has_arrived = False
        self.waits = 0

    def fileno(self) -> int:
        return 7

    async def wait(self) -> None:
        self.waits += 1

    def few(self) -> list[Notification] | None:
        found = self.reads.pop(0)
        if isinstance(found, psycopg.Error):
            raise found
        return found


class World:
    def __init__(self) -> None:
        self.loop = Loop()
        self.listener = Heard()
        self.delivered: list[Notification] = []
        self.is_all = True
        self.woken = 0
        self.many = 0
        self.attention = Attention(
            self.loop,  # type: ignore[arg-type]
            self.listener,  # type: ignore[arg-type]
            self._deliver,
            self._deliver_many,
        )

    def _deliver(self, some: list[Notification]) -> bool:
        self.delivered += some
        return self.is_all

    def _deliver_many(self) -> bool:
        self.many += 1
        return self.is_all

    async def work(self) -> None:
        while True:
            await self.attention.wait()
            self.woken += 1

    def ring(self, *reads: list[Notification] | psycopg.Error | None) -> None:
        self.listener.reads += reads
        self.loop.rung()


@asynccontextmanager
async def working() -> AsyncIterator[World]:
    world = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.work)
        await wait_all_tasks_blocked()
        yield world
        nursery.cancel_scope.cancel()


async def test_few_and_many_are_delivered_while_the_task_sleeps() -> None:
    async with working() as world:
        assert world.loop.is_watching
        world.ring([ROW])
        world.ring([])
        world.ring(None)
        world.ring([ROW, ROW])
        await wait_all_tasks_blocked()
        assert (world.delivered, world.many, world.woken) == ([ROW] * 3, 1, 0)


@pytest.mark.parametrize(
    ("reads", "delivered", "many"),
    [
        ([[ROW] * MUCH, []], MUCH, 0),
        ([[ROW] * MUCH, [ROW] * MUCH, [ROW]], 2 * MUCH + 1, 0),
        ([[ROW] * MUCH, None], MUCH, 1),
        ([[ROW] * PIECE, [ROW]], PIECE + 1, 0),
        ([[ROW] * PIECE, [ROW] * PIECE], 2 * PIECE, 0),
    ],
    ids=["nothing", "more", "very many", "a piece and one", "no more than two pieces"],
)
async def test_where_several_came_the_next_are_read_before_anything_is_sent(
    reads: list[list[Notification] | None], delivered: int, many: int
) -> None:
    async with working() as world:
        world.ring(*reads)
        await wait_all_tasks_blocked()
        assert (len(world.delivered), world.many, world.woken) == (delivered, many, 0)
        assert world.listener.reads == []


async def test_of_several_that_leave_something_to_the_task_no_more_is_read() -> None:
    async with working() as world:
        world.is_all = False
        world.ring([ROW] * MUCH, [ROW])
        await wait_all_tasks_blocked()
        assert (len(world.delivered), world.woken) == (MUCH, 1)
        assert world.listener.reads == [[ROW]]


@pytest.mark.parametrize("read", [None, [ROW]], ids=["many", "few"])
async def test_where_something_is_left_the_task_wakes_once_and_then_leaves_it_to_the_loop_again(
    read: list[Notification] | None,
) -> None:
    async with working() as world:
        world.is_all = False
        world.ring(read)
        world.loop.rung()  # again, before the task has had its turn: it is nobody's to read
        assert not world.loop.is_watching
        await wait_all_tasks_blocked()
        assert (world.woken, world.loop.is_watching) == (1, True)
        world.is_all = True
        world.ring([ROW])
        await wait_all_tasks_blocked()
        assert world.woken == 1


async def test_an_error_is_the_tasks_and_comes_once() -> None:
    world = World()
    async with trio.open_nursery() as nursery:

        async def fails() -> None:
            with pytest.raises(psycopg.OperationalError, match="gone"):
                await world.attention.wait()

        nursery.start_soon(fails)
        await wait_all_tasks_blocked()
        world.ring(psycopg.OperationalError("gone"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.work)
        await wait_all_tasks_blocked()
        assert world.woken == 0
        nursery.cancel_scope.cancel()


async def test_what_was_read_already_is_not_waited_for() -> None:
    world = World()
    world.listener.has_arrived = True
    await world.attention.wait()
    assert (world.listener.waits, world.loop.is_watching) == (1, False)


@pytest.mark.parametrize("outlet", [SimpleNamespace(), EngineOutlet(Engine(), None)], ids=["none", "no-loop"])
async def test_without_a_loop_the_task_waits_as_ever(outlet: Any) -> None:
    listener = Heard()
    attention = Attention(outlet, listener, lambda some: True, lambda: True)  # type: ignore[arg-type]
    await attention.wait()
    assert listener.waits == 1
    attention.close()


async def test_closed_it_is_not_watched_whether_it_was_or_not() -> None:
    async with working() as world:
        world.attention.close()
        assert not world.loop.is_watching
        world.attention.close()


# --- a real server, a real pump ---------------------------------------------------------------------------


class Rows(Receiver):
    """What has come, and whether the feed's task had been woken for it."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(plain=False)
        self.ids: list[int] = []
        engine.subscribe(self, b"rows/#", 0)

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self.ids.append(int(publication.payload.split(b":")[1].rstrip(b"}")))


@pytest.fixture
def config(database: str) -> FeedConfig:
    return FeedConfig(
        "test", database, sources=(Source("rows", ("rows",)),), routes=(Route("rows", ("rows/{$kind}",)),)
    )


@asynccontextmanager
async def live(config: FeedConfig) -> AsyncIterator[tuple[Engine, FeedStatus]]:
    engine, status = Engine(), FeedStatus("test")
    async with trio.open_nursery() as nursery:
        server = Server(engine, nursery)
        nursery.start_soon(server.pump.run)
        nursery.start_soon(supervise, config, EngineOutlet(engine, None, None, server.watch), status)
        await until(lambda: status.state == "live")
        yield engine, status
        nursery.cancel_scope.cancel()


async def notify(writer: TrioConnection, first: int, last: int) -> None:
    await writer.execute(
        "SELECT pg_notify('rows', format('{\"id\":%%s}', i)) FROM generate_series(%s::int, %s::int) i",
        (first, last),
    )


@pytest.mark.usefixtures("fast_path")
async def test_few_and_many_come_once_and_in_their_order(
    database: str, config: FeedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken = 0
    attention = Attention.wait

    async def counted(self: Attention) -> None:
        nonlocal woken
        await attention(self)
        woken += 1

    monkeypatch.setattr(Attention, "wait", counted)
    async with (
        live(config) as (engine, status),
        await TrioConnection.connect(database, autocommit=True) as writer,
    ):
        rows = Rows(engine)
        for number in range(1, 21):
            await notify(writer, number, number)
        await until(lambda: len(rows.ids) == 20)
        assert woken == 0 or is_portable()
        await notify(writer, 21, 20 + PIECE + 2 * BATCH_MAX)
        await notify(writer, 21 + PIECE + 2 * BATCH_MAX, 21 + PIECE + 2 * BATCH_MAX)
        await until(lambda: len(rows.ids) == 21 + PIECE + 2 * BATCH_MAX)
        assert rows.ids == list(range(1, 22 + PIECE + 2 * BATCH_MAX))
        assert status.received == status.published == len(rows.ids)
        assert woken == 0 or is_portable()


@pytest.mark.usefixtures("fast_path")
async def test_clients_get_what_came_in_one_turn_in_one_piece(database: str, config: FeedConfig) -> None:
    async with (
        live(config) as (engine, status),
        await TrioConnection.connect(database, autocommit=True) as writer,
    ):
        peer = client(engine, b"c")
        peer.send(Subscribe(1, ((b"rows/#", 0),)))
        peer.read()
        await notify(writer, 1, 40)
        await until(lambda: status.published == 40 and engine.counters.publishes_sent == 40)
        assert [int(one.payload[6:-1]) for one in peer.read()] == list(range(1, 41))  # type: ignore[union-attr]


async def test_long_rows_of_one_transaction_do_not_pile_up_before_a_client_who_reads(
    database: str, config: FeedConfig
) -> None:
    count = 2 * SEND_ROWS
    async with (
        live(config) as (engine, status),
        await TrioConnection.connect(database, autocommit=True) as writer,
    ):
        peer = client(engine, b"c")
        peer.outbox.limit_bytes = (SEND_ROWS + PIECE) * 8000
        peer.send(Subscribe(1, ((b"rows/#", 0),)))
        peer.read()
        await writer.execute(
            "SELECT pg_notify('rows', format('{\"id\":%s,\"x\":\"%s\"}', i, repeat('x', 7000)))"
            f" FROM generate_series(1, {2 * count}) i"
        )
        await until(lambda: status.published == 2 * count)
        assert engine.counters.dropped_outbox_full == 0
        assert engine.counters.publishes_sent == 2 * count


async def test_a_connection_that_ends_while_the_loop_watches_is_made_anew(
    database: str, config: FeedConfig, short_pauses: None
) -> None:
    async with (
        live(config) as (engine, status),
        await TrioConnection.connect(database, autocommit=True) as writer,
    ):
        rows = Rows(engine)
        await writer.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'rowcast'"
            " AND datname = current_database()"
        )
        await until(lambda: status.state == "live" and status.reconnects == 1)
        await notify(writer, 1, 3)
        await until(lambda: rows.ids == [1, 2, 3])
