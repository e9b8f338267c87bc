"""WebSocket connections over real sockets: Econia's dialect, MQTT, and peers that don't behave."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio_websocket
from support.polling import until
from support.websockets import ECONIA, Running, listening, masked, reader, token

from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.core.publication import Publication
from broker.gateway.channels import topic_of
from protocol.dialects.conflation import Backlog
from protocol.dialects.econia import EconiaDialect
from protocol.websocket import CloseCode

FILL = (
    '{"channel" : "fill_event", "payload" : {"order_id":340282366920938463463374607431768211455,"n":"é😀"}}'
)


async def refused(
    broker: Running, path: str, *subprotocols: str, origin: str | None = None
) -> tuple[int, str]:
    """The status and the text with which a handshake is refused."""
    with pytest.raises(trio_websocket.ConnectionRejected) as rejected:
        async with broker.connect(path, *subprotocols, origin=origin):
            pass
    return rejected.value.status_code, (rejected.value.body or b"").decode()


# --- Econia ------------------------------------------------------------------------------------------------


async def test_a_reader_gets_the_unchanged_text_of_its_channels_and_no_other() -> None:
    async with listening() as broker, broker.connect("/" + reader("fill_event", "cancel_order_event")) as ws:
        broker.publish("econia", "place_limit_order_event", "not for this one")
        broker.publish("econia", "fill_event", FILL)
        broker.publish("econia", "cancel_order_event", "second")
        assert await ws.get_message() == FILL
        assert await ws.get_message() == "second"


async def test_the_channel_may_stand_in_the_path() -> None:
    allowed = token(mode="r", channels=["fill_event", "cancel_order_event"])
    async with listening() as broker, broker.connect("/fill_event/" + allowed) as ws:
        broker.publish("econia", "cancel_order_event", "not asked for")
        broker.publish("econia", "fill_event", FILL)
        assert await ws.get_message() == FILL


async def test_every_reader_gets_every_message_in_order() -> None:
    async with listening() as broker:
        path = "/" + reader("fill_event")
        async with broker.connect(path) as one, broker.connect(path) as other:
            for number in range(200):
                broker.publish("econia", "fill_event", str(number))
            for ws in (one, other):
                assert [await ws.get_message() for _ in range(200)] == [str(number) for number in range(200)]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/" + token(channels=["a"]), "Missing mode"),
        ("/" + token(mode="r"), "No allowed channels"),
        ("/b/" + token(mode="r", channels=["a"]), "No allowed channels"),
        ("/" + token(mode="r", channels=["a"], exp=1), "Token expired"),
        ("/" + token(mode="r", channels=["a"], nbf=2**40), "Error: JWTNotYetValid"),
        ("/" + reader("a")[:-3] + "AAA", "Error: JWSError JWSInvalidSignature"),
        ("/", "Missing mode"),
    ],
    ids=["no mode", "no channels", "other channel", "expired", "not yet", "forged", "no token"],
)
async def test_a_bad_token_is_refused_in_the_handshake_with_the_reason(path: str, reason: str) -> None:
    async with listening() as broker:
        assert await refused(broker, path) == (400, reason)


async def test_a_writer_reaches_all_readers_of_its_channel() -> None:
    async with listening() as broker:
        writer = token(mode="rw", channels=["chat"], user="ann")
        async with broker.connect("/" + writer) as ann, broker.connect("/" + reader("chat")) as bob:
            before = time.time()
            await ann.send_message('hello "all"')
            for ws in (ann, bob):
                event = json.loads(await ws.get_message())
                assert event["event"] == "WebsocketMessage"
                assert event["channel"] == "chat"
                assert event["payload"] == 'hello "all"'
                assert event["claims"]["user"] == "ann"
                assert before - 1 <= event["claims"]["message_delivered_at"] <= time.time() + 1


async def test_a_live_connection_is_closed_with_3001_when_its_token_expires() -> None:
    async with listening() as broker:
        expires = time.time() + 10
        async with broker.connect("/" + reader("fill_event", exp=expires)) as ws:
            broker.stand_at(expires - 1)
            await broker.gateway.tick()
            broker.publish("econia", "fill_event", FILL)
            assert await ws.get_message() == FILL
            broker.stand_at(expires + 1)
            with pytest.raises(trio_websocket.ConnectionClosed) as closed:
                await ws.get_message()
            assert closed.value.reason is not None
            assert (closed.value.reason.code, closed.value.reason.reason) == (3001, "JWT expired")


async def test_a_connection_that_ended_leaves_no_subscription() -> None:
    async with listening() as broker:
        async with broker.connect("/" + reader("fill_event")):
            assert broker.engine.trie.count == 1
        await broker.links_left(0)
        assert broker.engine.trie.count == 0
        assert broker.door.open_count == 0


async def test_the_token_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    secret = reader("fill_event", user="very-secret")
    async with listening() as broker:
        async with broker.connect("/" + secret) as ws:
            broker.publish("econia", "fill_event", FILL)
            await ws.get_message()
        await refused(broker, "/other/" + secret)
    server_side = [record for record in caplog.records if record.name.startswith("broker")]
    assert server_side
    assert not any(secret in record.getMessage() for record in server_side)


async def test_all_clients_are_told_when_the_server_shuts_down() -> None:
    async with listening() as broker, broker.connect("/" + reader("a")) as ws:
        await broker.websockets.close_all()
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            await ws.get_message()
        assert closed.value.reason is not None
        assert closed.value.reason.code == CloseCode.GOING_AWAY


# --- the port ----------------------------------------------------------------------------------------------


async def test_plain_http_is_told_what_this_port_speaks() -> None:
    async with listening() as broker:
        stream = await broker.raw()
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        response = b""
        while received := await stream.receive_some():
            response += received
        assert response.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
        assert b"/mqtt (MQTT, subprotocol mqtt), /{channel?}/{jwt} (Econia)" in response


async def test_bytes_that_are_no_http_get_an_answer_and_are_cut_off() -> None:
    async with listening() as broker:
        stream = await broker.raw()
        await stream.send_all(b"\x10\x10\x00\x04MQTT\r\n\r\n")
        response = b""
        while received := await stream.receive_some():
            response += received
        assert response.startswith(b"HTTP/1.1 400 ")


async def test_a_path_that_means_nothing_is_not_found() -> None:
    async with listening() as broker:
        status, text = await refused(broker, "/a/b/c")
        assert status == 404
        assert "/mqtt" in text


async def test_a_dialect_that_the_listener_does_not_name_is_not_spoken() -> None:
    async with listening(dialects=("mqtt",)) as broker:
        status, _ = await refused(broker, "/" + reader("fill_event"))
        assert status == 404


async def test_origins_are_checked_where_some_are_configured() -> None:
    async with listening(origins=("https://good.example",)) as broker:
        path = "/" + reader("fill_event")
        assert (await refused(broker, path, origin="https://evil.example"))[0] == 403
        async with broker.connect(path, origin="https://good.example"), broker.connect(path):
            pass


async def test_a_handshake_that_is_not_finished_in_time_is_cut_off() -> None:
    config = GatewayConfig(econia=ECONIA, handshake_timeout_s=0.5)
    async with listening(config) as broker:
        stream = await broker.raw()
        await stream.send_all(b"GET / HTTP/1.1\r\n")
        with trio.fail_after(60):
            assert await stream.receive_some() == b""


class Spawned(trio.abc.Instrument):
    """The names of the tasks that were started while this was installed."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.names.append(task.name)


