"""The page that is open: logged in first, told once a second, and no more pages than there may be."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

import pytest
import trio
import trio.testing
from support.report_app import App, facts_of
from support.websockets import masked

from broker.admin import live as live_module
from broker.admin.http import Request
from broker.admin.live import CONNECTIONS_MAX, INTERVAL_S, LOGIN_TIMEOUT_S, Live
from broker.reports.log_tail import LogTail
from protocol.websocket import close_frame

REQUEST = Request(
    "GET", "/", {}, {"sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==", "sec-websocket-version": "13"}, b""
)
TOKEN = masked(0x81, b'{"token": "right"}')


class Page:
    """The browser's end."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._data = b""

    async def answered(self) -> None:
        assert await self.stream.receive_some() != b""

    async def told(self) -> Any:
        """The next message."""
        while True:
            data = self._data
            if len(data) >= 2:
                head = 2 if data[1] < 126 else 4 if data[1] == 126 else 10
                size = data[1] if data[1] < 126 else int.from_bytes(data[2:head], "big")
                if len(data) >= head + size:
                    self._data = data[head + size :]
                    return json.loads(data[head : head + size])
            more = bytes(await self.stream.receive_some())
            assert more
            self._data += more


class Case:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.tail = LogTail()
        self.good = {"right"}
        self.live = Live(facts_of(App())[0], self.tail, self.good.__contains__)
        self.left = 0
        self._nursery = nursery

    async def open(self, *said: bytes) -> Page:
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.serve, ours)
        page = Page(theirs)
        await page.answered()
        for one in said:
            await theirs.send_all(one)
        return page

    async def serve(self, stream: trio.abc.Stream) -> None:
        await self.live.serve(stream, REQUEST, b"")
        self.left += 1
        await stream.aclose()


async def test_who_is_logged_in_is_told_each_second_and_each_line_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        case = Case(nursery)
        case.tail.add("notice", "before")
        page = await case.open(TOKEN)
        began = trio.current_time()
        assert (await page.told())["type"] == "overview"
        assert await page.told() == {"type": "log", "lines": [{"severity": "notice", "text": "before"}]}
        overview = await page.told()
        assert (overview["type"], overview["ready"]) == ("overview", True)
        assert trio.current_time() - began == pytest.approx(INTERVAL_S)
        case.tail.add("warning", "later")
        assert (await page.told())["type"] == "overview"
        assert await page.told() == {"type": "log", "lines": [{"severity": "warning", "text": "later"}]}
        await page.stream.aclose()
    assert case.left == 1


@pytest.mark.parametrize("said", [b'{"token": "wrong"}', b"{}", b"[]", b'{"token": 1}', b"{", b"[" * 10_000])
async def test_who_is_not_is_told_so_and_closed(said: bytes, autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        page = await Case(nursery).open(masked(0x81, said))
        assert await page.stream.receive_some() == close_frame(4401, "the token is missing or wrong")
        assert await page.stream.receive_some() == b""


async def test_who_says_nothing_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        page = await Case(nursery).open()
        assert await page.stream.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(LOGIN_TIMEOUT_S)


async def test_one_page_too_many_is_turned_away_until_another_leaves(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CONNECTIONS_MAX > 1
    monkeypatch.setattr(live_module, "CONNECTIONS_MAX", 1)
    async with trio.open_nursery() as nursery:
        case = Case(nursery)
        first = await case.open(TOKEN)
        await first.told()
        second = await case.open(TOKEN)
        assert await second.stream.receive_some() == close_frame(1013, "too many pages are open")
        await first.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        third = await case.open(TOKEN)
        assert (await third.told())["type"] == "overview"
        await third.stream.aclose()


async def test_a_page_that_takes_nothing_any_more_is_left(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        case = Case(nursery)
        page = await case.open(TOKEN)
        await page.told()
        page.stream.receive_stream.close()  # type: ignore[attr-defined]
        await trio.sleep(2 * INTERVAL_S)
        assert case.left == 1


async def test_a_page_whose_token_is_taken_away_is_told_so_and_closed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        case = Case(nursery)
        page = await case.open(TOKEN)
        await page.told()
        case.good.clear()
        assert await page.stream.receive_some() == close_frame(4401, "the token is not valid any more")
        assert await page.stream.receive_some() == b""


async def test_a_page_that_resets_its_connection_is_left_without_a_word() -> None:
    async with trio.open_nursery() as nursery:
        case = Case(nursery)
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        address = listener.socket.getsockname()
        peer = socket.create_connection(address)
        nursery.start_soon(case.serve, await listener.accept())
        page = Page(trio.SocketStream(trio.socket.from_stdlib_socket(peer)))
        await page.answered()
        await page.stream.send_all(TOKEN)
        assert (await page.told())["type"] == "overview"
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await page.stream.aclose()
        await listener.aclose()
    assert case.left == 1
