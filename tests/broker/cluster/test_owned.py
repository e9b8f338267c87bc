"""The records of a node's clients: written when they change, and left alone by a node that may be dead."""

from __future__ import annotations

import pytest
import trio
from support import nats
from support.attached import Attached
from support.memory_nats import LOST, SILENT, MemoryNats, refused
from support.memory_node import MemoryNode, running
from support.nodes import Client, joined, node_of
from trio.testing import MockClock

from broker import Broker
from broker.cluster import owned, session_state
from broker.cluster.lease import Record
from broker.cluster.names import Names
from broker.cluster.owned import (
    CLEAN_S,
    LOGGED_S,
    LOGGED_TRIES,
    MAY_BE_ELSEWHERE,
    SAVE_EVERY_S,
    TURN_AWAY_S,
    Owned,
)
from broker.cluster.session_state import SessionState
from broker.core.promise import Promise
from broker.core.publication import Publication
from broker.core.session import Session
from protocol.mqtt.v5.reasons import ReasonCode
from protocol.nats import jetstream

SHOP = Names("shop")


def record(server: MemoryNats, client_id: bytes = b"c") -> tuple[SessionState | None, float]:
    """What the nodes know of a client, and for how many seconds more."""
    found = server.streams["shop_SESS"].of(SHOP.record(SHOP.client(client_id)))
    if not found:
        return None, 0.0
    lives_s = found[-1].ends_at - trio.current_time()
    if not found[-1].payload:
        return None, lives_s
    return session_state.decode(found[-1].payload, 0.0, 0.0), lives_s


def others_write(server: MemoryNats, client_id: bytes = b"c") -> None:
    """As a node that has taken the client over."""
    state = session_state.encode(SessionState(b"other-1"), 0.0, 0.0)
    server.streams["shop_SESS"].put(SHOP.record(SHOP.client(client_id)), b"", state)


async def subscribed(a: MemoryNode, *filters: tuple[bytes, int]) -> tuple[Attached, list[float]]:
    """A client that subscribes, and when its SUBACK went."""
    client = await a.comes()
    acknowledged: list[float] = []
    with a.engine.turn:
        for topic_filter, granted in filters:
            a.engine.subscribe_session(client.session, topic_filter, granted)
        assert a.engine.keep is not None
        promise = a.engine.keep(client.session)
        assert promise is not None
        promise.on_kept = lambda: acknowledged.append(trio.current_time())
    return client, acknowledged


