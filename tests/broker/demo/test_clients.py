"""The demo's two clients: what they ask for, what they note, and what they say when the gateway does not go along."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import jwt
import pytest
import trio
import trio_websocket
from trio_websocket import CloseReason

from broker.demo.changes import ALL_CHANNELS, MQTT_TOPICS
from broker.demo.clients import (
    HOST,
    ClientError,
    PacketReader,
    _channel_of,
    sign,
    watch_mqtt,
    watch_websocket,
    why,
)
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connack, Connect, Packet, Pingresp, Puback, Publish, Suback, Subscribe

GRANTED = Suback(1, (1,) * len(MQTT_TOPICS))
SECRET = "0123456789abcdef0123456789abcdef"


class Gateway:
    """Answers what it is told, one packet after another, and says more behind the last."""

    def __init__(self, answers: list[Packet], more: bytes = b"") -> None:
        self.answers, self.more = answers, more
        self.got: list[Packet] = []
        self.acknowledged = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        reader = PacketReader(stream)
        for answer in self.answers:
            self.got.append(await reader.next())
            await stream.send_all(encode(answer))
        # Byte by byte: packets do not come whole.
        for position in range(len(self.more)):
            await stream.send_all(self.more[position : position + 1])
        if self.more:
            self.got.append(await reader.next())
            self.acknowledged.set()
        await stream.aclose()


@asynccontextmanager
async def listening(gateway: Gateway) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await trio.open_tcp_listeners(0, host=HOST)
        nursery.start_soon(trio.serve_listeners, gateway.serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def test_the_six_families_are_watched_and_what_wants_it_is_acknowledged() -> None:
    sent = (
        Publish(b"fill/1", b"quick", 0, False, False),
        Publish(b"fill/2", b"sure", 1, False, False, 7),
    )
    gateway = Gateway([Connack(False, 0), GRANTED], encode(sent[0]) + encode(Pingresp()) + encode(sent[1]))
    got: list[tuple[str, str]] = []
    with pytest.RaisesGroup(pytest.RaisesExc(ClientError, match="closed the MQTT connection")):
        async with listening(gateway) as port:
            await watch_mqtt(port, lambda topic, text, at: got.append((topic, text)))
    assert got == [("fill/1", "quick"), ("fill/2", "sure")]
    connect, subscribe, puback = gateway.got
    assert isinstance(connect, Connect)
    assert connect.clean_session
    assert subscribe == Subscribe(1, tuple((f"{family}/#".encode(), 1) for family in MQTT_TOPICS))
    assert puback == Puback(7)


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([Connack(False, 5)], "refused the demo's client"),
        ([Connack(True, 0)], "refused the demo's client"),
        ([Connack(False, 0), Suback(1, (1,) * (len(MQTT_TOPICS) - 1) + (0,))], "did not grant"),
        ([], "closed the MQTT connection"),
    ],
    ids=["refused", "a session", "granted less", "closed"],
)
async def test_a_listener_that_does_not_go_along_is_an_error_that_says_so(
    answers: list[Packet], why: str
) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(ClientError, match=why)):
        async with listening(Gateway(answers)) as port:
            await watch_mqtt(port, lambda topic, text, at: None)


async def test_packets_come_one_by_one_and_all_at_once() -> None:
    mine, theirs = trio.testing.memory_stream_pair()
    reader = PacketReader(mine)
    packets = [Puback(number) for number in range(1, 6)]
    data = b"".join(map(encode, packets))
    await theirs.send_all(data[:-1])
    assert await reader.next() == packets[0]
    assert await reader.batch() == packets[1:4]
    await theirs.send_all(data[-1:])
    assert await reader.batch() == packets[4:]
    await theirs.aclose()
    with pytest.raises(ClientError):
        await reader.batch()


@pytest.mark.parametrize(
    ("text", "channel"),
    [
        ('{"channel" : "fill_event", "payload" : {"channel":"x"}}', "fill_event"),
        ('{"other" : "fill_event", "payload" : 1}', ""),
        ('{"channel" : 7}', ""),
        ("", ""),
    ],
)
def test_the_channel_is_read_from_the_beginning_of_the_envelope(text: str, channel: str) -> None:
    assert _channel_of(text) == channel


def test_a_token_says_its_claims_and_is_short() -> None:
    token = sign({"mode": "r"}, SECRET)
    assert jwt.decode(token, SECRET, algorithms=["HS256"]) == {"mode": "r"}
    assert jwt.get_unverified_header(token) == {"alg": "HS256"}


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (CloseReason(1008, "too slow"), "1008, too slow"),
        (CloseReason(1006, None), "1006"),
        (None, "without a word"),
    ],
    ids=["told", "no reason", "nothing"],
)
def test_an_end_is_said_in_words(reason: CloseReason | None, words: str) -> None:
    assert why(trio_websocket.ConnectionClosed(reason)) == words


async def test_the_twelve_channels_are_watched_with_one_token() -> None:
    paths: list[str] = []

    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        paths.append(request.path)
        websocket = await request.accept()
        await websocket.send_message('{"channel" : "fill_event", "payload" : 1}')
        await websocket.aclose(1000, "the end")

    got: list[tuple[str, str]] = []
    with pytest.RaisesGroup(
        pytest.RaisesExc(ClientError, match="closed the demo's WebSocket: 1000, the end$"),
        flatten_subgroups=True,
    ):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(trio_websocket.serve_websocket, serve, HOST, 0, None)
            await watch_websocket(server.port, SECRET, lambda channel, text, at: got.append((channel, text)))
    assert got == [("fill_event", '{"channel" : "fill_event", "payload" : 1}')]
    claims = jwt.decode(paths[0].removeprefix("/"), SECRET, algorithms=["HS256"])
    assert claims == {"mode": "r", "channels": list(ALL_CHANNELS)}
