"""A blocking NATS client over `protocol.nats`, for tests and nothing else."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from support.polling import PATIENCE_S

from protocol.nats import jetstream, wire
from protocol.nats.connection import OPEN, Connection, Subscriptions, publication


class Client:
    """Context manager; everything it can't get within `timeout_s` is a TimeoutError."""

    def __init__(
        self, port: int, options: Mapping[str, Any] | None = None, timeout_s: float = PATIENCE_S
    ) -> None:
        self.timeout_s = timeout_s
        self.subscriptions = Subscriptions(b"_INBOX." + uuid4().hex.encode())
        self.connection = Connection(self.subscriptions)
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not self.connection.info.fields:
            self._receive(time.monotonic() + timeout_s)
        self.sock.sendall(self.connection.hello(options or {}))
        self.until(lambda: self.connection.state == OPEN)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def _receive(self, deadline: float) -> None:
        self.sock.settimeout(max(0.001, deadline - time.monotonic()))
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        owed = self.connection.receive(data)
        if owed:
            self.sock.sendall(owed)

    def until(self, is_done: Any) -> None:
        deadline = time.monotonic() + self.timeout_s
        while not is_done():
            self._receive(deadline)

    def subscribe(self, subject: bytes, handler: Any = None) -> list[wire.Message]:
        got: list[wire.Message] = []
        sid = self.subscriptions.add(subject, handler or got.append)
        self.sock.sendall(wire.subscribe(subject, sid))
        return got

    def publish(self, subject: bytes, payload: bytes, headers: Mapping[bytes, bytes] | None = None) -> None:
        self.sock.sendall(publication(subject, payload, headers))

    def request(
        self, subject: bytes, body: bytes, headers: Mapping[bytes, bytes] | None = None
    ) -> wire.Message:
        got: list[wire.Message | None] = []
        reply = self.subscriptions.expect(got.append)
        self.sock.sendall(publication(subject, body, headers, reply))
        self.until(lambda: got)
        assert got[0] is not None
        return got[0]

    def ask(self, request: tuple[bytes, bytes]) -> dict[str, Any]:
        return jetstream.answer(self.request(*request))

    def put(
        self, subject: bytes, payload: bytes, headers: Mapping[bytes, bytes] | None = None
    ) -> jetstream.PubAck:
        return jetstream.pub_ack(self.request(subject, payload, headers))
