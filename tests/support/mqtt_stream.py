"""An MQTT client on any Trio stream, for tests that look at what one client gets."""

from __future__ import annotations

import trio

from protocol.mqtt.codec import decode, encode
from protocol.mqtt.framing import frame_at
from protocol.mqtt.packets import Connack, Connect, Packet, Suback, Subscribe


class PacketStream:
    """Packets over a stream, one after the other."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._data = b""

    async def send(self, *packets: Packet) -> None:
        await self._stream.send_all(b"".join(encode(packet) for packet in packets))

    async def receive(self, within_s: float = 60) -> Packet:
        """The next packet.  Raises: EOFError."""
        with trio.fail_after(within_s):
            while True:
                body, end = frame_at(self._data, 0, 0)
                if end:
                    packet = decode(self._data[0], self._data[body:end])
                    self._data = self._data[end:]
                    return packet
                more = await self._stream.receive_some(65_536)
                if not more:
                    raise EOFError("the broker closed the connection")
                self._data += more


class StreamClient(PacketStream):
    """Speaks MQTT 3.1.1."""

    async def connect(self, client_id: bytes, *, clean: bool = True) -> None:
        await self.send(Connect(client_id, clean, 0))
        assert isinstance(await self.receive(), Connack)

    async def subscribe(self, topic_filter: bytes, qos: int) -> None:
        await self.send(Subscribe(1, ((topic_filter, qos),)))
        assert isinstance(await self.receive(), Suback)

    async def read_to_end(self) -> bytes:
        """What comes until the broker closes the connection."""
        with trio.fail_after(60):
            while more := await self._stream.receive_some(65_536):
                self._data += more
        return self._data

    async def read_for_ever(self) -> None:
        """Take whatever comes, until cancelled or closed."""
        while await self._stream.receive_some(65_536):
            pass
