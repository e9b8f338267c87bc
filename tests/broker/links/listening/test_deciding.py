"""CONNECTs that wait are decided in the order in which they came; who overtakes from elsewhere keeps its place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from support.peer import Peer

from broker.core.engine import Engine
from broker.core.limits import RECEIVE_BYTES_MAX
from broker.core.shell import ASK_AGAIN, Shell
from broker.gateway.authentication import Verdict
from broker.links.listening.deciding import Claims, Deciding
from broker.links.mqtt.link import MqttLink
from protocol.mqtt.packets import Connect

ACCEPTED = b"\x20\x02\x00\x00"
UNAVAILABLE = b"\x20\x02\x00\x03"


class Nodes(Claims):
    """The other nodes: say of each client, by its address, whether it may have its id, when the test wants them to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.came: list[bytes] = []
        self.why: dict[str, str] = {}
        self._may_go_on: dict[str, trio.Event] = {}

    def answer(self, peer: str) -> None:
        self._event(peer).set()

    async def claim(self, link: MqttLink, packet: Connect, client_id: bytes, verdict: Verdict) -> str:
        self.asked.append(link.peer)
        await self._event(link.peer).wait()
        return self.why.get(link.peer, "")

    def arrived(self, client_id: bytes) -> None:
        self.came.append(client_id)

    def _event(self, peer: str) -> trio.Event:
        return self._may_go_on.setdefault(peer, trio.Event())


class Unheard(Shell):
    """Of a connection to which more has come."""

    def __init__(self, *turns: int) -> None:
        super().__init__()
        self.turns = list(turns)

    def hear_out(self) -> int:
        return self.turns.pop(0)


class Case:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.engine = Engine()
        self.deciding = Deciding(self.engine, nursery)
        self.nodes = Nodes()
        self.deciding.share(self.nodes)

    def connect(self, peer: str, client_id: bytes = b"c") -> Peer:
        made = Peer(self.engine)
        made.link.peer = peer
        made.link.check_slowly = self.deciding.decide
        made.send(Connect(client_id, True, 60))
        return made

    def leave(self, peer: Peer) -> None:
        self.deciding.closed(peer.link)
        peer.link.close("closed its connection.")

    async def answer(self, *peers: str) -> None:
        for peer in peers:
            self.nodes.answer(peer)
            await trio.testing.wait_all_tasks_blocked()

    def holder(self) -> str:
        link = self.engine.sessions[b"c"].link
        assert isinstance(link, MqttLink)
        return link.peer


@asynccontextmanager
async def deciding() -> AsyncIterator[Case]:
    async with trio.open_nursery() as nursery:
        case = Case(nursery)
        yield case
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    # Nothing is remembered of who was decided about.
    assert not case.deciding._cases
    assert not case.deciding._lines
    assert not case.deciding._waiting
    assert not case.deciding._overtaken


async def test_where_nobody_waits_nothing_is_kept_waiting() -> None:
    async with deciding() as case:
        case.deciding.share(None)
        assert case.connect("10.0.0.1:1").read_bytes() == ACCEPTED


async def test_of_one_address_the_later_takes_over_however_soon_it_is_answered() -> None:
    async with deciding() as case:
        first, second = case.connect("10.0.0.1:1"), case.connect("10.0.0.1:2")
        await case.answer("10.0.0.1:2")
        assert case.nodes.asked == ["10.0.0.1:1"]  # the second is not asked about before its turn
        assert second.read_bytes() == b""
        await case.answer("10.0.0.1:1")
        assert first.read_bytes() == ACCEPTED
        assert first.closed
        assert second.read_bytes() == ACCEPTED
        assert case.holder() == "10.0.0.1:2"


async def test_one_from_another_address_waits_for_nobody_and_is_not_taken_over_by_what_it_overtook() -> None:
    async with deciding() as case:
        slow, quick = case.connect("10.0.0.1:1"), case.connect("10.0.0.2:1")
        await case.answer("10.0.0.2:1")
        assert quick.read_bytes() == ACCEPTED
        await case.answer("10.0.0.1:1")
        assert slow.closed
        assert slow.read_bytes() == b""
        assert not quick.closed
        assert case.holder() == "10.0.0.2:1"


