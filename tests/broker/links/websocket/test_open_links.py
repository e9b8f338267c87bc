"""The WebSockets that are open: whoever ends the process waits until the last has gone."""

from __future__ import annotations

from typing import cast

import trio
import trio.testing

from broker.links.websocket.link import WebSocketLink
from broker.links.websocket.open_links import OpenLinks


def link() -> WebSocketLink:
    return cast("WebSocketLink", object())


async def test_without_any_there_is_nothing_to_wait_for() -> None:
    await OpenLinks().emptied()


async def test_it_waits_for_the_last_also_if_one_comes_meanwhile() -> None:
    open_links = OpenLinks()
    one, other = link(), link()
    open_links.add(one)
    left = []

    async def wait() -> None:
        await open_links.emptied()
        left.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        open_links.remove(one)
        open_links.add(other)
        await trio.testing.wait_all_tasks_blocked()
        assert left == []
        open_links.remove(other)
        await trio.testing.wait_all_tasks_blocked()
        assert left == [True, True]


def test_the_list_is_the_callers_own() -> None:
    open_links = OpenLinks()
    some = [link() for _ in range(3)]
    for one in some:
        open_links.add(one)
    for one in open_links.links():
        open_links.remove(one)
    assert open_links.links() == []
