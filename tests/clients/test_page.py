"""The quick start's page in a Chromium: what it shows, over a restart of Rowcast."""

from __future__ import annotations

import re
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
import pytest
import trio
from support import chromium
from support.ports import free_port
from support.rowcast_process import RowcastProcess

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "clients/python"))
from rowcast_client import Refused  # noqa: E402
from rowcast_client.trio import connect  # noqa: E402

SECRET = "a-secret-of-at-least-thirty-two-bytes"
PAGE = re.findall(r"```html\n(.*?)```", (ROOT / "docs/quick-start.md").read_text(), re.DOTALL)[-1]


def settings(port: int, folder: Path) -> str:
    return f"""
[[listener]]
port = {port}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["rowcast"]
[websocket.rowcast]
[tokens]
secrets = ["{SECRET}"]
[[history]]
topics = ["orders/#"]
[persistence]
persistence = true
persistence_location = "{folder}"
"""


def start(folder: Path, port: int) -> RowcastProcess:
    process = RowcastProcess.from_toml(folder, settings(port, folder))
    process.__enter__()
    return process


async def publish(port: int, number: int) -> None:
    token = jwt.encode({"publish": "orders/#"}, SECRET)
    async with connect(f"ws://127.0.0.1:{port}/rowcast", token) as rowcast:
        while True:
            try:
                return await rowcast.publish("orders/ada", {"id": number})
            except Refused:
                await trio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not chromium.is_there(), reason="needs Chromium")
async def test_the_page_of_the_quick_start_goes_on_over_a_restart(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "orders.html").write_text(PAGE.replace("127.0.0.1:3001", f"127.0.0.1:{port}"))
    (tmp_path / "index.js").write_text((ROOT / "clients/js/index.js").read_text())
    site = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    threading.Thread(target=site.serve_forever, daemon=True).start()
    token = jwt.encode({"sub": "ada", "subscribe": ["orders/{sub}"]}, SECRET)
    process = await trio.to_thread.run_sync(start, tmp_path, port)
    try:
        await publish(port, 1)
        async with chromium.browser(tmp_path) as page:
            await page.show(f"http://127.0.0.1:{site.server_port}/orders.html#{token}", 800, 600)
            await page.until("document.body.innerText.includes('orders/ada {\"id\":1}')")
            await publish(port, 2)
            await page.until("document.body.innerText.includes('orders/ada {\"id\":2}')")
            await trio.to_thread.run_sync(process.__exit__, None, None, None)
            process = await trio.to_thread.run_sync(start, tmp_path, port)
            await publish(port, 3)
            await page.until("document.body.innerText.includes('orders/ada {\"id\":3}')")
            text = str(await page.run("document.body.innerText"))
            assert re.findall(r'"id":(\d)', text) == ["1", "2", "3"]
            assert "missing" not in text
    finally:
        site.shutdown()
        await trio.to_thread.run_sync(process.__exit__, None, None, None)
