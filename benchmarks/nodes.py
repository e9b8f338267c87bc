"""What a cluster costs: latency, CPU per delivery on each node, and deliveries per second, beside one process alone.

    PYTHONPATH=.:tests python benchmarks/nodes.py --nodes 1 2 3 --subscribers 500 --rounds 3 --seconds 3

Three NATS servers (as delivered: default fsync), replicas 3, and for each number of nodes a cluster of its own, all
on loopback.  They are measured in turn, round after round.  A publisher of QoS 1 is on the first node, each node has
`--subscribers` of QoS 0 on its topic; `--workers` processes share a port, the subscribers of one node, and a line.
Latency is from PUBLISH to the one subscriber of another topic, on the last node, one message at a time; with `--loaded`
also while others come.  CPU is each node's own; NATS servers' is shown for all three together.

Node i is connected to server i modulo 3.  `bare` is NATS alone, in the same stream and between the same two servers:
from a publication to its delivery by an ordered consumer, by sockets without any Rowcast, in turn with the others.
"""

from __future__ import annotations

import argparse
import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from attrs import define, field
from support.nats import NatsCluster
from support.nats_client import Client as NatsClient
from support.ports import free_port

from benchmarks.clients import Address, Client, Lost, connect, read_exactly, subscribe
from benchmarks.machine import allow_open_files, cpu_seconds
from protocol.nats import jetstream, wire

TOPIC = b"t/x"
ALONE = b"t/y"
"""Of the same length, with one subscriber."""

PAYLOAD = bytes(64)
WINDOW = 20
LATENCIES = 200
LOADED_TIMES = 5
START_S = 60.0
CONFIGURATION = """
[[listener]]
port = {port}
host = "127.0.0.1"
[listener.security]
allow_anonymous = true
"""
CLUSTER = """
[cluster]
nats = {nats}
name = "{name}"
node = "n{index}"
keep_bytes = "64MB"
"""


def publish(topic: bytes, payload: bytes, packet_id: int) -> bytes:
    """A PUBLISH of QoS 1."""
    body = len(topic).to_bytes(2, "big") + topic + packet_id.to_bytes(2, "big") + payload
    return bytes([0x32, len(body)]) + body


DELIVERED = 2 + 2 + len(TOPIC) + len(PAYLOAD)
"""Bytes of a delivery of QoS 0."""


class Bare:
    """Two sockets to NATS: one publishes to a cluster's log, the other reads it."""

    def __init__(self, stream: str, servers: tuple[int, int]) -> None:
        self.publisher, self.reader = (NatsClient(port) for port in servers)
        self.subject = stream.replace("_MSGS", ".MSGS").encode() + b".c.m.bare"
        inbox = self.reader.subscriptions.new_inbox()
        self.reader.sock.sendall(wire.subscribe(inbox, 7))
        config = jetstream.ordered_config(inbox, 1, 3600.0, (self.subject,))
        self.reader.ask(jetstream.consumer_create(stream, "bare", config))
        self.latencies: list[float] = []

    def measure(self) -> None:
        """One message at a time, until the reader has it; its acknowledgement is awaited before the next."""
        data = wire.publish(self.subject, PAYLOAD, b"bare.ack", b"NATS/1.0\r\nRowcast: - \r\n\r\n")
        self.publisher.sock.sendall(wire.subscribe(b"bare.ack", 8))
        for _ in range(LATENCIES):
            started = time.perf_counter()
            self.publisher.sock.sendall(data)
            while not self.reader.sock.recv(65536).endswith(PAYLOAD + b"\r\n"):
                pass
            self.latencies.append(time.perf_counter() - started)
            while b"seq" not in self.publisher.sock.recv(65536):
                pass


