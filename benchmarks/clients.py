"""Clients of the load generator: blocking sockets, because a closed loop has nothing else to do meanwhile.

Invariant: a read that waits longer than `PATIENCE_S` raises `Lost`; nothing hangs and nothing is assumed.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

from attrs import frozen

from benchmarks import packets

PATIENCE_S: Final = int(os.environ.get("BENCHMARKS_PATIENCE_S", "20"))
_PATIENCE: Final = struct.pack("ll", PATIENCE_S, 0)


class Lost(Exception):
    """The broker did not deliver what it owed within the patience of the generator."""


@frozen
class Address:
    """Where a broker listens, and what it asks of its clients.

    Attributes:
        cafile: the authority of its certificate, where it speaks TLS.
        user, password: for CONNECT.
    """

    host: str
    port: int
    cafile: Path | None = None
    user: bytes = b""
    password: bytes = b""


class TlsClient:
    """A connection under TLS that is read and written like a plain one."""

    def __init__(self, connection: socket.socket, cafile: Path, session: ssl.SSLSession | None) -> None:
        self.tls = _context(cafile).wrap_socket(connection, server_hostname="localhost", session=session)
        self.send = self.tls.send
        self.sendall = self.tls.sendall
        self.close = self.tls.close
        self.fileno = self.tls.fileno
        self.settimeout = self.tls.settimeout

    def recv(self, count: int) -> bytes:
        return self.tls.recv(count)

    def recv_into(self, view: memoryview, count: int, flags: int = 0) -> int:
        return self.tls.recv_into(view, count)


Client: TypeAlias = socket.socket | TlsClient


@cache
def _context(cafile: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=cafile)


def open_socket(address: Address, session: ssl.SSLSession | None = None) -> Client:
    """A blocking connection without Nagle's delay whose reads give up after `PATIENCE_S`.

    Args:
        session: of an earlier connection under TLS, to be resumed.
    """
    connection = socket.create_connection((address.host, address.port), timeout=PATIENCE_S)
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection if address.cafile is None else TlsClient(connection, address.cafile, session)


def connect(address: Address, client_id: bytes, session: ssl.SSLSession | None = None) -> Client:
    """A connected MQTT client."""
    client = open_socket(address, session)
    client.sendall(packets.connect(client_id, user=address.user, password=address.password))
    read_connack(client, client_id)
    return client


def read_connack(client: Client, client_id: bytes) -> None:
    """The answer to CONNECT, whatever properties it has.

    Raises:
        Lost: it is a refusal.
    """
    answer = read_exactly(client, 4)
    if answer[:1] != b"\x20" or answer[1] > 0x7F or answer[3]:
        raise Lost(f"the broker refused client {client_id!r}")
    if answer[1] > 2:
        read_exactly(client, answer[1] - 2)


def subscribe(client: Client, *topic_filters: bytes, qos: int = 0) -> None:
    """Subscribe and wait for the SUBACK."""
    client.sendall(packets.subscribe(1, *topic_filters, qos=qos))
    answer = read_exactly(client, packets.suback_bytes() - 1 + len(topic_filters))
    if 0x80 in answer[4:]:
        raise Lost(f"the broker refused the subscription to {topic_filters[0]!r}")


def subscriber(address: Address, client_id: bytes, *topic_filters: bytes, qos: int = 0) -> Client:
    client = connect(address, client_id)
    subscribe(client, *topic_filters, qos=qos)
    return client


def read_exactly(client: Client, count: int) -> bytearray:
    """The next `count` bytes."""
    received = bytearray(count)
    read_into(client, memoryview(received), count)
    return received


def read_into(client: Client, view: memoryview, count: int) -> None:
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
