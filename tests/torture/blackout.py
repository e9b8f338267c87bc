"""Cut the power of Rowcast's whole machine, or kill it, with sinks and a feed at work: `make torture`, or

    PYTHONPATH=.:tests python tests/torture/blackout.py --cuts 100 --seed 7

Clients of MQTT 3.1.1 and 5.0 publish at QoS 1 and 2; a sink writes rows of that, a feed makes messages of the rows, and
a durable session receives those: all in one process with `acknowledge = "saved"`, on a disk that records writes and
syncs.  At random moments the process is killed.  Then its files are either as they are, or what a power
cut leaves of them: what was synced, and any part of the rest.  Postgres is on another machine, and goes on.

At the end each message must be one row, those of a client in their order, and each row must have been received, those
of a client in their order but for what came again.  The seed decides everything but timing.
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
from typing import Final

import psycopg
from support.polling import until_blocking
from support.ports import free_port
from support.postgres import Cluster
from torture.disk import environment, fast_folder, leave, recorded
from torture.sinks import TABLE, Client, connect_packet, judge

from protocol.mqtt.framing import frame_at

CONFIG: Final = """
[database]
dsn = "{dsn}"
kind = "{kind}"
name = "blackout"
{more}
[persistence]
persistence = true
persistence_location = "{disk}"
acknowledge = "saved"
[limits]
max_queued_messages = 0
[security]
allow_anonymous = true
[[listener]]
port = {port}
host = "127.0.0.1"
[[mqtt.sink]]
topics = "telemetry/{{client}}"
table = "public.telemetry"
columns = {{ id = "{{$message_id}}", client = "{{client}}", n = "$.n" }}
on_conflict = "nothing"
batch = {{ rows = 50, every = "2ms" }}
[source.telemetry]
{source}
[[mqtt.route]]
from = "telemetry"
kind = "{rows}"
topics = "rows/{{client}}/{{n}}"
qos = 1
"""
MORE: Final = {"wal": "[database.replication]\nallow_unbounded_wal = true", "outbox": "", "listen": ""}
LISTEN: Final = """listen = "telemetry"
[[recover]]
table = "public.telemetry"
key = ["seq"]
kind = "telemetry"
"""
TELLS: Final = """
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('telemetry', row_to_json(NEW)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT ON telemetry FOR EACH ROW EXECUTE FUNCTION tell();
CREATE UNIQUE INDEX ON telemetry (seq)
"""
CLIENTS: Final = 4
KINDS: Final = ("wal", "outbox", "listen")
AWAY_S_MAX: Final = 4.0
SETTLE_S: Final = 60.0
FIRST_S: Final = 60.0
SUBSCRIBE: Final = b"\x82\x0b\x00\x01\x00\x06rows/#\x01"


class Reader:
    """A durable session at QoS 1 that acknowledges what it gets; blocking, for a thread of its own.

    It is away most of the time, so that what it is owed stands nowhere but on the disk.
    """

    def __init__(self, port: int, chance: random.Random) -> None:
        self.port = port
        self.is_settling = False
        self._chance = chance
        self.received: list[tuple[str, int]] = []
        self.subscribed = threading.Event()
        self.is_stopping = False

    def run(self) -> None:
        while not self.is_stopping:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=2.0) as sock:
                    self._serve(sock)
            except OSError:
                time.sleep(0.05)
            if self.subscribed.is_set() and not self.is_settling:
                time.sleep(self._chance.uniform(0.2, AWAY_S_MAX))

    def _serve(self, sock: socket.socket) -> None:
        ends = time.monotonic() + self._chance.uniform(0.1, 0.5)
        sock.sendall(connect_packet(b"reader", 4))
        if not self.subscribed.is_set():
            sock.sendall(SUBSCRIBE)
        sock.settimeout(0.2)
        buffer = b""
        while not self.is_stopping and (
            self.is_settling or not self.subscribed.is_set() or time.monotonic() < ends
        ):
            try:
                data = sock.recv(65536)
            except TimeoutError:
                continue
            if not data:
                raise OSError("closed")
            buffer += data
            answers = b""
            while (taken := framed(buffer)) is not None:
                answers += self._take(*taken[:2])
                buffer = buffer[taken[2] :]
            if answers:
                sock.sendall(answers)

    def _take(self, first_byte: int, body: bytes) -> bytes:
        if first_byte == 0x90:
            self.subscribed.set()
        if first_byte >> 4 != 3:
            return b""
        end = 2 + int.from_bytes(body[:2], "big")
        _, client, number = body[2:end].decode().split("/")
        self.received.append((client, int(number)))
        return b"\x40\x02" + body[end : end + 2]


def framed(buffer: bytes) -> tuple[int, bytes, int] | None:
    """First byte, body and end of the packet at the start; None if it is not whole."""
    body, end = frame_at(buffer, 0, 0)
    return None if end == 0 else (buffer[0], buffer[body:end], end)


class Machine:
    """Rowcast's: a process, its disk, and what becomes of both.

    Args:
        syncs: False is a disk that only says that it syncs.
    """

    def __init__(self, folder: Path, chance: random.Random, *, syncs: bool) -> None:
        self._syncs = syncs
        self.config = folder / "rowcast.toml"
        self.disk = folder / "disk"
        self.disk.mkdir()
        self._folder = folder
        self._chance = chance
        self._process: subprocess.Popen[bytes] | None = None
        self._log = (folder / "log").open("ab")

    def start(self) -> None:
        """What is on the disk now counts as synced."""
        before = self._folder / "before"
        shutil.rmtree(before, ignore_errors=True)
        shutil.copytree(self.disk, before)
        record = self._folder / "record"
        for name in ("record", "record.names"):
            (self._folder / name).unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "broker", "-c", str(self.config)],
            env=environment(self.disk, self._folder, record),
            stderr=self._log,
        )

    def stop(self) -> None:
        """In an orderly way."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(60.0)
        self._log.close()

    def kill(self, *, cut: bool) -> None:
        """End it at once; with `cut` its disk keeps what was synced, and any of the rest."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        if cut and (self._folder / "record").exists():
            left = self._folder / "left"
            leave(
                self._folder / "before",
                *recorded(self._folder / "record"),
                self._chance,
                left,
                syncs=self._syncs,
            )
            shutil.rmtree(self.disk)
            left.rename(self.disk)

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")


def torture(
    cluster: Cluster, cuts: int, seed: int, kind: str, *, syncs: bool = True
) -> tuple[list[str], Counter[str], int, str]:
    """Faults, what was done how often, messages published, and the log."""
    chance = random.Random(f"{seed} {kind}")
    dsn = cluster.dsn(cluster.create_database())
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLE)
        if kind == "listen":
            connection.execute(TELLS)
    port = free_port()
    deeds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=fast_folder(), prefix="rowcast-blackout-") as name:
        machine = Machine(Path(name), chance, syncs=syncs)
        machine.config.write_text(
            CONFIG.format(
                dsn=dsn,
                kind=kind,
                port=port,
                disk=machine.disk,
                more=MORE[kind],
                source=LISTEN if kind == "listen" else 'tables = ["public.telemetry"]',
                rows="telemetry" if kind == "listen" else "public.telemetry",
            )
        )
        install = ["feed", "install", "-c", str(machine.config), "--apply", "--as", dsn]
        subprocess.run([sys.executable, "-m", "broker", *install], check=True, stdout=subprocess.DEVNULL)
        reader = Reader(port, random.Random(f"{seed} reader"))
        clients = [Client(port, f"c{n}", random.Random(f"{seed} {n}"), (4, 5)[n % 2]) for n in range(CLIENTS)]
        threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
        reading = threading.Thread(target=reader.run, daemon=True)
        machine.start()
        reading.start()
        if not reader.subscribed.wait(FIRST_S):
            return ["the reader's SUBSCRIBE was never answered"], deeds, 0, machine.log()
        # What is notified before a feed of kind `listen` listens for the first time is nobody's.
        until_blocking(lambda: "feed blackout: live" in machine.log())
        for thread in threads:
            thread.start()
        for _ in range(cuts):
            _wait_for_more(clients, chance)
            cut = chance.random() < 0.7
            deeds["power cuts" if cut else "kills"] += 1
            machine.kill(cut=cut)
            machine.start()
        for client in clients:
            client.gives_up_at = time.monotonic() + SETTLE_S
            client.is_stopping = True
        for thread in threads:
            thread.join(SETTLE_S + 10.0)
        _, faults = judge(dsn, clients)
        faults += _judge_reader(dsn, reader)
        reader.is_stopping = True
        reading.join()
        machine.stop()
        return faults, deeds, sum(client.published for client in clients), machine.log()


def _wait_for_more(clients: list[Client], chance: random.Random) -> None:
    """Until something was acknowledged since the start, and a moment longer."""
    wanted = sum(client.acknowledged for client in clients) + chance.choice((1, 5, 50))
    until = time.monotonic() + SETTLE_S
    while sum(client.acknowledged for client in clients) < wanted and time.monotonic() < until:
        time.sleep(0.002)
    time.sleep(chance.uniform(0.0, 0.1))


def _judge_reader(dsn: str, reader: Reader) -> list[str]:
    with psycopg.connect(dsn) as connection:
        rows = set(connection.execute("SELECT client, n FROM telemetry").fetchall())
    reader.is_settling = True
    until = time.monotonic() + SETTLE_S
    while rows - set(reader.received) and time.monotonic() < until:
        time.sleep(0.1)
    faults: list[str] = []
    if lost := sorted(rows - set(reader.received)):
        faults.append(f"{len(lost)} rows were never received, such as {lost[:5]}")
    firsts = list(dict.fromkeys(reader.received))
    for client in {client for client, _ in firsts}:
        numbers = [number for name, number in firsts if name == client]
        if numbers != sorted(numbers):
            faults.append(f"rows of {client} came out of order")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cuts", type=int, default=50, help="with each kind of feed; default: %(default)s")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument(
        "--lying-disk", action="store_true", help="syncs do nothing: shows that losses are found"
    )
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else int.from_bytes(os.urandom(4), "big")
    failed = False
    cluster = Cluster()
    try:
        for kind in args.kinds:
            began = time.monotonic()
            faults, deeds, published, log = torture(cluster, args.cuts, seed, kind, syncs=not args.lying_disk)
            done = ", ".join(f"{name} {count}" for name, count in sorted(deeds.items()))
            took = time.monotonic() - began
            verdict = "FAILED" if faults else "nothing lost, each row once, all in order"
            print(f"blackout {kind:6} seed {seed}: {published} messages; {done}; {took:.0f} s: {verdict}")
            for fault in faults:
                print(f"  {fault}")
            if faults:
                print(log[-3000:], file=sys.stderr)
            failed = failed or bool(faults)
    finally:
        cluster.close()
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
