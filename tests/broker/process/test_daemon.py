"""Background and pid file, each in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.ports import free_port

from broker.process.daemon import DaemonError, pid_file

ROOT = Path(__file__).parent.parent.parent.parent


def test_the_daemon_leaves_terminal_session_and_parent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "told")
    program = (
        "import os; from broker.process.daemon import become_daemon\n"
        "before = os.getsid(0); background = become_daemon(); print('to nobody', flush=True)\n"
        "background.report(0)\n"
        "told = open('told', 'w')\n"
        "print(os.getsid(0) != before, os.getpid() != os.getsid(0), os.getcwd(), file=told)\n"
        "print(*(os.readlink(f'/proc/self/fd/{n}') for n in range(3)), file=told)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE)
    told = (tmp_path / "told").read_text().splitlines()
    assert run.wait(90) == 0
    assert run.stdout is not None
    assert run.stdout.read() == b""
    run.stdout.close()
    assert told == [f"True True {tmp_path}", "/dev/null /dev/null /dev/null"]


def test_the_pid_file_lives_as_long_as_the_body(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with pid_file(path):
        assert path.read_text() == str(os.getpid())
    assert not path.exists()
    with pid_file(None):
        pass


def test_a_pid_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(DaemonError, match="Unable to write pid file"), pid_file(tmp_path / "nowhere" / "pid"):
        pass


CONF = "listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest file log\npid_file pid\n"


def daemon(folder: Path, port: int) -> subprocess.CompletedProcess[str]:
    (folder / "rowcast.conf").write_text(CONF.format(port=port))
    command = [sys.executable, "-m", "broker", "-c", "rowcast.conf", "-d"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=50
    )


def test_the_command_ends_when_the_daemon_listens(tmp_path: Path) -> None:
    port = free_port()
    started = daemon(tmp_path, port)
    assert (started.returncode, started.stdout) == (0, "")
    with socket.create_connection(("127.0.0.1", port), 5):
        pass
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)


def test_a_daemon_that_cannot_listen_says_so_to_the_terminal_and_to_its_log(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        started = daemon(tmp_path, port)
    said = f"Error: 127.0.0.1, port {port}: Address already in use; stop the other program, or choose another port"
    assert (started.returncode, started.stderr) == (1, said + "\n")
    assert said in (tmp_path / "log").read_text()