@pytest.mark.parametrize("cut", [None, 1, 30])
async def test_a_task_begins_only_for_a_request_that_comes_in_pieces(cut: int | None) -> None:
    request = (
        f"GET /{reader('fill_event')} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
    spawned = Spawned()
    async with listening() as broker:
        trio.lowlevel.add_instrument(spawned)
        stream = await broker.raw()
        if cut is not None:
            await stream.send_all(request[:cut])
            with trio.fail_after(60):
                await until(lambda: any("WebSocketServer" in name for name in spawned.names))
            request = request[cut:]
        await stream.send_all(request + masked(0x89, b"at once"))
        answered = b""
        with trio.fail_after(60):
            while not answered.endswith(b"\x8a\x07at once"):
                answered += await stream.receive_some()
        trio.lowlevel.remove_instrument(spawned)
        assert answered.startswith(b"HTTP/1.1 101 ")
        assert any("WebSocketServer" in name for name in spawned.names) == (cut is not None)
        await stream.aclose()


# --- peers that don't behave ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x05Hello", 1002),
        (masked(0x81, b"\xff\xfe"), 1007),
        (masked(0x83, b""), 1002),
        (masked(0x09, b""), 1002),
        (masked(0x89, b"x" * 126), 1002),
        (masked(0xC1, b"compressed"), 1002),
        (masked(0x80, b"continuation of nothing"), 1002),
        (masked(0x01, b"a") + masked(0x81, b"b"), 1002),
        (masked(0x81, b"x" * 70_000), 1009),
        (masked(0x81, b"x" * 70_000)[:20], None),
        (masked(0x01, b"x" * 40_000) + masked(0x80, b"x" * 40_000), 1009),
        (masked(0x01, b"") + masked(0x00, b"") * 200_000, 1009),
        (masked(0x88, b"\x03\xe8"), 1000),
        (masked(0x88, b""), 1005),
        (masked(0x88, b"\x00"), 1002),
    ],
    ids=[
        "unmasked",
        "invalid UTF-8",
        "unknown opcode",
        "fragmented ping",
        "long ping",
        "reserved bit",
        "continuation of nothing",
        "new message within a message",
        "oversize",
        "announced oversize, then gone",
        "oversize in fragments",
        "endless empty fragments",
        "close",
        "close without a code",
        "close with half a code",
    ],
)
async def test_a_peer_that_breaks_the_rules_loses_its_own_connection_only(
    data: bytes, code: int | None
) -> None:
    config = GatewayConfig(econia=ECONIA, message_bytes_max=65536)
    path = "/" + token(mode="rw", channels=["fill_event"])
    async with listening(config) as broker, broker.connect(path) as bystander:
        bad = await broker.raw_websocket(path)
        with trio.fail_after(60):
            try:
                await bad.send(data)
                if code is None:
                    await bad.stream.aclose()
                else:
                    assert await bad.close_code() == code
            except trio.BrokenResourceError:
                assert code == 1009
            await broker.links_left(1)
        broker.publish("econia", "fill_event", FILL)
        assert await bystander.get_message() == FILL
        assert broker.engine.counters.link_bugs == 0


