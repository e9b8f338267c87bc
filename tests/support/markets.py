"""A broker that calculates market data, with clients and an engine that sends rows by TCP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
import trio_websocket
from support.polling import until

from broker import Broker
from broker.config.toml.configuration import load
from broker.market.calculator import Calculator, Row
from broker.market.stream import Stream
from broker.marketdata.service import MarketService

SECRET = "0123456789012345678901234567890123456789"

LISTENERS = f"""
[[listener]]
port = 0
protocol = "websockets"
dialects = ["exchange"]
[security]
allow_anonymous = true
[websocket.exchange]
jwt = {{ secret = "{SECRET}", account = "uid" }}
"""


class Faulty(Calculator):
    """Has a bug wherever one can be."""

    def row(self, row: Row, now_ms: int) -> None:
        raise RuntimeError("row")

    def commit(self, now_ms: int) -> None:
        raise RuntimeError("commit")

    def tick(self, now_ms: int) -> None:
        raise RuntimeError("tick")

    def reset(self, now_ms: int) -> None:
        raise RuntimeError("reset")

    def streams(self) -> list[Stream]:
        return []


@attrs.frozen
class RunningMarket:
    broker: Broker
    port: int
    streams: list[trio.SocketStream] = attrs.field(factory=list)
    """Of its clients."""

    @property
    def service(self) -> MarketService:
        assert self.broker.app.market is not None
        return self.broker.app.market

    async def source_port(self, name: str) -> int:
        await until(lambda: bool(self.service.ports.get(name)))
        return self.service.ports[name][0]

    async def engine(self, name: str) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", await self.source_port(name))

    async def connect(self, nursery: trio.Nursery, *channels: str) -> trio_websocket.WebSocketConnection:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self.streams.append(stream)
        ws = await trio_websocket.wrap_client_stream(
            nursery, stream, f"127.0.0.1:{self.port}", "/exchange-stream", message_queue_size=8
        )
        for channel in channels:
            await ws.send_message(json.dumps({"op": "subscribe", "channel": channel}))
        return ws


async def slow_reader(
    nursery: trio.Nursery, market: RunningMarket, channel: str
) -> trio_websocket.WebSocketConnection:
    """A client whose kernel takes next to nothing ahead of it."""
    sock = trio.socket.socket()
    sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    await sock.connect(("127.0.0.1", market.port))
    market.streams.append(trio.SocketStream(sock))
    ws = await trio_websocket.wrap_client_stream(
        nursery, market.streams[-1], f"127.0.0.1:{market.port}", "/exchange-stream", message_queue_size=1
    )
    await ws.send_message(json.dumps({"op": "subscribe", "channel": channel}))
    return ws


async def next_event(ws: trio_websocket.WebSocketConnection, channel: str = "") -> Any:
    """The data of the next message, of this channel if one is given."""
    with trio.fail_after(100):  # a machine may be busy
        while True:
            message = json.loads(await ws.get_message())
            if "event" in message and channel in ("", message["event"]):
                return message["data"]


def line(**row: object) -> bytes:
    return json.dumps(row).encode() + b"\n"


@asynccontextmanager
async def running_market(
    folder: Path, settings: str, environ: Mapping[str, str] | None = None, listeners: str = LISTENERS
) -> AsyncIterator[RunningMarket]:
    path = folder / "market.toml"
    path.write_text(listeners + settings)
    config = load(path, environ or {})
    config = attrs.evolve(
        config, listeners=tuple(attrs.evolve(one, host="127.0.0.1") for one in config.listeners)
    )
    async with Broker(config) as broker:
        [port] = [port for one, port in broker.app.addresses if one.protocol == "websockets"]
        market = RunningMarket(broker, port)
        yield market
        # The broker would wait for the goodbye of whom a test has left without one.
        for stream in market.streams:
            await trio.aclose_forcefully(stream)
