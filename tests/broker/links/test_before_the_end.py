"""What a client sent before its connection ended counts, on every kind of link, also while its password is checked."""

from __future__ import annotations

import math
import shutil
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from support.certificates import Authority
from support.polling import until
from support.websockets import masked

from broker import Broker
from broker.config.model import Config, Listener, Security, Tls
from broker.core.limits import DEPARTED_SHARE_MAX
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.gateway.passwords import Pbkdf2
from broker.links.readiness import is_portable
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connect, Disconnect, Publish, Pubrel, Subscribe, Will

UPGRADE = (
    b"GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)
KINDS = ["tcp", "tls", "ws", "wss", "unix", "in process"]
SLOW_ITERATIONS = 150_000
"""Some 50 ms."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates")
    made = Authority(tmp_path_factory.mktemp("ca"))
    made.issue("server", "/CN=localhost", host=True)
    return made


@pytest.fixture(scope="module")
def passwords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("passwords") / "passwords"
    slow = Pbkdf2.make(b"secret", SLOW_ITERATIONS).encode()
    path.write_text(f"slow:{slow}\nother:{slow}\nfast:{Pbkdf2.make(b'secret', 10).encode()}\n")
    path.chmod(0o600)
    return path


class Collector(Receiver):
    """Subscribes to everything, and has room for it."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(plain=False)
        self._send, self._receive = trio.open_memory_channel[tuple[bytes, bytes]](math.inf)
        broker.app.engine.subscribe(self, b"#", 2)

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self._send.send_nowait((publication.topic, publication.payload))

    async def next(self) -> tuple[bytes, bytes]:
        return await self._receive.receive()


class Place:
    """A running broker with one listener, and ways in."""

    def __init__(self, broker: Broker, kind: str, listener: Listener, ca: Path) -> None:
        self.broker = broker
        self.kind = kind
        self.listener = listener
        self.ca = ca

    async def send_and_close(self, packets: bytes) -> None:
        """A client that sends all of it in one piece, and hangs up."""
        stream = await self.open()
        await stream.send_all(framed(self.kind, packets))
        await trio.aclose_forcefully(stream)

    async def open(self) -> trio.abc.Stream:
        if self.kind == "in process":
            return self.broker.connect(self.listener)
        if self.kind == "unix":
            assert self.listener.unix_path is not None
            return await trio.open_unix_socket(str(self.listener.unix_path))
        stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", self.broker.ports[0])
        if self.listener.tls is not None:
            context = ssl.create_default_context(cafile=self.ca)
            stream = trio.SSLStream(stream, context, server_hostname="localhost")
        if "ws" in self.kind:
            await stream.send_all(UPGRADE)
            assert b"\r\n\r\n" in bytes(await stream.receive_some())
        return stream


@asynccontextmanager
async def place(kind: str, passwords: Path, authority: Authority, folder: Path) -> AsyncIterator[Place]:
    listener = Listener(
        0,
        host="127.0.0.1",
        unix_path=str(folder / "mqtt.sock") if kind == "unix" else None,
        protocol="websockets" if "ws" in kind else "mqtt",
        tls=Tls(authority.folder / "server.crt", authority.folder / "server.key")
        if kind in ("tls", "wss")
        else None,
        security=Security(password_file=passwords),
    )
    listeners = () if kind == "in process" else (listener,)
    async with Broker(Config(listeners, shutdown_grace_s=0.2)) as broker:
        yield Place(broker, kind, listener, authority.ca)


def connect(
    client_id: bytes = b"c", user: bytes = b"slow", will: Will | None = None, clean: bool = True
) -> bytes:
    return encode(Connect(client_id, clean, 60, user_name=user, password=b"secret", will=will))


def messages(count: int, qos: int = 0) -> bytes:
    return b"".join(
        encode(Publish(b"t", b"%d" % number, qos, packet_id=number + 1 if qos else 0))
        for number in range(count)
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_who_leaves_while_its_password_is_checked_has_published_all_the_same(
    kind: str, passwords: Path, authority: Authority, tmp_path: Path
) -> None:
    """As to Mosquitto, which checks while everybody waits.  With a goodbye, and without one but with a will."""
    async with place(kind, passwords, authority, tmp_path) as here:
        received = Collector(here.broker).next
        with trio.fail_after(60):
            await here.send_and_close(connect() + messages(6) + encode(Disconnect()))
            assert [await received() for _ in range(6)] == [(b"t", b"%d" % number) for number in range(6)]
            await here.send_and_close(connect(will=Will(b"will", b"gone", 0, False)) + messages(1))
            assert [await received() for _ in range(2)] == [(b"t", b"0"), (b"will", b"gone")]
            await here.send_and_close(connect(will=Will(b"will", b"at once", 0, False)))
            assert await received() == (b"will", b"at once")
            await here.send_and_close(
                connect(will=Will(b"will", b"not this", 0, False)) + encode(Disconnect())
            )
            await here.send_and_close(connect() + messages(1))
            assert await received() == (b"t", b"0")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("users", [(b"slow", b"fast"), (b"slow", b"other"), (b"fast", b"slow")])
async def test_two_clients_of_one_id_are_let_in_in_the_order_in_which_they_came(
    kind: str, users: tuple[bytes, bytes], passwords: Path, authority: Authority, tmp_path: Path
) -> None:
    async with place(kind, passwords, authority, tmp_path) as here:
        with trio.fail_after(60):
            older, newer = await here.open(), await here.open()
            for stream, user in zip((older, newer), users, strict=True):
                packets = connect(user=user)
                await stream.send_all(framed(kind, packets))
                await trio.testing.wait_all_tasks_blocked(0.01)
            received = bytes(await older.receive_some())
            assert b"\x20\x02\x00\x00" in received
            while data := await more(older):
                if "ws" in kind and data.startswith(b"\x88"):
                    await older.send_all(masked(0x88, b""))
            assert b"\x20\x02\x00\x00" in bytes(await newer.receive_some())
            ping = b"\xc0\x00"
            await newer.send_all(framed(kind, ping))
            assert b"\xd0\x00" in bytes(await newer.receive_some())
            await trio.aclose_forcefully(older)
            await trio.aclose_forcefully(newer)


async def more(stream: trio.abc.Stream) -> bytes:
    try:
        return bytes(await stream.receive_some())
    except trio.BrokenResourceError:
        return b""


@pytest.mark.parametrize("kind", KINDS)
async def test_who_leaves_while_its_filters_are_added_by_slices_has_published(
    kind: str, passwords: Path, authority: Authority, tmp_path: Path
) -> None:
    filters = tuple((b"f/%d/+" % number, 0) for number in range(2000))
    will = Will(b"will", b"gone", 0, False)
    async with place(kind, passwords, authority, tmp_path) as here:
        received = Collector(here.broker).next
        with trio.fail_after(60):
            packets = connect(user=b"fast", will=will) + encode(Subscribe(1, filters)) + messages(3, 1)
            await here.send_and_close(packets)
            assert [(await received())[1] for _ in range(4)] == [b"0", b"1", b"2", b"gone"]
            trie = here.broker.app.engine.trie
            await until(lambda: trie.count == 1)


@pytest.mark.parametrize("kind", ["tcp", "tls", "ws", "unix", "in process"])
async def test_what_came_before_a_reset_is_read(
    kind: str, passwords: Path, authority: Authority, tmp_path: Path
) -> None:
    """The broker notices by a send that fails, while much of what came is still to be read."""
    count = 3000
    async with place(kind, passwords, authority, tmp_path) as here:
        received = Collector(here.broker).next
        with trio.fail_after(60):
            packets = connect(user=b"fast") + encode(Subscribe(1, ((b"#", 0),))) + messages(count, 1)
            await here.send_and_close(packets)
            assert [(await received())[1] for _ in range(count)] == [
                b"%d" % number for number in range(count)
            ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["unread", "reset"])
async def test_what_came_counts_though_the_client_leaves_answers_unread(
    kind: str, end: str, passwords: Path, authority: Authority, tmp_path: Path
) -> None:
    """mosquitto_sub leaves so.  A close with bytes unread is a reset; one at once overtakes what the broker sends."""
    will = Will(b"will", b"gone", 0, False)
    subscribe = encode(Subscribe(1, ((b"#", 0),)))
    async with place(kind, passwords, authority, tmp_path) as here:
        received = Collector(here.broker).next
        with trio.fail_after(60):
            for number in range(10):
                stream = await here.open()
                first = connect(b"c", b"fast", will) + subscribe
                rest = messages(3, number % 3) + release(number % 3) + encode(Disconnect())
                await stream.send_all(framed(kind, first))
                if end == "unread":
                    await trio.testing.wait_all_tasks_blocked()  # the answers have been sent
                await stream.send_all(framed(kind, rest))
                reset(stream, at_once=end == "reset")
                await trio.aclose_forcefully(stream)
                assert [await received() for _ in range(3)] == [(b"t", b"%d" % sent) for sent in range(3)]
            await until(lambda: not here.broker.app.engine.sessions)


@pytest.mark.skipif(is_portable(), reason="only epoll tells of an end behind what is not read")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["goodbye", "without", "reset"])
async def test_who_leaves_while_it_is_paused_ends_then_and_what_it_sent_counts(
    kind: str, end: str, passwords: Path, authority: Authority, tmp_path: Path
) -> None:
    """As where a table's database is away: who comes and goes meanwhile left a socket each time, for as long."""
    will = Will(b"will", b"gone", 0, False)
    async with place(kind, passwords, authority, tmp_path) as here:
        received = Collector(here.broker).next
        engine = here.broker.app.engine
        with trio.fail_after(60):
            stream = await here.open()
            await stream.send_all(framed(kind, connect(b"c", b"fast", will)))
            await until(lambda: b"c" in engine.sessions)
            outbox = engine.sessions[b"c"].outbox
            assert outbox is not None
            with engine.turn:
                outbox.pause(True)
            count = 1000
            packets = messages(count) + (encode(Disconnect()) if end == "goodbye" else b"")
            await stream.send_all(framed(kind, packets))
            if end == "reset":
                reset(stream, at_once=True)
            else:
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert outbox.holds_reading
                assert engine.counters.publishes_received == 0
            await trio.aclose_forcefully(stream)
            for number in range(count):
                assert await received() == (b"t", b"%d" % number)
            if end != "goodbye":
                assert await received() == (b"will", b"gone")
            await until(lambda: not here.broker.app.server.links())
            assert not engine.sessions


@pytest.mark.parametrize("kind", KINDS)
async def test_who_stays_while_it_is_paused_goes_on_where_it_was(
    kind: str, passwords: Path, authority: Authority, tmp_path: Path
) -> None:
    async with place(kind, passwords, authority, tmp_path) as here:
        received = Collector(here.broker).next
        engine = here.broker.app.engine
        with trio.fail_after(60):
            stream = await here.open()
            await stream.send_all(framed(kind, connect(b"c", b"fast")))
            await until(lambda: b"c" in engine.sessions)
            outbox = engine.sessions[b"c"].outbox
            assert outbox is not None
            for number in range(3):
                with engine.turn:
                    outbox.pause(True)
                await stream.send_all(framed(kind, messages(600)))
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert engine.counters.publishes_received == 600 * number
                with engine.turn:
                    outbox.pause(False)
                for sent in range(600):
                    assert await received() == (b"t", b"%d" % sent)
            await trio.aclose_forcefully(stream)


def framed(kind: str, packets: bytes) -> bytes:
    return masked(0x82, packets) if "ws" in kind else packets


def release(qos: int) -> bytes:
    return b"".join(encode(Pubrel(number + 1)) for number in range(3)) if qos == 2 else b""


def reset(stream: trio.abc.Stream, at_once: bool) -> None:
    """Have the close that follows be a reset, where the kind of stream knows that."""
    if isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if at_once and isinstance(stream, trio.SocketStream):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def test_what_leaves_is_bounded(passwords: Path, authority: Authority, tmp_path: Path) -> None:
    async with place("tcp", passwords, authority, tmp_path) as here:
        received = Collector(here.broker).next
        with trio.fail_after(240):  # each is a password that takes long to be checked
            for number in range(DEPARTED_SHARE_MAX + 20):
                await here.send_and_close(connect(b"c%d" % number) + messages(1))
            deciding = here.broker.app.server._deciding
            for _ in range(DEPARTED_SHARE_MAX):
                assert len(deciding._departed) <= DEPARTED_SHARE_MAX
                await received()
            await until(lambda: not deciding._cases)
            assert (len(deciding._departed), deciding._lines, deciding._waiting) == (0, {}, {})


@pytest.mark.parametrize("kind", ["tcp", "tls", "ws", "wss", "unix"])
@pytest.mark.parametrize("end", ["goodbye", "without", "open"])
async def test_who_comes_back_at_once_finds_that_what_it_sent_before_counts(
    kind: str, end: str, passwords: Path, authority: Authority, tmp_path: Path
) -> None:
    """Both connections have been sent to before the broker looks at either: it may read from the new one first."""
    goodbye = encode(Disconnect()) if end == "goodbye" else b""
    async with place(kind, passwords, authority, tmp_path) as here:
        received = Collector(here.broker).next
        with trio.fail_after(60):
            older = await trio.to_thread.run_sync(entered, here)
            for number in range(12):
                newer = await trio.to_thread.run_sync(opened, here)
                count = 3000 if number % 4 == 3 else 3  # what the kernel takes at once, whoever reads
                older.sendall(framed(kind, messages(count) + goodbye))
                if end != "open":
                    older.close()
                newer.sendall(framed(kind, connect(user=b"fast", clean=number % 2 == 0)))
                for sent in range(count):
                    assert await received() == (b"t", b"%d" % sent)
                await trio.to_thread.run_sync(until_connack, newer)
                older.close()
                older = newer
            older.close()
            assert not here.broker.app.engine.endings.succeeding


@pytest.mark.parametrize("clean", [True, False])
async def test_in_process_too(clean: bool, passwords: Path, authority: Authority, tmp_path: Path) -> None:
    async with place("in process", passwords, authority, tmp_path) as here:
        received = Collector(here.broker).next
        with trio.fail_after(60):
            older = await here.open()
            await older.send_all(connect(user=b"fast", clean=clean))
            assert b"\x20\x02" in bytes(await older.receive_some())
            for _ in range(20):
                newer = await here.open()
                await older.send_all(messages(3))
                await trio.aclose_forcefully(older)
                await newer.send_all(connect(user=b"fast", clean=clean))
                assert [await received() for _ in range(3)] == [(b"t", b"%d" % sent) for sent in range(3)]
                assert b"\x20\x02" in bytes(await newer.receive_some())
                older = newer
            await trio.aclose_forcefully(older)


@pytest.mark.parametrize("kind", ["tcp", "ws"])
async def test_several_that_come_back_at_once_are_let_in_in_their_order(
    kind: str, passwords: Path, authority: Authority, tmp_path: Path
) -> None:
    async with place(kind, passwords, authority, tmp_path) as here:
        received = Collector(here.broker).next
        with trio.fail_after(60):
            clients = [await trio.to_thread.run_sync(entered, here)]
            clients += [await trio.to_thread.run_sync(opened, here) for _ in range(4)]
            clients[0].sendall(framed(kind, messages(3000)))
            for number, client in enumerate(clients[1:]):
                client.sendall(
                    framed(kind, connect(user=b"fast") + encode(Publish(b"from", b"%d" % number, 0)))
                )
            for sent in range(3000):
                assert await received() == (b"t", b"%d" % sent)
            for number in range(4):
                assert await received() == (b"from", b"%d" % number)
            await trio.to_thread.run_sync(until_connack, clients[-1])
            for client in clients:
                client.close()


def opened(here: Place) -> socket.socket:
    """A client's socket, what comes before CONNECT behind it."""
    if here.kind == "unix":
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(here.listener.unix_path))
        return client
    client = socket.create_connection(("127.0.0.1", here.broker.ports[0]))
    if here.listener.tls is not None:
        client = ssl.create_default_context(cafile=here.ca).wrap_socket(client, server_hostname="localhost")
    if "ws" in here.kind:
        client.sendall(UPGRADE)
        assert b"\r\n\r\n" in client.recv(4096)
    return client


def entered(here: Place) -> socket.socket:
    client = opened(here)
    client.sendall(framed(here.kind, connect(user=b"fast")))
    until_connack(client)
    return client


def until_connack(client: socket.socket) -> None:
    assert b"\x20\x02" in client.recv(4096)
