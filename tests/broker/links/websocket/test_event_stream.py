"""Server-sent events of the dialect `rowcast`."""

from __future__ import annotations

import trio
from support.websockets import Running, listening

from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.rowcast import Rowcast
from broker.core.publication import Publication
from broker.links.websocket.event_stream import stream_request

CONFIG = GatewayConfig(rowcast=Rowcast(anonymous_subscribe=("a/#",)))


async def ask(broker: Running, target: str, headers: str = "") -> trio.SocketStream:
    stream = await broker.raw()
    await stream.send_all(f"GET {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    return stream


async def read_until(stream: trio.SocketStream, wanted: bytes) -> bytes:
    data = b""
    with trio.fail_after(60):
        while wanted not in data:
            more = bytes(await stream.receive_some())
            assert more, data
            data += more
    return data


async def test_a_retained_value_then_what_is_published() -> None:
    async with listening(CONFIG, ("rowcast",)) as broker:
        broker.engine.publish(Publication(b"a/1", b'{"n":\n1}', 0, True))
        stream = await ask(broker, "/rowcast/sse?topic=a/%23")
        head = await read_until(stream, b"id: -/0\n\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
        assert b'data: {"topic":"a/1","retained":true,"data":{"n":\ndata: 1}}\n\n' in head
        with broker.engine.turn:
            broker.engine.publish(Publication(b"a/2", b"2"))
        assert await read_until(stream, b"\n\n") == b'id: -/1\ndata: {"topic":"a/2","at":"-/1","data":2}\n\n'


async def test_a_stream_that_may_not_be_is_refused_by_its_status() -> None:
    async with listening(CONFIG, ("rowcast",)) as broker:
        for target, status in (
            ("/rowcast/sse?topic=b", b"401"),
            ("/rowcast/sse?topic=a/1&token=x.y.z", b"401"),
            ("/rowcast/sse", b"400"),
            ("/rowcast/sse?topic=a/%23/b", b"400"),
        ):
            stream = await ask(broker, target)
            assert (await read_until(stream, b"\r\n")).startswith(b"HTTP/1.1 " + status)


async def test_a_position_nobody_gave_is_a_gap() -> None:
    async with listening(CONFIG, ("rowcast",)) as broker:
        stream = await ask(broker, "/rowcast/sse?topic=a/1", "Last-Event-ID: other/7\r\n")
        assert b"event: gap\ndata: {" in await read_until(stream, b"id: -/0\n\n")


def test_each_proxy_may_add_its_own_line() -> None:
    head = b"GET /r/sse?topic=a HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.2\r\n\r\n"
    asked = stream_request(head, "/r")
    assert asked is not None
    assert asked.forwarded_for == "10.0.0.1,10.0.0.2"
