"""An MQTT client that goes from node to node."""

from __future__ import annotations

import trio

from broker.demo.clients import HOST, ClientError, PacketReader
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connack, Connect, Packet, Will

GONE = (OSError, ClientError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)
"""What a connection ends with."""


class Connection:
    """One connection, after its CONNACK."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._reader = PacketReader(stream)
        self.is_present = False

    @classmethod
    async def open(
        cls, port: int, client_id: bytes, clean: bool, will: Will | None = None, keep_alive_s: int = 30
    ) -> Connection:
        """Raises: one of `GONE`."""
        made = cls(await trio.open_tcp_stream(HOST, port))
        try:
            await made.send(Connect(client_id, clean, keep_alive_s, will=will))
            answer = await made.receive()
            assert isinstance(answer, Connack)
            if answer.return_code:
                raise ClientError(f"refused with return code {answer.return_code}")
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
        return await self._reader.next()

    async def close(self) -> None:
        """Without a word."""
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)
