"""Readers of the `rowcast` dialect by the thousand: what those who come back cost the others, and what positions cost.

    python -m benchmarks.readers               both, a minute
    python -m benchmarks.readers recovery      1 000 clients come back at once for 10 000 messages each
    python -m benchmarks.readers fan-out       CPU of a message to 1 000 readers, with positions and without

recovery: a bystander, a process of its own, publishes 100 messages a second by MQTT and reads them as a `rowcast`
client.  Told are its latency before the others come and while they catch up, and the CPU time that the server used
between the sending and the arrival of each message: what it did first for somebody else.  Where others use the machine,
only that tells.  What the first of those who come back gets is parsed: every message, in order; each other must get as
many bytes.

fan-out: `rowcast` readers with a history, and readers of the Econia dialect, which has no positions, of one server;
bursts from one Postgres go to the ones and to the others in turn.

`--tree FOLDER` runs the server from another checkout, with its hot modules compiled or not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import selectors
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Final

import psycopg

from benchmarks import packets
from benchmarks.clients import Address, Client, connect, open_socket, read_exactly
from benchmarks.machine import allow_open_files, cpu_seconds, describe, pin_generator
from benchmarks.measurement import Target
from benchmarks.peers import postgres
from benchmarks.peers.process import free_address, running
from benchmarks.workloads.websocket import MARKER, Reader, frame, say, shake_hands

CLIENTS: Final = 1000
MISSED: Final = 10_000
PADDING: Final = "x" * 60
BURST: Final = 10
ROUNDS: Final = 30
INTERVAL_S: Final = 0.01
BEFORE_S: Final = 3.0
DELAY_MS_MAX: Final = 50.0
WITHIN_S: Final = 120.0
UPGRADE: Final = (
    b"GET /rowcast HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SECRET: Final = "benchmark-secret-that-is-long-enough"
_TOML: Final = """\
[security]
allow_anonymous = true

[[listener]]
port = {mqtt}
host = "127.0.0.1"

[[listener]]
port = {websocket}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["rowcast", "econia"]

[websocket.econia]
jwt = {{ secret = "{secret}" }}

[websocket.rowcast]
anonymous_subscribe = ["#"]
ping_interval = "600s"

[[history]]
topics = ["many/#", "rows/#"]
"""
_FEED: Final = """
[database]
dsn = "{dsn}"

[[mqtt.route]]
from = "rows"
topics = "rows/all"
"""


@contextmanager
def server(tree: Path, more: str = "") -> Iterator[Target]:
    """Rowcast, from its sources in `tree`, on the broker's core."""
    mqtt, websocket = free_address(), free_address()
    with tempfile.TemporaryDirectory(prefix="rowcast-bench-") as name:
        directory = Path(name)
        settings = _TOML.format(mqtt=mqtt.port, websocket=websocket.port, secret=SECRET)
        (directory / "rowcast.toml").write_text(settings + more)
        command: list[str | Path] = [sys.executable, "-m", "broker", "-c", directory / "rowcast.toml"]
        with running(command, directory, mqtt, {"PYTHONPATH": str(tree)}) as started:
            yield Target("rowcast", started.pid, started.start_ms, mqtt, websocket, {"secret": SECRET})


# --- those who come back -------------------------------------------------------------------------------------


def request(since: str) -> bytes:
    return frame(json.dumps({"id": 1, "subscribe": "many/7", "since": since}).encode())


def fill(target: Target) -> str:
    """Publish what will be missed; the position before it."""
    with_position = open_socket(target.websocket)
    shake_hands(with_position, "/rowcast")
    with_position.sendall(request("now"))
    answer = json.loads(next(texts(with_position)))
    writer = connect(target.mqtt, b"writer")
    for number in range(MISSED):
        writer.sendall(packets.publish(b"many/7", b'{"id":%d,"text":"%b"}' % (number, PADDING.encode())))
    writer.sendall(packets.publish(b"many/7/end", b"1", qos=1, packet_id=1))
    read_exactly(writer, packets.ACK_BYTES)
    with_position.close()
    return str(answer["at"])


def texts(connection: Client) -> Iterator[bytes]:
    """The texts of a server's frames."""
    data = b""

    def want(count: int) -> None:
        nonlocal data
        while len(data) < count:
            more = connection.recv(1 << 18)
            assert more, "the server closed the connection"
            data += more

    while True:
        want(2)
        head, size = 2, data[1]
        if size >= 126:
            head = 4 if size == 126 else 10
            want(head)
            size = int.from_bytes(data[2:head], "big")
        want(head + size)
        text, data = data[head : head + size], data[head + size :]
        yield text


