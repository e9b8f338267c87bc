"""An MQTT client that goes from node to node."""

from __future__ import annotations

import trio

from protocol.mqtt.codec import decode, encode
from protocol.mqtt.framing import frame_at
from protocol.mqtt.packets import Connack, Connect, Packet

HOST = "127.0.0.1"
GONE = (OSError, EOFError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)
"""What a connection ends with."""


class Connection:
    """One connection, after its CONNACK."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._data = b""
        self.is_present = False

    @classmethod
    async def open(cls, port: int, client_id: bytes, clean: bool) -> Connection:
        """Raises: one of `GONE`."""
        made = cls(await trio.open_tcp_stream(HOST, port))
        try:
            await made.send(Connect(client_id, clean, 30))
            answer = await made.receive()
            if not isinstance(answer, Connack) or answer.return_code:
                raise EOFError
            made.is_present = answer.session_present
        except BaseException:
            await made.close()
            raise
        return made

    async def send(self, packet: Packet) -> None:
        """Raises: one of `GONE`."""
        await self._stream.send_all(encode(packet))

    async def receive(self) -> Packet:
        """The next packet.  Raises: one of `GONE`."""
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
        """Without a word."""
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)
