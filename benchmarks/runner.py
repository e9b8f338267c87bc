"""Round by round, every workload against every peer in turn, each measurement in a process of its own."""

from __future__ import annotations

import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from benchmarks.clients import Lost
from benchmarks.machine import GENERATOR_CORES, allow_open_files, pin_generator
from benchmarks.measurement import Measurement, Target
from benchmarks.peers.kinds import Peer, Unavailable
from benchmarks.peers.process import NotStarted
from benchmarks.results import Record, Results
from benchmarks.workloads.catalogue import Workload

PATIENCE_S: Final = 240
_FILES: Final = 40_000

Say = Callable[[str], None]


def say(line: str) -> None:
    """Progress goes to stderr, so that stdout can be piped."""
    print(line, file=sys.stderr, flush=True)


def install(peers: Sequence[Peer]) -> dict[str, str]:
    """Versions by name of those that can be had here; the others are named and left out."""
    versions = {}
    for peer in peers:
        say(f"installing {peer.name} …")
        try:
            versions[peer.name] = peer.install()
        except Unavailable as error:
            say(f"  not available: {error}")
    return versions


def run(
    results: Results,
    workloads: Sequence[Workload],
    peers: Sequence[Peer],
    after_each: Callable[[], None],
    until: float = math.inf,
) -> None:
    """Add to `results` what they lack; `after_each` measurement they can be saved.

    Args:
        until: of `time.monotonic()`: no row of a round is begun later.
    """
    pin_generator()
    allow_open_files(_FILES)
    plan = planned(results, workloads, peers)
    say(f"{len(plan)} measurements; the generator has cores {sorted(GENERATOR_CORES)}")
    begun = None
    for done, (workload, number, peer) in enumerate(plan, 1):
        if (workload, number) != begun and time.monotonic() > until:
            say(
                f"the time is over with {len(plan) - done + 1} measurements to do; --resume goes on with them"
            )
            return
        begun = workload, number
        record = measure(workload, number, peer, results.seconds)
        results.records.append(record)
        after_each()
        say(f"[{done:3}/{len(plan)}] {workload.name:14} {peer.name:20} round {number}  {in_words(record)}")


def planned(
    results: Results, workloads: Sequence[Workload], peers: Sequence[Peer]
) -> list[tuple[Workload, int, Peer]]:
    """What is to be measured, in its order: every row once before any twice, so that a run cut short has all rows."""
    known = {(record.workload, record.peer, record.round) for record in results.records}
    return [
        (workload, number, peer)
        for number in range(1, results.rounds + 1)
        for workload in workloads
        for peer in peers
        if workload.needs in peer.abilities and (workload.name, peer.name, number) not in known
    ]


def in_words(record: Record) -> str:
    measured = record.measurement
    if measured is None:
        return record.failure.strip().splitlines()[-1]
    parts = [f"{measured.rate / 1e3:10.1f} k/s  {measured.cpu_us:8.2f} µs"]
    if measured.latency:
        parts.append(f"p50 {measured.latency.p50_us:.0f} p99 {measured.latency.p99_us:.0f} µs")
    if measured.bytes_per_connection is not None:
        parts.append(f"{measured.bytes_per_connection:.0f} bytes per connection")
    parts += [f"{name} {value:.4g}" for name, value in measured.extra.items()]
    parts.append(f"broker {measured.broker_share:.0%}, generator {measured.generator_share:.0%}")
    if measured.generator_bound:
        parts.append("GENERATOR-BOUND")
    return "  ".join(parts)


def measure(workload: Workload, number: int, peer: Peer, seconds: float) -> Record:
    """Start the peer, run the workload once, stop the peer.  Failures become part of the record."""
    with tempfile.TemporaryDirectory(prefix="rowcast-bench-") as directory:
        try:
            with peer.start(Path(directory), workload.needs) as target:
                return Record(workload.name, peer.name, number, _in_child(workload, target, seconds))
        except (NotStarted, Lost, Unavailable) as error:
            return Record(workload.name, peer.name, number, failure=str(error) or type(error).__name__)


def _in_child(workload: Workload, target: Target, seconds: float) -> Measurement:
    """A fresh process per measurement: no sockets, heap or garbage left by the one before."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    child = fork.Process(target=_child, args=(theirs, workload, target, seconds))
    child.start()
    theirs.close()
    try:
        if not ours.poll(PATIENCE_S):
            raise Lost(f"no result within {PATIENCE_S} s")
        outcome = ours.recv()
    except EOFError:
        raise Lost("the load generator ended without a result") from None
    finally:
        child.kill()
        child.join()
    if isinstance(outcome, Measurement):
        return outcome
    raise Lost(outcome)


def _child(outcome: Connection, workload: Workload, target: Target, seconds: float) -> None:
    try:
        outcome.send(workload.run(target, seconds))
    except (Lost, OSError, ProcessLookupError) as error:
        outcome.send(f"{type(error).__name__}: {error}")
