"""The page of a node in a real Chromium: a table of all nodes.  `ROWCAST_PICTURES` names a folder for its picture."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from attrs import evolve
from support import chromium
from support.nats import Server
from support.nodes import Client, joined

from broker import Config
from broker.config.model import AdminHttp

ROWS = (
    "[...document.querySelectorAll('#cluster tbody tr')].map((row) => row.innerText.split('\\t')[0].trim())"
)
PICTURES = os.environ.get("ROWCAST_PICTURES")


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(not chromium.is_there(), reason="needs Debian's package chromium")
async def test_the_first_view_shows_the_nodes(nats_server: Server, cluster_name: str, tmp_path: Path) -> None:
    urls = (nats_server.url,)
    config = evolve(Config(), admin=AdminHttp(0))
    async with (
        joined(urls, cluster_name, "a", config) as a,
        joined(urls, cluster_name, "b") as b,
        chromium.browser(tmp_path) as page,
    ):
        client = Client(b)
        await client.connect(b"c", clean=False)
        await page.show(f"http://127.0.0.1:{a.app.admin_port}/", 1280, 900)
        await page.until(f"{ROWS}.length === 2 && document.getElementById('cluster').innerText.includes('1')")
        names = await page.run(ROWS)
        assert [name.split()[0] for name in names] == ["a", "b"]
        assert cluster_name in await page.run("document.getElementById('cluster-name').textContent")
        if PICTURES:
            await page.picture(Path(PICTURES) / "cluster.png")
