"""The two clients of the demo: each subscribes to everything over a real TCP connection and notes what comes.

They know nothing of the broker in the same process: what they see is what any program would see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import jwt
import trio
from trio_websocket import ConnectionClosed, open_websocket_url

from broker.demo.changes import ALL_CHANNELS, MQTT_TOPICS
from protocol.mqtt import codec
from protocol.mqtt.framing import frame_at
from protocol.mqtt.packets import Connack, Connect, Packet, Puback, Publish, Suback, Subscribe

HOST: Final = "127.0.0.1"
READ_BYTES: Final = 65536

Receive = Callable[[str, str, float], None]
"""Called with topic or channel, text, and `trio.current_time()` when it was read from the socket."""


class ClientError(Exception):
    """The gateway refused a client, or closed its connection."""


async def watch_mqtt(
    port: int, receive: Receive, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Subscribe to the six topic families at QoS 1; started once they are granted.

    Raises:
        ClientError: refused, or the connection ended.
    """
    filters = tuple((f"{family}/#".encode(), 1) for family in MQTT_TOPICS)
    async with await trio.open_tcp_stream(HOST, port) as stream:
        reader = PacketReader(stream)
        await stream.send_all(codec.encode(Connect(b"rowcast-demo", clean_session=True, keep_alive_s=0)))
        if await reader.next() != Connack(session_present=False, return_code=0):
            raise ClientError("the MQTT listener refused the demo's client")
        await stream.send_all(codec.encode(Subscribe(1, filters)))
        if await reader.next() != Suback(1, (1,) * len(filters)):
            raise ClientError("the MQTT listener did not grant the six topic families at QoS 1")
        task_status.started()
        while True:
            packets = await reader.batch()
            at = trio.current_time()
            acks = b""
            for packet in packets:
                if isinstance(packet, Publish):
                    receive(packet.topic.decode(), packet.payload.decode(), at)
                    acks += codec.encode(Puback(packet.packet_id)) if packet.qos else b""
            if acks:
                await stream.send_all(acks)


class PacketReader:
    """Whole MQTT packets from a stream."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._data = b""
        self._ready: list[Packet] = []

    async def next(self) -> Packet:
        """The next packet from the broker."""
        while not self._ready:
            self._ready = await self.batch()
        return self._ready.pop(0)

    async def batch(self) -> list[Packet]:
        """All packets that have come since the last call; waits for bytes if there are none."""
        ready, self._ready = self._ready, []
        if ready:
            return ready
        received = await self._stream.receive_some(READ_BYTES)
        if not received:
            raise ClientError("the gateway closed the MQTT connection of the demo's client")
        self._data += received
        position = 0
        while True:
            body_start, end = frame_at(self._data, position, 0)
            if not end:
                break
            ready.append(codec.decode(self._data[position], self._data[body_start:end]))
            position = end
        self._data = self._data[position:]
        return ready


async def watch_websocket(
    port: int,
    secret: str,
    receive: Receive,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Open the twelve channels with one token; started once the handshake is done.

    A message's channel is read from its beginning, where the envelope names it.
    """
    token = sign({"mode": "r", "channels": list(ALL_CHANNELS)}, secret)
    async with open_websocket_url(f"ws://{HOST}:{port}/{token}", message_queue_size=256) as connection:
        task_status.started()
        while True:
            try:
                text = await connection.get_message()
            except ConnectionClosed as closed:
                raise ClientError(f"the gateway closed the demo's WebSocket: {why(closed)}") from None
            assert isinstance(text, str), "the dialect has text frames only"
            receive(_channel_of(text), text, trio.current_time())


def why(closed: ConnectionClosed) -> str:
    """A WebSocket's end in words: `1008, too slow`."""
    if closed.reason is None:
        return "without a word"
    return ", ".join(filter(None, (str(closed.reason.code), closed.reason.reason)))


def _channel_of(text: str) -> str:
    parts = text.split('"', 4)
    return parts[3] if len(parts) == 5 and parts[1] == "channel" else ""


def sign(claims: dict[str, object], secret: str) -> str:
    """A token with the shortest header there is, for it is meant to be copied."""
    return jwt.encode(claims, secret, algorithm="HS256", headers={"typ": None})
