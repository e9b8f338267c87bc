"""How a process ends: in order within its grace time, at once when told again."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.polling import until_listening
from support.ports import free_port

from broker.cli.exits import EXIT_FAILED, EXIT_OK

START_S = 20
CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01"
SUBSCRIBE_ALL = b"\x82\x06\x00\x01\x00\x01#\x00"
PAYLOAD_BYTES = 60_000
PUBLISH = b"\x30" + bytes([0xE3, 0xD4, 0x03]) + b"\x00\x01a" + bytes(PAYLOAD_BYTES)
"""QoS 0 to `a`; the remaining length is 3 + 60000."""


@pytest.mark.parametrize(
    ("pause_s", "status", "at_least_s", "at_most_s"),
    [
        pytest.param(None, 0, 1.0, 10.0, id="once: waits for what is owed until the grace time is over"),
        pytest.param(0.0, 0, 1.0, 10.0, id="twice at the same time, as a wrapper passes it on: as once"),
        pytest.param(0.6, 1, 0.5, 10.0, id="twice: ends at once"),
    ],
)
def test_ends_on_sigterm(
    pause_s: float | None, status: int, at_least_s: float, at_most_s: float, tmp_path: Path
) -> None:
    grace_s = 1 if status == 0 else 30
    with running(tmp_path, grace_s) as (process, port), owed(port):
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        if pause_s is not None:
            time.sleep(pause_s)
            process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) == status
        assert at_least_s <= time.monotonic() - begun <= at_most_s


def test_signals_that_come_after_the_end_has_begun_do_not_spoil_the_status(tmp_path: Path) -> None:
    with running(tmp_path, 1) as (process, _):
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.001)
        assert process.returncode in (EXIT_OK, EXIT_FAILED), "killed by a signal"


@contextlib.contextmanager
def running(folder: Path, grace_s: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    config = folder / "rowcast.toml"
    config.write_text(
        f'[broker]\nshutdown_grace = "{grace_s}s"\n[security]\nallow_anonymous = true\n'
        f'[[listener]]\nport = {port}\nhost = "127.0.0.1"\n'
    )
    process = subprocess.Popen([sys.executable, "-m", "broker", "-q", "-c", config])
    try:
        until_listening(port, START_S)
        yield process, port
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def owed(port: int) -> Iterator[None]:
    """A subscriber that does not read, and to whom more is owed than the kernel takes."""
    with connected(port, b"s") as lazy, connected(port, b"p") as publisher:
        lazy.sendall(SUBSCRIBE_ALL)
        assert lazy.recv(5) == b"\x90\x03\x00\x01\x00"
        for _ in range(300):
            publisher.sendall(PUBLISH)
        publisher.sendall(b"\xc0\x00")
        assert publisher.recv(2) == b"\xd0\x00"  # so everything before has been taken
        yield


@contextlib.contextmanager
def connected(port: int, client_id: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=START_S) as sock:
        sock.sendall(CONNECT + client_id)
        assert sock.recv(4) == b"\x20\x02\x00\x00"
        yield sock
