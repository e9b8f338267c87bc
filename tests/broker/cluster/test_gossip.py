"""What nodes tell each other: who has members of a group, how they are, and that they end."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from support.attached import Attached
from support.memory_nats import MemoryNats
from trio.testing import MockClock

from broker.cluster.gossip import KNOWN_S, NAMESAKE_S, NODES_MAX, SAY_AGAIN_S, TELL_S, Gossip
from broker.cluster.names import Names
from broker.cluster.status import ClusterStatus
from broker.core.engine import Engine

NAMES = Names("shop")


class Node:
    def __init__(self, server: MemoryNats, mark: bytes) -> None:
        self.engine, self.status = Engine(), ClusterStatus()
        self.link = server.connected(self.engine, self.status)
        self.gossip = Gossip(self.engine, self.link, NAMES, mark, self.status)
        self.gossip.groups_here = lambda: self.groups
        self.groups: list[str] = []


async def say(server: MemoryNats, value: Any) -> None:
    await trio.testing.wait_all_tasks_blocked()
    server.deliver(b"shop.GROUPS.x", value if isinstance(value, bytes) else json.dumps(value).encode())
    await trio.testing.wait_all_tasks_blocked()


def told(node: str, *groups: str, left: bool = False) -> dict[str, Any]:
    return {"n": node, "g": list(groups), "r": {"clients": 1}, "left": left}


async def test_nodes_know_of_each_other_and_not_of_themselves(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    a, b = Node(server, b"a-1"), Node(server, b"b-1")
    Attached(b.engine)
    b.groups = ["g"]
    async with trio.open_nursery() as nursery:
        for node in (a, b):
            nursery.start_soon(node.gossip.run)
        await trio.sleep(TELL_S / 2)
        assert a.gossip.others("g") == ["b-1"]
        assert b.gossip.others("g") == a.gossip.others("h") == []
        assert list(a.status.nodes) == ["b-1"]
        heard, said = a.status.nodes["b-1"]
        assert (heard, said["clients"], said["sessions"]) == (0.0, 1, 1)
        nursery.cancel_scope.cancel()


async def test_what_changes_is_said_at_once_and_all_of_it_once_a_second(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    a, b = Node(server, b"a-1"), Node(server, b"b-1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(b.gossip.run)
        await trio.sleep(0.3)
        assert a.gossip.others("g") == []
        b.groups = ["g"]
        b.gossip.tell_soon()
        await trio.sleep(0.01)
        assert a.gossip.others("g") == ["b-1"]
        await trio.sleep(10 * TELL_S)
        assert 11 <= len(server.said) <= 13
        assert a.gossip.others("g") == ["b-1"], "it is said again and again"
        b.groups = []
        b.gossip.tell_soon()
        await trio.sleep(0.01)
        assert a.gossip.others("g") == []
        nursery.cancel_scope.cancel()


async def test_a_node_that_ends_is_forgotten_and_says_nothing_more(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    a, b = Node(server, b"a-1"), Node(server, b"b-1")
    b.groups = ["g"]
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.gossip.run)
            await trio.sleep(0.01)
            assert list(a.status.nodes) == ["b-1"]
            b.gossip.leave()
            await trio.sleep(0.01)
    assert a.status.nodes == {}
    assert a.gossip.others("g") == []
    assert len(server.said) == 2


async def test_who_is_silent_is_believed_for_some_time(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    a = Node(server, b"a-1")
    await say(server, told("b-1", "g"))
    await trio.sleep(KNOWN_S - 0.5)
    await say(server, told("c-1", "g", "h"))
    assert a.gossip.others("g") == ["b-1", "c-1"]
    await trio.sleep(1.0)
    assert a.gossip.others("g") == ["c-1"]
    assert a.gossip.others("h") == ["c-1"]


@pytest.mark.parametrize(
    "said",
    [
        b"{",
        b"\xff",
        [],
        {},
        {"n": "b", "g": 3, "r": {}},
        {"n": "b", "r": {}},
        {"n": "b", "g": []},
        {"n": "b", "g": [], "r": 7},
        {"n": "b", "g": [], "r": "text"},
        b"[" * 100_000,
    ],
    ids=["no JSON", "no text", "list", "empty", "groups", "no groups", "no report", "number", "text", "deep"],
)
async def test_what_no_node_says_is_counted_and_harms_nobody(said: Any) -> None:
    server = MemoryNats()
    a = Node(server, b"a-1")
    await say(server, said)
    assert a.status.unreadable == 1
    assert a.status.nodes == {}


async def test_of_too_many_nodes_the_one_that_was_heard_longest_ago_is_forgotten(
    autojump_clock: MockClock,
) -> None:
    server = MemoryNats()
    a = Node(server, b"a-1")
    for number in range(NODES_MAX):
        await say(server, told(f"n{number}"))
        if number < 3:
            await trio.sleep(1.0)
    await say(server, told("n0"))
    assert len(a.status.nodes) == NODES_MAX
    await say(server, told("new"))
    assert len(a.status.nodes) == NODES_MAX
    assert "n1" not in a.status.nodes
    assert {"n0", "n2", "new"} < a.status.nodes.keys()


async def test_who_goes_by_the_same_name_is_complained_about(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Unless it ends soon, as the process before this one does."""
    server = MemoryNats()
    Node(server, b"n-1-aaaa")
    others = ("n-1-bbbb", "n-aaaa", "n-1-1-aaaa")

    def complaints() -> list[str]:
        return [one.getMessage() for one in caplog.records if "is the node n-1, too" in one.getMessage()]

    for second in range(100):
        for other in others[: 1 if second < NAMESAKE_S else 3]:
            if second != 5 or other != "n-1-bbbb":
                await say(server, told(other))
        await trio.sleep(1)
        assert len(complaints()) == (second >= NAMESAKE_S) + (second >= NAMESAKE_S + SAY_AGAIN_S)


async def test_one_that_ends_soon_is_not(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    server = MemoryNats()
    Node(server, b"n-aaaa")
    for _ in range(int(NAMESAKE_S)):
        await say(server, told("n-bbbb"))
        await trio.sleep(1)
    await say(server, told("n-cccc"))
    assert caplog.records == []
