"""How a process ends: in order within its grace time, at once when told again."""

from __future__ import annotations

import contextlib
import resource
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
from support.rowcast_process import RowcastProcess

from broker.cli.exits import EXIT_FAILED, EXIT_OK
from broker.gateway.passwords import Pbkdf2
from broker.process.run import SAME_SIGNAL_S

START_S = 90
CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01"
SUBSCRIBE_ALL = b"\x82\x06\x00\x01\x00\x01#\x00"
PAYLOAD_BYTES = 60_000
PUBLISH = b"\x30" + bytes([0xE3, 0xD4, 0x03]) + b"\x00\x01a" + bytes(PAYLOAD_BYTES)
"""QoS 0 to `a`; the remaining length is 3 + 60000."""


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param([signal.SIGTERM], id="once: waits for what is owed until the grace time is over"),
        pytest.param(
            [signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT],
            id="twice at the same time, as a wrapper passes it on: as once",
        ),
    ],
)
def test_ends_on_sigterm(numbers: list[signal.Signals], tmp_path: Path) -> None:
    grace_s = 1
    with running(tmp_path, grace_s) as (process, port), owed(port):
        begun = time.monotonic()
        for number in numbers:
            process.send_signal(number)
        assert process.wait(START_S) == EXIT_OK
        assert time.monotonic() - begun >= grace_s


def test_another_sigterm_ends_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path, 600) as (process, port), owed(port):
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:
            time.sleep(2 * SAME_SIGNAL_S)
            process.send_signal(signal.SIGTERM)
        assert process.returncode == EXIT_FAILED


def test_signals_that_come_after_the_end_has_begun_do_not_spoil_the_status(tmp_path: Path) -> None:
    with running(tmp_path, 1) as (process, _):
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.001)
        assert process.returncode in (EXIT_OK, EXIT_FAILED), "killed by a signal"


@pytest.mark.parametrize("heard", ["starting", "Config loaded"])
def test_a_signal_while_it_starts_ends_it_in_order(heard: str, tmp_path: Path) -> None:
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"listener {free_port()} 127.0.0.1\nallow_anonymous true\npersistence true\n"
        f"persistence_location {tmp_path}\n"
    )
    process = subprocess.Popen([sys.executable, "-m", "broker", "-c", config], stderr=subprocess.PIPE)
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            if heard.encode() in line:
                process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) == EXIT_OK


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_what_is_asked_for_while_it_starts_does_not_end_it(number: signal.Signals, tmp_path: Path) -> None:
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {free_port()} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen([sys.executable, "-m", "broker", "-c", config], stderr=subprocess.PIPE)
    assert process.stderr is not None
    heard = b""
    with process.stderr:
        for line in process.stderr:
            heard += line
            if b"starting" in line:
                process.send_signal(number)
            if (b"Reloading config." if number == signal.SIGHUP else b"running") in line:
                process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) == EXIT_OK, heard.decode()


def test_who_connects_after_sighup_is_served_by_the_new_rules(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    put(passwords, b"0")
    with RowcastProcess(tmp_path, f"password_file {passwords}\nallow_anonymous false\n") as rowcast:
        for number in range(1, 11):
            sock = socket.create_connection(("127.0.0.1", rowcast.port), 10)
            connect = b"\x10\x14\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01a\x00\x01u\x00\x02p%d" % (number % 10)
            put(passwords, b"%d" % (number % 10))
            rowcast.signal(signal.SIGHUP)
            sock.sendall(connect)
            with sock:
                assert sock.recv(4) == b"\x20\x02\x00\x00", f"the old password is asked for in round {number}"


def put(passwords: Path, digit: bytes) -> None:
    """`u` with the password `pDIGIT`, by a hash that takes no time."""
    passwords.write_bytes(b"u:" + Pbkdf2.make(b"p" + digit, 1).encode().encode() + b"\n")
    passwords.chmod(0o600)


def test_what_can_not_be_saved_at_the_end_is_told_by_the_status(tmp_path: Path) -> None:
    settings = f"persistence true\npersistence_location {tmp_path}\nautosave_interval 0\n"
    with RowcastProcess(tmp_path, settings) as rowcast:
        rowcast.status_wanted = EXIT_FAILED
        resource.prlimit(rowcast.process_id, resource.RLIMIT_FSIZE, (100_000, 100_000))
        with socket.create_connection(("127.0.0.1", rowcast.port), 10) as sock:
            sock.sendall(CONNECT + b"a")
            assert sock.recv(4) == b"\x20\x02\x00\x00"
            retained = b"\x31" + PUBLISH[1:]
            sock.sendall(
                b"".join(retained[:6] + b"%c" % (97 + n) + retained[7:] for n in range(20)) + b"\xc0\x00"
            )
            assert sock.recv(2) == b"\xd0\x00"


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
