"""Sockets that somebody else has opened: each is taken once, by where it listens, and the rest is closed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from broker.links.listening.inherited import FIRST_DESCRIPTOR, Inherited, from_service_manager


def listening(path: Path | None = None) -> socket.socket:
    if path is not None:
        made = socket.socket(socket.AF_UNIX)
        made.bind(str(path))
    else:
        made = socket.socket()
        made.bind(("127.0.0.1", 0))
    made.listen()
    return made


def test_a_socket_is_taken_once_by_who_listens_there(tmp_path: Path) -> None:
    tcp, unix = listening(), listening(tmp_path / "s")
    port = tcp.getsockname()[1]
    inherited = Inherited([tcp, unix])
    assert inherited.take(socket.AF_INET, "127.0.0.1", port + 1) is None
    assert inherited.take(socket.AF_INET, "0.0.0.0", port) is None
    assert inherited.take(socket.AF_INET6, "127.0.0.1", port) is None
    assert inherited.take(socket.AF_INET, "127.0.0.1", port) is tcp
    assert not tcp.getblocking()
    assert inherited.take(socket.AF_INET, "127.0.0.1", port) is None
    assert inherited.take(socket.AF_UNIX, str(tmp_path / "s"), 0) is unix
    assert inherited.close() == []
    for sock in (tcp, unix):
        sock.close()


def test_what_nobody_takes_is_closed_and_told(tmp_path: Path) -> None:
    tcp, unix = listening(), listening(tmp_path / "s")
    port = tcp.getsockname()[1]
    inherited = Inherited([tcp, unix])
    assert inherited.close() == [f"127.0.0.1:{port}", f"{tmp_path / 's'}:0"]
    assert tcp.fileno() == unix.fileno() == -1
    assert inherited.close() == []


@pytest.mark.parametrize("count", ["", "x", "-1", "²", "0"])
def test_no_number_is_no_socket_and_the_variables_go(count: str) -> None:
    environ = {"LISTEN_FDS": count, "LISTEN_PID": "7", "LISTEN_FDNAMES": "a", "HOME": "/"}
    assert from_service_manager(7, environ) == []
    assert environ == {"HOME": "/"}


def test_what_is_meant_for_another_process_is_left_alone() -> None:
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid() + 1)}
    assert from_service_manager(7, environ) == []
    assert environ == {}


SCRIPT = """
import os, socket
from broker.links.listening.inherited import from_service_manager
environ = {"LISTEN_FDS": "3", "LISTEN_PID": str(os.getpid())}
taken = from_service_manager(1, environ)
print([sock.getsockname()[1] for sock in taken], [sock.get_inheritable() for sock in taken])
try:
    os.fstat(4)
except OSError:
    print("4 is closed")
"""


def test_of_what_is_handed_over_only_what_listens_is_kept() -> None:
    """Three descriptors: a listening socket, one that does not, and another listening one."""
    handed = [listening(), socket.socket(), listening()]
    ports = [handed[0].getsockname()[1], handed[2].getsockname()[1]]
    saved = {}
    root = Path(__file__).parents[4]
    plumbing = (
        "import os, sys\n"
        f"sources = {[sock.fileno() for sock in handed]}\n"
        "copies = [os.dup(source) for source in sources]\n"
        "copies = [os.dup2(copy, 60 + number) for number, copy in enumerate(copies)]\n"
        f"[os.dup2(copy, {FIRST_DESCRIPTOR} + number) for number, copy in enumerate(copies)]\n"
    )
    saved["PYTHONPATH"] = str(root)
    run = subprocess.run(
        [sys.executable, "-c", plumbing + SCRIPT],
        pass_fds=[sock.fileno() for sock in handed],
        env={**os.environ, **saved},
        capture_output=True,
        text=True,
        check=True,
    )
    for sock in handed:
        sock.close()
    assert run.stdout == f"{ports} [False, False]\n4 is closed\n"
