"""The end of a connection: all that is owed, the peer's goodbye, and never longer than there is time for it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from broker.core.engine import Engine
from broker.core.outbox import Outbox
from broker.links.websocket.farewell import CLOSE_GRACE_S, all_owed, part


class Peer:
    """What the peer said; its goodbye is a full stop."""

    def __init__(self) -> None:
        self.said = b""

    def hears_close(self, data: bytes) -> bool:
        self.said += data
        return b"." in self.said


def pair() -> tuple[trio.StapledStream, trio.StapledStream]:  # type: ignore[type-arg]
    return trio.testing.memory_stream_pair()


async def test_what_is_owed_leaves_and_the_peers_goodbye_ends_it() -> None:
    ours, theirs = pair()
    peer = Peer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(part, ours, b"owed, goodbye", peer.hears_close)
        await theirs.send_all(b"last words")
        await theirs.send_all(b".")
        await theirs.send_eof()
        received = b""
        while data := await theirs.receive_some():
            received += data
    assert received == b"owed, goodbye"
    assert peer.said == b"last words."
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"more")


async def test_who_said_goodbye_before_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = pair()
    await theirs.send_eof()
    await part(ours, b"goodbye", lambda data: True)
    assert await theirs.receive_some() == b"goodbye"
    assert trio.current_time() < 1


async def test_a_peer_that_leaves_without_a_goodbye_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = pair()
    await theirs.send_eof()
    began = trio.current_time()
    await part(ours, b"goodbye", lambda data: False)
    assert trio.current_time() == began
    assert await theirs.receive_some() == b"goodbye"


@pytest.mark.parametrize("hears", [False, True])
async def test_a_peer_that_says_nothing_is_waited_for_so_long(
    autojump_clock: trio.testing.MockClock, hears: bool
) -> None:
    ours, _ = pair()
    began = trio.current_time()
    await part(ours, b"goodbye", lambda data: hears)
    assert trio.current_time() - began == pytest.approx(CLOSE_GRACE_S)
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"more")


async def test_a_peer_that_has_gone_is_no_fault() -> None:
    ours, theirs = pair()
    await theirs.aclose()
    await part(ours, b"goodbye", lambda data: False)
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"more")


async def test_a_process_that_ends_closes_it_at_once() -> None:
    ours, theirs = pair()
    with trio.CancelScope() as scope:
        scope.cancel()
        await part(ours, b"goodbye", lambda data: False)
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"more")
    assert await theirs.receive_some() == b""


def test_all_that_an_outbox_owes_is_taken_and_it_takes_no_more() -> None:
    engine = Engine()
    outbox = Outbox(engine.round, 1000, lambda data: 0)
    for piece in (b"a", b"b", b"x" * 500):
        outbox.push(piece)
    assert all_owed(outbox) == b"ab" + b"x" * 500
    outbox.push(b"more")
    assert all_owed(outbox) == b""
