"""The page at the admin port in a real Chromium: on a desk and on a telephone, by mouse, by keyboard, with a token."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from support import chromium
from support.chromium import Page
from support.mqtt_stream import StreamClient

from broker import Broker, Config, Listener
from broker.config.model import AdminHttp, Security
from broker.feed.status import FeedStatus

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not chromium.is_there(), reason="needs Debian's package chromium"),
]
TOKEN = "a token of some length"
SIZES = {"desk": (1280, 900), "telephone": (390, 844)}
VIEWS = ("overview", "clients", "subscriptions", "retained", "feeds", "log")
PICTURES = os.environ.get("ROWCAST_PICTURES")
"""A folder for the documentation's pictures."""


@asynccontextmanager
async def shown(
    folder: Path, size: str, view: str = "overview", *, dark: bool = False
) -> AsyncIterator[tuple[Page, Broker]]:
    security = Security(allow_anonymous=True)
    listeners = (
        Listener(0, "127.0.0.1", security=security),
        Listener(0, "127.0.0.1", protocol="websockets", security=security),
    )
    config = Config(listeners, admin=AdminHttp(0, token=TOKEN))
    async with Broker(config) as broker, chromium.browser(folder) as page, trio.open_nursery() as nursery:
        for name in (b"ada-laptop", b"charlie-phone", b"grace-desk"):
            client = StreamClient(await trio.open_tcp_stream("127.0.0.1", broker.ports[0]))
            await client.connect(name)
            await client.subscribe(b"prices/#", 0)
            nursery.start_soon(client.read_for_ever)
        status = broker.app.feeds["main"] = FeedStatus("main")
        status.enter("live")
        await broker.publish("prices/BTC", b'{"bid": "97012.5"}', retain=True)
        await page.show(f"http://127.0.0.1:{broker.app.admin_port}/#{view}", *SIZES[size], dark=dark)
        await page.until("document.getElementById('login').open")
        await page.run(f"document.getElementById('token').value = {TOKEN!r}")
        await page.run("document.querySelector('#login button').click()")
        await page.until("document.getElementById('state').textContent === 'ready'")
        yield page, broker
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("size", SIZES)
async def test_every_view_fits_and_has_something_to_say(size: str, tmp_path: Path) -> None:
    async with shown(tmp_path, size) as (page, _):
        width = SIZES[size][0]
        for view in VIEWS:
            await page.run(f"location.hash = {view!r}")
            await page.until(f"document.getElementById('view-{view}').classList.contains('shown')")
            assert await page.run("document.documentElement.scrollWidth") <= width, view
            right = "document.querySelector('nav a[aria-current]').getBoundingClientRect().right"
            assert await page.run(right) <= width, f"the tab of {view} is out of sight"
        await page.until("document.getElementById('list-clients').textContent.includes('ada-laptop')")
        await page.until("document.getElementById('list-retained').textContent.includes('prices/BTC')")
        await page.until("document.getElementById('list-subscriptions').textContent.includes('prices/#')")
        await page.run("location.hash = 'feeds'")
        await page.until("document.getElementById('feeds').textContent.includes('live since')")


async def test_a_client_is_kicked_by_keyboard_alone(tmp_path: Path) -> None:
    async with shown(tmp_path, "desk", "clients") as (page, broker):
        await page.until("document.querySelector('#list-clients button.danger') !== null")
        await page.run("document.querySelector('#list-clients button.danger').focus()")
        await page.press("Enter", 13)
        await page.until("document.getElementById('ask').open")
        assert await page.run("document.activeElement.textContent") == "Cancel"
        await page.press("Tab", 9)
        await page.press("Enter", 13)
        await page.until("!document.getElementById('list-clients').textContent.includes('ada-laptop')")
        assert b"ada-laptop" not in broker.app.engine.sessions


async def test_what_is_wrong_is_said_at_once_and_a_gap_can_be_acknowledged(tmp_path: Path) -> None:
    async with shown(tmp_path, "telephone", "feeds") as (page, broker):
        status = broker.app.feeds["main"]
        status.gap("there was no slot rowcast_main")
        await page.until("document.getElementById('state').textContent === 'not ready'")
        await page.until("document.getElementById('reasons').textContent.includes('no slot rowcast_main')")
        await page.run("document.querySelector('#feeds button').click()")
        await page.until("document.getElementById('state').textContent === 'ready'")
        assert status.last_gap is None


async def test_everything_that_can_be_pressed_has_a_name_and_nothing_comes_from_elsewhere(
    tmp_path: Path,
) -> None:
    async with shown(tmp_path, "desk", "retained") as (page, _):
        await page.until("document.querySelector('#list-retained button') !== null")
        nameless = """[...document.querySelectorAll('button, input, select')].filter((one) =>
            !(one.getAttribute('aria-label') || one.textContent.trim() || (one.labels && one.labels.length))
            && !one.closest('dialog:not([open])')).length"""
        assert await page.run(nameless) == 0
        loaded = await page.run(
            "performance.getEntriesByType('resource').map((one) => new URL(one.name).origin)"
        )
        assert set(loaded) <= {await page.run("location.origin")}


@pytest.mark.skipif(PICTURES is None, reason="only to make the documentation's pictures")
async def test_make_the_pictures(tmp_path: Path) -> None:
    assert PICTURES is not None
    for name, size, dark in (("page-dark", "telephone", True), ("page", "desk", False)):
        async with shown(tmp_path / name, size, dark=dark) as (page, broker):
            for number in range(300):
                for _ in range(20 + 10 * (number // 40 % 3)):
                    await broker.publish("prices/BTC", b'{"bid": "97012.5"}')
                await trio.sleep(0.1)
            await page.picture(Path(PICTURES) / f"{name}.png")
