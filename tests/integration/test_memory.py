"""Clients who come and go leave nothing behind, however often."""

from __future__ import annotations

import os
import re
import resource
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rowcast_process import RowcastProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CLIENTS = 10_000
ROUNDS = 10
WITHIN_S = 60.0
GROWTH_KIB_MAX = 4096
"""With all clients connected, from the second round to the last: 52 bytes for each of the connections between them.

Not after they have left: how much of what is free goes back to the system depends on the order in which they leave."""

OPEN_FILES = CLIENTS + 200
_AT_ONCE = struct.pack("ii", 1, 0)


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as connections, here and in the broker, which inherits the limit."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < OPEN_FILES:
        pytest.skip(f"a process may open {most} files here; {OPEN_FILES} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def resident_kib(process_id: int) -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{process_id}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def open_files(process_id: int) -> int:
    return len(os.listdir(f"/proc/{process_id}/fd"))


def client(port: int, number: int, source: str) -> socket.socket:
    """A client with a will, a subscription and a retained message on its way to it."""
    sock = socket.create_connection(("127.0.0.1", port), WITHIN_S, source_address=(source, 0))
    client_id = b"client-%05d" % number
    body = b"\x00\x04MQTT\x04\x06\x00\x3c\x00\x0c" + client_id + b"\x00\x04will\x00\x04gone"
    sock.sendall(
        b"\x10" + bytes([len(body)]) + body + b"\x82\x13\x00\x01\x00\x0e" + b"t/" + client_id + b"\x01"
    )
    return sock


def answered(sock: socket.socket) -> None:
    owed = b"\x20\x02\x00\x00\x90\x03\x00\x01\x01"
    assert sock.recv(len(owed), socket.MSG_WAITALL) == owed


def leave(sock: socket.socket, number: int) -> None:
    """With a DISCONNECT, just closed, or reset."""
    if number % 3 == 0:
        sock.sendall(b"\xe0\x00")
    elif number % 3 == 1:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    sock.close()


def test_ten_thousand_connections_come_and_go_ten_times(tmp_path: Path, many_files: None) -> None:
    with RowcastProcess(
        tmp_path, "connection_messages false\nlog_type error\nlog_type information\n"
    ) as rowcast:
        process_id = rowcast.process_id
        # One client first: what the pump opens when it first waits stays open.
        first = client(rowcast.port, 0, "127.0.0.1")
        answered(first)
        idle = open_files(process_id) - 1
        leave(first, 0)
        full: list[int] = []
        left: list[int] = []
        for turn in range(ROUNDS):
            everybody = [client(rowcast.port, number, f"127.0.0.{turn + 2}") for number in range(CLIENTS)]
            for sock in everybody:
                answered(sock)
            full.append(resident_kib(process_id))
            for number, sock in enumerate(everybody):
                leave(sock, number)
            end = time.monotonic() + WITHIN_S
            while open_files(process_id) > idle:
                assert time.monotonic() < end, "the broker does not let go of its sockets"
                time.sleep(0.1)
            time.sleep(2.5)  # two of the collector's seconds
            left.append(resident_kib(process_id))
            print(f"round {turn + 1}: {full[-1]} KiB with {CLIENTS} clients, {left[-1]} KiB after them")
        assert full[-1] - full[1] < GROWTH_KIB_MAX, full
        assert max(left) < max(full) + GROWTH_KIB_MAX, left
