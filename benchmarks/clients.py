"""Clients of the load generator: blocking sockets, because a closed loop has nothing else to do meanwhile.

Invariant: a read that waits longer than `PATIENCE_S` raises `Lost`; nothing hangs and nothing is assumed.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from attrs import frozen

from benchmarks import packets

PATIENCE_S: Final = 20
_PATIENCE: Final = struct.pack("ll", PATIENCE_S, 0)


class Lost(Exception):
    """The broker did not deliver what it owed within the patience of the generator."""


@frozen
class Address:
    host: str
    port: int


def open_socket(address: Address) -> socket.socket:
    """A blocking TCP connection without Nagle's delay whose reads give up after `PATIENCE_S`."""
    connection = socket.create_connection((address.host, address.port), timeout=PATIENCE_S)
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def connect(address: Address, client_id: bytes) -> socket.socket:
    """A connected MQTT client."""
    client = open_socket(address)
    client.sendall(packets.connect(client_id))
    if read_exactly(client, packets.CONNACK_BYTES)[:4] != b"\x20\x02\x00\x00":
        raise Lost(f"the broker refused client {client_id!r}")
    return client


def subscribe(client: socket.socket, *topic_filters: bytes, qos: int = 0) -> None:
    """Subscribe and wait for the SUBACK."""
    client.sendall(packets.subscribe(1, *topic_filters, qos=qos))
    answer = read_exactly(client, packets.SUBACK_BYTES - 1 + len(topic_filters))
    if 0x80 in answer[4:]:
        raise Lost(f"the broker refused the subscription to {topic_filters[0]!r}")


def subscriber(address: Address, client_id: bytes, *topic_filters: bytes, qos: int = 0) -> socket.socket:
    client = connect(address, client_id)
    subscribe(client, *topic_filters, qos=qos)
    return client


def read_exactly(client: socket.socket, count: int) -> bytearray:
    """The next `count` bytes."""
    received = bytearray(count)
    read_into(client, memoryview(received), count)
    return received


def read_into(client: socket.socket, view: memoryview, count: int) -> None:
    """Fill the first `count` bytes of `view` from the connection, in one system call where that can be.

    Raises:
        Lost: the connection ended, or the bytes did not come in time.
    """
    done = 0
    while done < count:
        try:
            received = client.recv_into(view[done:], count - done, socket.MSG_WAITALL)
        except (BlockingIOError, ConnectionError) as error:
            raise Lost(f"{count - done} of {count} bytes did not come: {error}") from error
        if not received:
            raise Lost(f"the broker closed the connection with {count - done} of {count} bytes owed")
        done += received