async def test_a_flood_of_pings_ends_the_connection() -> None:
    async with listening() as broker:
        bad = await broker.raw_websocket("/" + reader("fill_event"))
        await bad.send(masked(0x89, b"") * 300)
        with trio.fail_after(60):
            assert await bad.close_code() == CloseCode.POLICY_VIOLATION


async def test_pings_now_and_then_are_answered() -> None:
    async with listening() as broker:
        client = await broker.raw_websocket("/" + reader("fill_event"))
        await client.send(masked(0x89, b"abc"))
        assert await client.frame() == (0x8A, b"abc")
        await client.stream.aclose()


async def test_a_client_that_does_not_read_is_closed_as_slow_and_nobody_else_notices() -> None:
    config = GatewayConfig(econia=ECONIA, outbox_bytes_max=200_000)
    path = "/" + reader("fill_event")
    async with listening(config) as broker, broker.connect(path) as good:
        frozen = await broker.raw_websocket(path)
        text = "x" * 50_000
        with trio.fail_after(60):
            while broker.gateway.count() > 1:
                broker.publish("econia", "fill_event", text)
                assert await good.get_message() == text
        assert broker.engine.counters.dropped_outbox_full > 0
        await frozen.stream.aclose()


async def test_a_frame_is_encoded_once_for_all_clients() -> None:
    async with listening() as broker:
        path = "/" + reader("fill_event")
        async with broker.connect(path) as one, broker.connect(path) as two, broker.connect(path) as three:
            publication = Publication(topic_of("econia", "fill_event"), FILL.encode())
            broker.engine.publish(publication)
            frame = publication.frame("websocket")
            owed = [chunk for link in broker.websockets._open.links() for chunk in link.outbox._chunks]
            assert len(owed) == 3
            assert all(chunk is frame for chunk in owed)
            broker.engine.flush()
            assert [await ws.get_message() for ws in (one, two, three)] == [FILL] * 3


