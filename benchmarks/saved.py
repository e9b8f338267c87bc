"""QoS 1 with `acknowledge = "saved"`: messages acknowledged a second, what one waits for the disk, and others beside.

    python -m benchmarks.saved [--seconds 4] [--publishers 10 100]

A durable session that is not connected keeps every message, so that there is something to save.  Each publisher
sends 64 bytes at QoS 1 with at most 100 in flight; the clock runs after the first second.  Before that one publisher
alone sends one message at a time: the difference of two brokers' medians is what the disk adds, printed beside one
fsync of the same folder.  Brokers: Rowcast without persistence, with it, with `saved`, and Mosquitto with
`autosave_on_changes` and 1, which saves its whole file after each message, and acknowledges before.
"""

from __future__ import annotations

import argparse
import os
import selectors
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.peers.process import free_address, running

IN_FLIGHT: Final = 100
PAYLOAD: Final = b"x" * 64
WARM_S: Final = 1.0
SYNCS: Final = 50
ALONE: Final = 200
ALONE_BEFORE: Final = 100
"""Messages before those that are timed."""
RECEIVE_BYTES: Final = 65536
PUBACK_BYTES: Final = 4
QUEUED: Final = "allow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\n"
KEPT: Final = QUEUED + "persistence true\npersistence_location {folder}/\n"
BROKERS: Final = {
    "Rowcast, nothing kept": ("rowcast", QUEUED),
    "Rowcast, saved every 1800 s": ("rowcast", KEPT),
    "Rowcast, saved": ("rowcast", KEPT + "rowcast_acknowledge saved\n"),
    "Mosquitto, autosave 1": ("mosquitto", KEPT + "autosave_on_changes true\nautosave_interval 1\n"),
}


class Publisher:
    """One connection that keeps `IN_FLIGHT` messages unacknowledged."""

    def __init__(self, address: tuple[str, int], name: str, in_flight: int = IN_FLIGHT) -> None:
        self.sock = connected(address, name, clean=True)
        self.acknowledged = 0
        self._sent = 0
        self._rest = 0
        self._in_flight = in_flight
        head = b"\x32" + bytes([2 + len(TOPIC) + 2 + len(PAYLOAD)]) + len(TOPIC).to_bytes(2, "big") + TOPIC
        self._packets = [head + n.to_bytes(2, "big") + PAYLOAD for n in range(1, 1001)]

    def fill(self) -> None:
        """Send as many as may be in flight."""
        count = self._in_flight - (self._sent - self.acknowledged)
        first = self._sent % len(self._packets)
        packets = self._packets[first : first + count]
        self.sock.sendall(b"".join(packets))
        self._sent += len(packets)

    def take(self) -> None:
        """Read acknowledgements, at least a part of one."""
        data = self.sock.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionError("the broker has closed")
        count = self._rest + len(data)
        self.acknowledged += count // PUBACK_BYTES
        self._rest = count % PUBACK_BYTES


TOPIC: Final = b"saved/benchmark"


def connected(address: tuple[str, int], name: str, *, clean: bool) -> socket.socket:
    """A connection whose CONNECT is answered."""
    sock = socket.create_connection(address, timeout=60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client = name.encode()
    body = b"\x00\x04MQTT\x04" + (b"\x02" if clean else b"\x00") + b"\x00\x00"
    body += len(client).to_bytes(2, "big") + client
    sock.sendall(b"\x10" + bytes([len(body)]) + body)
    sock.recv(PUBACK_BYTES, socket.MSG_WAITALL)
    return sock


def subscribe_and_leave(address: tuple[str, int]) -> None:
    """A durable session that every message waits for."""
    with connected(address, "reader", clean=False) as sock:
        body = b"\x00\x01" + len(TOPIC).to_bytes(2, "big") + TOPIC + b"\x01"
        sock.sendall(b"\x82" + bytes([len(body)]) + body)
        sock.recv(5, socket.MSG_WAITALL)
        sock.sendall(b"\xe0\x00")


def rate(address: tuple[str, int], count: int, seconds: float) -> float:
    """Messages acknowledged a second, of so many publishers together."""
    publishers = [Publisher(address, f"p{n}") for n in range(count)]
    with selectors.DefaultSelector() as selector:
        for one in publishers:
            selector.register(one.sock, selectors.EVENT_READ, one)
            one.fill()
        started = time.perf_counter()
        begun = started
        before = 0
        while (now := time.perf_counter()) - started < WARM_S + seconds:
            if begun == started and now - started >= WARM_S:
                begun = now
                before = sum(one.acknowledged for one in publishers)
            for key, _ in selector.select(1.0):
                key.data.take()
                key.data.fill()
        after = sum(one.acknowledged for one in publishers)
    for one in publishers:
        one.sock.close()
    return (after - before) / (now - begun)


def alone_s(address: tuple[str, int]) -> float:
    """The median time from a PUBLISH to its PUBACK, one at a time."""
    one = Publisher(address, "alone", in_flight=1)
    took: list[float] = []
    for _ in range(ALONE_BEFORE + ALONE):
        began = time.perf_counter()
        one.fill()
        one.take()
        took.append(time.perf_counter() - began)
    one.sock.close()
    return statistics.median(took[ALONE_BEFORE:])


def fsync_s(folder: Path) -> float:
    """The median time of appending 4 KiB and fsync."""
    took: list[float] = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - began)
    return statistics.median(took)


@contextmanager
def broker(kind: str, conf: str) -> Iterator[tuple[tuple[str, int], Path]]:
    """One broker with a folder of its own: its address, and that folder."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o777)  # Mosquitto leaves root
        address = free_address()
        file = folder / "mosquitto.conf"
        file.write_text(f"listener {address.port} 127.0.0.1\n" + conf.format(folder=folder))
        program = [sys.executable, "-m", "broker"] if kind == "rowcast" else [shutil.which("mosquitto") or ""]
        with running([*program, "-c", file], folder, address, {"PYTHONPATH": os.getcwd()}):
            subscribe_and_leave((address.host, address.port))
            yield (address.host, address.port), folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--publishers", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--brokers", nargs="+", choices=list(BROKERS), default=list(BROKERS))
    args = parser.parse_args()
    for name in args.brokers:
        kind, conf = BROKERS[name]
        if kind == "mosquitto" and shutil.which("mosquitto") is None:
            print(f"{name:30} not installed")
            continue
        with broker(kind, conf) as (address, folder):
            waited = alone_s(address) * 1e3
            sync = fsync_s(folder) * 1e3
            rates = "   ".join(
                f"{count} publishers {rate(address, count, args.seconds):8.0f}/s" for count in args.publishers
            )
        print(f"{name:30} {rates}   alone {waited:.2f} ms, fsync {sync:.2f} ms", flush=True)


if __name__ == "__main__":
    main()
