"""`rowcast demo` as a reader runs it: a process of its own, on a terminal and without one."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.initdb import quick_initdb

from broker.demo.postgres import PostgresError, find_binaries
from broker.demo.screen import CLOSE, OPEN

try:
    PROGRAMS = find_binaries().directory
except PostgresError as error:
    pytest.skip(str(error), allow_module_level=True)

COMMAND = [sys.executable, "-m", "broker", "demo"]
PATIENCE_S = 150


@contextmanager
def nothing_left_behind(quick: bool = True) -> Iterator[dict[str, str]]:
    """An environment whose folder for temporary files is empty again at the end, and no server is left.

    Args:
        quick: the server's data are a copy of what an earlier test made.
    """
    # Unix sockets have short paths, and the server's own account must be able to enter.
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        first = f"{quick_initdb(PROGRAMS)}:" if quick else ""
        yield {**os.environ, "TMPDIR": folder, "PATH": first + os.environ["PATH"]}
        assert os.listdir(folder) == []
        assert folder not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout


def run(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )


def test_demo_of_some_events_delivers_every_message_once_and_says_so() -> None:
    with nothing_left_behind(quick=False) as environment:
        done = run("--events", "300", "--rate", "600", environment=environment)
    assert done.stderr == ""
    assert done.returncode == 0
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["ok"]
    assert summary["kind"] == "wal"
    assert summary["events"] >= 300
    assert summary["websocket"]["expected"] == summary["websocket"]["received"] == summary["events"]
    assert summary["mqtt"]["expected"] == summary["mqtt"]["received"] > 100
    for transport in ("mqtt", "websocket"):
        balance = summary[transport]
        assert (balance["lost"], balance["duplicated"], balance["unexpected"]) == (0, 0, 0)
        assert 0 <= balance["p50_ms"] <= balance["p99_ms"]
    for invitation in ("mosquitto_sub -p ", "ws://127.0.0.1:", "psql -h "):
        assert invitation in done.stdout


def test_demo_shows_the_other_kinds_of_feed() -> None:
    with nothing_left_behind() as environment:
        done = run("--kind", "listen", "--events", "200", "--rate", "600", environment=environment)
    assert_shown("listen", done)


def test_documented_ports_that_others_have_do_not_stop_the_demo() -> None:
    """Of the third kind, with which it is all the same."""
    taken = []
    for port in (21883, 21884, 3001):
        with suppress(OSError):  # then somebody has it indeed, perhaps not for long
            taken.append(socket.create_server(("127.0.0.1", port)))
    with nothing_left_behind() as environment:
        done = run("--kind", "outbox", "--events", "200", "--rate", "600", environment=environment)
    ours = {str(listener.getsockname()[1]) for listener in taken}
    for listener in taken:
        listener.close()
    assert_shown("outbox", done)
    ports = re.findall(r"mosquitto_sub -p (\d+)|ws://127.0.0.1:(\d+)", done.stdout)
    assert not ours & {port for pair in ports for port in pair}


def assert_shown(kind: str, done: subprocess.CompletedProcess[str]) -> None:
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, done.stderr, summary["kind"], summary["ok"]) == (0, "", kind, True)


def test_signal_ends_the_demo_and_what_was_on_its_way_arrives() -> None:
    command = [*COMMAND, "--json", "--seed", "5"]
    with (
        nothing_left_behind() as environment,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as demo,
    ):
        assert demo.stdout is not None
        while json.loads(demo.stdout.readline())["events"] == 0:
            pass
        demo.send_signal(signal.SIGTERM)
        rest, _ = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 0
    summary = json.loads(rest.splitlines()[-1])
    assert summary["ok"]
    assert summary["events"] > 0
    assert summary["seed"] == 5


def test_page_on_a_terminal_is_drawn_and_taken_away_again() -> None:
    ours, theirs = pty.openpty()
    with nothing_left_behind() as environment:
        environment |= {"COLUMNS": "80", "LINES": "24"}
        with subprocess.Popen(COMMAND, env=environment, stdout=theirs, start_new_session=True) as demo:
            os.close(theirs)
            drawn = read_until(ours, r"MQTT +[1-9]")
            demo.send_signal(signal.SIGINT)
            drawn += read_until(ours, r"WebSocket: .*\n")
    os.close(ours)
    assert demo.returncode == 0
    assert drawn.index(OPEN) < drawn.index("Just arrived") < drawn.index(CLOSE)
    assert "stopped and removed" in drawn[drawn.index(CLOSE) :]


@pytest.mark.parametrize("arguments", [("--events", "0"), ("--events", "few"), ("--rate", "-1")])
def test_impossible_numbers_are_refused(arguments: tuple[str, str]) -> None:
    done = run(*arguments, environment=dict(os.environ))
    assert done.returncode == 3
    assert repr(arguments[1]) in done.stderr


def read_until(terminal: int, pattern: str) -> str:
    text, deadline = "", time.monotonic() + PATIENCE_S
    while not re.search(pattern, text):
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"{pattern!r} did not come in {text!r}"
        try:
            text += os.read(terminal, 65536).decode()
        except OSError:  # nobody has the other end open any more
            pytest.fail(f"{pattern!r} did not come in {text!r}")
    return text
