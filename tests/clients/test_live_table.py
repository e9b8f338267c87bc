"""docs/how-to/live-table.md as a stranger does it: its commands, `npm install` of the packed client, a Chromium."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from support import chromium
from support.ports import free_port
from support.postgres import cluster, database

__all__ = ["cluster", "database"]

ROOT = Path(__file__).parents[2]
START_S = 120.0
"""For Rowcast to start and the page to try again, on a machine that has much else to do."""

BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/how-to/live-table.md").read_text(), re.DOTALL)
SHOWN = "[...document.querySelectorAll('tr')].map((row) => [...row.cells].map((cell) => cell.textContent).join(' '))"


def lines(block: str) -> list[str]:
    return [line for line in block.splitlines() if line]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not chromium.is_there() or shutil.which("npm") is None, reason="needs Chromium and npm")
async def test_the_page_is_live_by_its_own_words(database: str, tmp_path: Path) -> None:
    port = free_port()
    for name in ("examples", "clients"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("table.toml", "table.html"):  # the machine may use the ports that are written there
        file = tmp_path / "examples" / name
        file.write_text(file.read_text().replace("3001", str(port)))
    environment = {
        **os.environ,
        "DATABASE_URL": database,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }

    def own(text: str) -> str:
        return text.replace("psql live", f'psql "{database}"')

    async def sh(text: str, folder: Path = tmp_path) -> None:
        done = await trio.run_process(
            ["sh", "-ec", own(text)],
            cwd=folder,
            env=environment,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    first, second, third = BLOCKS[:3]
    create, export, *make, run = lines(first)
    assert (create, export) == ("createdb live", "export DATABASE_URL=postgres:///live")
    await sh("\n".join(make))
    *pack, serve = lines(second)
    await sh("\n".join(pack))
    site = free_port()
    served = await start(serve.replace("8000", str(site)), tmp_path / "live-table", environment)
    rowcast = await start(run, tmp_path, environment)
    try:
        async with chromium.browser(tmp_path) as page:
            await until_served(site)
            await page.show(f"http://127.0.0.1:{site}/table.html", 800, 600)
            await page.until(f"{SHOWN}.join() === '1 tea 4.5,2 milk 1.2,3 bread 1.1'", START_S)
            await sh(third)
            await page.until(f"{SHOWN}.join() === '1 tea 4.8,3 bread 1.1,4 salt 0.7'")
            await stop(rowcast)
            await page.until("document.body.innerText.includes('waiting')")
            await sh(
                "psql live -c \"DELETE FROM item WHERE name = 'salt'\""
                " -c \"INSERT INTO item (name, price) VALUES ('oil', 9)\""
            )
            rowcast = await start(run, tmp_path, environment)
            await page.until(f"{SHOWN}.join() === '1 tea 4.8,3 bread 1.1,5 oil 9'", START_S)
    finally:
        await stop(rowcast)
        await stop(served)


async def start(line: str, folder: Path, environment: dict[str, str]) -> trio.Process:
    command: list[Any] = ["sh", "-c", f"exec {line}"]
    return await trio.lowlevel.open_process(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)


async def stop(process: trio.Process) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with trio.CancelScope(shield=True), trio.move_on_after(20):
            await process.wait()
        process.kill()


async def until_served(port: int) -> None:
    with trio.fail_after(60):
        while True:
            try:
                return await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
            except OSError:
                await trio.sleep(0.05)
