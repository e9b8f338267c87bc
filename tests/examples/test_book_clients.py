"""Goal: the 20-line book clients end with the source's book at every speed.

Method: books are changed at random; a reader that lags for random times is given merged updates and snapshots, as a
channel does; what it is given goes to the example's own class, in Python and in JavaScript.  And both programs run
against a server.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import random
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from support.market import Log
from support.markets import line, running_market

from broker.market.book import Book
from broker.market.depth import Depth
from broker.market.levels import DepthNames

CLIENTS = Path(__file__).parents[2] / "examples" / "clients"
DEPTH = """
[source.book]
tcp = "127.0.0.1:0"
[[market.depth]]
from = "book"
shape = "levels"
every = "0s"
[[websocket.route]]
from = "market.depth"
channel = "{symbol}@depth"
"""

Sides = dict[str, dict[str, str]]


def session(seed: int) -> tuple[list[Any], Sides]:
    """What one reader is given, and the published book at the end."""
    rng = random.Random(seed)
    log = Log()
    levels = rng.choice((3, 10, 1000))
    calculator = Depth(log, 0, DepthNames(), "levels", 0, levels, True, 0)
    given: list[Any] = []
    model: dict[str, dict[Decimal, str]] = {"bids": {}, "asks": {}}
    seq = -1
    patience = rng.choice((0.0, 0.3, 0.9))
    for now_ms in range(1000, 1060):
        for _ in range(rng.randint(1, 6)):
            side = rng.choice(("bids", "asks"))
            price = Decimal(100 - rng.randint(1, 30) if side == "bids" else 100 + rng.randint(1, 30))
            size = str(rng.randint(0, 3))
            model[side].pop(price, None)
            if size != "0":
                model[side][price] = size
            row: dict[str, object] = {"symbol": "X", "side": side, "price": str(price), "size": size}
            calculator.row(row, now_ms)
        calculator.commit(now_ms)
        if rng.random() < patience and now_ms < 1059:
            continue
        for book in calculator.streams():
            assert isinstance(book, Book)
            texts = book.state() if seq < 0 else book.since(seq) if seq != book.seq else []
            given += map(json.loads, texts)
            seq = book.seq
    best = {
        side: sorted(found.items(), key=lambda level: level[0], reverse=side == "bids")[:levels]
        for side, found in model.items()
    }
    return given, {side: {str(price): size for price, size in found} for side, found in best.items()}


@functools.cache
def sessions() -> list[tuple[list[Any], Sides]]:
    return [session(seed) for seed in range(60)]


def test_the_python_client_has_the_book_at_every_speed() -> None:
    spec = importlib.util.spec_from_file_location("book_example", CLIENTS / "book.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for given, wanted in sessions():
        book = module.Book()
        for data in given:
            book.take(data)
        assert {"bids": book.bids, "asks": book.asks} == wanted
    with pytest.raises(ValueError, match="missing"):
        book.take({"type": "update", "prev": book.seq - 1, "seq": book.seq + 1, "bids": [], "asks": []})


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_the_javascript_client_has_the_book_at_every_speed(tmp_path: Path) -> None:
    shutil.copy(CLIENTS / "book.mjs", tmp_path)
    (tmp_path / "sessions.json").write_text(json.dumps([given for given, _ in sessions()]))
    (tmp_path / "play.mjs").write_text(
        """import { readFileSync } from "node:fs"; import { Book } from "./book.mjs";
        const ended = [];
        for (const given of JSON.parse(readFileSync("sessions.json"))) {
          const book = new Book();
          for (const data of given) book.take(data);
          ended.push({ bids: Object.fromEntries(book.bids), asks: Object.fromEntries(book.asks) });
          let refused = false;
          try { book.take({ type: "update", prev: -1, seq: 1, bids: [], asks: [] }); } catch { refused = true; }
          if (!refused) throw new Error("a hole was taken");
        }
        console.log(JSON.stringify(ended));"""
    )
    done = subprocess.run(["node", "play.mjs"], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [wanted for _, wanted in sessions()]


@asynccontextmanager
async def printing(command: list[str], cwd: Path) -> AsyncIterator[AsyncIterator[str]]:
    """The lines that a program prints while it runs."""

    async def lines(stream: trio.abc.ReceiveStream) -> AsyncIterator[str]:
        rest = b""
        async for data in stream:
            *whole, rest = (rest + data).split(b"\n")
            for one in whole:
                yield one.decode()

    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, command, stdout=subprocess.PIPE, cwd=cwd, check=False)
        process: trio.Process = await nursery.start(run)
        assert process.stdout is not None
        with trio.fail_after(60):
            yield lines(process.stdout)
        nursery.cancel_scope.cancel()


def has_websocket() -> bool:
    if shutil.which("node") is None:
        return False
    asked = ["node", "-e", "if (!globalThis.WebSocket) require.resolve('ws')"]
    return subprocess.run(asked, cwd=CLIENTS, capture_output=True, check=False, timeout=30).returncode == 0


@pytest.mark.parametrize("name", ["book.py", "book.mjs"])
async def test_the_program_prints_the_best_prices(tmp_path: Path, name: str) -> None:
    if name == "book.mjs" and not has_websocket():
        pytest.skip("needs Node 22, or the package ws: scripts/setup-clients")
    start = [sys.executable] if name == "book.py" else ["node"]
    async with running_market(tmp_path, DEPTH) as market:
        url = f"ws://127.0.0.1:{market.port}/exchange-stream"
        async with printing([*start, str(CLIENTS / name), url, "X"], CLIENTS) as lines:
            assert await anext(lines) == "subscribed"
            engine = await market.engine("book")
            for side, price, size, best in (
                ("bid", "1.5", "2", "1.5 -"),
                ("ask", "2.5", "2", "1.5 2.5"),
                ("bid", "1.75", "1", "1.75 2.5"),
                ("bid", "1.75", "0", "1.5 2.5"),
            ):
                await engine.send_all(line(symbol="X", side=side, price=price, size=size))
                assert await anext(lines) == best
