"""Goal: docs/how-to/exchange.md works as it stands.  Method: what is written there is run, but for ports and DSN."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import psycopg
import trio
from support.markets import next_event, running_market

DOCS = Path(__file__).parents[3] / "docs"
HOW_TO = (DOCS / "how-to/exchange.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


async def test_the_steps_lead_to_a_chart(tmp_path: Path, database: str) -> None:
    [levels] = blocks(HOW_TO, "sql")
    [kline] = blocks((DOCS / "market.md").read_text(), "sql")
    [settings] = blocks(HOW_TO, "toml")
    [program] = blocks(HOW_TO, "python")
    trade: dict[str, Any] = {}
    said = program.replace("engine = socket", "engine = Engine(); _ = lambda: socket")
    exec(
        said,
        {"Engine": lambda: type("Sent", (), {"sendall": lambda _, data: trade.update(json.loads(data))})()},
    )
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(levels.encode())
        connection.execute(kline.replace("exchange.kline", "kline").encode())
        connection.execute(
            "INSERT INTO levels VALUES ('BTCUSDT', 'bid', 42000.00, 1), ('BTCUSDT', 'ask', 42001, 2)"
        )
    settings = settings.replace('"127.0.0.1:7001"', '"127.0.0.1:0"').replace("port = 8080", "port = 0")
    async with (
        running_market(tmp_path, settings, {"DATABASE_URL": database}, "") as market,
        trio.open_nursery() as nursery,
    ):
        engine = await market.engine("trades")
        kinds = ("depth", "trades", "kline_1m", "kline", "ticker")
        readers = {kind: await market.connect(nursery, f"BTCUSDT@{kind}") for kind in kinds}
        await engine.send_all(json.dumps(trade).encode() + b"\n")
        told = {kind: await next_event(reader) for kind, reader in readers.items()}
        assert told["depth"]["bids"] == [["42000.00", "1"]]
        assert told["trades"][0]["price"] == trade["price"]
        assert told["kline_1m"]["close"] == told["ticker"]["last"] == trade["price"]
        stream = await trio.open_tcp_stream("127.0.0.1", market.port)
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in await stream.receive_some(65536)
        nursery.cancel_scope.cancel()
    with psycopg.connect(database) as connection:
        kept = connection.execute(
            "SELECT DISTINCT symbol, close::text FROM kline WHERE trades > 0"
        ).fetchall()
        assert kept == [("BTCUSDT", "42000.50")]
