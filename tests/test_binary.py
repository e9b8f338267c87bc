"""dist/rowcast, if `make binary` has made it: it runs without Python, and serves as any other broker."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.polling import until_blocking, until_listening
from support.ports import free_port

ROOT = Path(__file__).parent.parent
BINARY = ROOT / "dist/rowcast"
START_S = 90
ENVIRONMENT = {
    "DATABASE_URL": "postgres:///econia",
    "PGWS_JWT_SECRET": "econia_0000000000000000000000000",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BINARY.exists(), reason="`make binary` has not been run"),
]


def test_it_says_its_version_without_any_environment() -> None:
    done = subprocess.run([BINARY, "--version"], env={}, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("rowcast version ")


def test_it_checks_the_example() -> None:
    command = [str(BINARY), "check", "-c", str(ROOT / "examples/econia.toml")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert "is fine: 3 listeners, 1 feed" in done.stdout


def test_mosquittos_clients_meet_on_it() -> None:
    with broker() as port:
        receiver = subprocess.Popen(
            ["mosquitto_sub", "-p", str(port), "-t", "greeting", "-C", "1", "-W", "10"],
            stdout=subprocess.PIPE,
            text=True,
        )
        sender = ["mosquitto_pub", "-p", str(port), "-t", "greeting", "-m", "hello", "-q", "1", "-r"]
        subprocess.run(sender, check=True, timeout=90)
        assert receiver.communicate(timeout=START_S)[0] == "hello\n"


def test_it_goes_on_in_the_background(tmp_path: Path) -> None:
    port = free_port()
    pid_file = tmp_path / "pid"
    config = tmp_path / "rowcast.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npid_file {pid_file}\n")
    subprocess.run([BINARY, "-c", config, "-d"], check=True, timeout=START_S)
    until_listening(port, START_S)
    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGTERM)
    until_blocking(lambda: not pid_file.exists())


@contextlib.contextmanager
def broker() -> Iterator[int]:
    """The binary on a free port; its orderly end is part of the test."""
    port = free_port()
    process = subprocess.Popen([BINARY, "-q", "-p", str(port)], env={})
    try:
        until_listening(port, START_S)
        yield port
    finally:
        process.terminate()
        status = process.wait(timeout=START_S)
    assert status == 0
