"""A hundred thousand retained messages to a subscriber that reads slowly: all of them, and nobody pays for it."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
from support.rowcast_process import RowcastProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MESSAGES = 100_000
WITHIN_S = 60.0
EXTRA_BYTES_MAX = 8 * 1024 * 1024
PONG_S_MAX = 1.0
"""Generous: what is meant is that a ping does not wait for the replay, which takes far longer."""


def connected(rowcast: RowcastProcess, client_id: bytes, receive_buffer_bytes: int = 0) -> socket.socket:
    peer = socket.socket()
    if receive_buffer_bytes:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    peer.settimeout(WITHIN_S)
    peer.connect(("127.0.0.1", rowcast.port))
    peer.sendall(
        bytes((0x10, 12 + len(client_id))) + b"\x00\x04MQTT\x04\x02\x00\x00\x00" + bytes((len(client_id),))
    )
    peer.sendall(client_id)
    assert peer.recv(4) == b"\x20\x02\x00\x00"
    return peer


def pong_s(peer: socket.socket) -> float:
    """How long a PINGREQ takes to be answered."""
    began = time.monotonic()
    peer.sendall(b"\xc0\x00")
    assert peer.recv(2) == b"\xd0\x00"
    return time.monotonic() - began


def topic(number: int) -> bytes:
    return b"kept/%02d/%05d" % (number % 100, number)


def resident_bytes(rowcast: RowcastProcess) -> int:
    pages = int(Path(f"/proc/{rowcast.process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_slow_subscriber_gets_all_of_them_and_a_witness_does_not_wait(rowcast: RowcastProcess) -> None:
    witness = connected(rowcast, b"witness")
    for start in range(0, MESSAGES, 1000):
        names = [topic(number) for number in range(start, start + 1000)]
        witness.sendall(
            b"".join(
                b"\x31" + bytes((2 + len(name) + 8, 0, len(name))) + name + b"12345678" for name in names
            )
        )
    pong_s(witness)

    before = resident_bytes(rowcast)
    slow = connected(rowcast, b"slow", receive_buffer_bytes=4096)
    slow.sendall(b"\x82\x06\x00\x01\x00\x01#\x00")
    packet_bytes = 2 + 2 + len(topic(0)) + 8
    expected = 5 + MESSAGES * packet_bytes
    received, grown, longest_s = bytearray(), 0, 0.0
    while len(received) < expected:
        received += slow.recv(20_000)
        if len(received) % 7 == 0:
            longest_s = max(longest_s, pong_s(witness))
            grown = max(grown, resident_bytes(rowcast) - before)

    assert received[:5] == b"\x90\x03\x00\x01\x00"
    length = len(topic(0))
    heard = {bytes(received[at + 4 : at + 4 + length]) for at in range(5, expected, packet_bytes)}
    assert heard == {topic(number) for number in range(MESSAGES)}
    assert longest_s < PONG_S_MAX
    assert grown < EXTRA_BYTES_MAX, f"{grown} bytes more while one subscriber read slowly"
    witness.close()
    slow.close()
