"""A blocking MQTT client of either version on a socket of any kind, for tests that meet a broker process."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

from protocol.mqtt.codec import decode as decode_3
from protocol.mqtt.codec import encode as encode_3
from protocol.mqtt.framing import frame_at
from protocol.mqtt.packets import Connack, Connect, Disconnect, Packet, Publish, Suback, Subscribe, Will
from protocol.mqtt.v5.codec import decode as decode_5
from protocol.mqtt.v5.codec import encode as encode_5
from protocol.mqtt.v5.properties import NO_PROPERTIES, Properties

WITHIN_S = 50.0


class RawClient:
    """One connection; `level` is 4 or 5.  A wait ends after 20 seconds with an error."""

    def __init__(self, sock: socket.socket, level: int = 5) -> None:
        self.level = level
        self._sock = sock
        self._sock.settimeout(WITHIN_S)
        self._data = b""

    def write(self, data: bytes) -> None:
        self._sock.sendall(data)

    def send(self, *packets: Packet) -> None:
        encode = encode_5 if self.level == 5 else encode_3
        self.write(b"".join(encode(packet) for packet in packets))

    def more(self) -> bytes:
        return self._sock.recv(65_536)

    def receive(self) -> Packet | None:
        """The next packet; None at the end of the connection."""
        while True:
            body, end = frame_at(self._data, 0, 0)
            if end:
                raw, self._data = self._data[:end], self._data[end:]
                return (decode_5 if self.level == 5 else decode_3)(raw[0], raw[body:])
            more = self.more()
            if not more:
                return None
            self._data += more

    def publication(self) -> Publish:
        packet = self.receive()
        assert isinstance(packet, Publish), packet
        return packet

    def connect(
        self,
        client_id: bytes,
        *,
        clean: bool = True,
        keep_alive_s: int = 60,
        will: Will | None = None,
        user_name: bytes | None = None,
        password: bytes | None = None,
        properties: Properties = NO_PROPERTIES,
    ) -> Connack:
        self.send(
            Connect(
                client_id,
                clean,
                keep_alive_s,
                self.level,
                will,
                user_name,
                password,
                properties=properties if self.level == 5 else NO_PROPERTIES,
            )
        )
        connack = self.receive()
        assert isinstance(connack, Connack)
        return connack

    def subscribe(
        self, topic_filter: bytes, options: int, properties: Properties = NO_PROPERTIES
    ) -> tuple[int, ...]:
        self.send(Subscribe(1, ((topic_filter, options),), properties))
        suback = self.receive()
        assert isinstance(suback, Suback), suback
        return suback.return_codes

    def leave(self) -> None:
        """Say so, and wait until the broker has taken note."""
        self.send(Disconnect())
        while self.receive() is not None:
            pass
        self.cut()

    def cut(self) -> None:
        self._sock.close()


class WebSocketClient(RawClient):
    """MQTT in binary frames, each frame with pieces of packets; `subprotocol` is what the server chose."""

    def __init__(self, sock: socket.socket, level: int = 5, frame_bytes: int = 7) -> None:
        super().__init__(sock, level)
        self._frame_bytes = frame_bytes
        self._frames = b""
        sock.sendall(
            b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
        )
        while b"\r\n\r\n" not in self._frames:
            self._frames += sock.recv(65_536)
        head, self._frames = self._frames.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101"), head
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        self.subprotocol = headers[b"sec-websocket-protocol"]
        self.opcodes: set[int] = set()

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), self._frame_bytes):
            self.frame(0x82, data[start : start + self._frame_bytes])

    def frame(self, first_byte: int, data: bytes) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self._sock.sendall(bytes((first_byte, 0x80 | len(data))) + mask + masked)

    def more(self) -> bytes:
        while True:
            frame = self._frames
            if len(frame) >= 2:
                length, start = frame[1], 2
                if length == 126:
                    length, start = int.from_bytes(frame[2:4], "big"), 4
                assert length < 127
                if len(frame) >= start + length:
                    self._frames = frame[start + length :]
                    self.opcodes.add(frame[0] & 15)
                    return b"" if frame[0] & 15 == 8 else frame[start : start + length]
            more = self._sock.recv(65_536)
            if not more:
                return b""
            self._frames += more


def over_tcp(port: int, level: int = 5) -> RawClient:
    return RawClient(socket.create_connection(("127.0.0.1", port), WITHIN_S), level)


def over_unix(path: Path, level: int = 5) -> RawClient:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return RawClient(sock, level)


def over_tls(port: int, ca: Path, level: int = 5) -> RawClient:
    context = ssl.create_default_context(cafile=str(ca))
    plain = socket.create_connection(("127.0.0.1", port), WITHIN_S)
    return RawClient(context.wrap_socket(plain, server_hostname="localhost"), level)


def over_websocket(port: int, level: int = 5) -> WebSocketClient:
    return WebSocketClient(socket.create_connection(("127.0.0.1", port), WITHIN_S), level)