def bytes_of_one(target: Target, since: str) -> int:
    """One client comes back alone: it gets everything, in order; how many bytes of frames that is."""
    connection = open_socket(target.websocket)
    shake_hands(connection, "/rowcast")
    connection.sendall(request(since))
    size, found = 0, []
    for text in texts(connection):
        size += len(text) + (2 if len(text) < 126 else 4 if len(text) < 1 << 16 else 10)
        said = json.loads(text)
        found += [one["data"]["id"] for one in said["missed"]]
        if "more" not in said:
            break
    assert found == list(range(MISSED)), f"{len(found)} messages came"
    connection.close()
    return size


class Crowd:
    """Clients that connect at once, and want what they have missed."""

    def __init__(self, address: Address, since: str, size: int) -> None:
        self._address = address
        self._asking = request(since)
        self._size = size
        self._selector = selectors.DefaultSelector()
        self._left: dict[socket.socket, int] = {}
        """Bytes that each has yet to get; who has them all stays."""
        self._buffer = bytearray(1 << 18)

    def run(self) -> float:
        """Seconds until the last of them has everything."""
        began = time.perf_counter()
        for _ in range(CLIENTS):
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex((self._address.host, self._address.port))
            self._selector.register(connection, selectors.EVENT_WRITE)
        done = 0
        while done < CLIENTS:
            if time.perf_counter() - began > WITHIN_S:
                raise SystemExit(f"{CLIENTS - done} clients did not get all")
            for key, _ in self._selector.select(1.0):
                assert isinstance(key.fileobj, socket.socket)
                done += self._serve(key.fileobj)
        return time.perf_counter() - began

    def leave(self) -> None:
        for connection in self._left:
            connection.close()

    def _serve(self, connection: socket.socket) -> bool:
        """Whether this client has everything now."""
        left = self._left.get(connection)
        if left is None:
            connection.sendall(UPGRADE)
            self._left[connection] = 0
            self._selector.modify(connection, selectors.EVENT_READ)
            return False
        if left == 0:
            answer = connection.recv(4096)
            assert b" 101 " in answer, answer
            assert answer.endswith(b"\r\n\r\n"), answer
            connection.sendall(self._asking)
            self._left[connection] = self._size
            return False
        count = connection.recv_into(self._buffer)
        assert count, "the server closed a connection"
        self._left[connection] = left - count
        assert left >= count, (
            f"more came than was missed: {bytes(self._buffer[max(0, left - 200) : count])!r}"
        )
        if left == count:
            self._selector.unregister(connection)
        return left == count


def bystander(target: Target, results: SimpleQueue[tuple[float, float, float]]) -> None:
    """Publish and read, for ever; moment, latency and the server's CPU time of each message go into the queue."""
    try:
        policy = os.sched_getscheduler(0)
        if policy in (os.SCHED_RR, os.SCHED_FIFO):  # before the crowd, which would be on other machines
            os.sched_setscheduler(0, policy, os.sched_param(os.sched_getparam(0).sched_priority + 1))
        else:
            os.nice(-5)
    except PermissionError:
        pass
    writer = connect(target.mqtt, b"bystander")
    reader = open_socket(target.websocket)
    shake_hands(reader, "/rowcast")
    say(reader, {"id": 1, "subscribe": "live/all"}, b'"subscribed"')
    next_at = time.perf_counter()
    while True:
        next_at = max(next_at + INTERVAL_S, time.perf_counter())
        time.sleep(max(0.0, next_at - time.perf_counter()))
        sent, cpu = time.perf_counter(), cpu_seconds(target.pid)
        writer.sendall(packets.publish(b"live/all", b'{"mark":1}'))
        data = b""
        while b'"mark":1}' not in data:
            data += reader.recv(4096)
        results.put((sent, time.perf_counter() - sent, cpu_seconds(target.pid) - cpu))