# --- our own bugs ------------------------------------------------------------------------------------------


class Bug(Exception):
    pass


def raise_bug(*anything: object) -> None:
    raise Bug


@pytest.mark.parametrize(
    ("place", "name"), [(EconiaDialect, "receive"), (EconiaDialect, "tick"), (EconiaDialect, "closing")]
)
async def test_a_bug_in_one_link_ends_that_link(
    place: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expires = time.time() + 10
    path = "/" + token(mode="rw", channels=["chat"], exp=expires)
    async with listening() as broker, broker.connect("/" + reader("chat")) as bystander:
        ws = await broker.raw_websocket(path)
        with monkeypatch.context() as patch:
            patch.setattr(place, name, raise_bug)
            if name == "receive":
                await ws.send(masked(0x81, b"hello"))
            else:
                broker.stand_at(expires + 1)  # its tick is when it expires
            await broker.links_left(1)
        assert broker.engine.counters.link_bugs == 1
        broker.publish("econia", "chat", "still here")
        assert await bystander.get_message() == "still here"
        assert await ws.close_code() == (3001 if name == "closing" else 1011)
        await ws.stream.aclose()


async def test_a_bug_while_a_message_waits_for_a_slow_client_ends_that_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = GatewayConfig(exchange=Exchange())
    async with (
        listening(config, ("exchange",)) as broker,
        broker.connect("/exchange-stream") as bystander,
    ):
        frozen = await broker.raw_websocket("/exchange-stream")
        await frozen.send(masked(0x81, b'{"op":"subscribe","channel":"BTCUSDT@ticker"}'))
        await frozen.frame()
        monkeypatch.setattr(Backlog, "offer", raise_bug)
        with trio.fail_after(60):
            while broker.gateway.count() > 1:
                broker.publish("exchange", "BTCUSDT@ticker", "x" * 50_000)
                await trio.lowlevel.checkpoint()
            assert await frozen.close_code() == 1011
        assert broker.engine.counters.link_bugs == 1
        await bystander.send_message('{"op":"unsubscribe","channel":"BTCUSDT@depth"}')
        assert await bystander.get_message() == '{"result":true}'


# --- leaving nothing behind ----------------------------------------------------------------------------------


async def leave_at_once(broker: Running) -> None:
    stream = await broker.raw()
    await stream.aclose()


async def leave_within_the_request(broker: Running) -> None:
    stream = await broker.raw()
    await stream.send_all(b"GET /x HTTP/1.1\r\nHost: ")
    await stream.aclose()


async def reset(broker: Running) -> None:
    client = await broker.raw_websocket("/" + reader("a"))
    assert isinstance(client.stream, trio.SocketStream)
    client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await client.stream.aclose()


async def leave_within_a_frame(broker: Running) -> None:
    client = await broker.raw_websocket("/" + reader("a"))
    await client.send(masked(0x81, b"x" * 100)[:20])
    await client.stream.aclose()


async def say_goodbye(broker: Running) -> None:
    async with broker.connect("/" + reader("a")):
        pass


async def say_goodbye_to_mqtt(broker: Running) -> None:
    async with broker.connect("/mqtt", "mqtt"):
        pass


async def be_refused(broker: Running) -> None:
    await refused(broker, "/a/b/c")


@pytest.mark.parametrize(
    "leave",
    [
        leave_at_once,
        leave_within_the_request,
        reset,
        leave_within_a_frame,
        say_goodbye,
        say_goodbye_to_mqtt,
        be_refused,
    ],
    ids=lambda leave: leave.__name__,
)
async def test_connections_that_come_and_go_leave_nothing(
    leave: Callable[[Running], Awaitable[None]],
) -> None:
    async with listening() as broker:
        before = len(broker.server.nursery.child_tasks)
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(leave, broker)
        with trio.fail_after(60):
            while (
                broker.door.open_count  # one that has said nothing yet has no task
                or len(broker.server.nursery.child_tasks) > before
                or broker.gateway.count()
            ):
                broker.publish("econia", "a", "somebody there?")
                await trio.sleep(0.01)
        assert broker.door.open_count == 0
        assert broker.engine.trie.count == 0
        assert broker.engine.counters.link_bugs == 0
