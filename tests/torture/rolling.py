"""Restart two nodes behind one port, one after the other, while rows are written: none may be lost.

    PYTHONPATH=.:tests python tests/torture/rolling.py --clients 20000 --drain 120

The nodes share a log in NATS, and a port by SO_REUSEPORT.  WebSocket clients are asked to go while a node drains, come
back when they were told to, to whoever takes them, and say the last position that they have seen.  Each must get every
row of its topic, once and in order.  It also tells how much of a processor the node needs that takes them all.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psycopg
from attrs import define
from support.nats import NatsCluster
from support.polling import until_blocking
from support.ports import free_port
from support.postgres import Cluster
from torture.followers import Crowd, Tally

from broker.config.toml import configuration as toml
from broker.feed.setup.install import install_steps

DESCRIPTORS_APART = 60
"""Of a process, for what is no client."""

READY_S = 240.0
SETTLE_S = 120.0
CONFIGURATION = """
[broker]
drain = "{drain}s"
[[listener]]
port = {port}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["rowcast"]
reuse_port = true
[websocket.rowcast]
anonymous_subscribe = ["row/#"]
[[history]]
topics = ["row/#"]
[cluster]
nats = ["{nats}"]
name = "rolling"
node = "n{index}"
replicas = 1
keep_bytes = "64MB"
[metrics]
port = {metrics}
[database]
dsn = "{dsn}"
kind = "wal"
[database.replication]
allow_unbounded_wal = true
[source.rows]
tables = ["public.item"]
[[mqtt.route]]
from = "rows"
topics = "row/{{topic}}"
"""


def is_ready(port: int) -> bool:
    with suppress(httpx.HTTPError), httpx.Client(trust_env=False) as http:
        return http.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    return False


class Node:
    """One process, and what it takes of a processor.  Made when it is ready."""

    def __init__(self, python: Path, config: Path) -> None:
        self.config = config
        metrics = toml.load(config, {}).metrics
        assert metrics is not None
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [python, "-m", "broker", "-c", config], stderr=subprocess.PIPE, text=True, cwd=config.parent
        )
        self._running = threading.Event()
        threading.Thread(target=self._collect, daemon=True).start()
        assert self._running.wait(READY_S), self.lines
        assert self._process.poll() is None, self.lines
        until_blocking(lambda: is_ready(metrics.port), READY_S)

    def _collect(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line.rstrip())
            if re.search(r"version \S+ running", line):
                self._running.set()
        self._running.set()

    def drain(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def status(self) -> int | None:
        return self._process.poll()

    def processor_s(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def tell(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


class Writing(threading.Thread):
    """Commits one row after the other, each of the next topic."""

    def __init__(self, dsn: str, topics: int, rows_per_s: float) -> None:
        super().__init__(daemon=True)
        self.written = 0
        self.is_over = False
        self.topics = topics
        self._dsn, self._pause_s = dsn, 1 / rows_per_s

    def run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self.is_over:
                turn, topic = divmod(self.written, self.topics)
                connection.execute("INSERT INTO item VALUES (%s, %s)", [topic, turn + 1])
                self.written += 1
                time.sleep(self._pause_s)

    def of(self, topic: int) -> int:
        """How many rows a topic has."""
        return (self.written - topic + self.topics - 1) // self.topics


@define
class Move:
    """What it was to take those that a draining node let go."""

    drain_s: float
    status: int | None
    moved: int
    processor_mean: float
    """Of the node that takes them, a share of one, while the other drained."""
    processor_seconds: list[float]
    """The same in each second, until all were back."""
    processor_ms: float
    """For each that moved, rows included."""

    def __str__(self) -> str:
        return (
            f"{self.moved} left a node within {self.drain_s:.0f} s, which ended with {self.status};"
            f" the other's processor: {self.processor_mean:.0%}, {max(self.processor_seconds):.0%} in its worst"
            f" second, {self.processor_ms:.2f} ms for each; in each second, in per cent:"
            f" {' '.join(f'{share * 100:.0f}' for share in self.processor_seconds)}"
        )


def drain(crowd: Crowd, old: Node, new: Node) -> Move:
    began, before, moved = time.monotonic(), new.processor_s(), crowd.tally.moved
    marks = [(began, before)]

    def mark() -> None:
        if time.monotonic() - marks[-1][0] >= 1:
            marks.append((time.monotonic(), new.processor_s()))

    def has_ended() -> bool:
        mark()
        return old.has_ended()

    def are_back() -> bool:
        mark()
        return crowd.all_follow()

    tell("a node drains")
    old.drain()
    crowd.until(has_ended)
    tell("it has ended")
    took_s = time.monotonic() - began
    mean = (new.processor_s() - before) / took_s
    crowd.until(are_back)
    spent_s = new.processor_s() - before
    count = crowd.tally.moved - moved
    shares = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(marks)]
    move = Move(took_s, old.status(), count, mean, shares or [mean], spent_s * 1000 / max(1, count))
    tell(str(move))
    return move


@define
class Outcome:
    clients: int
    rows: int
    tally: Tally
    moves: list[Move]
    faults: list[str]

    def __str__(self) -> str:
        away = sorted(self.tally.away_s)
        lines = [
            f"{self.clients} clients, {self.rows} rows while both nodes were replaced; {self.tally.missed} came while"
            f" their reader was away, and were given to it",
            f"away: {away[len(away) // 2]:.1f} s in the middle, {away[-1]:.1f} s at most; {self.tally.refused} refused,"
            f" {self.tally.unrecovered} not recovered",
        ]
        if self.tally.closed:
            lines.append(f"closed for another reason: {dict(self.tally.closed)}")
        return "\n".join([*lines, *map(str, self.moves), *self.faults[:20]])


def judge(crowd: Crowd, written: Writing) -> list[str]:
    """Every client that has not seen exactly what was written, in words."""
    faults = []
    for client in crowd.clients:
        wanted = list(range(1, written.of(int(client.topic.removeprefix("row/"))) + 1))
        if client.seen != wanted:
            faults.append(f"client {client.number}, {client.topic}: {client.seen} is not 1 to {len(wanted)}")
    return faults


def roll(
    cluster: Cluster, clients: int, drain_s: int, rows_per_s: float, python: Path = Path(sys.executable)
) -> Outcome:
    """Replace two nodes one after the other, under rows."""
    dsn = cluster.dsn(cluster.create_database())
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="rowcast-rolling-") as name, NatsCluster(1) as nats:
        configs = []
        for index in range(2):
            configs.append(Path(name) / f"n{index}.toml")
            configs[-1].write_text(
                CONFIGURATION.format(
                    port=port, metrics=free_port(), drain=drain_s, nats=nats.urls[0], index=index, dsn=dsn
                )
            )
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE item (topic int, number int, PRIMARY KEY (topic, number))")
            for step in install_steps(toml.load(configs[0], {}).feeds[0]):
                connection.execute(step.statement)
        nodes: list[Node] = []
        crowd = Crowd(port, clients)
        try:
            nodes = [Node(python, config) for config in configs]
            crowd.until(crowd.all_follow)
            tell(f"{clients} clients follow")
            writing = Writing(dsn, crowd.topics, rows_per_s)
            writing.start()
            crowd.until(lambda: writing.written >= crowd.topics)
            moves = [drain(crowd, nodes[0], nodes[1])]
            nodes.append(Node(python, configs[0]))
            moves.append(drain(crowd, nodes[1], nodes[2]))
            tell(f"both are new, and {writing.written} rows written")
            writing.is_over = True
            writing.join()
            with suppress(AssertionError):  # the judge says it in words
                crowd.until(lambda: not judge(crowd, writing), SETTLE_S)
            return Outcome(clients, writing.written, crowd.tally, moves, judge(crowd, writing))
        except AssertionError:
            print("\n".join(line for node in nodes for line in node.lines[-30:]), file=sys.stderr)
            raise
        finally:
            crowd.close()
            for node in nodes:
                node.kill()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument(
        "--drain", type=int, default=30, help="seconds in which a node lets its clients go (30)"
    )
    parser.add_argument("--rows", type=float, default=50, help="a second (50)")
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="that has Rowcast installed"
    )
    args = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - DESCRIPTORS_APART
    resource.setrlimit(resource.RLIMIT_NOFILE, (most + DESCRIPTORS_APART,) * 2)
    clients = min(args.clients, most)
    if clients < args.clients:
        print(f"{clients} clients: a process may open no more files here")
    cluster = Cluster()
    try:
        outcome = roll(cluster, clients, args.drain, args.rows, args.python)
    finally:
        cluster.close()
    print(f"{outcome}\nload of the machine: {os.getloadavg()[0]:.1f}")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
