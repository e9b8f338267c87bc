"""Clients that come, stay idle, or change their minds: connect storm, memory, SUBSCRIBE churn."""

from __future__ import annotations

import itertools
import select
import time
from typing import Final

from benchmarks import packets
from benchmarks.clients import (
    PATIENCE_S,
    Client,
    Lost,
    TlsClient,
    connect,
    open_socket,
    read_connack,
    read_exactly,
    read_into,
    subscribe,
    subscriber,
)
from benchmarks.machine import allow_open_files, cpu_seconds, resident_bytes
from benchmarks.measurement import Clocks, Measurement, Pipeline, Target, measure_pipeline
from benchmarks.workloads.delivery import PAYLOAD

_SETTLE_S: Final = 1.0
_BATCH: Final = 50
_SLICE: Final = 64
"""Connections that are opened, and answers that are read, before the generator looks at the other of the two."""
_CONNACK_BYTES: Final = 4
"""Of 3.1.1; these clients are no others."""
_REFUSED: Final = 0x80


def start_up(target: Target, seconds: float) -> Measurement:
    """How long the process took from its start to the first CONNACK, which has happened already."""
    del seconds
    return Measurement(
        1, target.start_ms / 1e3, cpu_seconds(target.pid), 0.0, extra={"start_ms": target.start_ms}
    )


def connect_in_turn(target: Target, seconds: float, count: int, resume: bool = False) -> Measurement:
    """`count` clients connect and subscribe, each when the one before is ready, and stay.

    Args:
        resume: each with the session of the one before, under TLS.
    """
    del seconds
    clients: list[Client] = []
    samples_us: list[float] = []
    session = None
    for number in range(-20, count):  # some to warm up
        if number == 0:
            samples_us.clear()
            clocks = Clocks(target)
        began = time.perf_counter()
        client = connect(target.mqtt, b"turn-%06d" % number, session)
        subscribe(client, b"idle/turn-%06d" % number)
        samples_us.append((time.perf_counter() - began) * 1e6)
        clients.append(client)
        if isinstance(client, TlsClient) and resume:
            if number > -20 and not client.tls.session_reused:
                raise Lost("the broker did not resume a session")
            session = client.tls.session
    measured = clocks.measure(count, samples_us)
    for client in clients:
        client.close()
    return measured


def connect_storm(target: Target, seconds: float, count: int, batch: int = 50) -> Measurement:
    """`count` clients connect and subscribe, `batch` at once; a message is one client that is ready.

    `seconds` does not matter here: the count decides.
    """
    del seconds
    clients = _Crowd(target, count)
    clocks = Clocks(target)
    clients.gather(batch)
    measured = clocks.measure(count, clients.samples_us)
    clients.leave()
    return measured


def connect_paced(target: Target, seconds: float, count: int, within_s: float) -> Measurement:
    """`count` clients connect and subscribe at an even pace within `within_s`, whether or not earlier ones are ready.

    A message is a client that is ready; latency is from its own connect() to its SUBACK.  `opened_s` is how long the
    last connect() came after the start: more than `within_s` where the generator, or the broker's backlog, was slower.
    """
    del seconds
    _allow(count)
    clocks = Clocks(target)
    with _Arrivals(target, count) as arrivals:
        began = time.perf_counter()
        while not arrivals.complete:
            arrivals.open(int((time.perf_counter() - began) / within_s * count) + 1)
            arrivals.read()
        return clocks.measure(count, arrivals.samples_us, opened_s=arrivals.opened_at - began)


class _Arrivals:
    """Clients that connect and subscribe in one write, and whose answers are read as they come."""

    def __init__(self, target: Target, count: int) -> None:
        self._target = target
        self._count = count
        self._poll = select.epoll()
        self._clients: list[Client] = []
        self._waiting: dict[int, tuple[Client, float, bytearray]] = {}
        self._heard = self.opened_at = time.perf_counter()
        self.samples_us: list[float] = []

    def __enter__(self) -> _Arrivals:
        return self

    def __exit__(self, *_: object) -> None:
        self._poll.close()
        for client in self._clients:
            client.close()

    @property
    def complete(self) -> bool:
        return len(self.samples_us) == self._count

    def open(self, due: int) -> None:
        """Open what is missing to `due`, and no more than a slice, so that answers are read in between."""
        begun = len(self._clients)
        for number in range(begun, min(due, self._count, begun + _SLICE)):
            asked = time.perf_counter()
            client = open_socket(self._target.mqtt)
            name = b"paced-%06d" % number
            client.sendall(packets.connect(name) + packets.subscribe(1, b"idle/" + name))
            self._clients.append(client)
            self._waiting[client.fileno()] = client, asked, bytearray()
            self._poll.register(client.fileno(), select.EPOLLIN)
            self.opened_at = time.perf_counter()

    def read(self) -> None:
        """Take the answers that are there; once all are open, wait for some."""
        owed = _CONNACK_BYTES + packets.suback_bytes()
        for number, _ in self._poll.poll(0.1 if len(self._clients) == self._count else 0, _SLICE):
            client, asked, answer = self._waiting[number]
            received = client.recv(owed - len(answer))
            answer += received
            if not received or (len(answer) == owed and (answer[3] or answer[-1] == _REFUSED)):
                raise Lost(f"the broker refused a client: {bytes(answer)!r}")
            self._heard = time.perf_counter()
            if len(answer) == owed:
                self.samples_us.append((self._heard - asked) * 1e6)
                self._poll.unregister(number)
        if time.perf_counter() - self._heard > PATIENCE_S:
            raise Lost(f"{self._count - len(self.samples_us)} of {self._count} clients are not ready")


