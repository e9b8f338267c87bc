"""The Python client's shells on real sockets, through a proxy that cuts, while the server is stopped and started."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import struct
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from support.polling import until
from support.ports import free_port
from support.rowcast_process import RowcastProcess

sys.path.insert(0, str(Path(__file__).parents[2] / "clients/python"))
from rowcast_client import Message, Refused
from rowcast_client.asyncio import connect as connect_asyncio
from rowcast_client.trio import connect as connect_trio

COUNT = 60


def settings(port: int, folder: Path) -> str:
    return f"""
[[listener]]
port = {port}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["rowcast"]

[websocket.rowcast]
anonymous_subscribe = ["#"]
anonymous_publish = ["chat/#"]

[[history]]
topics = ["chat/#"]

[persistence]
persistence = true
persistence_location = "{folder}"
"""


async def numbers(events: AsyncIterator[Any], found: list[int]) -> None:
    async for event in events:
        assert isinstance(event, Message), event
        found.append(event.data)
        if event.data == COUNT - 1:
            return


def start(folder: Path, port: int) -> RowcastProcess:
    process = RowcastProcess.from_toml(folder, settings(port, folder))
    process.__enter__()
    return process


async def test_trio_misses_nothing_over_a_restart_of_the_server(tmp_path: Path) -> None:
    port = free_port()
    process = await trio.to_thread.run_sync(start, tmp_path, port)
    try:
        found: list[int] = []
        with trio.fail_after(50):
            async with (
                connect_trio(f"ws://127.0.0.1:{port}/rowcast") as reader,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(numbers, reader.subscribe("chat/+", "start"), found)
                async with connect_trio(f"ws://127.0.0.1:{port}/rowcast") as writer:
                    for number in range(COUNT):
                        if number == COUNT // 2:
                            await trio.to_thread.run_sync(process.__exit__, None, None, None)
                            process = await trio.to_thread.run_sync(start, tmp_path, port)
                        await publish_trio(writer, number)
        assert found == list(range(COUNT))
    finally:
        await trio.to_thread.run_sync(process.__exit__, None, None, None)


async def publish_trio(writer: Any, number: int) -> None:
    while True:
        try:
            await writer.publish("chat/7", number)
            return
        except Refused as refused:
            assert refused.code == "disconnected"  # noqa: PT017
            await trio.sleep(0.05)


def test_asyncio_misses_nothing_over_a_restart_of_the_server(tmp_path: Path) -> None:
    port = free_port()
    asyncio.run(under_asyncio(tmp_path, port))


async def under_asyncio(folder: Path, port: int) -> None:
    url = f"ws://127.0.0.1:{port}/rowcast"
    process = await asyncio.to_thread(start, folder, port)
    try:
        found: list[int] = []
        async with connect_asyncio(url) as reader, connect_asyncio(url) as writer:
            reading = asyncio.create_task(numbers(reader.subscribe("chat/+", "start"), found))
            for number in range(COUNT):
                if number == COUNT // 2:
                    await asyncio.to_thread(process.__exit__, None, None, None)
                    process = await asyncio.to_thread(start, folder, port)
                while True:
                    try:
                        await writer.publish("chat/7", number)
                        break
                    except Refused as refused:
                        assert refused.code == "disconnected"  # noqa: PT017
                        await asyncio.sleep(0.05)
            await reading
        assert found == list(range(COUNT))
    finally:
        await asyncio.to_thread(process.__exit__, None, None, None)


async def test_what_may_not_be_read_is_refused_by_name(tmp_path: Path) -> None:
    port = free_port()
    text = settings(port, tmp_path).replace('anonymous_subscribe = ["#"]', 'anonymous_subscribe = ["a"]')
    with RowcastProcess.from_toml(tmp_path, text):
        async with connect_trio(f"ws://127.0.0.1:{port}/rowcast") as rowcast:
            with pytest.raises(Refused, match="may not subscribe"), trio.fail_after(60):
                await rowcast.subscribe("b").__anext__()


async def test_a_server_that_asks_says_goodbye_and_is_gone_is_no_error() -> None:
    """A ping and the close in one piece, then a reset: what the client answers can't be sent."""
    sent = 0
    ping = b'\x81\x0a{"ping":1}'
    goodbye = b"\x88\x02\x03\xe9"

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal sent
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some(4096)
        key = next(
            line[19:] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key: ")
        )
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        head = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.send_all(head + accept + b"\r\n\r\n" + (ping + goodbye if sent % 2 else ping * 50))
        sent += 1
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        with trio.fail_after(60):
            async with connect_trio(f"ws://127.0.0.1:{port}/rowcast") as reader:
                reader.subscribe("a")
                await until(lambda: sent >= 3)
        nursery.cancel_scope.cancel()
