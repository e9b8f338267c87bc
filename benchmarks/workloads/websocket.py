"""WebSocket fan-out for each dialect, and what an idle WebSocket client costs.

A message is recognised by a marker in it, so that it does not matter how a server cuts its bytes into frames.
Clients mask with zeros, which leaves text readable and costs the generator nothing.
"""

from __future__ import annotations

import itertools
import json
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import jwt
import psycopg

from benchmarks import packets
from benchmarks.clients import Client, Lost, connect, open_socket
from benchmarks.machine import resident_bytes
from benchmarks.measurement import Clocks, Measurement, Pipeline, Target, measure_pipeline

MARKER: Final = b"<one-message>"
_PADDING: Final = "x" * 160
_TEXT, _BINARY = 0x81, 0x82


def fan_out(target: Target, seconds: float, dialect: str, clients: int, burst: int) -> Measurement:
    """One publisher, `clients` WebSocket receivers; `burst` messages at once, two bursts under way."""
    speaking = "broadcast" if target.facts.get("websocket") == "broadcast" else dialect
    readers = [Reader(connection) for connection in _open_all(target, speaking, range(clients))]
    publish = _PUBLISH[speaking](target, dialect, burst)
    publish()
    for reader in readers:
        reader.expect(burst)

    def receive() -> None:
        for reader in readers:
            reader.expect(burst)

    return measure_pipeline(target, Pipeline(publish, receive), burst * clients, seconds)


def idle_memory(target: Target, seconds: float, dialect: str, count: int) -> Measurement:
    """What the server's resident memory grows by for each idle WebSocket client with a subscription."""
    del seconds
    speaking = "broadcast" if target.facts.get("websocket") == "broadcast" else dialect
    early = _open_all(target, speaking, range(10_000_000, 10_000_050))
    before = resident_bytes(target.pid)
    clocks = Clocks(target)
    clients = _open_all(target, speaking, range(count))
    time.sleep(1)
    grown = resident_bytes(target.pid) - before
    measured = clocks.measure(count, None, grown / count)
    for client in early + clients:
        client.close()
    return measured


def connect_in_turn(target: Target, seconds: float, count: int) -> Measurement:
    """`count` clients become WebSockets, each when the one before is one, and stay; nothing else is asked for."""
    del seconds
    path = "/" if target.facts.get("websocket") == "broadcast" else "/exchange-stream"
    clients = [_handshake(target, path) for _ in range(20)]  # some to warm up
    samples_us: list[float] = []
    clocks = Clocks(target)
    for _ in range(count):
        began = time.perf_counter()
        clients.append(_handshake(target, path))
        samples_us.append((time.perf_counter() - began) * 1e6)
    measured = clocks.measure(count, samples_us)
    for client in clients:
        client.close()
    return measured


def _open_all(target: Target, speaking: str, numbers: range) -> list[Client]:
    """Many at once: Mosquitto's WebSocket side looks after each new client only ten times a second."""
    with ThreadPoolExecutor(50) as pool:
        return list(pool.map(partial(_OPEN[speaking], target), numbers))


class Reader:
    """Counts the markers that arrive on one connection."""

    def __init__(self, connection: Client) -> None:
        self._receive = connection.recv
        self._tail = b""
        self._counted = 0

    def expect(self, count: int) -> None:
        """Wait until so many more messages have come."""
        while self._counted < count:
            try:
                received = self._receive(262_144)
            except (BlockingIOError, ConnectionError) as error:
                raise Lost(f"{count - self._counted} of {count} messages did not come: {error}") from error
            if not received:
                raise Lost(f"the server closed a connection with {count - self._counted} messages owed")
            data = self._tail + received
            self._counted += data.count(MARKER)
            self._tail = data[1 - len(MARKER) :]
        self._counted -= count


def frame(data: bytes, kind: int = _TEXT) -> bytes:
    """A client's frame, masked with zeros."""
    if len(data) < 126:
        return struct.pack("!BB4x", kind, 0x80 | len(data)) + data
    return struct.pack("!BBH4x", kind, 0x80 | 126, len(data)) + data


def _handshake(target: Target, path: str, subprotocol: str = "") -> Client:
    connection = open_socket(target.websocket)
    shake_hands(connection, path, subprotocol)
    return connection


def shake_hands(connection: Client, path: str, subprotocol: str = "") -> None:
    """Make a connected socket a WebSocket."""
    wanted = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{wanted}"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    _until(connection, b"\r\n\r\n", b" 101 ")


