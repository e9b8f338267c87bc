"""The answer to who published over HTTP: committed, refused by a table, or not known in time."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from broker.admin.committing import COMMIT_WAIT_S, outcome
from broker.admin.publishing import Published
from broker.core.promise import Promise


def promised() -> Promise:
    promise = Promise()
    promise.join()
    return promise


async def test_what_no_table_takes_is_published_at_once(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    assert await outcome(Published([None, None])) == (200, {"result": True, "published": 2})
    assert trio.current_time() == began


async def test_it_waits_for_the_last_of_them(autojump_clock: trio.testing.MockClock) -> None:
    promises = [promised(), promised()]

    async def commit() -> None:
        for promise in promises:
            await trio.sleep(5)
            promise.keep()

    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        nursery.start_soon(commit)
        assert await outcome(Published([None, *promises])) == (200, {"result": True, "published": 3})
        assert trio.current_time() - began == pytest.approx(10)


@pytest.mark.parametrize(
    ("codes", "said", "refused"),
    [
        ([0x80], "the table refused the message", [0]),
        ([0, 0x97, 0x80], "the table refused messages 1, 2", [1, 2]),
        ([0x10, 0x80], "the table refused message 1", [1]),
    ],
)
async def test_what_a_table_refused_is_named(codes: list[int], said: str, refused: list[int]) -> None:
    promises = [promised() for _ in codes]
    published = Published(list(promises))
    for promise, code in zip(promises, codes, strict=True):
        promise.keep(code)
    assert await outcome(published) == (422, {"error": said, "refused": refused})


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        (0x89, 503, "the cluster's log takes nothing now, and did not take message 1"),
        (0x95, 422, "too large for the cluster's log: message 1"),
        (0x83, 422, "the cluster's log refused message 1"),
    ],
)
async def test_what_a_clusters_log_refused_is_said_so(code: int, status: int, said: str) -> None:
    promises = [promised(), promised()]
    published = Published(list(promises))
    promises[0].keep()
    promises[1].keep(code)
    assert await outcome(published) == (status, {"error": said, "refused": [1]})


async def test_after_so_long_it_is_said_that_nobody_knows(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    status, said = await outcome(Published([promised()]))
    assert (status, said) == (504, {"error": "not committed within 30 s; it may still be"})
    assert trio.current_time() - began == pytest.approx(COMMIT_WAIT_S)


async def test_a_commit_at_the_last_moment_counts(autojump_clock: trio.testing.MockClock) -> None:
    promise = promised()
    published = Published([promise])

    async def commit() -> None:
        await trio.sleep(COMMIT_WAIT_S - 0.001)
        promise.keep()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(commit)
        assert (await outcome(published))[0] == 200