async def test_a_subscription_is_acknowledged_when_it_is_written_down(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        server.faults += [(b"shop.SESS.c.", SILENT)] * 2  # the first is of the connection
        _, acknowledged = await subscribed(a, (b"t", 1))
        assert acknowledged == []
        await trio.sleep(3)
        state, lives_s = record(server)
        assert state is not None
        assert (state.owner, state.subscriptions) == (a.node.liveness.mark, {b"t": 1})
        assert state.epoch == a.node.reader.epoch
        assert lives_s == float("inf")
        assert len(acknowledged) == 1


async def test_nothing_of_it_comes_where_the_record_is_another_node_s(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        client, acknowledged = await subscribed(a, (b"t", 1))
        await a.settled()
        client.session.will = Publication(b"w", b"", 1, False, b"c")
        others_write(server)
        with a.engine.turn:
            assert a.engine.keep is not None
            a.engine.keep(client.session)
        await a.settled()
        assert client.why == "disconnected: taken over on another node."
        assert client.code == ReasonCode.SESSION_TAKEN_OVER
        assert not client.will_wanted
        assert a.engine.sessions == {}
        assert a.owners.owned == {}
        assert len(acknowledged) == 1
        state, _ = record(server)
        assert state is not None
        assert state.owner == b"other-1"
        assert server.streams["shop_MSGS"].kept == [], "no will"


async def test_a_write_whose_answer_is_lost_is_known_again(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        client, _ = await subscribed(a, (b"t", 1))
        await a.settled()
        server.faults += [(b"shop.SESS.c.", LOST), (b"shop.SESS.c.", LOST)]
        with a.engine.turn:
            assert a.engine.keep is not None
            promise = a.engine.keep(client.session)
            assert promise is not None
        before = server.streams["shop_SESS"].last
        await trio.sleep(5)
        assert promise.is_kept
        assert client.why == ""
        assert a.owners.owned[b"c"].sequence == record_sequence(server)
        assert server.streams["shop_SESS"].last > before


def record_sequence(server: MemoryNats) -> int:
    return server.streams["shop_SESS"].of(SHOP.record(SHOP.client(b"c")))[-1].sequence


async def test_a_refusal_of_what_nobody_else_wrote_is_tried_again(autojump_clock: MockClock) -> None:
    """A leader without a quorum has the write under way."""
    server = MemoryNats()
    async with running(server, "a") as (a,):
        client, _ = await subscribed(a, (b"t", 1))
        await a.settled()
        server.faults.append((b"shop.SESS.c.", refused(400, jetstream.WRONG_LAST_SEQUENCE)))
        server.faults.append((b"MSG.GET.shop_SESS", SILENT))
        with a.engine.turn:
            assert a.engine.keep is not None
            promise = a.engine.keep(client.session)
            assert promise is not None
        await trio.sleep(5)
        assert promise.is_kept
        assert client.why == ""


async def test_an_older_record_is_the_word_of_who_has_yet_to_catch_up(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        client = await a.comes()
        before = server.streams["shop_SESS"].of(SHOP.record(SHOP.client(b"c")))[-1]
        await a.settled()
        assert record_sequence(server) > before.sequence
        server.faults.append((b"shop.SESS.c.", refused(400, jetstream.WRONG_LAST_SEQUENCE)))
        server.faults.append((b"MSG.GET.shop_SESS", before.said()))
        with a.engine.turn:
            assert a.engine.keep is not None
            promise = a.engine.keep(client.session)
            assert promise is not None
        await trio.sleep(5)
        assert server.faults == []
        assert promise.is_kept
        assert client.why == ""
        assert a.owners.owned[b"c"].sequence == record_sequence(server)


@pytest.mark.parametrize("owner", ["mine", "nobody", "other"])
async def test_unless_a_quorum_says_so_too(autojump_clock: MockClock, owner: str) -> None:
    """The records have lost their end, and with it the last write; nobody else has the client, or somebody does."""
    server = MemoryNats()
    async with running(server, "a") as (a,):
        client, _ = await subscribed(a, (b"t", 1))
        await a.settled()
        record = server.streams["shop_SESS"].of(SHOP.record(SHOP.client(b"c")))[-1]
        record.sequence -= 1
        mark = {"mine": a.node.liveness.mark, "nobody": b"", "other": b"other-1"}[owner]
        record.payload = session_state.encode(SessionState(mark), 0.0, 0.0)
        with a.engine.turn:
            assert a.engine.keep is not None
            promise = a.engine.keep(client.session)
            assert promise is not None
        await trio.sleep(5)
        assert promise.is_kept == (owner != "other")
        assert (client.why == "") == (owner != "other")


async def test_who_waits_too_long_for_its_subscription_is_sent_elsewhere(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        silent, _ = await subscribed(a, (b"t", 1))
        await a.settled()
        server.faults += [(b"shop.SESS.c.", SILENT)] * 20
        with a.engine.turn:
            assert a.engine.keep is not None
            a.engine.keep(silent.session)
        await trio.sleep(TURN_AWAY_S - 0.5)
        assert silent.why == ""
        await trio.sleep(2)
        assert silent.why == "disconnected: the cluster takes no subscriptions."
        assert silent.code == ReasonCode.SERVER_BUSY


@pytest.mark.parametrize(
    ("expiry_s", "longest_s", "ttl_s"),
    [(float("inf"), 0, 0), (10.2, 0, 11), (0.0, 0, 1), (100.0, 50, 50), (float("inf"), 50, 50)],
)
async def test_the_record_of_who_is_away_lives_as_long_as_its_session(
    autojump_clock: MockClock, expiry_s: float, longest_s: int, ttl_s: int
) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        a.engine.policy.persistent_client_expiration_s = longest_s
        client, _ = await subscribed(a, (b"t", 1))
        await a.settled()
        client.session.expiry_s = expiry_s
        with a.engine.turn:
            client.close("it goes")
        await trio.sleep(0.2)
        state, lives_s = record(server)
        assert state is not None
        assert state.owner == b""
        assert state.subscriptions == {b"t": 1}
        assert lives_s == pytest.approx(ttl_s, abs=0.3) if ttl_s else lives_s == float("inf")
        assert a.owners.owned == {}
        assert a.engine.sessions == {}


@pytest.mark.parametrize(
    ("expiry_s", "longest_s", "ttl_s"),
    [(float("inf"), 0, 0), (10.2, 0, 11 + CLEAN_S), (0.5, 0, 1 + CLEAN_S), (float("inf"), 50, 50 + CLEAN_S)],
)
async def test_the_record_of_who_is_here_ends_should_nobody_come_back(
    autojump_clock: MockClock, expiry_s: float, longest_s: int, ttl_s: int
) -> None:
    """Else those of clients whose node died would be there for ever."""
    server = MemoryNats()
    async with running(server, "a") as (a,):
        a.engine.policy.persistent_client_expiration_s = longest_s
        client, _ = await subscribed(a, (b"t", 1))
        client.session.expiry_s = expiry_s
        await a.settled()
        state, lives_s = record(server)
        assert state is not None
        assert state.owner == a.node.liveness.mark
        assert lives_s == pytest.approx(ttl_s, abs=3) if ttl_s else lives_s == float("inf")


async def test_of_a_clean_client_nothing_is_left(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        client = await a.comes(clean=True)
        await a.settled()
        state, lives_s = record(server)
        assert state is not None
        assert (state.owner, state.clean) == (a.node.liveness.mark, True)
        assert lives_s == pytest.approx(CLEAN_S, abs=2)
        await a.goes(client)
        state, lives_s = record(server)
        assert state is None
        assert lives_s <= 1
        assert a.owners.owned == {}
        assert a.engine.sessions == {}


async def test_what_is_owed_is_written_down_now_and_then(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        client, _ = await subscribed(a, (b"t", 1))
        await trio.sleep(3)
        before = server.streams["shop_SESS"].of(SHOP.record(SHOP.client(b"c")))[-1].sequence
        await trio.sleep(3)
        assert record_sequence(server) == before, "nothing has changed"
        a.publish(b"t", b"1")
        await trio.sleep(2 * SAVE_EVERY_S)
        state, _ = record(server)
        assert state is not None
        assert [message.payload for *_, message in state.owed] == [b"1"]
        assert state.cursor == 1
        with a.engine.turn:
            client.session.outbound.puback(state.owed[0][0])
        await trio.sleep(2 * SAVE_EVERY_S)
        state, _ = record(server)
        assert state is not None
        assert state.owed == []


async def test_at_most_so_many_at_a_time_and_each_in_its_turn(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned, "SAVES_MAX", 2)
    async with running(MemoryNats(), "a") as (a,):
        ids = [b"%d" % number for number in range(5)]
        clients = [await a.comes(one, filters=((b"t", 1),)) for one in ids]
        await trio.sleep(2 * SAVE_EVERY_S)
        clean = await a.comes(b"clean", clean=True)
        with clean.engine.turn:
            clean.engine.subscribe_session(clean.session, b"t", 1)
        await a.settled()
        saved: list[bytes] = []
        save_soon = a.owners._save_soon

        def note(own: Owned) -> None:
            saved.append(own.client_id)
            save_soon(own)

        monkeypatch.setattr(a.owners, "_save_soon", note)
        for client in [*clients, clean]:
            client.session.hand_on(Publication(b"t", b"x", 1), 1, False)
        a.owners._save_what_changed()
        assert len(saved) == 2
        await a.settled()
        await trio.sleep(3 * SAVE_EVERY_S)
        assert sorted(saved) == ids, "each once, and none that is clean"


async def test_a_record_that_ends_by_itself_is_written_again_in_time(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned, "REWRITE_S", 10.0)
    server = MemoryNats()
    async with running(server, "a") as (a,):
        await a.comes(clean=True)
        await trio.sleep(5)
        first = record_sequence(server)
        await trio.sleep(3)
        assert record_sequence(server) == first
        await trio.sleep(5)
        assert record_sequence(server) > first


async def test_what_the_log_has_of_qos_2_is_waited_for_before_its_client_is_anybody_s(
    autojump_clock: MockClock,
) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        client, _ = await subscribed(a, (b"t", 1))
        await a.settled()
        message = Publication(b"t", b"1", 2, False, b"c")
        message.promise = Promise()
        message.promise.join()
        client.session.expect().accept(5, message, False)
        with a.engine.turn:
            client.close("it goes")
        await trio.sleep(0.5)
        state, _ = record(server)
        assert state is not None
        assert state.owner == a.node.liveness.mark, "it waits"
        with a.engine.turn:
            message.promise.keep()
        await trio.sleep(0.1)
        state, _ = record(server)
        assert state is not None
        assert state.owner == b""
        assert [packet_id for packet_id, _ in state.inbound] == [5]


async def test_but_not_for_ever(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        client, _ = await subscribed(a, (b"t", 1))
        await a.settled()
        message = Publication(b"t", b"1", 2, False, b"c")
        message.message_id = b"id"
        message.promise = Promise()
        message.promise.join()
        client.session.expect().accept(5, message, False)
        with a.engine.turn:
            client.close("it goes")
        await trio.sleep(LOGGED_S * LOGGED_TRIES + 0.5)
        state, _ = record(server)
        assert state is not None
        assert (state.owner, state.inbound, state.under_way) == (b"", [], [(5, b"id")])


async def test_a_node_that_may_be_dead_to_the_others_drops_all_without_a_word(
    autojump_clock: MockClock,
) -> None:
    server = MemoryNats()
    async with running(server, "a") as (a,):
        clients = [await a.comes(one) for one in (b"1", b"2")]
        await a.settled()
        server.said.clear()
        with a.engine.turn:
            a.node.liveness._die("a test")
        assert [(one.code, one.why) for one in clients] == [MAY_BE_ELSEWHERE] * 2
        assert a.owners.owned == {}
        assert a.engine.sessions == {}
        await trio.sleep(0.1)
        assert not any(subject.startswith(b"shop.SESS.c.") for subject, _ in server.said)


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
