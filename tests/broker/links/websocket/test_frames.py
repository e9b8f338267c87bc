"""Clients that write bytes of their own making, with and without TLS: what ends a connection."""

from __future__ import annotations

import gc
import math
import re
import shutil
import socket
import ssl
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from support.certificates import Authority
from support.polling import until
from support.websockets import ECONIA, RawClient, Running, listening, masked, reader, token

from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.model import Tls
from broker.core.publication import Publication
from broker.links.listening.tls import server_context
from broker.links.websocket import farewell
from protocol.dialects.base import Clock, Identity, Refusal

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{more}\r\n"
)
WRITER = "/" + token(mode="rw", channels=["chat"])

Open = Callable[[Running], Awaitable[trio.abc.Stream]]


async def over_tcp(broker: Running) -> trio.abc.Stream:
    return await broker.raw()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("ca"))
    made.issue("server", "/CN=localhost", host=True)
    return made


@pytest.fixture(params=["plain", "tls"])
def connect(request: pytest.FixtureRequest) -> Open:
    if request.param == "plain":
        return over_tcp
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates")
    authority: Authority = request.getfixturevalue("authority")
    tls = Tls(authority.folder / "server.crt", authority.folder / "server.key")

    async def over_tls(broker: Running) -> trio.abc.Stream:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        broker.door.tls_context = server_context(tls)
        broker.server.arrivals.encrypt(theirs, broker.door, "pair:1", None, broker.websockets.take)
        plain = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        context = ssl.create_default_context(cafile=authority.ca)
        stream = trio.SSLStream(plain, context, server_hostname="localhost", https_compatible=True)
        await stream.do_handshake()
        return stream

    return over_tls


async def opened(stream: trio.abc.Stream, path: str, first: bytes = b"", more: str = "") -> RawClient:
    """After its handshake, whose last segment holds `first`, too."""
    await stream.send_all(HANDSHAKE.format(path=path, more=more).encode() + first)
    head = b""
    while b"\r\n\r\n" not in head:
        head += await stream.receive_some()
    assert head.startswith(b"HTTP/1.1 101 "), head
    assert b"Sec-WebSocket-Extensions" not in head
    return RawClient(stream, head.partition(b"\r\n\r\n")[2])


def said(payload: bytes) -> str:
    found = re.search(rb'"payload":"([^"]*)"', payload)
    assert found is not None, payload
    return found[1].decode()


async def test_frames_in_the_segment_of_the_handshake_are_read(connect: Open) -> None:
    async with listening() as broker:
        client = await opened(
            await connect(broker), WRITER, masked(0x81, b"early") + masked(0x81, b"later")[:3]
        )
        assert said((await client.frame())[1]) == "early"
        await client.send(masked(0x81, b"later")[3:])
        assert said((await client.frame())[1]) == "later"


async def test_a_message_may_come_byte_by_byte_with_pings_between_its_fragments(connect: Open) -> None:
    async with listening() as broker:
        client = await opened(await connect(broker), WRITER)
        for byte in masked(0x01, b"one ") + masked(0x89, b"?") + masked(0x00, b"") + masked(0x80, b"message"):
            await client.send(bytes([byte]))
        assert await client.frame() == (0x8A, b"?")
        assert said((await client.frame())[1]) == "one message"


async def test_a_compressed_frame_is_refused_because_no_extension_is_agreed_on(connect: Open) -> None:
    async with listening() as broker:
        stream = await connect(broker)
        client = await opened(stream, WRITER, more="Sec-WebSocket-Extensions: permessage-deflate\r\n")
        await client.send(masked(0xC1, b"x"))
        assert await client.close_code() == 1002


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x05Hello", 1002),
        (masked(0x81, b"\xff\xfe"), 1007),
        (masked(0x83, b""), 1002),
        (masked(0x81, b"x" * 70_000)[:14], 1009),
        (masked(0x89, b"") * 300, 1008),
        (masked(0x8A, b"") * 300, 1008),
        (masked(0x01, b"") + masked(0x00, b"") * 120_000, 1009),
    ],
    ids=["unmasked", "no UTF-8", "unknown opcode", "oversize", "pings", "pongs", "empty fragments"],
)
async def test_what_breaks_the_rules_is_told_its_code_and_cut_off(
    connect: Open, data: bytes, code: int
) -> None:
    config = GatewayConfig(econia=ECONIA, message_bytes_max=65536)
    async with listening(config) as broker:
        client = await opened(await connect(broker), WRITER)
        with trio.fail_after(60):
            await client.send(data)
            assert await client.close_code() == code
            assert await client.at_end()
            await broker.links_left(0)
        assert broker.engine.counters.link_bugs == 0


async def test_a_close_is_answered_with_its_code_and_nothing_after_it_is_read(connect: Open) -> None:
    async with listening() as broker:
        client = await opened(await connect(broker), WRITER)
        await client.send(masked(0x88, b"\x0f\xa0done") + masked(0x81, b"too late"))
        assert await client.frame() == (0x88, b"\x0f\xa0done")
        assert await client.at_end()
        await broker.links_left(0)


async def test_after_our_close_the_clients_is_awaited_before_hanging_up(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farewell, "CLOSE_GRACE_S", math.inf)
    async with listening() as broker:
        client = await opened(await connect(broker), WRITER)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(broker.websockets.close_all)
            assert await client.close_code() == 1001
            with trio.move_on_after(0.05) as waited:
                await client.at_end()
            assert waited.cancelled_caught
            await client.send(masked(0x81, b"crossing") + masked(0x88, b"\x03\xe9"))
            with trio.fail_after(60):
                assert await client.at_end()
            await trio.aclose_forcefully(client.stream)


