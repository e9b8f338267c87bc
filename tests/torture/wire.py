"""An MQTT client of one connection, for clients that count."""

from __future__ import annotations

import trio

from protocol.mqtt.codec import decode, encode
from protocol.mqtt.framing import frame_at
from protocol.mqtt.packets import Connack, Connect, Packet, Will


class Mqtt:
    """A client of one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._data = b""

    @classmethod
    async def connect(cls, port: int, client_id: bytes) -> Mqtt:
        """Raises: OSError, trio.BrokenResourceError, EOFError."""
        return (await cls.open(port, client_id, True))[0]

    @classmethod
    async def open(
        cls, port: int, client_id: bytes, clean: bool, will: Will | None = None
    ) -> tuple[Mqtt, bool]:
        """The client, and whether its session was present.  Raises: any of `GONE`."""
        made = cls(await trio.open_tcp_stream("127.0.0.1", port))
        try:
            await made.send(Connect(client_id, clean, 0, 4, will))
            answer = await made.receive()
            assert isinstance(answer, Connack)
            if answer.return_code:
                raise EOFError
        except BaseException:
            await made.close()
            raise
        return made, answer.session_present

    async def send(self, packet: Packet) -> None:
        await self._stream.send_all(encode(packet))

    async def receive(self) -> Packet:
        while True:
            body, end = frame_at(self._data, 0, 0)
            if end:
                packet = decode(self._data[0], self._data[body:end])
                self._data = self._data[end:]
                return packet
            more = await self._stream.receive_some(65_536)
            if not more:
                raise EOFError
            self._data += more

    async def close(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)


GONE = (OSError, EOFError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)
