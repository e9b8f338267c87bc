"""QoS 0 for a client that does not read: bounded, and as the file says it where it says how much may be queued."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.rowcast_process import RowcastProcess

PAYLOAD = bytes(1_500_000)
COUNT = 30
CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01"
PING, PONG = b"\xc0\x00", b"\xd0\x00"
PUBLISH = b"\x30" + b"\xe3\xc6\x5b" + b"\x00\x01t" + PAYLOAD
"""1 500 003 bytes follow the remaining length."""


@contextmanager
def connected(port: int, client_id: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(CONNECT + client_id)
        assert exactly(client, 4) == b"\x20\x02\x00\x00"
        yield client


def exactly(client: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = client.recv(size - len(data))
        assert piece, "closed"
        data += piece
    return bytes(data)


def what_comes(port: int) -> int:
    """How many of the messages a client gets that begins to read when all have been sent."""
    with connected(port, b"s") as lazy, connected(port, b"p") as publisher:
        lazy.sendall(b"\x82\x06\x00\x01\x00\x01t\x00")
        assert exactly(lazy, 5) == b"\x90\x03\x00\x01\x00"
        for _ in range(COUNT):
            publisher.sendall(PUBLISH)
        publisher.sendall(PING)
        assert exactly(publisher, 2) == PONG
        lazy.sendall(PING)
        found = 0
        while exactly(lazy, 2) != PONG:
            exactly(lazy, len(PUBLISH) - 2)
            found += 1
        return found


@pytest.mark.parametrize(
    ("said", "lowest", "highest"),
    [
        ("max_queued_messages 1000", COUNT, COUNT),
        ("max_queued_bytes 100000000", COUNT, COUNT),
        ("max_queued_messages 1000\nmax_queued_bytes 9000000", 2, 20),
        ("", 10, 20),
    ],
)
def test_what_the_file_says_of_queues_holds_for_qos_0(
    tmp_path: Path, said: str, lowest: int, highest: int
) -> None:
    """Between the two: what kernels keep on both sides comes on top."""
    with RowcastProcess(tmp_path, said) as broker:
        assert lowest <= what_comes(broker.port) <= highest
