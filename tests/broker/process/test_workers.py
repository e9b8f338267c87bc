"""Several processes under one parent: one port, one cluster, and what dies comes again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import trio
from support.nats import Server
from support.nodes import cluster_name, nats_server
from support.ports import free_port
from torture.wire import GONE, Connection, connect

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
workers = 4
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
    path.write_text(CONFIGURATION.format(port=port, nats=nats_server.url, name=cluster_name))
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