def idle_memory(target: Target, seconds: float, count: int) -> Measurement:
    """What the broker's resident memory grows by for each idle client with a subscription of its own."""
    del seconds
    _Crowd(target, 200, b"early").gather()  # what is allocated once is not charged to anybody
    clients = _Crowd(target, count)
    before = resident_bytes(target.pid)
    clocks = Clocks(target)
    clients.gather()
    time.sleep(_SETTLE_S)
    grown = resident_bytes(target.pid) - before
    measured = clocks.measure(count, None, grown / count)
    clients.leave()
    return measured


def _allow(count: int) -> None:
    allowed = allow_open_files(count + 500)
    if allowed < count + 100:
        raise Lost(f"only {allowed} files may be open here, {count + 100} are needed")


class _Crowd:
    """Many clients, each with one subscription."""

    def __init__(self, target: Target, count: int, prefix: bytes = b"idle") -> None:
        _allow(count)
        self._target = target
        self._names = [b"%s-%06d" % (prefix, i) for i in range(count)]
        self._clients: list[Client] = []
        self.samples_us: list[float] = []

    def gather(self, size: int = _BATCH) -> None:
        for start in range(0, len(self._names), size):
            began = time.perf_counter()
            self._gather_batch(self._names[start : start + size])
            self.samples_us.append((time.perf_counter() - began) * 1e6)

    def _gather_batch(self, names: list[bytes]) -> None:
        batch = []
        for name in names:
            client = open_socket(self._target.mqtt)
            client.sendall(packets.connect(name))
            batch.append(client)
        for name, client in zip(names, batch, strict=True):
            read_connack(client, name)
            client.sendall(packets.subscribe(1, b"idle/" + name))
        for client in batch:
            read_exactly(client, packets.suback_bytes())
        self._clients += batch

    def leave(self) -> None:
        for client in self._clients:
            client.close()


def subscribe_churn(target: Target, seconds: float, topics: int, per_second: int) -> Measurement:
    """A steady load over `topics` topics while another client subscribes and unsubscribes.

    Args:
        per_second: SUBSCRIBEs per second, each followed by the UNSUBSCRIBE of the one before; 0 for the load alone.
    """
    names = [b"bench/churn/%05d" % i for i in range(topics)]
    receivers = [subscriber(target.mqtt, b"sub-%d" % i, b"bench/churn/#") for i in range(10)]
    publisher = connect(target.mqtt, b"pub")
    block = b"".join(packets.publish(name, PAYLOAD) for name in names)
    block_parts = itertools.cycle(_parts(names))
    expected = len(block) // len(_parts(names))
    view = memoryview(bytearray(expected))
    churn = _Churn(target, per_second)

    def receive() -> None:
        for receiver in receivers:
            read_into(receiver, view, expected)
        churn.keep_up()

    pipeline = Pipeline(lambda: publisher.sendall(next(block_parts)), receive)
    messages = expected // packets.publish_bytes(names[0], PAYLOAD) * len(receivers)
    return measure_pipeline(target, pipeline, messages, seconds)


def _parts(names: list[bytes], burst: int = 50) -> list[bytes]:
    return [
        b"".join(packets.publish(name, PAYLOAD) for name in names[start : start + burst])
        for start in range(0, len(names), burst)
    ]


class _Churn:
    """A client that keeps changing its subscriptions at a given pace and reads the answers."""

    def __init__(self, target: Target, per_second: int) -> None:
        self._client = connect(target.mqtt, b"churn")
        self._per_second = per_second
        self._began = time.perf_counter()
        self._done = 0
        self._owed = 0

    def keep_up(self) -> None:
        """Send what is due; read what an earlier turn asked for."""
        due = int((time.perf_counter() - self._began) * self._per_second)
        if due == self._done:
            return
        if self._owed:
            read_exactly(self._client, self._owed)
        changes = []
        for number in range(self._done, due):
            changes.append(packets.subscribe(1, b"other/%d/+/x" % number))
            changes.append(packets.unsubscribe(2, b"other/%d/+/x" % (number - 1)))
        self._client.sendall(b"".join(changes))
        self._owed = (due - self._done) * (packets.suback_bytes() + packets.ACK_BYTES)
        self._done = due