async def test_nothing_is_sent_after_the_close_frame(connect: Open) -> None:
    async with listening() as broker:
        mqtt = await opened(await connect(broker), "/mqtt", more="Sec-WebSocket-Protocol: mqtt\r\n")
        await mqtt.send(
            masked(0x82, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a\x82\x06\x00\x01\x00\x01t\x00")
        )
        assert [await mqtt.frame() for _ in range(2)] == [
            (0x82, b"\x20\x02\x00\x00"),
            (0x82, b"\x90\x03\x00\x01\x00"),
        ]
        dialect = await opened(await connect(broker), WRITER)
        for link in broker.websockets._open.links():
            link.close(1001, "")
        broker.engine.publish(Publication(b"t", b"late"))
        broker.publish("econia", "chat", "late")
        for client in (mqtt, dialect):
            assert await client.frame() == (0x88, b"\x03\xe9")
            await client.send(masked(0x88, b""))
            with pytest.raises(EOFError):
                await client.frame()


async def test_a_client_that_never_says_goodbye_is_cut_off_after_the_grace_time(connect: Open) -> None:
    async with listening() as broker:
        client = await opened(await connect(broker), WRITER)
        with trio.fail_after(60):
            await broker.websockets.close_all()
            assert await client.close_code() == 1001
        assert broker.gateway.count() == 0
        assert broker.door.open_count == 0


async def test_a_client_that_only_shuts_its_sending_side_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farewell, "CLOSE_GRACE_S", math.inf)
    async with listening() as broker:
        stream = await broker.raw()
        client = await opened(stream, WRITER)
        await stream.send_eof()
        with trio.fail_after(60):
            assert await client.close_code() is None
            await broker.links_left(0)
        assert broker.door.open_count == 0


class Slowly:
    """Knows every token's bearer, once it is told to answer."""

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.may_answer = trio.Event()

    async def identify(self, token: str, clock: Clock, now: float) -> Identity | Refusal:
        self.asked.set()
        await self.may_answer.wait()
        return Identity(token)


LOGIN = masked(0x81, b'{"op":"auth","token":"1001"}')
SUBSCRIBE = masked(0x81, b'{"op":"subscribe","channel":"@order"}')
SUCCESS = (0x81, b'{"result":true}')


async def test_what_comes_during_a_login_waits_for_its_end(connect: Open) -> None:
    slowly = Slowly()
    async with listening(GatewayConfig(exchange=Exchange()), ("exchange",), {"exchange": slowly}) as broker:
        client = await opened(await connect(broker), "/exchange-stream")
        await client.send(LOGIN + SUBSCRIBE + masked(0x89, b"")[:3])
        await slowly.asked.wait()
        await client.send(masked(0x89, b"")[3:] + SUBSCRIBE)
        with trio.move_on_after(0.05) as waited:
            await client.frame()
        assert waited.cancelled_caught
        slowly.may_answer.set()
        with trio.fail_after(60):
            assert [await client.frame() for _ in range(4)] == [SUCCESS, SUCCESS, (0x8A, b""), SUCCESS]


async def test_a_client_that_leaves_during_its_login_is_forgotten_at_once() -> None:
    slowly = Slowly()
    async with listening(GatewayConfig(exchange=Exchange()), ("exchange",), {"exchange": slowly}) as broker:
        client = await opened(await broker.raw(), "/exchange-stream")
        await client.send(LOGIN)
        await slowly.asked.wait()
        await client.stream.aclose()
        await broker.links_left(0)
        slowly.may_answer.set()
        await trio.testing.wait_all_tasks_blocked()
        assert broker.engine.counters.link_bugs == 0


async def test_an_idle_client_over_tcp_has_no_task() -> None:
    async with listening() as broker:
        tasks = len(broker.server.nursery.child_tasks)
        clients = [await opened(await broker.raw(), "/" + reader("chat")) for _ in range(20)]
        await trio.testing.wait_all_tasks_blocked()
        assert len(broker.server.nursery.child_tasks) == tasks
        broker.publish("econia", "chat", "hello")
        for client in clients:
            assert await client.frame() == (0x81, b"hello")


@pytest.mark.parametrize(
    ("path", "more"), [(WRITER, ""), ("/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n")], ids=["dialect", "mqtt"]
)
@pytest.mark.parametrize("goodbye", [masked(0x88, b""), b"\xff\xff", b""], ids=["close", "broken", "lost"])
async def test_a_closed_connection_is_freed_without_the_garbage_collector(
    connect: Open, path: str, more: str, goodbye: bytes
) -> None:
    async with listening() as broker:
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        gc.disable()
        before = left_of_links()
        try:
            client = await opened(await connect(broker), path, more=more)
            assert left_of_links() != before
            if goodbye:
                await client.send(goodbye)
                assert await client.at_end()
            await client.stream.aclose()
            await until(lambda: not broker.websockets._open.links())
            del client
            await trio.testing.wait_all_tasks_blocked()
            assert left_of_links() == before
        finally:
            gc.enable()


def left_of_links() -> list[str]:
    names = {
        "DialectLink",
        "MqttWebSocket",
        "MqttLink",
        "PumpedWebSocket",
        "TlsSocket",
        "Handshake",
        "Outbox",
    }
    return [type(one).__name__ for one in gc.get_objects() if type(one).__name__ in names]
