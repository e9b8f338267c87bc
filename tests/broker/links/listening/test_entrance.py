"""Who is named where what a proxy says of its client is refused."""

from __future__ import annotations

import logging
import struct

import pytest
import trio

from broker import Broker, Config, Listener
from broker.config.model import Security

CLIENT = struct.pack("!4B4BHH", 203, 0, 113, 7, 127, 0, 0, 1, 4711, 1883)
HEADER = b"\r\n\r\n\x00\r\nQUIT\n" + b"\x21\x11" + struct.pack("!H", len(CLIENT)) + CLIENT


async def test_a_refusal_names_the_client_and_not_the_proxy(caplog: pytest.LogCaptureFixture) -> None:
    listener = Listener(
        0,
        "127.0.0.1",
        security=Security(allow_anonymous=True),
        enable_proxy_protocol=2,
        proxy_protocol_v2_require_tls=True,
    )
    caplog.set_level(logging.INFO)
    async with Broker(Config((listener,))) as broker:
        stream = await trio.open_tcp_stream("127.0.0.1", broker.ports[0])
        await stream.send_all(HEADER)
        with trio.fail_after(60):
            assert await stream.receive_some(10) == b""
    assert "Connection from 203.0.113.7:4711 rejected" in caplog.text
