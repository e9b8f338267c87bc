"""The demo's Postgres and simulator on a real server; nothing of the gateway takes part."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from itertools import takewhile
from pathlib import Path

import psycopg
import pytest
import trio
from support.initdb import quick_initdb
from support.polling import PATIENCE_S

from broker.demo import postgres as postgres_module
from broker.demo.changes import ALL_CHANNELS, MQTT_TOPICS
from broker.demo.crowd import Crowd
from broker.demo.postgres import Binaries, PostgresError, find_binaries, running_postgres
from broker.demo.simulator import Simulator, create_schema
from broker.feed.driver.connection import TrioConnection

try:
    PROGRAMS = find_binaries().directory
except PostgresError as error:
    pytest.skip(str(error), allow_module_level=True)


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's data are a copy of what an earlier test made."""
    monkeypatch.setenv("PATH", f"{quick_initdb(PROGRAMS)}:{os.environ['PATH']}")


class Expectations:
    def __init__(self) -> None:
        self.mqtt: list[tuple[str, str]] = []
        self.websocket: list[str] = []

    def expect_mqtt(self, topic: str, text: str) -> None:
        self.mqtt.append((topic, text))

    def expect_websocket(self, channel: str, text: str) -> None:
        self.websocket.append(text)

    def committed(self, at: float) -> None:
        pass


@pytest.mark.usefixtures("_quick")
async def test_notifications_are_exactly_what_the_simulator_expects() -> None:
    expected = Expectations()
    async with (
        running_postgres() as postgres,
        await TrioConnection.connect(postgres.dsn, autocommit=True) as connection,
    ):
        await create_schema(connection)
        with psycopg.connect(postgres.dsn, autocommit=True) as listener:
            for channel in ("econiaws", *MQTT_TOPICS, "the_end"):
                listener.execute(f"listen {channel}")
            await Simulator(connection, Crowd(seed=1), expected, rate=1e9).run(events_max=700)
            await connection.execute("NOTIFY the_end")
            with closing(listener.notifies(timeout=PATIENCE_S)) as notes:
                before = takewhile(lambda note: note.channel != "the_end", notes)
                got = [(note.channel, note.payload) for note in before]
    assert [text for channel, text in got if channel == "econiaws"] == expected.websocket
    assert {text.split('"')[3] for text in expected.websocket} == set(ALL_CHANNELS)
    families = Counter(topic.split("/")[0] for topic, _ in expected.mqtt)
    rows = {(channel, text) for channel, text in got if channel != "econiaws"}
    assert set(families) == set(MQTT_TOPICS)
    assert {(topic.split("/")[0], text) for topic, text in expected.mqtt} <= rows
    # Of the rows only the second copies of fills have no message of their own.
    fills = sum(channel == "fill" for channel, _ in rows)
    assert families["fill"] // 2 < fills <= families["fill"]


async def test_server_and_its_directory_are_gone_afterwards() -> None:
    async with running_postgres() as postgres:
        with psycopg.connect(postgres.dsn) as connection:
            (level,) = connection.execute("show wal_level").fetchone() or ()
        pid = server_pid(postgres.directory)
    assert level == "logical"
    assert not postgres.directory.exists()
    assert not is_running(pid)


@pytest.mark.usefixtures("_quick")
async def test_server_is_stopped_when_the_block_is_cancelled() -> None:
    with trio.CancelScope() as scope:
        async with running_postgres() as postgres:
            scope.cancel()
            await trio.sleep_forever()
    assert not postgres.directory.exists()


PROGRAM = """
import sys, trio
from broker.demo.postgres import running_postgres
async def main():
    async with running_postgres() as postgres:
        print(postgres.directory, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


@pytest.mark.usefixtures("_quick")
def test_server_does_not_outlive_a_killed_process() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        directory = Path(program.stdout.readline().strip())
        pid = server_pid(directory)
        program.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while directory.exists() or is_running(pid):
        assert time.monotonic() < deadline, f"{directory} or process {pid} is still there"
        time.sleep(0.02)


@pytest.mark.usefixtures("_quick")
async def test_server_that_cannot_start_is_reported_with_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_module, "SETTINGS", ("no_such_setting=1",))
    with pytest.raises(PostgresError, match="no_such_setting"):
        async with running_postgres():
            pass


@pytest.mark.skipif(os.getuid() != 0, reason="only root lets the server run as somebody else")
def test_bundled_binaries_that_others_cannot_reach_are_copied(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    binaries = closed / "package" / "pginstall18" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "postgres").write_text("server")
    (closed / "package.libs").mkdir()
    (closed / "package.libs" / "libpq.so").write_text("library")
    closed.chmod(0o700)
    copied = postgres_module._reachable(Binaries(binaries, bundled=True), tmp_path).directory
    assert (copied / "postgres").read_text() == "server"
    assert (copied / "../../../package.libs/libpq.so").resolve().read_text() == "library"
    with pytest.raises(PostgresError, match="may not enter"):
        postgres_module._reachable(Binaries(binaries, bundled=False), tmp_path)


def server_pid(directory: Path) -> int:
    return int((directory / "data" / "postmaster.pid").read_text().split("\n")[0])


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
