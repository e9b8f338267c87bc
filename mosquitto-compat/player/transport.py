"""Ways to reach a broker: TCP, unix socket, TLS, and WebSocket over the first; each a `trio.abc.Stream`."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping

import trio

from player import kernel

WEBSOCKET_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
BINARY, CLOSE, PING, PONG = 2, 8, 9, 10
HANDSHAKE_BYTES_MAX = 16384
POLL_S = 0.001
OPEN_STATES = (kernel.ESTABLISHED, kernel.CLOSE_WAIT)
"""CLOSE_WAIT: the kernel knows that the peer is gone, the process does not."""


class Refused(Exception):
    """No connection, or none after the handshake; the text is what the transcript shows."""


def tls_context(options: Mapping[str, str]) -> ssl.SSLContext:
    """A client's side of TLS.  Options: `cafile`, `certfile`, `keyfile`, `tls` (highest version)."""
    context = ssl.create_default_context(cafile=options.get("cafile"))
    context.check_hostname = False
    if "certfile" in options:
        context.load_cert_chain(options["certfile"], options["keyfile"])
    if "tls" in options:
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.maximum_version = getattr(ssl.TLSVersion, "TLSv" + options["tls"].replace(".", "_"))
    return context


async def reach(port: int, options: Mapping[str, str], note: Callable[[str], None]) -> trio.abc.Stream:
    """Open what `over` names.  `note` gets lines for the transcript (the answer to a WebSocket handshake)."""
    over = options.get("over", "tcp")
    try:
        if over.startswith("unix:"):
            return await trio.open_unix_socket(over[5:])
        stream: trio.abc.Stream = await trio.open_tcp_stream(options.get("host", "127.0.0.1"), port)
        assert isinstance(stream, trio.SocketStream)
        if header := options.get("first"):
            await stream.send_all(bytes.fromhex(header))
        if over in ("tls", "wss"):
            stream = trio.SSLStream(
                stream, tls_context(options), server_hostname="localhost", https_compatible=True
            )
            await stream.do_handshake()
        if over in ("ws", "wss"):
            stream = await WebSocketStream.open(stream, options, note)
    except OSError:
        raise Refused("connection refused") from None
    except trio.BrokenResourceError as error:
        raise Refused(f"handshake failed: {_reason(error)}") from None
    return stream


def ends_of(stream: trio.abc.Stream) -> tuple[kernel.End, kernel.End] | None:
    """Our end and the other's, of what runs over TCP."""
    while not isinstance(stream, trio.SocketStream):
        under = (
            stream.transport_stream if isinstance(stream, trio.SSLStream) else getattr(stream, "_under", None)
        )
        if under is None:
            return None
        stream = under
    if stream.socket.family == socket.AF_UNIX:
        return None
    return stream.socket.getsockname()[:2], stream.socket.getpeername()[:2]


async def until_forgotten(ends: tuple[kernel.End, kernel.End] | None, within_s: float) -> None:
    """Wait until the other end of a connection that we closed is closed, too: its process has noticed."""
    if ends is None:
        return
    ours, theirs = ends
    with trio.move_on_after(within_s):
        while kernel.tcp_state(theirs, ours) in OPEN_STATES:  # noqa: ASYNC110 - the kernel has no event for it
            await trio.sleep(POLL_S)


def _reason(error: BaseException) -> str:
    cause = error.__cause__
    return str(cause.reason) if isinstance(cause, ssl.SSLError) else "closed"


class WebSocketStream(trio.abc.Stream):
    """MQTT bytes in masked binary frames.  Not thorough: a broker's frames are never fragmented here."""

    def __init__(self, under: trio.abc.Stream, rest: bytes, note: Callable[[str], None]) -> None:
        self._under = under
        self._data = bytearray(rest)
        self._note = note

    @classmethod
    async def open(
        cls, under: trio.abc.Stream, options: Mapping[str, str], note: Callable[[str], None]
    ) -> WebSocketStream:
        headers = {
            "Host": "localhost",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": WEBSOCKET_KEY,
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": options.get("subprotocol", "mqtt"),
            "Origin": options.get("origin", ""),
        }
        lines = [f"{name}: {value}" for name, value in headers.items() if value]
        request = "\r\n".join([f"GET {options.get('path', '/mqtt')} HTTP/1.1", *lines, "", ""])
        await under.send_all(request.encode())
        answer = b""
        while b"\r\n\r\n" not in answer and len(answer) < HANDSHAKE_BYTES_MAX:
            data = await under.receive_some()
            if not data:
                raise Refused(f"no websocket: {_first_line(answer) or 'closed'}")
            answer += data
        head, _, rest = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise Refused(f"no websocket: {_first_line(head)}")
        for line in head.decode("latin-1").split("\r\n")[1:]:
            if line.lower().startswith(("upgrade", "connection", "sec-websocket")):
                note(f"header {line}")
        return cls(under, rest, note)

    def frame(self, kind: int, payload: bytes) -> bytes:
        """A final frame with a mask of zeros, which leaves the payload readable."""
        return frame_head(0x80 | kind, len(payload)) + b"\0\0\0\0" + payload

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._under.send_all(self.frame(BINARY, bytes(data)))

    async def wait_send_all_might_not_block(self) -> None:
        await self._under.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            taken = self._take_frame()
            if taken is None:
                data = await self._under.receive_some()
                if not data:
                    return b""
                self._data += data
                continue
            kind, payload = taken
            if kind == PING:
                await self._under.send_all(self.frame(PONG, payload))
            elif kind == CLOSE:
                self._note(f"websocket close {int.from_bytes(payload[:2], 'big')}")
            elif payload:
                return payload

    def _take_frame(self) -> tuple[int, bytes] | None:
        data = self._data
        if len(data) < 2:
            return None
        size, at = data[1] & 127, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(data[2 : 2 + width], "big"), 2 + width
        if len(data) < at + size:
            return None
        kind, payload = data[0] & 15, bytes(data[at : at + size])
        del data[: at + size]
        return kind, payload

    async def aclose(self) -> None:
        await self._under.aclose()


def _first_line(head: bytes) -> str:
    return head.split(b"\r\n", 1)[0].decode("latin-1")


def frame_head(first_byte: int, size: int) -> bytes:
    """What a client's frame begins with, up to its mask; `size` is the payload's, in bytes (RFC 6455 §5.2)."""
    if size < 126:
        return bytes([first_byte, 0x80 | size])
    if size < 65536:
        return bytes([first_byte, 0x80 | 126]) + size.to_bytes(2, "big")
    return bytes([first_byte, 0x80 | 127]) + size.to_bytes(8, "big")
