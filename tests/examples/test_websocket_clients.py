"""The reference clients for the exchange and CantonDEX meet a running broker."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import jwt
import pytest
import trio
from support.canton_examples import EXAMPLES
from support.polling import until
from support.websockets import Running, listening

from broker.config.dialects.canton import Canton
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.tokens import JwtConfig

CLIENTS = Path(__file__).parents[2] / "examples" / "clients"
ACCOUNT = "acc_1234567890abcdef"
SECRET = "clients_secret_of_32_characters_"
CONFIG = GatewayConfig(
    exchange=Exchange(jwt=JwtConfig(SECRET, account_claim="uid")),
    canton=Canton(JwtConfig(SECRET)),
)

# What TypeScript adds to JavaScript in these two files, and nothing else; newer Nodes do it themselves.
TYPES = [
    (r"\b(private|protected) ", ""),
    (r"(\w): (Promise<void>|WebSocket \| null|string\[\]|string|any)(?=[ ,;)=])", r"\1"),
    (r"\): (Promise<void>|void)(?= \{)", ")"),
    (r"this\.ws!", "this.ws"),
    (r"canton_document\.ts", "canton_document.mjs"),
]


def without_types(source: str) -> str:
    for pattern, replacement in TYPES:
        source = re.sub(pattern, replacement, source)
    return source


@asynccontextmanager
async def printing(command: Sequence[str], cwd: Path) -> AsyncIterator[AsyncIterator[str]]:
    """The lines that a program prints while it runs."""

    async def lines(stream: trio.abc.ReceiveStream) -> AsyncIterator[str]:
        rest = b""
        async for data in stream:
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                yield line.decode()

    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, list(command), stdout=subprocess.PIPE, cwd=cwd, check=False)
        process: trio.Process = await nursery.start(run)
        assert process.stdout is not None
        with trio.fail_after(60):
            yield lines(process.stdout)
        nursery.cancel_scope.cancel()


def token(**claims: object) -> str:
    return jwt.encode(claims, SECRET, algorithm="HS256")


def publish(broker: Running, channel: str, name: str) -> None:
    broker.publish("canton", channel, EXAMPLES[name])


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
async def test_the_documents_typescript_class_works_unchanged(tmp_path: Path) -> None:
    for name in ("canton_document", "canton_orders"):
        (tmp_path / f"{name}.mjs").write_text(without_types((CLIENTS / f"{name}.ts").read_text()))
    async with listening(CONFIG, ("canton",)) as broker:
        url = f"ws://127.0.0.1:{broker.port}/v1/ws"
        command = [
            "node",
            "--experimental-websocket",
            "canton_orders.mjs",
            url,
            token(account_id=ACCOUNT),
            ACCOUNT,
        ]
        async with printing(command, tmp_path) as lines:
            assert await anext(lines) == "connected"
            await until(lambda: broker.engine.trie.count >= 4)
            publish(broker, f"orders/{ACCOUNT}", "Order Updates Stream: Order Created Event")
            publish(broker, f"orders/{ACCOUNT}", "Order Updates Stream: Order Updated Event")
            publish(broker, f"trades/{ACCOUNT}", "Trade Updates Stream: Trade Executed Event")
            publish(broker, "market_data/AAPL/USDC", "Market Data Stream: Price Update Event")
            assert [await anext(lines) for _ in range(4)] == [
                "order ord_1234567890abcdef buy 100 AAPL/USDC at 150.5",
                "order ord_1234567890abcdef partially_filled 50",
                "trade trd_1234567890abcdef 50 AAPL/USDC at 150.48",
                "price AAPL/USDC 150.48",
            ]


def test_the_class_in_the_examples_is_the_documents() -> None:
    source = (CLIENTS / "canton_document.ts").read_text()
    assert "new WebSocket('wss://api.cantondex.io/v1/ws')" in source
    assert "this.ws!.onmessage = originalOnMessage;" in source


async def test_the_python_client_of_cantondex_prints_its_events() -> None:
    async with listening(CONFIG, ("canton",)) as broker:
        url = f"ws://127.0.0.1:{broker.port}/v1/ws"
        command = [sys.executable, "canton_feed.py", url, token(account_id=ACCOUNT), "AAPL/USDC"]
        async with printing(command, CLIENTS) as lines:
            for _ in range(5):
                assert '"subscription_response"' in await anext(lines)
            publish(broker, f"settlements/{ACCOUNT}", "Settlement Stream: Settlement Failed Event")
            first = EXAMPLES["Settlement Stream: Settlement Failed Event"].splitlines()[0]
            assert await anext(lines) == first


async def test_the_python_client_of_the_exchange_prints_its_balance_and_public_trades() -> None:
    async with listening(CONFIG, ("exchange",)) as broker:
        url = f"ws://127.0.0.1:{broker.port}/exchange-stream"
        command = [sys.executable, "exchange_feed.py", url, "BTCUSDT", token(uid=1001)]
        async with printing(command, CLIENTS) as lines:
            assert await anext(lines) == "subscribed"
            broker.publish("exchange", "1001@balance", '{"event":"@balance","data":{"uid":1001}}')
            broker.publish("exchange", "BTCUSDT@trades", '{"event":"BTCUSDT@trades","data":{"price":1}}')
            assert await anext(lines) == '@balance {"uid": 1001}'
            assert await anext(lines) == 'BTCUSDT@trades {"price": 1}'
