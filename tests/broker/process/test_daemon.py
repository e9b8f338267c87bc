"""Background and pid file, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from broker.process.daemon import DaemonError, pid_file


def test_the_daemon_leaves_terminal_session_and_parent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "told")
    program = (
        "import os; from broker.process.daemon import become_daemon\n"
        "before = os.getsid(0); become_daemon(); print('to nobody', flush=True)\n"
        "told = open('told', 'w')\n"
        "print(os.getsid(0) != before, os.getpid() != os.getsid(0), os.getcwd(), file=told)\n"
        "print(*(os.readlink(f'/proc/self/fd/{n}') for n in range(3)), file=told)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE)
    told = (tmp_path / "told").read_text().splitlines()
    assert run.wait(20) == 0
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