async def test_a_later_one_of_the_overtaken_address_is_no_older_one() -> None:
    async with deciding() as case:
        case.connect("10.0.0.1:1")
        quick = case.connect("10.0.0.2:1")
        await case.answer("10.0.0.2:1")
        later = case.connect("10.0.0.1:2")
        await case.answer("10.0.0.1:1", "10.0.0.1:2")
        assert later.read_bytes() == ACCEPTED
        assert quick.closed
        assert case.holder() == "10.0.0.1:2"


async def test_who_may_not_have_its_id_is_told_and_the_next_has_its_turn() -> None:
    async with deciding() as case:
        case.nodes.why["10.0.0.1:1"] = "no node answers"
        first, second = case.connect("10.0.0.1:1"), case.connect("10.0.0.1:2")
        await case.answer("10.0.0.1:1", "10.0.0.1:2")
        assert first.read_bytes() == UNAVAILABLE
        assert second.read_bytes() == ACCEPTED
        assert case.nodes.came == [b"c"]


async def test_who_leaves_in_the_line_lets_the_next_one_go_on() -> None:
    async with deciding() as case:
        first, second = case.connect("10.0.0.1:1"), case.connect("10.0.0.1:2")
        await trio.testing.wait_all_tasks_blocked()
        case.leave(first)
        await case.answer("10.0.0.1:2")
        assert second.read_bytes() == ACCEPTED
        assert first.read_bytes() == b""


async def test_who_brings_no_id_stands_in_no_line() -> None:
    async with deciding() as case:
        first, second = case.connect("10.0.0.1:1", b""), case.connect("10.0.0.1:2", b"")
        await case.answer("10.0.0.1:2")
        assert second.read_bytes() == ACCEPTED
        assert first.read_bytes() == b""
        await case.answer("10.0.0.1:1")
        assert first.read_bytes() == ACCEPTED


async def test_the_nodes_hear_of_everybody_whom_they_let_in() -> None:
    async with deciding() as case:
        gone = case.connect("10.0.0.1:1", b"gone")
        await trio.testing.wait_all_tasks_blocked()
        gone.link.close("closed its connection.")  # while it was asked about
        case.connect("10.0.0.2:1", b"here")
        await case.answer("10.0.0.1:1", "10.0.0.2:1")
        assert sorted(case.nodes.came) == [b"gone", b"here"]


async def test_a_bug_costs_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.core.barrier.RERAISE", False)

    class Broken(Nodes):
        async def claim(self, link: MqttLink, packet: Connect, client_id: bytes, verdict: Verdict) -> str:
            if link.peer == "10.0.0.1:1":
                raise ArithmeticError
            return ""

    async with deciding() as case:
        case.deciding.share(Broken())
        case.connect("10.0.0.1:1")
        second = case.connect("10.0.0.1:2")
        await trio.testing.wait_all_tasks_blocked()
        assert second.read_bytes() == ACCEPTED
        assert case.engine.counters.link_bugs == 1


async def test_an_older_connection_is_heard_out_before_the_claim_which_ends_when_the_newer_one_is_in() -> (
    None
):
    """By then `arrived` may say so, and other nodes may ask for the client: nothing may be left to wait for."""
    async with deciding() as case:
        case.engine.slicing.on_waiting = lambda: None
        older = case.connect("10.0.0.1:1")
        await case.answer("10.0.0.1:1")
        unheard = older.link.shell = Unheard(ASK_AGAIN, RECEIVE_BYTES_MAX, 0, ASK_AGAIN)
        newer = case.connect("10.0.0.1:2")
        await trio.testing.wait_all_tasks_blocked()
        assert unheard.turns == [ASK_AGAIN]
        assert case.nodes.asked == ["10.0.0.1:1", "10.0.0.1:2"]
        assert case.nodes.came == [b"c"]
        await case.answer("10.0.0.1:2")
        assert unheard.turns == []
        assert newer.read_bytes() == ACCEPTED
        assert case.nodes.came == [b"c", b"c"]
        assert case.holder() == "10.0.0.1:2"
        assert not case.engine.endings.succeeding
