"""Several processes under one parent: one port, one cluster, and what dies comes again."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from support.nats import Server
from support.nodes import cluster_name, nats_server
from support.ports import free_port
from torture.wire import GONE, Connection, connect

from broker.cli.exits import EXIT_CONFIG, EXIT_FAILED, EXIT_OK
from broker.config.cluster import ClusterConfig
from broker.config.model import Config, Logging
from broker.process import parent as line
from broker.process.early import Early
from broker.process.service import ServiceManager
from broker.process.workers import Workers
from protocol.mqtt.packets import Puback, Publish, Suback, Subscribe

__all__ = ["cluster_name", "nats_server"]

CONFIGURATION = """
[[listener]]
port = {port}
host = "127.0.0.1"
[security]
allow_anonymous = true
[cluster]
nats = ["{nats}"]
name = "{name}"
node = "m"
replicas = 1
workers = {workers}
keep_bytes = "8MB"
"""


def children(pid: int) -> list[int]:
    """Of a process, by /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def wait_for(is_so: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


async def connected(port: int, client_id: bytes) -> Connection:
    with trio.fail_after(60):
        while True:
            try:
                return await connect(port, client_id)
            except GONE:
                await trio.sleep(0.2)


def test_what_dies_is_started_again_and_all_end_together(
    nats_server: Server, cluster_name: str, tmp_path: Path
) -> None:
    port = free_port()
    path = tmp_path / "rowcast.toml"
    path.write_text(CONFIGURATION.format(port=port, nats=nats_server.url, name=cluster_name, workers=4))
    with (tmp_path / "log").open("wb") as log:
        parent = subprocess.Popen([sys.executable, "-m", "broker", "-c", str(path)], stdout=log, stderr=log)
    try:
        wait_for(lambda: len(children(parent.pid)) == 4)
        trio.run(everybody_hears, port, 8)
        victim, *others = children(parent.pid)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len({*children(parent.pid), victim, *others}) == 5)
        trio.run(everybody_hears, port, 8)
        text = (tmp_path / "log").read_text()
        assert "ended with signal 9" in text
    finally:
        parent.terminate()
        left = children(parent.pid)
        assert parent.wait(30) == 0, (tmp_path / "log").read_text()[-3000:]
    assert not [pid for pid in left if Path(f"/proc/{pid}").exists()]


class Parent:
    """Of two processes that run; a context manager that leaves none of them."""

    def __init__(self, nats_server: Server, name: str, folder: Path) -> None:
        self.path = folder / "rowcast.toml"
        self.configuration = CONFIGURATION.format(
            port=free_port(), nats=nats_server.url, name=name, workers=2
        )
        self.path.write_text(self.configuration)
        self.said: list[str] = []

    def __enter__(self) -> Parent:
        words = [sys.executable, "-m", "broker", "-c", str(self.path)]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        self.read_until(" running", 2)
        self.children = children(self.process.pid)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate(timeout=60)

    def read_until(self, text: str, times: int = 1) -> None:
        """Of what all of them say, to a line that has this, so many times."""
        assert self.process.stderr is not None
        while times:
            line = self.process.stderr.readline()
            assert line, "".join(self.said)
            self.said.append(line)
            times -= text in line

    def kill_one(self) -> int:
        """The one that is left."""
        victim, other = self.children
        os.kill(victim, signal.SIGKILL)
        return other


def test_all_end_when_their_parent_is_killed(nats_server: Server, cluster_name: str, tmp_path: Path) -> None:
    """Else they keep the ports, and the names of the nodes that a new parent starts."""
    with Parent(nats_server, cluster_name, tmp_path) as parent:
        waiting = [os.pidfd_open(pid) for pid in parent.children]
        parent.process.kill()
        for pidfd in waiting:
            ended, _, _ = select.select([pidfd], [], [], 60)
            assert ended
            os.close(pidfd)


def test_a_mistake_in_a_changed_configuration_ends_nobody_who_runs(
    nats_server: Server, cluster_name: str, tmp_path: Path
) -> None:
    with Parent(nats_server, cluster_name, tmp_path) as parent:
        parent.path.write_text(parent.configuration + "nonsense = 1\n")
        other = parent.kill_one()
        parent.read_until("has a mistake (mend it; the others run on)")
        parent.path.write_text(parent.configuration)
        parent.read_until(" running")
        assert other in children(parent.process.pid)


@pytest.mark.parametrize("status", [EXIT_CONFIG, EXIT_FAILED])
def test_what_one_of_them_can_t_start_with_ends_all(status: int) -> None:
    """As one process ends that finds a mistake, or a port that another program has."""
    workers = Workers(Config((), cluster=ClusterConfig(("nats://n",), workers=3)), [])
    first, second, third = workers._workers
    first.starts = second.starts = 1
    second.has_run, second.is_awaited = True, False  # what ends it now is none of its start's
    workers._ended(second, status, 1.0)
    third.starts = 2  # it was killed before it obeyed, and the mistake was made since
    workers._ended(third, status, 0.0)
    assert (workers._stops, workers._status) == (False, EXIT_OK)
    workers._ended(first, status, 0.0)
    assert (workers._stops, workers._status) == (True, status)


