"""The how-tos about `rowcast` as a reader walks through them: their configurations, SQL, tokens and programs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
from support.installed import connect as connect_database
from support.polling import until
from support.ports import free_port
from support.postgres import cluster, database
from support.rowcast_process import RowcastProcess

from broker.cli.main import main

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "clients/python"))
from rowcast_client import Message, Refused, State  # noqa: E402
from rowcast_client.trio import connect  # noqa: E402

__all__ = ["cluster", "database"]

SECRET = "a-secret-of-at-least-thirty-two-bytes"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def block(page: str, kind: str) -> str:
    text = (ROOT / "docs/how-to" / page).read_text()
    (found, *_) = re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)
    return str(found)


def token(**claims: Any) -> str:
    return jwt.encode(claims, SECRET)


def settings(page: str, port: int) -> str:
    return block(page, "toml").replace("port = 8080", f'port = {port}\nhost = "127.0.0.1"')


async def test_chat_is_kept_once_each_over_a_restart_of_its_keeper(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAT_SECRET", SECRET)
    port = free_port()
    program = tmp_path / "keeper.py"
    program.write_text(block("chat.md", "python").replace("127.0.0.1:8080", f"127.0.0.1:{port}"))
    with connect_database(database) as connection:
        connection.execute(block("chat.md", "sql"))

        def kept() -> list[str]:
            return [text for (text,) in connection.execute("SELECT text FROM chat ORDER BY id")]

        with RowcastProcess.from_toml(tmp_path, settings("chat.md", port)):
            member = token(sub="ada", subscribe=["chat/7"], publish=["chat/7"])
            async with connect(f"ws://127.0.0.1:{port}/rowcast", member) as page:
                shown = page.subscribe("chat/7", "start")
                async with keeper(program, database):
                    await say(page, "one")
                    await until(lambda: kept() == ["one"], 60)
                await say(page, "two")  # while nobody keeps
                async with keeper(program, database):
                    await say(page, "three")
                    await until(lambda: kept() == ["one", "two", "three"], 60)
                found = [await anext(shown) for _ in range(3)]
                assert [one.data["text"] for one in found if isinstance(one, Message)] == kept()
                with pytest.raises(Refused, match="may not publish"):
                    await page.publish("chat/8", {"text": "elsewhere"})


async def say(page: Any, text: str) -> None:
    with trio.fail_after(60):
        while True:
            try:
                await page.publish("chat/7", {"text": text})
                return
            except Refused as refused:
                assert refused.code == "disconnected"  # noqa: PT017  not connected yet
                await trio.sleep(0.05)


@asynccontextmanager
async def keeper(program: Path, dsn: str) -> AsyncIterator[None]:
    environment = {
        **os.environ,
        "DATABASE_URL": dsn,
        "KEEPER_TOKEN": token(subscribe=["chat/#"]),
        "PYTHONPATH": str(ROOT / "clients/python"),
    }
    process = await trio.lowlevel.open_process(
        [sys.executable, str(program)], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def test_rows_of_one_user_only(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SECRET", SECRET)
    monkeypatch.setenv("DATABASE_URL", database)
    port = free_port()
    text = settings("my-rows.md", port).replace(
        'kind = "wal"', 'kind = "wal"\nreplication = { allow_unbounded_wal = true }'
    )
    process = RowcastProcess.from_toml(tmp_path, text)
    with connect_database(database) as connection:
        connection.execute("CREATE TABLE orders (id bigint PRIMARY KEY, customer text, item text)")
        connection.execute("INSERT INTO orders VALUES (1, 'ada', 'tea'), (2, 'bob', 'milk')")
        assert main(["feed", "install", "-c", str(process.config), "--apply"]) == 0
        mine = token(sub="ada", subscribe=["orders/{sub}/#"])
        with process:
            async with connect(f"ws://127.0.0.1:{port}/rowcast", mine) as page:
                rows = page.subscribe("orders/ada/#", state=True)
                held: dict[str, str] = {}

                async def follow() -> None:
                    async for event in rows:
                        if isinstance(event, State):
                            held.clear()
                            held.update({one.topic: one.data["item"] for one in event.messages})
                        elif isinstance(event, Message):
                            held[event.topic] = event.data["item"]

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(follow)
                    await until(lambda: held == {"orders/ada/1": "tea"}, 60)
                    connection.execute("INSERT INTO orders VALUES (3, 'bob', 'oil'), (4, 'ada', 'salt')")
                    connection.execute("UPDATE orders SET item = 'coffee' WHERE id = 1")
                    await until(lambda: held == {"orders/ada/1": "coffee", "orders/ada/4": "salt"}, 60)
                    nursery.cancel_scope.cancel()
                with pytest.raises(Refused, match="may not subscribe"):
                    await anext(page.subscribe("orders/bob/#"))