def _until(connection: Client, end: bytes, holding: bytes) -> None:
    """Read until `end` has come; what came must hold `holding`."""
    received = b""
    while end not in received:
        try:
            more = connection.recv(4096)
        except (BlockingIOError, ConnectionError) as error:
            raise Lost(f"instead of {end!r} came {received!r}: {error}") from error
        if not more:
            raise Lost(f"the server closed the connection after {received!r}")
        received += more
    if holding not in received:
        raise Lost(f"the server answered {received!r}")


def say(connection: Client, request: dict[str, object], answered_by: bytes) -> None:
    """Send a request as text, and read until what must be in its answer has come."""
    connection.sendall(frame(json.dumps(request).encode()))
    _until(connection, answered_by, answered_by)


def _token(target: Target, **claims: object) -> str:
    return jwt.encode(claims, target.facts["secret"], "HS256")


def _open_mqtt(target: Target, number: int) -> Client:
    connection = _handshake(target, "/mqtt", "mqtt")
    connection.sendall(frame(packets.connect(b"ws-%d" % number), _BINARY))
    _until(connection, b"\x20\x02\x00\x00", b"")
    connection.sendall(frame(packets.subscribe(1, b"bench/ws"), _BINARY))
    _until(connection, b"\x90\x03\x00\x01\x00", b"")
    return connection


def open_econia(target: Target, number: int) -> Client:
    """One that gets every `econia_message`."""
    return _handshake(target, "/" + _token(target, mode="r", channels=["fill_event"]))


def _open_exchange(target: Target, number: int) -> Client:
    connection = _handshake(target, "/exchange-stream")
    say(connection, {"op": "subscribe", "channel": "BTCUSDT@trades"}, b'"result"')
    return connection


def _open_canton(target: Target, number: int) -> Client:
    connection = _handshake(target, "/v1/ws")
    token = _token(
        target, account_id=f"acc_{number // 8}", roles=["trader"]
    )  # ten connections an account at most
    say(connection, {"type": "auth", "token": token}, b'"authenticated"')
    say(connection, {"type": "subscribe", "channel": "system_health"}, b'"subscribed"')
    return connection


def _open_broadcast(target: Target, number: int) -> Client:
    return _handshake(target, "/")


_OPEN: Final[dict[str, Callable[[Target, int], Client]]] = {
    "mqtt": _open_mqtt,
    "econia": open_econia,
    "exchange": _open_exchange,
    "canton": _open_canton,
    "broadcast": _open_broadcast,
}

Publish = Callable[[], None]


def _publish_mqtt(target: Target, dialect: str, burst: int) -> Publish:
    client = connect(target.mqtt, b"pub")
    block = packets.publish(b"bench/ws", _message("econia", 0).encode()) * burst
    return lambda: client.sendall(block)


def _publish_broadcast(target: Target, dialect: str, burst: int) -> Publish:
    client = _handshake(target, "/publish")
    block = frame(_message("econia", 0).encode()) * burst
    return lambda: client.sendall(block)


def _publish_through_postgres(target: Target, dialect: str, burst: int) -> Publish:
    """NOTIFY in one transaction: no two texts of one may be equal, or Postgres merges them."""
    connection = psycopg.connect(target.facts["dsn"], autocommit=True)
    channel = {"econia": "econiaws", "exchange": "trades", "canton": "canton"}[dialect]
    statement = f"SELECT pg_notify('{channel}', t) FROM unnest(%s::text[]) t"
    rounds = itertools.cycle(range(1000))

    def publish() -> None:
        first = 100_000 + next(rounds) * burst
        connection.execute(statement, ([_message(dialect, first + i) for i in range(burst)],))

    return publish


_PUBLISH: Final[dict[str, Callable[[Target, str, int], Publish]]] = {
    "mqtt": _publish_mqtt,
    "econia": _publish_through_postgres,
    "exchange": _publish_through_postgres,
    "canton": _publish_through_postgres,
    "broadcast": _publish_broadcast,
}


def econia_message(number: int) -> str:
    """What to notify `econiaws` of, so that Econia's clients get a message."""
    return _message("econia", 100_000 + number)


def _message(dialect: str, number: int) -> str:
    """About 256 bytes in the dialect's own form, with the marker in it."""
    row = f'"mark":"{MARKER.decode()}","sequence":{number},"padding":"{_PADDING}"'
    if dialect == "exchange":
        return f'{{"symbol":"BTCUSDT",{row}}}'
    if dialect == "canton":
        return f'{{"channel":"system_health","message":{{"type":"system_health",{row}}}}}'
    return f'{{"channel":"fill_event","payload":{{{row}}}}}'
