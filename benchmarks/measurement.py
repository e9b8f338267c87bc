"""What one run of one workload against one broker yields, and the clocks that yield it."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable
from typing import ClassVar, Final

from attrs import field, frozen

from benchmarks.arithmetic import Latency, latency
from benchmarks.clients import Address
from benchmarks.machine import cpu_seconds

WARM_UP_S: Final = 0.4
BUSY: Final = 0.9
"""A process that ran for this share of the time had no more to give."""


@frozen
class Target:
    """A running broker: where it listens, and which process is charged for it."""

    name: str
    pid: int
    start_ms: float
    mqtt: Address
    websocket: Address
    facts: dict[str, str] = field(factory=dict)
    """What only some workloads need to know of it: paths, tokens, a database."""


@frozen
class Measurement:
    """Counts are deliveries unless the workload says otherwise."""

    messages: int
    seconds: float
    broker_cpu_s: float
    generator_cpu_s: float
    latency: Latency | None = None
    bytes_per_connection: float | None = None
    extra: dict[str, float] = field(factory=dict)
    """Figures that only this workload has, by name."""

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.messages / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of the broker's CPU per message."""
        return self.broker_cpu_s / self.messages * 1e6

    @property
    def generator_share(self) -> float:
        return self.generator_cpu_s / self.seconds

    @property
    def broker_share(self) -> float:
        return self.broker_cpu_s / self.seconds

    @property
    def generator_bound(self) -> bool:
        """True when the generator was busy all the time and the broker was not: the rate is a lower bound."""
        return self.generator_share >= BUSY and self.broker_share < BUSY


class Clocks:
    """Wall time and the CPU time of broker and generator since the start."""

    on_start: ClassVar[Callable[[], None]] = staticmethod(lambda: None)
    """Told when connecting and warming up are over; for who wants to watch just then."""

    def __init__(self, target: Target) -> None:
        Clocks.on_start()
        self._pid = target.pid
        self._broker = cpu_seconds(target.pid)
        self._own = time.process_time()
        self._wall = time.perf_counter()

    def measure(
        self,
        messages: int,
        samples_us: list[float] | None = None,
        bytes_per_connection: float | None = None,
        **extra: float,
    ) -> Measurement:
        seconds = time.perf_counter() - self._wall
        return Measurement(
            messages,
            seconds,
            cpu_seconds(self._pid) - self._broker,
            time.process_time() - self._own,
            latency(samples_us or ()),
            bytes_per_connection,
            extra,
        )


class Pipeline:
    """Groups of messages under way: one is sent, and once `depth` are, the oldest is awaited.

    Two groups or more keep the broker at work while the generator reads and writes.
    """

    def __init__(self, send: Callable[[], None], receive: Callable[[], None], depth: int = 2) -> None:
        self._send = send
        self._receive = receive
        self._depth = depth
        self._sent_at: deque[float] = deque()
        self.samples_us: list[float] = []

    def cycle(self) -> None:
        self._sent_at.append(time.perf_counter())
        self._send()
        if len(self._sent_at) == self._depth:
            self._receive()
            self.samples_us.append((time.perf_counter() - self._sent_at.popleft()) * 1e6)

    def drain(self) -> None:
        while self._sent_at:
            self._receive()
            self._sent_at.popleft()


def repeat(cycle: Callable[[], None], seconds: float) -> int:
    """Call `cycle` for that long and return how often."""
    deadline = time.perf_counter() + seconds
    count = 0
    while time.perf_counter() < deadline:
        cycle()
        count += 1
    return count


def measure_pipeline(
    target: Target, pipeline: Pipeline, messages_per_group: int, seconds: float
) -> Measurement:
    """Warm up, measure, drain.  The generator's garbage collector rests meanwhile."""
    gc.collect()
    gc.disable()
    repeat(pipeline.cycle, WARM_UP_S)
    pipeline.samples_us.clear()
    clocks = Clocks(target)
    cycles = repeat(pipeline.cycle, seconds)
    measured = clocks.measure(cycles * messages_per_group, pipeline.samples_us)
    pipeline.drain()
    gc.enable()
    return measured
