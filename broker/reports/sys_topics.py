"""`$SYS`: what the broker says about itself, in Mosquitto's topics, meanings and units.

Everything is computed here, from integers that the core counts anyway.  No I/O, no clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from broker.core.engine import Engine
from broker.reports.usage import resident_bytes, resident_bytes_max

PREFIX = "$SYS/broker/"
MINUTES = (1, 5, 15)


class LoadAverage:
    """One count per minute, averaged over 1, 5 and 15 minutes as Mosquitto does.

    Every interval the average moves towards the interval's own rate by exp(-interval / period).
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.values = [0.0, 0.0, 0.0]
        self._total = 0

    def update(self, total: int, elapsed_s: float) -> None:
        """Take the total since start; `elapsed_s` is the time since the last call."""
        per_minute = (total - self._total) * 60.0 / elapsed_s
        self._total = total
        for index, minutes in enumerate(MINUTES):
            keep = math.exp(-elapsed_s / (60.0 * minutes))
            self.values[index] = per_minute + keep * (self.values[index] - per_minute)

    def topics(self) -> Iterator[tuple[str, str]]:
        """Topics below `$SYS/broker/` with their values."""
        for minutes, value in zip(MINUTES, self.values, strict=True):
            yield f"load/{self.name}/{minutes}min", f"{value:.2f}"


class SysTopics:
    """The `$SYS/broker` tree of one broker.

    Args:
        engine: whose numbers they are.
        version: as `$SYS/broker/version` says it.
        build: `compiled` or `interpreted`.
        started: monotonic seconds.
    """

    def __init__(self, engine: Engine, version: str, build: str, started: float) -> None:
        self._engine = engine
        self._started = started
        self._updated = started
        self._said: dict[str, str] = {}
        self._constant = {"version": f"rowcast version {version}", "rowcast/build": build}
        self._loads = [
            LoadAverage(name)
            for name in (
                "messages/received",
                "messages/sent",
                "publish/dropped",
                "publish/received",
                "publish/sent",
                "bytes/received",
                "bytes/sent",
                "sockets",
                "connections",
            )
        ]

    def changed(self, now: float, owed: tuple[int, int] = (0, 0)) -> list[tuple[str, str]]:
        """The topics whose value is another than when last asked, whole names and texts.

        Args:
            now: monotonic seconds.
            owed: packets and bytes that peers have yet to take.
        """
        values = self.now(now, owed)
        elapsed_s = now - self._updated
        if elapsed_s > 0:
            self._updated = now
            for load, total in zip(self._loads, self._totals(), strict=True):
                load.update(total, elapsed_s)
            for load in self._loads:
                values.update(load.topics())
        news = [(PREFIX + name, text) for name, text in values.items() if self._said.get(name) != text]
        self._said = values
        return news

    def now(self, now: float, owed: tuple[int, int] = (0, 0)) -> dict[str, str]:
        """All topics, without their prefix, with their values; averages are those of the last `changed`."""
        values = dict(self._values(now, owed))
        for load in self._loads:
            values.update(load.topics())
        return values

    def _totals(self) -> tuple[int, ...]:
        counters = self._engine.counters
        return (
            counters.packets_received,
            counters.packets_sent(),
            counters.publishes_dropped(),
            counters.publishes_received,
            counters.publishes_sent,
            counters.bytes_received,
            counters.bytes_sent,
            counters.sockets_opened,
            counters.connections_accepted + counters.connections_refused,
        )

    def _values(self, now: float, owed: tuple[int, int]) -> Iterator[tuple[str, str]]:
        yield from self._constant.items()
        yield "uptime", f"{int(now - self._started)} seconds"
        for name, number in self._numbers(owed):
            yield name, str(number)

    def _numbers(self, owed: tuple[int, int]) -> Iterator[tuple[str, int]]:
        engine = self._engine
        counters = engine.counters
        total = len(engine.sessions)
        yield "clients/total", total
        yield "clients/maximum", counters.clients_maximum
        for name in ("clients/disconnected", "clients/inactive"):
            yield name, total - engine.connected
        for name in ("clients/connected", "clients/active"):
            yield name, engine.connected
        yield "clients/expired", counters.sessions_expired
        yield "connections/socket/count", counters.sockets_opened - counters.sockets_closed
        yield "messages/received", counters.packets_received
        yield "messages/sent", counters.packets_sent()
        yield "publish/messages/dropped", counters.publishes_dropped()
        yield "publish/messages/received", counters.publishes_received
        yield "publish/messages/sent", counters.publishes_sent
        yield "publish/bytes/received", counters.publish_bytes_received
        yield "publish/bytes/sent", counters.publish_bytes_sent
        yield "bytes/received", counters.bytes_received
        yield "bytes/sent", counters.bytes_sent
        yield "packet/out/count", owed[0]
        yield "packet/out/bytes", owed[1]
        yield "subscriptions/count", engine.trie.count
        yield "shared_subscriptions/count", len(engine.shared)
        yield "retained messages/count", len(engine.retained)
        yield "store/messages/count", engine.store.count
        yield "store/messages/bytes", engine.store.payload_bytes
        yield "messages/stored", engine.store.count
        yield "heap/current", resident_bytes()
        yield "heap/maximum", resident_bytes_max()
