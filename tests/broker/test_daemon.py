"""Rights, background and pid file, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from broker.daemon import DaemonError, drop_privileges, pid_file

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root's rights")


def run_python(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20, check=False)


def test_the_daemon_leaves_terminal_session_and_parent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "told")
    program = (
        "import os; from broker.daemon import become_daemon\n"
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


@needs_root
def test_root_becomes_the_user_and_keeps_no_group(tmp_path: Path) -> None:
    program = (
        "import os; from broker.daemon import drop_privileges\n"
        "drop_privileges('nobody'); print(os.getresuid(), os.getresgid(), 0 in os.getgroups())\n"
    )
    run = run_python(program, tmp_path)
    import pwd

    nobody = pwd.getpwnam("nobody")
    user, group = (nobody.pw_uid,) * 3, (nobody.pw_gid,) * 3
    assert run.stdout == f"{user} {group} False\n"


@needs_root
@pytest.mark.parametrize("user", [None, "root"])
def test_root_that_stays_root_is_warned(user: str | None, caplog: pytest.LogCaptureFixture) -> None:
    drop_privileges(user)
    assert os.geteuid() == 0
    assert "should not be run as root" in caplog.text


@needs_root
def test_an_unknown_user_is_refused() -> None:
    with pytest.raises(
        DaemonError, match="Unable to drop privileges to 'no-such-user' because this user does not"
    ):
        drop_privileges("no-such-user")


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
