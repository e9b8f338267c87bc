"""Clients are asked to go in slices, told when to come back, and those who are left still get everything."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from types import SimpleNamespace
from typing import cast

import httpx
import pytest
import trio
import trio.lowlevel
import trio_websocket
from attrs import define
from hypothesis import given
from hypothesis import strategies as st
from support.mqtt_stream import StreamClient
from support.polling import until
from trio.testing import MockClock

from broker import Broker, Config, Listener
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.model import AdminHttp, Security
from broker.drain import SLICE_S, drain_clients, slice_size
from broker.links.server import Server
from broker.links.websocket.server import WebSocketServer
from protocol.mqtt.packets import Connect, Disconnect
from protocol.mqtt.v5.codec import decode, encode
from protocol.mqtt.v5.properties import NO_PROPERTIES, Properties
from protocol.mqtt.v5.property_table import MAXIMUM_PACKET_SIZE, SERVER_REFERENCE

OPEN = Security(allow_anonymous=True)
LISTENERS = (
    Listener(0, "127.0.0.1", security=OPEN),
    Listener(0, "127.0.0.1", protocol="websockets", dialects=("mqtt", "exchange"), security=OPEN),
)
CLIENTS = 40


@given(st.integers(1, 100_000), st.floats(0.5, 600))
def test_all_have_been_asked_in_time_and_never_many_more_at_once(connections: int, within_s: float) -> None:
    left, left_s, largest = connections, within_s, 0
    while left and left_s > 0:
        size = slice_size(left, left_s)
        assert 0 < size <= left
        largest = max(largest, size)
        left -= size
        left_s -= SLICE_S
    assert left == 0
    assert largest <= connections * SLICE_S / within_s + 2 + connections * SLICE_S / within_s * 0.1


@define(eq=False)
class Asked:
    """A WebSocket client; what it was told."""

    closing: int = 0
    reason: str = ""

    def close(self, code: int, reason: str) -> None:
        self.closing, self.reason = code, reason


@pytest.mark.parametrize("within_s", [0.0, 0.01, 0.14, 0.26, 1.0, 1.04])
@pytest.mark.parametrize("seed", range(10))
async def test_nobody_is_left_unasked_by_a_pause_that_passes_the_end(
    autojump_clock: MockClock, within_s: float, seed: int
) -> None:
    random.seed(seed)
    links = [Asked() for _ in range(CLIENTS)]
    server = SimpleNamespace(links=list, engine=SimpleNamespace(turn=contextlib.nullcontext()))
    websockets = SimpleNamespace(links=lambda: links)
    begun = trio.current_time()
    await drain_clients(cast("Server", server), cast("WebSocketServer", websockets), within_s)
    assert trio.current_time() - begun <= within_s
    asked = [link for link in links if link.closing]
    assert len(asked) == (CLIENTS if within_s else 0)
    assert all("retry_ms" in json.loads(link.reason) for link in asked)


@pytest.mark.parametrize(
    ("elsewhere", "size_max", "told"),
    [
        ("", 0, Disconnect(0x8B)),
        ("b.example:1883", 0, Disconnect(0x9C, Properties(texts={SERVER_REFERENCE: b"b.example:1883"}))),
        ("b.example:1883", 20, Disconnect(0x9C)),
        ("x" * 100, 0, Disconnect(0x9C, Properties(texts={SERVER_REFERENCE: b"x" * 100}))),
    ],
)
async def test_a_client_of_5_0_is_told_why_and_where_to_go(
    elsewhere: str, size_max: int, told: Disconnect
) -> None:
    config = Config(LISTENERS[:1], drain_s=0.2, drain_to=elsewhere)
    limit = Properties({MAXIMUM_PACKET_SIZE: size_max}) if size_max else NO_PROPERTIES
    with trio.fail_after(60):
        async with Broker(config) as broker:
            stream = await trio.open_tcp_stream("127.0.0.1", broker.ports[0])
            await stream.send_all(encode(Connect(b"c", True, 60, 5, properties=limit)))
            connack = await stream.receive_some(1000)
            assert connack[0] == 0x20
            broker.app.stop()
            data = await stream.receive_some(1000)
    assert decode(data[0], data[2:]) == told
    assert data[1] == len(data) - 2


async def test_clients_leave_in_slices_and_nobody_new_comes() -> None:
    config = Config(LISTENERS, gateway=GatewayConfig(exchange=Exchange()), drain_s=1.0, admin=AdminHttp(0))
    left_at: list[float] = []
    closed: list[tuple[int | None, str | None]] = []

    async def stay(client: StreamClient) -> None:
        await client.read_to_end()
        left_at.append(trio.current_time())

    async def stay_on_websocket(path: str, subprotocols: list[str]) -> None:
        url = f"ws://127.0.0.1:{broker.ports[1]}{path}"
        async with trio_websocket.open_websocket_url(url, subprotocols=subprotocols) as ws:
            joined.append(ws)
            with contextlib.suppress(trio_websocket.ConnectionClosed):
                while True:
                    await ws.get_message()
            assert ws.closed is not None
            closed.append((ws.closed.code, ws.closed.reason))

    with trio.fail_after(40):
        async with Broker(config) as broker, trio.open_nursery() as nursery:
            joined: list[object] = []
            for number in range(CLIENTS):
                client = StreamClient(await trio.open_tcp_stream("127.0.0.1", broker.ports[0]))
                await client.connect(b"c%d" % number)
                joined.append(client)
                nursery.start_soon(stay, client)
            nursery.start_soon(stay_on_websocket, "/mqtt", ["mqtt"])
            nursery.start_soon(stay_on_websocket, "/exchange-stream", [])
            await until(lambda: len(joined) >= CLIENTS + 2)
            begun = trio.current_time()
            broker.app.stop()
            await trio.lowlevel.checkpoint()
            async with httpx.AsyncClient(trust_env=False) as http:
                red = await http.get(f"http://127.0.0.1:{broker.app.admin_port}/readyz")
            assert (red.status_code, red.text) == (503, "draining: clients are asked to go elsewhere\n")
            with pytest.raises(OSError, match="all attempts to connect"):
                await trio.open_tcp_stream("127.0.0.1", broker.ports[0])
    assert len(left_at) == CLIENTS
    slices = Counter(round((at - begun) / SLICE_S) for at in left_at)
    assert len(slices) >= 4
    assert [code for code, _ in closed] == [1001, 1001]
    assert all(0 <= json.loads(reason or "")["retry_ms"] < 2000 for _, reason in closed)
