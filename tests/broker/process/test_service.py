"""What systemd is told, by a real process, through a socket such as systemd's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rowcast_process import RowcastProcess

from broker.process.service import ServiceManager

SETTINGS = """
[[listener]]
port = {port}
host = "127.0.0.1"
[security]
allow_anonymous = true
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(90)
        yield sock


def told(manager: socket.socket, wanted: str) -> list[str]:
    """The lines of the next message that has a line beginning so."""
    while True:
        lines = manager.recv(4096).decode().splitlines()
        if any(line.startswith(wanted) for line in lines):
            return lines


def test_a_service_says_when_it_is_ready_reloads_lives_and_stops(
    manager: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    with RowcastProcess.from_toml(tmp_path, SETTINGS) as process:
        assert told(manager, "READY=1") == ["READY=1", f"MAINPID={process.process_id}"]
        assert told(manager, "WATCHDOG=1") == ["WATCHDOG=1"]
        assert told(manager, "STATUS=ready") == ["STATUS=ready; 0 clients, 0 of 0 feeds live"]
        process.signal(signal.SIGHUP)
        reloading = told(manager, "RELOADING=1")
        assert reloading[1].startswith("MONOTONIC_USEC=")
        assert told(manager, "READY=1")
        process.signal(signal.SIGTERM)
        assert told(manager, "STOPPING=1")[1] == "EXTEND_TIMEOUT_USEC=35000000"
        assert process.wait(90) == 0


def test_the_environment_is_not_handed_on_and_nobody_there_is_no_matter(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    manager = ServiceManager(environment)
    assert environment == {}
    manager.ready()
    manager.beat(100.0, lambda: "fine")
    ServiceManager({}).stopping(1.0)


def test_an_abstract_socket_is_reached() -> None:
    name = f"@rowcast-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:])
        sock.settimeout(5)
        ServiceManager({"NOTIFY_SOCKET": name}).tell("READY=1")
        assert sock.recv(100) == b"READY=1"


SINGLE_FILE = """
import os, sys
if os.fork() == 0:
    sys.frozen = True  # as PyInstaller says it
    from broker.links.listening.inherited import from_service_manager
    from broker.process import system
    from broker.process.service import ServiceManager
    ServiceManager().ready()
    print(system.known_number() == os.getppid(), len(from_service_manager(system.known_number())))
    if os.fork() == 0:  # -d: that parent is nobody's main process
        print(system.known_number() == os.getpid())
    else:
        os.wait()
else:
    os.wait()
"""


def test_a_single_file_goes_by_the_number_of_the_process_that_unpacked_it(
    manager: socket.socket, tmp_path: Path
) -> None:
    """Its parent is what systemd started, watches and hands sockets to."""
    set_up = (
        "import os, socket\n"
        "os.environ['LISTEN_PID'] = os.environ['WATCHDOG_PID'] = str(os.getpid())\n"
        "sock = socket.create_server(('127.0.0.1', 0))\n"
        "os.dup2(sock.fileno(), 3)\n"
    )
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "LISTEN_FDS": "1"}
    with subprocess.Popen(
        [sys.executable, "-u", "-c", set_up + SINGLE_FILE],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert told(manager, "READY=1") == ["READY=1", f"MAINPID={process.pid}"]
        assert process.stdout is not None
        assert process.stdout.read().splitlines() == ["True 1", "True"]
