"""WebSocket clients of one generator on one epoll, some of which stop reading; and a publisher at a fixed pace.

A delivery's latency counts from the moment at which its message was due, so a broker that pauses is charged for all
that should have been sent meanwhile.
"""

from __future__ import annotations

import json
import re
import select
import socket
import time
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import jwt
from attrs import frozen

from benchmarks.arithmetic import Latency, latency
from benchmarks.clients import PATIENCE_S, Client, Lost, open_socket
from benchmarks.machine import resident_bytes
from benchmarks.measurement import Clocks, Target
from benchmarks.workloads.websocket import say, shake_hands

MARKET: Final = "BTCUSDT@trades"
PRIVATE: Final = "@order"
UID: Final = "1001"
MARKER: Final = b'"number":'
FREEZING_RECEIVE_BYTES: Final = 16 * 1024
"""A small receive buffer, so that what a frozen client is sent stays with the broker."""

_SKIPPED: Final = re.compile(rb'"msg":"Slow Receiver: (\d+) messages')
_MEMORY_EVERY_S: Final = 0.25
_REST_S: Final = 3.0
"""How long what a frozen client is owed may pause, once it reads again."""


@frozen
class Outcome:
    """What one round showed.  `latency` is of those clients that never freeze."""

    latency: Latency
    memory_growth: int
    """Bytes, at the highest."""
    closed: int
    conflated: int
    broker_share: float
    generator_share: float


class Reader:
    """One connection, and how many messages have come on it."""

    def __init__(self, connection: Client) -> None:
        self.connection = connection
        self.count = 0
        self._tail = b""

    def read(self) -> int:
        """Take what is there; how many messages it completes the beginning of.  Raises: Lost."""
        received = self.connection.recv(262_144)
        if not received:
            raise Lost("the broker closed the connection of a client that reads")
        data = self._tail + received
        found = data.count(MARKER)
        self._tail = data[1 - len(MARKER) :]
        self.count += found
        return found