class Manager(ServiceManager):
    def __init__(self) -> None:
        super().__init__({})
        self.said: list[str] = []

    def tell(self, *lines: str) -> None:
        self.said += lines


def test_who_started_all_is_told_once_each_of_them_listens_or_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where there is one process; one that is killed by something else at its start holds up nobody."""
    workers = Workers(Config((), cluster=ClusterConfig(("nats://n",), workers=2)), [])
    manager = workers._manager = Manager()
    others: list[socket.socket] = []

    class Running:
        def __init__(self, *_: object, pass_fds: tuple[int], **__: object) -> None:
            others.append(socket.socket(fileno=os.dup(pass_fds[0])))

        def poll(self) -> int | None:
            return -signal.SIGKILL if self is killed else None

    killed: object = None
    monkeypatch.setattr(subprocess, "Popen", Running)
    workers._look()
    first, second = others
    first.send(b"1")
    told = line.Parent(first.detach())
    told.listens()
    workers._look()
    second.send(b"1")
    workers._look()
    assert not manager.said
    killed = workers._workers[1].process
    workers._look()
    assert manager.said[0] == "READY=1"
    workers._look()
    assert manager.said.count("READY=1") == 1
    second.close()
    told._line.close()


def test_a_port_that_another_program_has_ends_all(
    nats_server: Server, cluster_name: str, tmp_path: Path
) -> None:
    with (
        Parent(nats_server, cluster_name, tmp_path) as parent,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        path = tmp_path / "other.toml"
        port = taken.getsockname()[1]
        path.write_text(f"{parent.configuration}[admin]\nport = {port}\n")
        command = [sys.executable, "-m", "broker", "-c", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == EXIT_FAILED
        assert "can't start; all end" in done.stdout + done.stderr


def test_where_there_is_no_room_for_a_process_the_others_run_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workers = Workers(Config((), cluster=ClusterConfig(("nats://n",), workers=1)), [])
    (worker,) = workers._workers
    lines = []

    def no_room(*_: object, pass_fds: tuple[int], **__: object) -> None:
        lines.append(worker.line)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", no_room)
    workers._look()
    (line,) = lines
    assert line is not None
    assert (line._mine.fileno(), line.other.fileno()) == (-1, -1), "nothing is left open"
    assert not workers._stops
    assert "Process 1 can't be started: Resource temporarily unavailable" in caplog.text
    workers._look()
    assert len(lines) == 1, "not at once again"
    worker.start_at = 0.0
    workers._look()
    assert len(lines) == 2


def test_a_reload_opens_the_parent_s_log_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for before it obeys, or later: logrotate has moved the file away."""
    path, moved = tmp_path / "log", tmp_path / "log.1"
    logging = Logging(log_dest=(f"file {path}",))
    early = Early()
    config = Config((), logging=logging, cluster=ClusterConfig(("nats://n",), workers=1))
    workers = Workers(config, [], None, early)
    asked = []

    def move(*_: object, **__: object) -> None:
        """In the place of a start, which comes before the parent looks whether it was asked for anything."""
        path.rename(moved)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def look() -> None:
        asked.append(workers._reloads)
        Workers._look(workers)
        workers._stops = True

    monkeypatch.setattr(subprocess, "Popen", move)
    monkeypatch.setattr(workers, "_look", look)
    early.wants_reload = True
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        workers.serve()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert asked == [True]
    assert path.exists()
    assert "can't be started" in moved.read_text()


def test_sighup_waits_for_a_process_that_has_only_just_begun(
    nats_server: Server, cluster_name: str, tmp_path: Path
) -> None:
    """Before it obeys the signal, that would end it."""
    with Parent(nats_server, cluster_name, tmp_path) as parent:
        other = parent.kill_one()
        wait_for(lambda: bool({*children(parent.process.pid)} - {*parent.children}))
        (young,) = {*children(parent.process.pid)} - {other}
        parent.process.send_signal(signal.SIGHUP)
        parent.read_until("Reloading config.", 2)
        assert {*children(parent.process.pid)} == {young, other}


async def everybody_hears(port: int, count: int) -> None:
    """Clients are spread over the processes, and each hears what any of them publishes."""
    clients = [await connected(port, b"c%d" % number) for number in range(count)]
    for client in clients:
        await client.send(Subscribe(1, ((b"t", 1),)))
        assert isinstance(await client.receive(), Suback)
    for number, publisher in enumerate(clients):
        await publisher.send(Publish(b"t", b"%d" % number, 1, False, False, 7))
    with trio.fail_after(60):
        for client in clients:
            got: list[bytes] = []
            while len(got) < count:
                packet = await client.receive()
                if isinstance(packet, Publish):
                    got.append(packet.payload)
                    await client.send(Puback(packet.packet_id))
            assert sorted(got) == sorted(b"%d" % number for number in range(count))
            await client.close()
