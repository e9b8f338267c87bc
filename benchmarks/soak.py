"""Does memory grow?  An hour of constant load of every kind, with RSS after the first minute and at the end.

    python -m benchmarks.soak                       an hour
    python -m benchmarks.soak --minutes 5
    python -m benchmarks.soak --interpreted --results benchmarks/.cache/RESULTS.json

The load: QoS 0 and QoS 1 fan-out at a fixed pace, retained messages replaced, clients that come, subscribe
and go, subscriptions that change, topics that are never seen again.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from benchmarks import packets
from benchmarks.clients import connect, read_exactly, subscriber
from benchmarks.goals import OURS
from benchmarks.machine import cpu_seconds, pin_generator, resident_bytes
from benchmarks.measurement import Target
from benchmarks.peers import rowcast
from benchmarks.results import load, save

RECEIVERS: Final = 50
BURST: Final = 20
TICK_S: Final = 0.02
FIRST_MINUTE_S: Final = 60.0
_PAYLOAD: Final = bytes(64)


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    if options.results and not options.results.is_file():
        parser.error(
            f"{options.results} is not there; python -m benchmarks writes benchmarks/.cache/RESULTS.json"
        )
    peer = rowcast.INTERPRETED if options.interpreted else rowcast.COMPILED
    print(f"{peer.name}: {peer.install()}", flush=True)
    pin_generator()
    with (
        tempfile.TemporaryDirectory(prefix="rowcast-soak-") as name,
        peer.start(Path(name), "mqtt") as target,
    ):
        growth = _soak(target, options.minutes * 60)
    if options.results:
        results = load(options.results)
        results.micro.setdefault(OURS, {})["soak growth"] = growth
        results.micro[OURS]["soak minutes"] = options.minutes
        save(results, options.results)
    return 0 if growth <= 0.05 else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--minutes", type=float, default=60, help="how long (60); exit status 1 when RSS grew by 5 %%"
    )
    parser.add_argument("--interpreted", action="store_true", help="the interpreted install")
    parser.add_argument("--results", type=Path, metavar="FILE", help="add the growth to these results (JSON)")
    return parser


def _soak(target: Target, seconds: float) -> float:
    """Load the broker that long; the share by which RSS grew since the first minute (or half of a short run)."""
    load = _Load(target)
    began = time.perf_counter()
    settled_at = min(FIRST_MINUTE_S, seconds / 2)
    settled = 0
    said = 0.0
    for number in itertools.count():
        elapsed = time.perf_counter() - began
        if elapsed >= seconds:
            break
        if not settled and elapsed >= settled_at:
            settled = resident_bytes(target.pid)
        if elapsed >= said:
            _say(target, elapsed, load.delivered)
            said += 30
        load.tick(number)
        time.sleep(max(began + (number + 1) * TICK_S - time.perf_counter(), 0))
    final = resident_bytes(target.pid)
    growth = final / settled - 1
    print(
        f"RSS {settled / 1e6:.1f} MB after {settled_at:.0f} s, {final / 1e6:.1f} MB after {seconds:.0f} s: "
        f"{growth:+.1%}; {load.delivered} messages delivered"
    )
    return growth


def _say(target: Target, elapsed: float, delivered: int) -> None:
    print(
        f"{elapsed:7.0f} s  RSS {resident_bytes(target.pid) / 1e6:7.1f} MB  CPU {cpu_seconds(target.pid):7.1f} s  "
        f"{delivered} delivered",
        file=sys.stderr,
        flush=True,
    )


class _Load:
    """Everything that happens in one tick, closed: it ends when all of it was delivered and acknowledged."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._receivers = [subscriber(target.mqtt, b"soak-%d" % i, b"soak/all/#") for i in range(RECEIVERS)]
        self._careful = subscriber(target.mqtt, b"soak-careful", b"soak/careful", qos=1)
        self._publisher = connect(target.mqtt, b"soak-pub")
        self._ids = itertools.cycle(range(1, 60_000, BURST))
        self.delivered = 0

    def tick(self, number: int) -> None:
        self._fan_out(number)
        self._acknowledged()
        if number % 10 == 0:
            self._passer_by(number)

    def _fan_out(self, number: int) -> None:
        """Topics of this tick alone, so that caches meet what they will never see again."""
        topics = [b"soak/all/%010d/%02d" % (number, i) for i in range(BURST)]
        retained = packets.publish(b"soak/all/retained", _PAYLOAD, retain=True)
        block = b"".join(packets.publish(topic, _PAYLOAD) for topic in topics) + retained
        self._publisher.sendall(block)
        for receiver in self._receivers:
            read_exactly(receiver, len(block))
        self.delivered += (BURST + 1) * RECEIVERS

    def _acknowledged(self) -> None:
        first, topic = next(self._ids), b"soak/careful"
        block = b"".join(packets.publish(topic, _PAYLOAD, 1, first + i) for i in range(BURST))
        self._publisher.sendall(block)
        read_exactly(self._publisher, BURST * packets.ACK_BYTES)
        received = read_exactly(self._careful, len(block))
        offset = packets.packet_id_offset(topic, _PAYLOAD, 1)
        self._careful.sendall(
            packets.acknowledge(packets.PUBACK, received, BURST, len(block) // BURST, offset)
        )
        self.delivered += BURST

    def _passer_by(self, number: int) -> None:
        """A client with a name of its own that subscribes, unsubscribes and vanishes."""
        with closing(connect(self._target.mqtt, b"passer-by-%d" % number)) as client:
            for packet, answer_bytes in _changes(number):
                client.sendall(packet)
                read_exactly(client, answer_bytes)


def _changes(number: int) -> Iterator[tuple[bytes, int]]:
    yield packets.subscribe(1, b"passing/%d/+" % number), packets.suback_bytes()
    yield packets.subscribe(2, b"passing/%d/#" % number), packets.suback_bytes()
    yield packets.unsubscribe(3, b"passing/%d/+" % number), packets.ACK_BYTES


if __name__ == "__main__":
    raise SystemExit(main())
