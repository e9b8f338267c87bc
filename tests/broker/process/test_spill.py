"""A log that nobody reads stops nobody; what could not be kept for its reader is counted and said."""

from __future__ import annotations

import fcntl
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ports import free_port

from broker.process.spill import WAITING_BYTES_MAX, Spill, may_wait
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connect


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def read_until(descriptor: int, wanted: bytes) -> bytes:
    found = b""
    while wanted not in found:
        assert select.select([descriptor], [], [], 30)[0], found[-200:]
        found += os.read(descriptor, 65536)
    return found


def test_lines_wait_in_their_order_and_those_above_the_limit_are_counted(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    dropped: list[None] = []
    spill = Spill(writing, lambda: dropped.append(None), lambda count: b"%d are missing\n" % count)
    assert may_wait(writing)
    lines = [b"%d " % number + b"x" * 1000 + b"\n" for number in range(400)]
    for line in lines:
        spill.write(line)
    assert len(dropped) > 100
    found = read_until(reading, b" are missing\n")
    kept = lines[: 400 - len(dropped)]
    assert found == b"".join(kept) + b"%d are missing\n" % len(dropped)
    assert sum(len(line) for line in kept) <= WAITING_BYTES_MAX + 4096 + 1000
    spill.close()
    spill.write(b"afterwards\n")
    assert read_until(reading, b"\n") == b"afterwards\n"
    assert spill._thread is None


def test_one_long_line_is_written_whole(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    spill = Spill(writing, lambda: None, lambda count: b"")
    spill.write(b"y" * 50_000 + b"\n")
    assert read_until(reading, b"\n") == b"y" * 50_000 + b"\n"


def test_a_reader_that_is_gone_is_told_to_whoever_writes_and_to_nobody_else(pipe: tuple[int, int]) -> None:
    reading, writing = os.pipe()
    spill = Spill(writing, lambda: None, lambda count: b"")
    for _ in range(100):
        spill.write(b"x" * 1000 + b"\n")
    os.close(reading)
    spill.close()
    with pytest.raises(BrokenPipeError):
        spill.write(b"more\n")
    os.close(writing)


def test_a_file_is_written_as_ever(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        assert not may_wait(file.fileno())


def test_a_broker_whose_stderr_nobody_reads_serves_on(tmp_path: Path) -> None:
    """Each connection is logged; so many that no pipe holds it."""
    import socket

    port = free_port()
    conf = tmp_path / "rowcast.conf"
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_type all\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", "-c", str(conf)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        assert process.stderr is not None
        read_until(process.stderr.fileno(), b" running")
        for number in range(400):
            with socket.create_connection(("127.0.0.1", port), timeout=90) as client:
                client.settimeout(20)
                client.sendall(encode(Connect(b"%d" % number + b"x" * 1000, True, 60)) + b"\xe0\x00")
                assert client.recv(4) == b"\x20\x02\x00\x00"
        log = read_until(process.stderr.fileno(), b"because nobody read it.\n")
        assert re.search(rb"Warning: [0-9]+ lines of the log are missing here", log)
    finally:
        process.terminate()
        _, rest = process.communicate(timeout=90)
    assert b"terminating" in rest
    assert process.returncode == 0
