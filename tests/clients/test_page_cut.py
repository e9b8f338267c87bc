"""Two tabs of a Chromium behind a proxy that cuts at random: the list of each equals the table."""

from __future__ import annotations

import random
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg
import pytest
import trio
from support import chromium
from support.installed import connect
from support.postgres import cluster, database
from support.rowcast_process import RowcastProcess
from support.tcp_proxy import tcp_proxy

from broker.cli.main import main

__all__ = ["cluster", "database"]

ROOT = Path(__file__).parents[2]
ROWS = 400
BACK_OFF_S = 120.0
"""After many cuts in a row a client waits for up to 30 s, and a tab that is not looked at for longer."""
SETTINGS = """
[database]
dsn = "DSN"
kind = "outbox"
[source.rows]
tables = ["public.item"]
[[mqtt.route]]
from = "rows"
kind = "public.item"
topics = "item/{id}"
[[listener]]
port = {websocket_port}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["rowcast"]
[websocket.rowcast]
anonymous_subscribe = ["item/#"]
[[history]]
topics = ["item/#"]
count = 30
[persistence]
persistence = true
persistence_location = "FOLDER"
"""
PAGE = """<!doctype html><script type="module">
import { Rowcast } from "./index.js";
window.rows = [];
window.gaps = [];
const options = { shared: location.hash.includes("shared") };
window.rowcast = new Rowcast(location.hash.slice(1).split(",")[0], options);
window.item = window.rowcast.subscribe("item/#", {
  since: "start",
  onMessage: ({ data }) => window.rows.push(data.id),
  onGap: ({ reason }) => window.gaps.push(reason),
  onLive: () => { window.live = true; },
});
window.told = () => JSON.stringify({
  rows: rows.length, last: rows.at(-1), gaps, state: rowcast.state, failures: rowcast._failures,
  phase: item._phase, at: item.at, hub: rowcast._socket?._hub, socket: rowcast._socket?.readyState,
  ago: Date.now() - rowcast._heard, seen: document.visibilityState,
});
</script>"""


def write(dsn: str, number: int) -> None:
    with connect(dsn) as connection:
        connection.execute("INSERT INTO item VALUES (%s, 'x')", [number])


async def caught_up(page: chromium.Page, rows: int) -> None:
    try:
        await page.until(f"window.rows.length >= {rows}", BACK_OFF_S)
    except AssertionError as error:
        raise AssertionError(await page.run("window.told()")) from error


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not chromium.is_there(), reason="needs Chromium")
@pytest.mark.parametrize("how", ["alone", "shared"])
async def test_the_list_of_each_tab_equals_the_table(database: str, tmp_path: Path, how: str) -> None:
    chance = random.Random(how)
    for name in ("index.js", "shared.js"):
        (tmp_path / name).write_text((ROOT / "clients/js" / name).read_text())
    (tmp_path / "page.html").write_text(PAGE)
    site = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    threading.Thread(target=site.serve_forever, daemon=True).start()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE item (id bigint PRIMARY KEY, text text)")
    settings = SETTINGS.replace("DSN", database).replace("FOLDER", str(tmp_path))
    process = RowcastProcess.from_toml(tmp_path, settings)
    assert main(["feed", "install", "-c", str(process.config), "--apply"]) == 0
    with process:
        async with tcp_proxy(process.websocket_port) as proxy, chromium.browser(tmp_path) as first:
            second = await first.another()
            url = f"http://127.0.0.1:{site.server_port}/page.html#ws://127.0.0.1:{proxy.port}/rowcast,{how}"
            for page in (first, second):
                await page.show(url, 800, 600)
                await page.until("window.live")
            assert proxy.open == (1 if how == "shared" else 2)
            for number in range(ROWS):
                await trio.to_thread.run_sync(write, database, number)
                if chance.random() < 0.04:
                    proxy.cut()
                if chance.random() < 0.01:
                    proxy.refuse()
                if chance.random() < 0.1:
                    proxy.allow()
            proxy.allow()
            for page in (first, second):
                await caught_up(page, ROWS)
                assert await page.run("window.rows") == list(range(ROWS))
                assert await page.run("window.gaps") == []
            assert proxy.accepted > 5
            if how == "shared":
                # The tab that has the connection is closed: another takes it over.
                await first.close()
                await trio.to_thread.run_sync(write, database, ROWS)
                await caught_up(second, ROWS + 1)
                assert await second.run("window.rows") == list(range(ROWS + 1))
    site.shutdown()
