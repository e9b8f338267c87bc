"""Started as root with `user`: what needs root is done before, and everything afterwards works without."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.ports import privileged_port
from trio_websocket import open_websocket_url

from broker.config.model import Config, Logging
from broker.process.daemon import DaemonError
from broker.process.privileges import drop_privileges

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root's rights")

WITHIN_S = 90.0
PROGRAM = """
import os, sys
def hook(event, arguments):
    if event == "import" and os.geteuid() != 0:
        print("late import of", arguments[0], file=sys.stderr, flush=True)
sys.addaudithook(hook)
from broker.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""The command, telling of every import that has to read files without root's rights."""


def test_root_becomes_the_user_and_keeps_no_group() -> None:
    program = (
        "import os; from broker.config.model import Config; from broker.process.privileges import drop_privileges\n"
        "drop_privileges(Config(user='nobody')); print(os.getresuid(), os.getresgid(), 0 in os.getgroups())\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    nobody = pwd.getpwnam("nobody")
    user, group = (nobody.pw_uid,) * 3, (nobody.pw_gid,) * 3
    assert run.stdout == f"{user} {group} False\n"


@pytest.mark.parametrize("user", [None, "root"])
def test_root_that_stays_root_is_warned(user: str | None, caplog: pytest.LogCaptureFixture) -> None:
    drop_privileges(Config(user=user))
    assert os.geteuid() == 0
    assert "should not be run as root. Name an account: `user rowcast`." in caplog.text
    caplog.clear()
    drop_privileges(Config(user=user, source=Path("shop.toml")))
    assert 'Name an account: `user = "rowcast"` in [broker].' in caplog.text


def test_an_unknown_user_is_refused() -> None:
    with pytest.raises(
        DaemonError, match="Unable to drop privileges to 'no-such-user' because this user does not"
    ):
        drop_privileges(Config(user="no-such-user"))


def test_a_link_in_place_of_the_log_file_gives_nobody_anything(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("root's")
    for name, make in (("soft", Path.symlink_to), ("hard", Path.hardlink_to)):
        make(tmp_path / name, precious)
        config = Config(user="nobody", logging=Logging(log_dest=(f"file {tmp_path / name}",)))
        child = os.fork()
        if child == 0:
            drop_privileges(config)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert precious.stat().st_uid == 0


class Running:
    """A broker that was started by root, with a port that only root may open, and is `nobody` by now."""

    def __init__(self, folder: Path, port: int, websocket_port: int, process: subprocess.Popen[str]) -> None:
        self.folder, self.port, self.websocket_port, self.process = folder, port, websocket_port, process

    def signal(self, number: signal.Signals, log: str, times: int = 1) -> None:
        """Send it, and wait for what the log says of it."""
        self.process.send_signal(number)
        self.wait(log, times)

    def wait(self, log: str, times: int = 1) -> None:
        end = time.monotonic() + WITHIN_S
        while self.log().count(log) < times:
            assert time.monotonic() < end, self.log()
            assert self.process.poll() is None, self.log()
            time.sleep(0.02)

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted((self.folder / "log").iterdir()))

    def client(self, command: str, *words: str) -> int:
        client = [command, "-h", "127.0.0.1", "-p", str(self.port), *words]
        return subprocess.run(client, capture_output=True, timeout=WITHIN_S, check=False).returncode


@pytest.fixture
def running() -> Iterator[Running]:
    folder = Path("/tmp") / f"rowcast-{os.getpid()}-privileges"  # pytest's own folders are for root only
    try:
        with started(folder) as broker:
            yield broker
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


@contextmanager
def started(folder: Path) -> Iterator[Running]:
    nobody = pwd.getpwnam("nobody")
    for path in (folder, folder / "data", folder / "log"):
        path.mkdir(mode=0o755)
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    passwords = folder / "passwords"
    subprocess.run([sys.executable, "-m", "broker", "passwd", "-b", "-c", passwords, "u", "p"], check=True)
    port, websocket_port = privileged_port(), privileged_port()
    (folder / "conf").write_text(
        f"user nobody\nlistener {port} 127.0.0.1\nlistener {websocket_port} 127.0.0.1\nprotocol websockets\n"
        f"allow_anonymous false\npassword_file {passwords}\nlog_dest file {folder / 'log' / '1'}\nlog_type all\n"
        f"persistence true\npersistence_location {folder / 'data'}\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "-c", str(folder / "conf")], stderr=subprocess.PIPE, text=True
    )
    try:
        broker = Running(folder, port, websocket_port, process)
        broker.wait(" running")
        yield broker
    finally:
        process.kill()
        process.communicate()


async def test_everything_works_without_roots_rights(running: Running) -> None:
    """Goal: nothing that a signal or a client asks for needs root or a file that only root can read.

    Method: root's umask, and a password file given to root, stand for files that the user may not read; an audit hook
    tells of imports that come too late.
    """
    user = ("-u", "u", "-P", "p")
    passwords = running.folder / "passwords"
    nobody = pwd.getpwnam("nobody").pw_uid
    assert os.stat(f"/proc/{running.process.pid}").st_uid == nobody
    assert running.client("mosquitto_sub", *user, "-c", "-i", "away", "-t", "t", "-q", "1", "-E") == 0
    assert running.client("mosquitto_pub", *user, "-t", "t", "-q", "1", "-m", "x") == 0
    async with open_websocket_url(
        f"ws://127.0.0.1:{running.websocket_port}/mqtt", subprotocols=["mqtt"]
    ) as websocket:
        await websocket.send_message(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01w")
        assert await websocket.get_message() == b"\x20\x02\x00\x05"

    running.signal(signal.SIGUSR1, "Saved ")
    assert (running.folder / "data" / "rowcast.db").stat().st_uid == nobody
    running.signal(signal.SIGUSR2, "t (away, 1)")

    os.chown(passwords, 0, 0)
    passwords.chmod(0o600)
    running.signal(signal.SIGHUP, "The configuration read before stays in force.")
    assert running.client("mosquitto_pub", *user, "-t", "t", "-m", "x") == 0
    assert running.client("mosquitto_pub", "-t", "t", "-m", "x") == 5

    os.chown(passwords, nobody, -1)
    (running.folder / "log" / "1").rename(running.folder / "log" / "0")
    running.signal(signal.SIGHUP, "Reloading config.")
    assert running.client("mosquitto_sub", *user, "-c", "-i", "away", "-t", "t", "-q", "1", "-C", "1") == 0
    assert "New client connected" in (running.folder / "log" / "1").read_text()

    running.process.send_signal(signal.SIGTERM)
    _, said = running.process.communicate(timeout=WITHIN_S)
    assert running.process.returncode == 0
    assert said == ""
    assert "Traceback" not in running.log()


def test_a_log_file_that_root_left_behind_becomes_the_users(running: Running) -> None:
    assert (running.folder / "log" / "1").stat().st_uid == pwd.getpwnam("nobody").pw_uid
