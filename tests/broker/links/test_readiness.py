"""Which sockets are ready, asked in one way of the kernel and of Trio."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from broker.links.linger import SELECTED_MAX
from broker.links.readiness import (
    GONE,
    READABLE,
    WRITABLE,
    Epoll,
    Readiness,
    TrioReadiness,
    has_gone,
    is_portable,
    readiness,
)


@pytest.fixture(params=["epoll", "trio"])
def kind(request: pytest.FixtureRequest) -> type[Epoll] | type[TrioReadiness]:
    return Epoll if request.param == "epoll" else TrioReadiness


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


async def ready(asked: Readiness) -> list[tuple[int, int]]:
    """What is ready once something is."""
    with trio.fail_after(60):
        while not (found := asked.poll(0.0, 10)):
            await asked.wait()
    return found


async def test_a_socket_is_ready_when_something_came(
    kind: type[Epoll | TrioReadiness], pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    asked = kind()
    asked.register(ours.fileno(), READABLE)
    await trio.testing.wait_all_tasks_blocked()
    assert asked.poll(0.0, 10) == []
    theirs.send(b"x")
    ((fd, events),) = await ready(asked)
    assert fd == ours.fileno()
    assert events & READABLE
    asked.close()


async def test_what_is_asked_for_may_change_and_end(
    kind: type[Epoll | TrioReadiness], pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    asked = kind()
    asked.register(ours.fileno(), READABLE)
    asked.modify(ours.fileno(), WRITABLE)
    ((fd, events),) = await ready(asked)
    assert (fd, events & WRITABLE) == (ours.fileno(), WRITABLE)
    asked.unregister(ours.fileno())
    theirs.send(b"x")
    await trio.testing.wait_all_tasks_blocked()
    assert asked.poll(0.0, 10) == []
    asked.close()


async def test_a_peer_that_has_gone_is_news(
    kind: type[Epoll | TrioReadiness], pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    asked = kind()
    asked.register(ours.fileno(), GONE)
    await trio.testing.wait_all_tasks_blocked()
    theirs.close()
    ((fd, _),) = await ready(asked)
    assert fd == ours.fileno()
    asked.close()


async def test_one_that_is_registered_in_another_makes_it_ready(
    kind: type[Epoll | TrioReadiness], pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    outer = kind()
    inner = outer.nested()
    outer.register(inner.fileno(), READABLE)
    inner.register(ours.fileno(), READABLE)
    theirs.send(b"x")
    ((fd, _),) = await ready(outer)
    assert fd == inner.fileno()
    assert [one for one, _ in inner.poll(0.0, 10)] == [ours.fileno()]
    inner.close()
    outer.close()


def test_the_end_is_seen_without_taking_anything(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    assert not has_gone(ours.fileno())
    theirs.send(b"x")
    assert not has_gone(ours.fileno())
    theirs.close()
    assert not has_gone(ours.fileno())  # there is something to receive before the end
    assert ours.recv(1) == b"x"
    assert has_gone(ours.fileno())
    assert ours.recv(1) == b""


@pytest.mark.parametrize(("asked", "portable"), [("", False), ("0", False), ("1", True)])
def test_trios_own_way_can_be_asked_for(asked: str, portable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROWCAST_PORTABLE", asked)
    assert is_portable() == portable


async def test_the_best_that_there_is_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROWCAST_PORTABLE", raising=False)
    found = readiness()
    assert isinstance(found, Epoll)
    found.close()
    monkeypatch.setenv("ROWCAST_PORTABLE", "1")
    portable = readiness()
    assert isinstance(portable, TrioReadiness)
    portable.close()


async def test_it_is_said_whether_something_is_ready_and_poll_has_it_afterwards(
    kind: type[Epoll | TrioReadiness], pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    asked = kind()
    asked.register(ours.fileno(), READABLE)
    await trio.testing.wait_all_tasks_blocked()
    assert not asked.within(0.0)
    theirs.send(b"x")
    with trio.fail_after(60):
        await asked.wait()
    assert asked.within(0.0)
    assert [fd for fd, _ in asked.poll(0.0, 10)] == [ours.fileno()]
    asked.close()


@pytest.mark.parametrize("selected_max", [SELECTED_MAX, 0])
async def test_some_can_be_waited_for_while_others_are_ready(
    kind: type[Epoll | TrioReadiness],
    pair: tuple[socket.socket, socket.socket],
    selected_max: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.links.readiness.SELECTED_MAX", selected_max)
    ours, theirs = pair
    asked = kind()
    for sock in pair:
        asked.register(sock.fileno(), READABLE)
    ours.send(b"x")
    with trio.fail_after(60):
        await asked.wait()
    assert asked.among([ours.fileno()], 0.001) == []
    assert asked.among([ours.fileno(), theirs.fileno()], 0.001) == [theirs.fileno()]
    assert [fd for fd, _ in asked.poll(0.0, 10)] == [theirs.fileno()]
    asked.close()


def test_a_descriptor_that_can_not_be_selected_is_not_waited_for(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    theirs.send(b"x")
    asked = Epoll()
    asked.register(ours.fileno(), READABLE)
    assert asked.within(0.0)
    asked.fileno = lambda: SELECTED_MAX
    assert not asked.within(0.0)
    asked.close()