def recovery(tree: Path) -> None:
    with server(tree) as target:
        since = fill(target)
        size = bytes_of_one(target, since)
        results: SimpleQueue[tuple[float, float, float]] = multiprocessing.SimpleQueue()
        other = multiprocessing.Process(target=bystander, args=(target, results), daemon=True)
        other.start()
        time.sleep(BEFORE_S)
        cpu = cpu_seconds(target.pid)
        began = time.perf_counter()
        crowd = Crowd(target.websocket, since, size)
        took = crowd.run()
        cpu = cpu_seconds(target.pid) - cpu
        ended = time.perf_counter()
        time.sleep(0.2)
        other.kill()
        crowd.leave()
        found: list[tuple[float, float, float]] = []
        while not results.empty():
            found.append(results.get())
    before = [(latency, cpu_s) for sent, latency, cpu_s in found if sent + latency < began]
    during = [(latency, cpu_s) for sent, latency, cpu_s in found if sent + latency >= began and sent < ended]
    print(
        f"recovery: {CLIENTS} clients, {MISSED} messages and {size / 1e6:.2f} MB each, in {took:.1f} s; "
        f"server {cpu:.1f} s of CPU"
    )
    print(f"  live to others, {len(before)} messages before and {len(during)} meanwhile")
    for name, index in (("wall time", 0), ("server's CPU", 1)):
        alone, with_others = (sorted(1e3 * one[index] for one in some) for some in (before, during))
        added = with_others[-1] - statistics.median(alone)
        verdict = "holds" if added <= DELAY_MS_MAX else "DOES NOT HOLD"
        print(
            f"  {name:12}  before {spread(alone)}; meanwhile {spread(with_others)}; "
            f"longest delay added {added:.1f}, at most {DELAY_MS_MAX:.0f}: {verdict}"
        )


def spread(sorted_ms: list[float]) -> str:
    p99 = sorted_ms[len(sorted_ms) * 99 // 100]
    return f"median {statistics.median(sorted_ms):.2f} ms, p99 {p99:.2f}, longest {sorted_ms[-1]:.2f}"


# --- what positions cost ---------------------------------------------------------------------------------------


def open_rowcast(target: Target) -> Client:
    connection = open_socket(target.websocket)
    shake_hands(connection, "/rowcast")
    say(connection, {"id": 1, "subscribe": "rows/all"}, b'"subscribed"')
    return connection


def open_econia(target: Target) -> Client:
    import jwt

    token = jwt.encode({"mode": "r", "channels": ["fill_event"]}, SECRET, "HS256")
    connection = open_socket(target.websocket)
    shake_hands(connection, "/" + token)
    return connection


def rows_of(name: str, first: int) -> list[str]:
    """A burst; no two texts are ever equal, or Postgres merges them."""
    rows = [
        f'{{"mark":"{MARKER.decode()}","sequence":{first + index},"padding":"{PADDING * 2}"}}'
        for index in range(BURST)
    ]
    return rows if name == "rowcast" else [f'{{"channel":"fill_event","payload":{row}}}' for row in rows]


def fan_out(tree: Path) -> None:
    dsn = postgres.dsn()
    costs: dict[str, list[float]] = {"rowcast": [], "econia": []}
    with (
        server(tree, _FEED.format(dsn=dsn) + postgres.FEED) as target,
        psycopg.connect(dsn, autocommit=True) as database,
    ):
        groups = {
            "rowcast": ("bench", [Reader(open_rowcast(target)) for _ in range(CLIENTS)]),
            "econia": ("econiaws", [Reader(open_econia(target)) for _ in range(CLIENTS)]),
        }
        for turn in range(ROUNDS + 2):
            for name, (channel, readers) in groups.items():
                cpu = cpu_seconds(target.pid)
                rows = rows_of(name, turn * BURST)
                database.execute(f"SELECT pg_notify('{channel}', t) FROM unnest(%s::text[]) t", (rows,))
                for reader in readers:
                    reader.expect(BURST)
                if turn >= 2:
                    costs[name].append((cpu_seconds(target.pid) - cpu) / BURST / CLIENTS * 1e6)
    print("fan-out: CPU of the server, us a message and reader")
    print(f"  median of {ROUNDS} bursts of {BURST} to {CLIENTS} readers:")
    for name, what in (("rowcast", "with positions and history"), ("econia", "without")):
        some = costs[name]
        print(f"  {name:8} {statistics.median(some):6.3f}   {what}, from {min(some):.3f} to {max(some):.3f}")
    ratios = [one / other for one, other in zip(costs["rowcast"], costs["econia"], strict=True)]
    print(f"  ratio    {statistics.median(ratios):6.3f}   median of the rounds' ratios")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", choices=["recovery", "fan-out", "all"], default="all", help="what to run"
    )
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1], help="whose server to run")
    args = parser.parse_args()
    allow_open_files(2 * CLIENTS + 200)
    pin_generator()
    print(describe())
    for name, measure in (("recovery", recovery), ("fan-out", fan_out)):
        if args.names == "all" or "all" in args.names or name in args.names:
            measure(args.tree)


if __name__ == "__main__":
    main()
