"""WebSocket clients of the rowcast dialect that follow a topic each, over any number of connections."""

from __future__ import annotations

import json
import random
import select
import socket
import time
from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush

from attrs import Factory, define

CLIENTS_OF_A_TOPIC = 20
PATIENCE_S = 300.0
BEGIN_EACH_TURN = 40
UPGRADE = (
    b"GET /rowcast HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Protocol: rowcast\r\n\r\n"
)


def frame(value: object, opcode: int = 1) -> bytes:
    """A client's frame; with a mask of zeros, which changes nothing."""
    payload = json.dumps(value).encode() if opcode == 1 else b""
    size = len(payload)
    head = bytes([size | 0x80]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([0x80 | opcode]) + head + bytes(4) + payload


def next_frame(data: bytes) -> tuple[int, bytes, int]:
    """Opcode, payload, and where it ends; 0 if it is not all there."""
    if len(data) < 2:
        return 0, b"", 0
    size, begin = data[1], 2
    if size >= 126:
        begin = 4 if size == 126 else 10
        size = int.from_bytes(data[2:begin], "big")
    if len(data) < begin + size:
        return 0, b"", 0
    return data[0] & 15, data[begin : begin + size], begin + size


@define(eq=False)
class Client:
    """One that follows a topic over all its connections."""

    number: int
    topic: str
    seen: list[int] = Factory(list)
    at: str = ""
    """The last position that it has seen."""
    is_following: bool = False
    data: bytes = b""
    sock: socket.socket | None = None
    retry_s: float = 0.0
    away_since: float = 0.0


@define
class Tally:
    """What happened to all of them."""

    following: int = 0
    moved: int = 0
    refused: int = 0
    missed: int = 0
    """Rows that came while their reader was away, and that it was given afterwards."""
    unrecovered: int = 0
    closed: Counter[str] = Factory(Counter)
    """For other reasons than that a node drains."""
    away_s: list[float] = Factory(list)


class Crowd:
    """Clients on one epoll; nothing happens but in `turn`."""

    def __init__(self, port: int, count: int) -> None:
        self.port = port
        self.tally = Tally()
        topics = max(1, count // CLIENTS_OF_A_TOPIC)
        self.clients = [Client(number, f"row/{number % topics}") for number in range(count)]
        self.topics = topics
        self._epoll = select.epoll()
        self._by_descriptor: dict[int, Client] = {}
        self._due: list[tuple[float, int]] = [(0.0, number) for number in range(count)]

    def turn(self) -> None:
        now = time.monotonic()
        for _ in range(BEGIN_EACH_TURN):
            if not self._due or self._due[0][0] > now:
                break
            self._begin(self.clients[heappop(self._due)[1]])
        for descriptor, events in self._epoll.poll(0.02, 1024):
            client = self._by_descriptor[descriptor]
            try:
                self._serve(client, events)
            except OSError:
                self._gone(client)

    def until(self, done: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        end = time.monotonic() + patience_s
        while not done():
            assert time.monotonic() < end, f"waited {patience_s:.0f} s: {self.tally}"
            self.turn()

    def all_follow(self) -> bool:
        return self.tally.following == len(self.clients)

    def close(self) -> None:
        for client in self._by_descriptor.values():
            assert client.sock is not None
            client.sock.close()
        self._epoll.close()

    def _begin(self, client: Client) -> None:
        sock = client.sock = socket.socket()
        sock.setblocking(False)
        # One address has 28 000 ports, of which those that were used a minute ago are not free yet.
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((f"127.0.1.{client.number % 200 + 1}", 0))
        sock.connect_ex(("127.0.0.1", self.port))
        client.data = b""
        self._by_descriptor[sock.fileno()] = client
        self._epoll.register(sock.fileno(), select.EPOLLOUT)

    def _serve(self, client: Client, events: int) -> None:
        sock = client.sock
        assert sock is not None
        if events & select.EPOLLOUT:
            sock.send(UPGRADE)
            self._epoll.modify(sock.fileno(), select.EPOLLIN)
            return
        data = sock.recv(262_144)
        if not data:
            raise ConnectionResetError
        client.data += data
        if client.data.startswith(b"HTTP/1.1 "):
            head, end, rest = client.data.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self.tally.refused += 1
                raise ConnectionResetError
            client.data = rest
            wanted = {"topic": client.topic, "since": client.at} if client.at else {"topic": client.topic}
            sock.send(frame({"id": 1, "subscribe": [wanted]}))
        while True:
            opcode, payload, end_at = next_frame(client.data)
            if not end_at:
                return
            client.data = client.data[end_at:]
            if opcode == 1:
                self._take(client, json.loads(payload))
            elif opcode == 8:
                self._asked_to_go(client, payload)
                sock.send(frame(None, 8))
                raise ConnectionResetError
            elif opcode == 9:
                sock.send(frame(None, 10))

    def _asked_to_go(self, client: Client, payload: bytes) -> None:
        reason = payload[2:].decode()
        if reason.startswith("{"):
            client.retry_s = json.loads(reason)["retry_ms"] / 1000
        else:
            self.tally.closed[f"{int.from_bytes(payload[:2], 'big')} {reason}"] += 1

    def _take(self, client: Client, said: dict[str, object]) -> None:
        if "topic" in said:
            self._row(client, said)
        elif "subscribed" in said:
            missed = said.get("missed", [])
            assert isinstance(missed, list)
            for message in missed:
                self.tally.missed += 1
                self._row(client, message)
            if "at" in said:
                client.at = str(said["at"])
                self.tally.unrecovered += said.get("recovered") is False
                self.tally.following += not client.is_following
                client.is_following = True
                if client.away_since:
                    self.tally.away_s.append(time.monotonic() - client.away_since)
        elif "ping" in said:
            assert client.sock is not None
            client.sock.send(frame({"pong": 1}))
        elif "error" in said or "gap" in said:
            raise AssertionError(f"{client.topic}: {said}")

    def _row(self, client: Client, message: dict[str, object]) -> None:
        data = message["data"]
        assert isinstance(data, dict)
        client.seen.append(int(data["number"]))
        client.at = str(message.get("at", client.at))

    def _gone(self, client: Client) -> None:
        sock = client.sock
        assert sock is not None
        self._epoll.unregister(sock.fileno())
        del self._by_descriptor[sock.fileno()]
        sock.close()
        client.sock = None
        if client.is_following:
            client.is_following = False
            self.tally.following -= 1
            self.tally.moved += 1
            client.away_since = time.monotonic()
        wait_s = client.retry_s or random.uniform(0.5, 2)
        client.retry_s = 0.0
        heappush(self._due, (time.monotonic() + wait_s, client.number))
