"""Which nodes live, and what a node does that may be dead to the others, or reaches no NATS server any more."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from support import nats
from support.memory_nats import LOST, SILENT, MemoryNats, refused
from support.nodes import Client, joined
from support.ports import free_port
from torture.cables import CUT, HANGING, OPEN, Cable
from trio.testing import MockClock

from broker.cluster.fences import Fences
from broker.cluster.liveness import GRACE_S, LIVES_S, RENEW_S, STOOD_STILL_S, Liveness
from broker.cluster.names import Names
from broker.cluster.quorum import Quorum
from broker.cluster.status import ClusterStatus
from broker.config.cluster import ClusterConfig
from broker.core.engine import Engine
from protocol.nats import jetstream
from protocol.nats.jetstream import ApiError

NAMES = Names("shop")


class Living:
    """Two nodes on one server, each with a connection of its own."""

    def __init__(self) -> None:
        self.server = MemoryNats()
        self.records = self.server.stream("shop_SESS", ("shop.SESS.>",), max_msgs_per_subject=1)
        self.log = self.server.stream("shop_MSGS", ("shop.MSGS.>",))
        self.a, self.b = self._node(b"a"), self._node(b"b")
        self.deaths: list[bytes] = []

    def _node(self, name: bytes) -> Liveness:
        engine = Engine()
        engine.turn.clock = trio.current_time
        link = self.server.connected(engine)
        config = ClusterConfig(nats=("nats://one", "nats://two", "nats://three"))
        quorum = Quorum(config, link, NAMES, ClusterStatus())
        made = Liveness(engine, link, NAMES, name, quorum, Fences(link, NAMES))
        made.on_dead = lambda: self.deaths.append(name)
        return made

    def record_of(self, node: Liveness) -> tuple[bytes, int]:
        kept = self.records.of(NAMES.record(NAMES.node(node.mark)))
        return (kept[-1].payload, kept[-1].sequence) if kept else (b"", 0)

    async def until_dead(self) -> float:
        """How long `b` looks until `a` is dead."""
        began = trio.current_time()
        with trio.fail_after(60):
            while not await self.b.is_dead(b"a-1"):  # noqa: ASYNC110 - it is to be asked again and again
                await trio.sleep(0.25)
        return trio.current_time() - began


async def test_a_node_lives_while_it_says_so(autojump_clock: MockClock) -> None:
    living = Living()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(living.a.run)
        await living.a.ready()
        for _ in range(20):
            assert living.record_of(living.a)[0] == b"lives"
            assert not await living.b.is_dead(b"a-1")
            await trio.sleep(RENEW_S)
        assert 20 <= living.record_of(living.a)[1] <= 23, "once a second"
        assert living.deaths == []
        nursery.cancel_scope.cancel()


async def test_who_was_dead_is_ready_once_it_is_said_under_the_new_mark_that_it_lives(
    autojump_clock: MockClock,
) -> None:
    """Else clients would be let in, and nobody would see to their wills: who looks for dead nodes finds records."""
    living = Living()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(living.a.run)
        await living.a.ready()
        await trio.testing.wait_all_tasks_blocked()
        living.a._die("for this test")
        began = trio.current_time()
        await living.a.ready()
        assert living.a.mark == b"a-2"
        assert living.record_of(living.a)[0] == b"lives"
        assert trio.current_time() - began < RENEW_S / 2, "at once"
        nursery.cancel_scope.cancel()


async def test_who_says_nothing_is_dead_after_its_time_and_some_grace(autojump_clock: MockClock) -> None:
    living = Living()
    await living.a._renew()
    await living.b._renew()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(living.b.run)
        assert LIVES_S + GRACE_S <= await living.until_dead() <= LIVES_S + GRACE_S + 1
        nursery.cancel_scope.cancel()
    assert living.record_of(living.a)[0] == b"dead"
    assert await living.b.is_dead(b"a-1"), "for good"
    assert not await living.b.is_dead(b"b-1"), "oneself is not"


async def test_who_never_was_is_dead_after_some_grace(autojump_clock: MockClock) -> None:
    """As when its first words were lost: a client's record names it."""
    living = Living()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(living.b.run)
        await living.b.ready()
        assert GRACE_S <= await living.until_dead() <= GRACE_S + 1
        nursery.cancel_scope.cancel()


async def test_whoever_is_not_heard_itself_takes_nobody_for_dead(autojump_clock: MockClock) -> None:
    """What it sees ended, ended maybe as its own record did: nothing was written for a while."""
    living = Living()
    await living.b._renew()
    await trio.sleep(1)
    for _ in range(30):
        assert not await living.b.is_dead(b"a-1")
        await trio.sleep(1)
    await living.b._renew()
    assert await living.b.is_dead(b"a-1")


async def test_after_a_lost_connection_the_grace_begins_anew(autojump_clock: MockClock) -> None:
    living = Living()
    assert not await living.b.is_dead(b"a-1")
    await trio.sleep(GRACE_S + 1)
    living.b.forget_sightings()
    await living.b._renew()
    assert not await living.b.is_dead(b"a-1")
    await trio.sleep(GRACE_S)
    await living.b._renew()
    assert await living.b.is_dead(b"a-1")