@define
class Setup:
    """Some nodes; a process without `[cluster]`; or workers, whose CPU is counted together."""

    name: str
    pids: list[int]
    publisher: Client
    probe: Client
    readers: list[Client]
    latencies: list[float] = field(factory=list)
    rates: list[float] = field(factory=list)
    costs: list[list[float]] = field(factory=list)
    """Of each round: microseconds of each node's CPU for one of its deliveries."""
    nats: list[float] = field(factory=list)
    bare: Bare | None = None
    """The same way without nodes."""
    loader: Client | None = None
    """Of the first node, who sends to all readers while latency is measured."""

    def measure_latency(self, found: list[float]) -> None:
        """One message at a time; seconds."""
        for number in range(LATENCIES):
            started = time.perf_counter()
            self.publisher.sendall(publish(ALONE, PAYLOAD, number + 1))
            read_exactly(self.probe, DELIVERED)
            found.append(time.perf_counter() - started)
            read_exactly(self.publisher, 4)

    def measure_loaded(self, rate: float) -> None:
        """The last of all: another process sends and reads meanwhile, and leaves in the middle."""
        latencies: list[float] = []
        pid = os.fork()
        if not pid:
            self._load(rate)
        try:
            time.sleep(0.5)
            for _ in range(LOADED_TIMES):
                self.measure_latency(latencies)
        finally:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            raise RuntimeError("the load has ended too early, so nothing was measured")
        cuts = statistics.quantiles(latencies, n=100)
        print(f"{self.name:>5}  p50 {cuts[49] * 1e3:.2f} ms, p99 {cuts[98] * 1e3:.2f} ms")

    def _load(self, rate: float) -> NoReturn:
        """Send so many messages a second to all readers, until killed.

        Whatever happens, what its parent has opened is not for it to close.
        """
        try:
            self._send_and_read(rate)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def _send_and_read(self, rate: float) -> None:
        """Until one of them is closed."""
        assert self.loader is not None
        started = time.perf_counter()
        messages = 0
        with selectors.DefaultSelector() as selector:
            for one in (*self.readers, self.loader):
                selector.register(one, selectors.EVENT_READ)
            while True:
                while messages < (time.perf_counter() - started) * rate:
                    messages += 1
                    self.loader.sendall(publish(TOPIC, PAYLOAD, messages % 65535 + 1))
                for key, _ in selector.select(1 / rate):
                    ready = key.fileobj
                    assert isinstance(ready, socket.socket)
                    if not ready.recv(65536):
                        return

    def measure_rate(self, seconds: float, nats_pids: list[int], rate: float = 0.0) -> None:
        """`WINDOW` messages under way, or fewer where only `rate` are sent in a second, one after the other."""
        before = [cpu_seconds(pid) for pid in self.pids]
        nats_before = sum(map(cpu_seconds, nats_pids))
        started = time.perf_counter()
        messages = 0
        with selectors.DefaultSelector() as selector:
            for one in (*self.readers, self.publisher):
                selector.register(one, selectors.EVENT_READ)
            got = dict.fromkeys(self.readers, 0)
            acknowledged = 0
            is_over = False
            while not is_over or acknowledged < 4 * messages or min(got.values()) < messages * DELIVERED:
                passed = time.perf_counter() - started
                is_over = passed >= seconds
                due = passed * rate if rate else float("inf")
                while not is_over and messages - acknowledged // 4 < WINDOW and messages < due:
                    messages += 1
                    self.publisher.sendall(publish(TOPIC, PAYLOAD, messages % 65535 + 1))
                for key, _ in selector.select(max(0.0, messages / rate - passed) if rate else 1.0):
                    ready = key.fileobj
                    assert isinstance(ready, socket.socket)
                    received = len(ready.recv(65536))
                    if ready is self.publisher:
                        acknowledged += received
                    else:
                        got[ready] += received
        took = time.perf_counter() - started
        each = len(self.readers) / len(self.pids)
        after = [cpu_seconds(pid) for pid in self.pids]
        self.rates.append(messages * len(self.readers) / took)
        if self.name.startswith("w"):
            before, after, each = [sum(before)], [sum(after)], len(self.readers)
        self.costs.append([(b - a) / messages / each * 1e6 for a, b in zip(before, after, strict=True)])
        self.nats.append((sum(map(cpu_seconds, nats_pids)) - nats_before) / messages * 1e6)