class Crowd:
    """`steady` clients that read, and `fickle` ones that may stop.

    Half of the fickle ones read a private channel, which closes slow receivers; all others a market channel, which
    gives them the newest only.
    """

    def __init__(self, target: Target, steady: int, fickle: int) -> None:
        self._target = target
        self._steady = _open(steady, lambda: _market(target, open_socket(target.websocket)))
        private = fickle // 2
        self._private = _open(private, lambda: _private(target, _small_socket(target)))
        self._market = _open(fickle - private, lambda: _market(target, _small_socket(target)))
        self._publisher = socket.create_connection(("127.0.0.1", int(target.facts["admin"])))
        self._samples_us = array("d")
        self._due: list[float] = []

    def play(self, messages_per_s: int, message_bytes: int, seconds: float, freeze: bool) -> Outcome:
        """Publish that long; then see what the fickle ones got."""
        fickle = self._private + self._market
        readers = {r.connection.fileno(): r for r in self._steady + ([] if freeze else fickle)}
        epoll = select.epoll()
        for descriptor in [*readers, self._publisher.fileno()]:
            epoll.register(descriptor, select.EPOLLIN)
        total = round(seconds * messages_per_s)
        measured = {r.connection.fileno() for r in self._steady}
        clocks = Clocks(self._target)
        memory = _Memory(self._target.pid)
        began = time.perf_counter() + 0.05
        for number in range(total):
            due = began + number / messages_per_s
            while (left := due - time.perf_counter()) > 0:
                self._receive(epoll, readers, measured, left)
            memory.look()
            self._due.append(due)
            self._publish(number, message_bytes)
        self._until_all_have(epoll, readers, measured, total)
        figures = clocks.measure(total * len(readers))
        epoll.close()
        closed, conflated = self._fates(total) if freeze else (0, 0)
        found = latency(self._samples_us)
        assert found is not None
        return Outcome(found, memory.growth, closed, conflated, figures.broker_share, figures.generator_share)

    def leave(self) -> None:
        for reader in self._steady + self._private + self._market:
            reader.connection.close()
        self._publisher.close()

    def _publish(self, number: int, size: int) -> None:
        text = f'{{{MARKER.decode()}{number},"padding":"{"x" * size}"}}'
        messages = [{"c": f"ex:{channel}", "d": text} for channel in (MARKET, UID + PRIVATE)]
        body = json.dumps(messages).encode()
        head = (
            "POST /v1/mesh/publish HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._publisher.sendall(head.encode() + body)

    def _receive(
        self, epoll: select.epoll, readers: dict[int, Reader], measured: set[int], patience_s: float
    ) -> None:
        due = self._due
        for descriptor, _ in epoll.poll(patience_s):
            reader = readers.get(descriptor)
            if reader is None:
                answer = self._publisher.recv(65_536)
                if b"HTTP/1.1 4" in answer or not answer:
                    raise Lost(f"the broker does not publish: {answer!r}")
                continue
            before = reader.count
            found = reader.read()
            if descriptor in measured:
                now = time.perf_counter()
                self._samples_us.extend((now - due[before + i]) * 1e6 for i in range(found))

    def _until_all_have(
        self, epoll: select.epoll, readers: dict[int, Reader], measured: set[int], total: int
    ) -> None:
        deadline = time.perf_counter() + PATIENCE_S
        while any(reader.count < total for reader in readers.values()):
            if time.perf_counter() > deadline:
                raise Lost("messages did not come to clients that read")
            self._receive(epoll, readers, measured, 0.1)

    def _fates(self, total: int) -> tuple[int, int]:
        """How many of those that froze were closed, and how many were told what they missed."""
        closed = sum(_was_closed(reader.connection, total) for reader in self._private)
        return closed, sum(_was_conflated(reader.connection, total) for reader in self._market)


class _Memory:
    """The highest resident memory of a process, looked at now and then."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._first = self._highest = resident_bytes(pid)
        self._next_at = 0.0

    def look(self) -> None:
        now = time.perf_counter()
        if now >= self._next_at:
            self._next_at = now + _MEMORY_EVERY_S
            self._highest = max(self._highest, resident_bytes(self._pid))

    @property
    def growth(self) -> int:
        return self._highest - self._first


def _open(count: int, open_one: Callable[[], Client]) -> list[Reader]:
    with ThreadPoolExecutor(20) as pool:
        return [Reader(made.result()) for made in [pool.submit(open_one) for _ in range(count)]]


def _small_socket(target: Target) -> Client:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, FREEZING_RECEIVE_BYTES)
    connection.settimeout(PATIENCE_S)
    connection.connect((target.websocket.host, target.websocket.port))
    return connection


def _market(target: Target, connection: Client) -> Client:
    shake_hands(connection, "/exchange-stream")
    say(connection, {"op": "subscribe", "channel": MARKET}, b'"result"')
    return connection


def _private(target: Target, connection: Client) -> Client:
    shake_hands(connection, "/exchange-stream")
    token = jwt.encode({"uid": UID}, target.facts["secret"], "HS256")
    say(connection, {"op": "auth", "token": token}, b'"result"')
    say(connection, {"op": "subscribe", "channel": PRIVATE}, b'"result"')
    return connection


def _rest_of(connection: Client, last: bytes) -> tuple[bytes, bool]:
    """What has come since it stopped reading, up to `last`; and whether the connection had ended before."""
    connection.settimeout(_REST_S)
    received = bytearray()
    try:
        while last not in received[-200_000:]:
            data = connection.recv(65_536)
            if not data:
                return bytes(received), True
            received += data
    except ConnectionError:
        return bytes(received), True
    except TimeoutError:
        pass
    return bytes(received), False


def _was_closed(connection: Client, total: int) -> bool:
    received, ended = _rest_of(connection, _last(total))
    return ended and received.count(MARKER) < total


def _was_conflated(connection: Client, total: int) -> bool:
    """Whether it gets the newest message, and the broker told it of every one that it did not get."""
    received, ended = _rest_of(connection, _last(total))
    skipped = sum(int(count) for count in _SKIPPED.findall(received))
    return not ended and 0 < skipped == total - received.count(MARKER)


def _last(total: int) -> bytes:
    return MARKER + b"%d," % (total - 1)