async def test_a_record_that_comes_again_ends_the_grace(autojump_clock: MockClock) -> None:
    living = Living()
    assert not await living.b.is_dead(b"a-1")
    await trio.sleep(GRACE_S / 2)
    await living.a._renew()
    assert not await living.b.is_dead(b"a-1")
    await trio.sleep(LIVES_S + 0.5)
    await living.b._renew()
    assert not await living.b.is_dead(b"a-1")


async def test_of_two_that_say_so_one_is_first_and_the_other_looks_again(autojump_clock: MockClock) -> None:
    living = Living()
    assert not await living.b.is_dead(b"a-1")
    await trio.sleep(GRACE_S)
    await living.b._renew()
    living.server.faults.append((b"SESS.n.a-1", refused(400, jetstream.WRONG_LAST_SEQUENCE)))
    assert not await living.b.is_dead(b"a-1")
    assert await living.b.is_dead(b"a-1")
    living.records.kept.clear()
    living.b._seen_ended[b"a-1"] = trio.current_time() - GRACE_S
    await living.b._renew()
    living.server.faults.append((b"SESS.n.a-1", refused(503, 10008)))
    with pytest.raises(ApiError):
        await living.b.is_dead(b"a-1")


async def test_who_finds_itself_dead_goes_on_under_another_mark(autojump_clock: MockClock) -> None:
    living = Living()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(living.a.run)
        await living.a.ready()
        living.records.put(NAMES.record(b"n.a-1"), b"", b"dead")
        await trio.sleep(RENEW_S * 1.5)
        assert living.deaths == [b"a"]
        assert living.a.mark == b"a-2"
        await trio.sleep(RENEW_S)
        assert living.record_of(living.a)[0] == b"lives"
        assert await living.b.is_dead(b"a-1")
        assert not await living.b.is_dead(b"a-2")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("fault", [LOST, SILENT, refused(503, 10008)], ids=["lost", "silent", "no leader"])
async def test_a_renewal_that_is_not_answered_is_made_again(autojump_clock: MockClock, fault: object) -> None:
    living = Living()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(living.a.run)
        await living.a.ready()
        living.server.faults.append((b"SESS.n.a-1", fault))
        await trio.sleep(6 * RENEW_S)
        assert living.server.faults == []
        assert living.record_of(living.a)[0] == b"lives"
        assert living.deaths == []
        nursery.cancel_scope.cancel()


async def test_a_record_that_is_gone_is_written_anew(autojump_clock: MockClock) -> None:
    living = Living()
    await living.a._renew()
    living.records.kept.clear()
    await living.a._renew()
    assert living.record_of(living.a)[0] == b"lives"
    assert living.deaths == []


async def test_a_new_connection_is_used_at_once(autojump_clock: MockClock) -> None:
    living = Living()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(living.a.run)
        await living.a.ready()
        link = living.a._link
        living.server.drop(link)
        await trio.sleep(RENEW_S * 0.2)
        before = living.record_of(living.a)
        living.server.admit(link)
        await trio.sleep(RENEW_S * 0.2)
        assert living.record_of(living.a) != before
        nursery.cancel_scope.cancel()


async def test_who_leaves_is_dead_at_once(autojump_clock: MockClock) -> None:
    living = Living()
    await living.a._renew()
    await living.a.leave()
    assert await living.b.is_dead(b"a-1")
    living.server.drop(living.a._link)
    await living.a.leave()


async def test_a_process_that_stood_still_closes_its_clients_before_it_does_anything(
    autojump_clock: MockClock,
) -> None:
    living = Living()
    await living.a._renew()
    engine = living.a._engine
    with engine.turn:
        pass
    await trio.sleep(STOOD_STILL_S - 0.1)
    with engine.turn:
        pass
    assert living.deaths == []
    await trio.sleep(STOOD_STILL_S + 0.1)
    with engine.turn:
        assert living.deaths == [b"a"], "before what the turn is for"
        assert living.a.mark == b"a-2"
    with engine.turn:
        pass
    assert living.deaths == [b"a"]


@pytest.mark.parametrize(
    ("clients", "without", "dies"), [(1, 0, True), (0, 0, False), (1, 2, False), (1, 3, False), (1, 1, True)]
)
async def test_who_is_not_heard_closes_its_clients_where_others_may_have_a_quorum(
    autojump_clock: MockClock, clients: int, without: int, dies: bool
) -> None:
    """Of three servers two that say they have none are enough: nobody has one."""
    living = Living()
    await living.a._renew()
    engine = living.a._engine
    engine.connected = clients
    for _ in range(2 * int(STOOD_STILL_S) + 1):
        await trio.sleep(0.5)
        servers = ("nats://one", "nats://two", "nats://three")[:without]
        living.a._quorum._without = dict.fromkeys(servers, trio.current_time())
        with engine.turn:
            pass
    assert bool(living.deaths) is dies


async def test_also_where_nobody_says_anything(autojump_clock: MockClock) -> None:
    living = Living()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(living.a.run)
        await living.a.ready()
        living.a._engine.connected = 1
        living.server.drop(living.a._link)
        await trio.sleep(STOOD_STILL_S + 1)
        assert living.deaths == [b"a"]
        nursery.cancel_scope.cancel()


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
                    both.start_soon(older.closed, closed_at)
                    assert await newer.connect(b"c", False)
                    connected_at = trio.current_time()
                assert closed_at[0] <= connected_at
                for cable in cables:
                    await cable.become(OPEN)
                again = Client(a)
                assert await again.connect(b"c", False)
            nursery.cancel_scope.cancel()
