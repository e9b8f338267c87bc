"""Peers that cost as much as they can: what others notice of each, and what it takes.  See docs/limits.md.

    python -m benchmarks.attacks                    all, some minutes
    python -m benchmarks.attacks deep-topics admin  those alone
    python -m benchmarks.attacks --list

Each attack meets a broker of its own, beside a bystander who sends himself 100 messages a second.  It holds if the
bystander's 99th percentile stays within 20 ms of what it was before, and the process within the bound of the attack.

A process that only sleeps tells what the machine is worth meanwhile: `machine` is the 99th percentile of how late its
millisecond ended during the attack, and the latest.  Where that is more than some ms, others use the cores, and a
bystander who waited waited for them: the line says so, and proves nothing of the broker.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Final

from benchmarks.attackers import (
    ATTACKS,
    PASSWORD,
    USER,
    Attack,
    Ports,
    connected,
)
from benchmarks.ports import free_port
from broker.gateway.passwords import Pbkdf2
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Publish, Subscribe

P99_MS_MAX: Final = 20.0
BEFORE_S: Final = 3.0
_TOML: Final = """\
[security]
allow_anonymous = true
password_file = "passwords"
acl_file = "rules"
[[listener]]
port = {mqtt}
host = "127.0.0.1"
[[listener]]
port = {websocket}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["mqtt", "exchange"]
[admin]
port = {admin}
[websocket.exchange]
jwt = {{ secret = "{secret}", account = "uid" }}
"""


def bystander(port: int, results: SimpleQueue[tuple[float, float]]) -> None:
    """Send itself 100 messages a second, for ever; each message's moment and latency go into the queue."""
    sock = connected(port, b"bystander")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(encode(Subscribe(1, ((b"bystander/echo", 0),))))
    sock.recv(5)
    packet = encode(Publish(b"bystander/echo", b"x" * 16))
    while True:
        sent = time.monotonic()
        sock.sendall(packet)
        received = b""
        while len(received) < len(packet):
            received += sock.recv(len(packet) - len(received))
        results.put((sent, (time.monotonic() - sent) * 1e3))
        time.sleep(0.01)


def sleeper(results: SimpleQueue[tuple[float, float]]) -> None:
    """Sleep a millisecond, for ever; each moment, and by how much it was late in ms, go into the queue."""
    while True:
        began = time.monotonic()
        time.sleep(0.001)
        results.put((began, (time.monotonic() - began) * 1e3 - 1.0))


class Heard:
    """What a process tells through a queue, taken out before the queue is full."""

    def __init__(self, tell: Callable[[SimpleQueue[tuple[float, float]]], None]) -> None:
        self._queue: SimpleQueue[tuple[float, float]] = multiprocessing.SimpleQueue()
        self._all: list[tuple[float, float]] = []
        self.process = multiprocessing.Process(target=tell, args=(self._queue,), daemon=True)
        self.process.start()

    def take(self) -> None:
        while not self._queue.empty():
            self._all.append(self._queue.get())

    def split(self, began: float) -> tuple[list[float], list[float]]:
        """What was before the attack, and what was from then on; the process ends."""
        self.take()
        self.process.kill()
        before = [late for moment, late in self._all if moment < began]
        return before, [late for moment, late in self._all if moment >= began]


def p99(latencies: list[float]) -> float:
    return sorted(latencies)[len(latencies) * 99 // 100] if latencies else float("inf")


def memory_mb(process_id: int) -> float:
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_s(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(command: str) -> Iterator[tuple[int, Ports]]:
    ports = Ports(free_port(), free_port(), free_port())
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        slow = Pbkdf2.make(PASSWORD, 300_000).encode()
        (here / "passwords").write_text(f"{USER.decode()}:{slow}\n")
        (here / "passwords").chmod(0o600)
        rules = "topic readwrite #\ntopic read $SYS/#\ntopic deny secret/#\n"
        (here / "rules").write_text(f"{rules}user {USER.decode()}\n{rules}")
        (here / "rules").chmod(0o600)
        secret = "a-secret-for-the-attacks-that-is-long-enough"
        (here / "rowcast.toml").write_text(
            _TOML.format(mqtt=ports.mqtt, websocket=ports.websocket, admin=ports.admin, secret=secret)
        )
        with (here / "log").open("wb") as log:
            words = [*command.split(), "-c", str(here / "rowcast.toml")]
            process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 30
            while True:
                try:
                    connected(ports.mqtt, b"first").close()
                    break
                except (OSError, AssertionError):
                    if time.monotonic() > until or process.poll() is not None:
                        raise SystemExit((here / "log").read_text()) from None
                    time.sleep(0.1)
            yield process.pid, ports
        finally:
            process.terminate()
            process.wait(20)


def play(attack: Attack, command: str) -> bool:
    """Play one attack and print a line about it; whether it holds."""
    with running(command) as (process_id, ports):
        others = Heard(partial(bystander, ports.mqtt))
        machine = Heard(sleeper)

        def watch(seconds: float) -> float:
            others.take()
            machine.take()
            time.sleep(seconds)
            return memory_mb(process_id)

        until = time.monotonic() + BEFORE_S
        while time.monotonic() < until:
            watch(0.05)
        memory_before, cpu_before, began = memory_mb(process_id), cpu_s(process_id), time.monotonic()
        with multiprocessing.Pool(1) as attacker:
            pending = attacker.apply_async(_play_by_name, (attack.name, ports))
            memory = memory_before
            while not pending.ready():
                memory = max(memory, watch(0.05))
            wrong = pending.get()
        for _ in range(20):
            memory = max(memory, watch(0.05))
        before, during = others.split(began)
        _, pauses = machine.split(began)
        grown, used = memory - memory_before, cpu_s(process_id) - cpu_before
    if p99(during) > p99(before) + P99_MS_MAX:
        wrong = wrong or "the bystander waited"
        if p99(pauses) > P99_MS_MAX / 4:
            wrong += ", and so did who only slept"
    if grown > attack.memory_mb:
        wrong = wrong or f"more than {attack.memory_mb} MB"
    print(
        f"{attack.name:18} p99 {p99(before):6.1f} -> {p99(during):7.1f} ms, longest {max(during, default=0):7.1f} ms"
        f"  machine {p99(pauses):6.1f}, {max(pauses, default=0):6.1f} ms"
        f"  {grown:+7.1f} MB  {used:5.1f} s CPU  {wrong or 'holds'}",
        flush=True,
    )
    return not wrong


def _play_by_name(name: str, ports: Ports) -> str:
    attack = next(attack for attack in ATTACKS if attack.name == name)
    try:
        return attack.play(ports)
    except (OSError, AssertionError) as error:
        return f"{type(error).__name__}: {error}"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attacks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="which attacks; all, if none is named")
    parser.add_argument("--list", action="store_true", help="name the attacks and their bounds")
    parser.add_argument("--command", default=f"{sys.executable} -m broker", help="what starts the broker")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {attack.name for attack in ATTACKS}
    if unknown:
        parser.error(f"no such attack: {', '.join(sorted(unknown))}")
    chosen = [attack for attack in ATTACKS if not arguments.names or attack.name in arguments.names]
    if arguments.list:
        for attack in chosen:
            print(f"{attack.name:18} {attack.memory_mb} MB")
        return 0
    failed = [attack.name for attack in chosen if not play(attack, arguments.command)]
    if failed:
        print(f"{len(failed)} of {len(chosen)} did not hold: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