@contextmanager
def running(folder: Path, nats: tuple[str, ...], count: int, subscribers: int) -> Iterator[Setup]:
    with ExitStack() as stack:
        addresses, pids = [], []
        for index in range(max(1, count)):
            port = free_port()
            path = folder / f"{count}-{index}.toml"
            text = CONFIGURATION.format(port=port)
            if count:
                text += CLUSTER.format(
                    nats=[nats[index % len(nats)]], name=f"bench{count}", index=index
                ).replace("'", '"')
            path.write_text(text)
            log = stack.enter_context((folder / f"{count}-{index}.log").open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", "broker", "-c", str(path)], stdout=log, stderr=log
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            addresses.append(Address("127.0.0.1", port))
            pids.append(process.pid)
        publisher = _patiently(addresses[0], b"publisher")
        readers: list[Client] = []
        for address in addresses:
            _patiently(address, b"first%d" % address.port).close()
            for number in range(subscribers):
                one = connect(address, b"s%d.%d" % (address.port, number))
                subscribe(one, TOPIC)
                readers.append(one)
        probe = connect(addresses[-1], b"probe")
        subscribe(probe, ALONE)
        loader = connect(addresses[0], b"loader")
        setup = Setup(str(count) if count else "alone", pids, publisher, probe, readers, loader=loader)
        if count:
            ports = [int(url.rpartition(":")[2]) for url in nats]
            setup.bare = Bare(f"bench{count}_MSGS", (ports[0], ports[(count - 1) % len(ports)]))
        yield setup


@contextmanager
def sharing(folder: Path, nats: tuple[str, ...], workers: int, subscribers: int) -> Iterator[Setup]:
    with ExitStack() as stack:
        address = Address("127.0.0.1", free_port())
        path = folder / "workers.toml"
        text = (CONFIGURATION + CLUSTER).format(port=address.port, nats=list(nats), name="benchw", index=0)
        path.write_text(text.replace("'", '"') + f"workers = {workers}\n")
        log = stack.enter_context((folder / "workers.log").open("wb"))
        parent = subprocess.Popen([sys.executable, "-m", "broker", "-c", str(path)], stdout=log, stderr=log)
        stack.callback(parent.wait)
        stack.callback(parent.terminate)
        publisher = _patiently(address, b"publisher")
        time.sleep(5.0)  # the others are there, too
        readers = [_patiently(address, b"s%d" % number) for number in range(subscribers)]
        for one in readers:
            subscribe(one, TOPIC)
        probe = connect(address, b"probe")
        subscribe(probe, ALONE)
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        pids, loader = [int(one) for one in children], connect(address, b"loader")
        yield Setup(f"w{workers}", pids, publisher, probe, readers, loader=loader)


def _patiently(address: Address, client_id: bytes) -> Client:
    deadline = time.monotonic() + START_S
    while True:
        try:
            return connect(address, client_id)
        except (OSError, Lost):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def show(setups: list[Setup]) -> None:
    print(
        "nodes  p50 ms  +ms    bare   deliveries/s  of alone  CPU us/delivery of each node  of alone   NATS us/message"
    )
    alone = setups[0]
    base_ms = statistics.median(alone.latencies) * 1e3
    for one in setups:
        p50_ms = statistics.median(one.latencies) * 1e3
        rate = statistics.median(one.rates)
        costs = [statistics.median(each) for each in zip(*one.costs, strict=True)]
        ratios = [
            statistics.median(
                [mine[index] / theirs[0] for mine, theirs in zip(one.costs, alone.costs, strict=True)]
            )
            for index in range(len(costs))
        ]
        bare = f"{statistics.median(one.bare.latencies) * 1e3:4.2f}" if one.bare is not None else "    "
        print(
            f"{one.name:>5}  {p50_ms:6.2f}  {p50_ms - base_ms:4.2f}  {bare}  {rate:12.0f}"
            f"  {rate / statistics.median(alone.rates):8.2f}"
            f"  {' '.join(f'{cost:.2f}' for cost in costs):>28}  {' '.join(f'{ratio:.2f}' for ratio in ratios)}"
            f"  {statistics.median(one.nats):8.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--subscribers", type=int, default=200, help="of each node")
    parser.add_argument("--workers", type=int, default=0, help="measure `workers` as well")
    parser.add_argument("--rate", type=float, default=0.0, help="messages a second; else as many as go")
    parser.add_argument("--loaded", type=float, default=0.0, help="measure latency under so many, too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    args = parser.parse_args()
    allow_open_files(4096)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        nats = stack.enter_context(NatsCluster(3))
        pids = [one.process.pid for one in nats.servers if one.process is not None]
        setups = [
            stack.enter_context(running(folder, nats.urls, count, args.subscribers))
            for count in (0, *args.nodes)
        ]
        if args.workers:
            setups.append(stack.enter_context(sharing(folder, nats.urls, args.workers, args.subscribers)))
        for _ in range(args.rounds):
            for one in setups:
                one.measure_latency(one.latencies)
                if one.bare is not None:
                    one.bare.measure()
                one.measure_rate(args.seconds, pids if one is not setups[0] else [], args.rate)
        show(setups)
        if args.loaded:
            print(
                f"one message at a time, while {args.loaded:g} a second go to {args.subscribers} of each node:"
            )
            for one in setups:
                one.measure_loaded(args.loaded)


if __name__ == "__main__":
    main()
