"""Torture [[mqtt.sink]]: `make torture ARGS="--victim sink"`, or

    PYTHONPATH=.:tests python tests/torture/sinks.py --seconds 60 --seed 7

Clients publish numbered messages at QoS 1 and 2; meanwhile the broker is killed, sessions of the database are ended,
and Postgres is crashed.  Clients connect again and send again what was not acknowledged, as MQTT wants it.  At the end
each message has to be in the table once, those of one client in their order.  The seed decides everything but timing.

With `--acknowledge received` a kill may cost what waits for the table, `max_messages` of them, and nothing else may
cost anything.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psycopg
from attrs import define
from support.polling import until_blocking
from support.ports import free_port
from support.postgres import Cluster

TABLE = """
CREATE TABLE telemetry (seq bigint GENERATED ALWAYS AS IDENTITY, id text COLLATE "C" PRIMARY KEY, client text, n int)
"""
CONFIG = """
[database]
dsn = "{dsn}"
[security]
allow_anonymous = true
[[listener]]
port = {port}
host = "127.0.0.1"
[[mqtt.sink]]
topics = "telemetry/{{client}}"
table = "telemetry"
columns = {{ id = "{{$message_id}}", client = "{{client}}", n = "$.n" }}
on_conflict = "nothing"
batch = {{ rows = 50, every = "2ms" }}
acknowledge = "{acknowledge}"
max_messages = {max_messages}
"""
MAX_MESSAGES = {"committed": 100_000, "received": 100}
DEEDS = ("kill the broker", "end its sessions", "crash Postgres")
KILL = DEEDS[0]
IN_FLIGHT = 20
CLIENTS = 4
SETTLE_S = 90.0
PUBACK, PUBREC, PUBCOMP = 0x40, 0x50, 0x70
FAILURE = 0x80
"""Of a reason code of 5.0."""


class Client:
    """Publishes until told to stop, and then until all is acknowledged; blocking, for a thread of its own.

    Args:
        level: 4 speaks MQTT 3.1.1, 5 speaks 5.0.
    """

    def __init__(self, port: int, name: str, chance: random.Random, level: int = 4) -> None:
        self.port = port
        self.level = level
        self.name = name
        self.published = 0
        self.acknowledged = 0
        self.reconnects = 0
        self.refused = 0
        self.is_stopping = False
        self.gives_up_at = float("inf")
        self._chance = chance
        self._waiting: dict[int, tuple[int, int]] = {}
        """By packet id, in order: (number, QoS)."""
        self._received: set[int] = set()
        """Packet ids whose PUBREC has come."""

    def run(self) -> None:
        while not (self.is_stopping and not self._waiting) and time.monotonic() < self.gives_up_at:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=2.0) as sock:
                    self._serve(sock)
            except OSError:
                self.reconnects += 1
                time.sleep(0.05)

    def _serve(self, sock: socket.socket) -> None:
        sock.sendall(connect_packet(self.name.encode(), self.level))
        buffer = b""
        while len(buffer) < 2 or len(buffer) < 2 + buffer[1]:
            buffer += self._read(sock)
        buffer = buffer[2 + buffer[1] :]
        again = []
        for packet_id, (number, qos) in self._waiting.items():
            is_received = packet_id in self._received
            again.append(
                _pubrel(packet_id) if is_received else self._packet(packet_id, number, qos, dup=True)
            )
        sock.sendall(b"".join(again))
        while not (self.is_stopping and not self._waiting):
            if not self.is_stopping and len(self._waiting) < IN_FLIGHT:
                self._publish(sock)
                if self._chance.random() < 0.5:
                    continue
            if self._waiting:
                buffer = self._take(sock, buffer + self._read(sock))

    def _publish(self, sock: socket.socket) -> None:
        number = self.published
        packet_id = number % 65535 + 1
        qos = self._chance.choice((1, 2))
        self._waiting[packet_id] = (number, qos)
        self.published += 1
        sock.sendall(self._packet(packet_id, number, qos))

    def _take(self, sock: socket.socket, buffer: bytes) -> bytes:
        while len(buffer) >= 2 and len(buffer) >= 2 + buffer[1]:
            kind, packet_id = buffer[0], int.from_bytes(buffer[2:4], "big")
            self.refused += buffer[1] > 2 and buffer[4] >= FAILURE
            buffer = buffer[2 + buffer[1] :]
            if kind == PUBREC:
                self._received.add(packet_id)
                sock.sendall(_pubrel(packet_id))
            elif kind in (PUBACK, PUBCOMP):
                if self._waiting.pop(packet_id, None) is not None:
                    self.acknowledged += 1
                self._received.discard(packet_id)
        return buffer

    def _read(self, sock: socket.socket) -> bytes:
        data = sock.recv(4096)
        if not data:
            raise OSError("closed")
        return data

    def _packet(self, packet_id: int, number: int, qos: int, dup: bool = False) -> bytes:
        topic = b"telemetry/" + self.name.encode()
        body = len(topic).to_bytes(2, "big") + topic + packet_id.to_bytes(2, "big")
        body += (b"\x00" if self.level == 5 else b"") + b'{"n": %d}' % number
        return bytes([0x30 | qos << 1 | (8 if dup else 0), len(body)]) + body


def connect_packet(name: bytes, level: int) -> bytes:
    """Of a session that outlives its connections, for ever."""
    expiry = b"\x05\x11\xff\xff\xff\xff" if level == 5 else b""
    body = b"\x00\x04MQTT" + bytes([level]) + b"\x00\x00\x00" + expiry + len(name).to_bytes(2, "big") + name
    return b"\x10" + bytes([len(body)]) + body


def _pubrel(packet_id: int) -> bytes:
    return b"\x62\x02" + packet_id.to_bytes(2, "big")


@define
class Outcome:
    seed: int
    published: int
    lost: int
    """As far as it may be."""
    faults: list[str]
    deeds: Counter[str]
    log: str

    def __str__(self) -> str:
        deeds = ", ".join(f"{name} {count}" for name, count in sorted(self.deeds.items()))
        verdict = "FAILED" if self.faults else f"{self.lost or 'nothing'} lost, nothing twice, all in order"
        return "\n  ".join(
            [f"sink    seed {self.seed}: {self.published} messages; {deeds}: {verdict}", *self.faults]
        )


def torture(
    cluster: Cluster,
    seconds: float,
    seed: int,
    acknowledge: str = "committed",
    choices: tuple[str, ...] = DEEDS,
) -> Outcome:
    """Torture a sink, and judge what is in its table.

    Args:
        acknowledge: as the sink has it.
        choices: deeds, one after the other, of these.
    """
    chance = random.Random(seed)
    dsn = cluster.dsn(cluster.create_database())
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLE)
    folder = Path(tempfile.mkdtemp(prefix="rowcast-torture-"))
    port = free_port()
    (folder / "rowcast.toml").write_text(
        CONFIG.format(dsn=dsn, port=port, acknowledge=acknowledge, max_messages=MAX_MESSAGES[acknowledge])
    )
    deeds: Counter[str] = Counter()
    with (folder / "log").open("w") as log:

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [sys.executable, "-m", "broker", "-c", str(folder / "rowcast.toml")], stderr=log
            )

        process = start()
        clients = [Client(port, f"c{n}", random.Random(f"{seed} {n}"), (4, 5)[n % 2]) for n in range(CLIENTS)]
        threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        try:
            until_blocking(lambda: any(client.acknowledged for client in clients))
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                time.sleep(chance.uniform(0.3, 2.0))
                deed = chance.choice(choices)
                deeds[deed] += 1
                if deed == KILL:
                    process.kill()
                    process.wait()
                    process = start()
                elif deed == "end its sessions":
                    with psycopg.connect(dsn, autocommit=True) as connection:
                        connection.execute(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                            " WHERE application_name LIKE 'rowcast sink%'"
                        )
                else:
                    cluster.restart("immediate", chance.uniform(0.0, 1.0))
            for client in clients:
                client.gives_up_at = time.monotonic() + SETTLE_S
                client.is_stopping = True
            for thread in threads:
                thread.join(SETTLE_S + 10.0)
        finally:
            process.terminate()
            process.wait()
    may_lose = MAX_MESSAGES[acknowledge] * deeds[KILL] if acknowledge == "received" else 0
    lost, faults = judge(dsn, clients, may_lose)
    text = (folder / "log").read_text()
    shutil.rmtree(folder)
    return Outcome(seed, sum(client.published for client in clients), lost, faults, deeds, text)


def judge(dsn: str, clients: list[Client], may_lose: int = 0) -> tuple[int, list[str]]:
    """How many are lost, if no more than may be, and what is wrong; nothing if the others are there once, in order."""
    faults: list[str] = []
    missing: dict[str, list[int]] = {}
    with psycopg.connect(dsn) as connection:
        for client in clients:
            query = "SELECT n FROM telemetry WHERE client = %s ORDER BY seq"
            found = [n for (n,) in connection.execute(query, [client.name]).fetchall()]
            if client.acknowledged != client.published:
                faults.append(f"{client.name}: {client.acknowledged} of {client.published} acknowledged")
            if client.refused:
                faults.append(f"{client.name}: {client.refused} refused")
            counts = Counter(found)
            if lost := [n for n in range(client.published) if n not in counts]:
                missing[client.name] = lost
            if twice := [n for n, count in counts.items() if count > 1]:
                faults.append(f"{client.name}: {len(twice)} twice, such as {twice[:5]}")
            if found != sorted(found):
                faults.append(f"{client.name}: out of order")
    count = sum(map(len, missing.values()))
    if count > may_lose:
        faults += [f"{name}: {len(lost)} lost, such as {lost[:5]}" for name, lost in missing.items()]
    return count, faults


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--acknowledge", choices=MAX_MESSAGES, default="committed")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else int.from_bytes(os.urandom(4), "big")
    cluster = Cluster()
    try:
        outcome = torture(cluster, args.seconds, seed, args.acknowledge)
    finally:
        cluster.close()
    print(outcome)
    if outcome.faults:
        print(outcome.log[-3000:], file=sys.stderr)
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
