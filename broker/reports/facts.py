"""What the reports of one broker are made of: reads everything, changes nothing.

`$SYS`, `/metrics`, `/healthz`, the page and `rowcast ctl` show the same numbers because all of them come from here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from attrs import frozen

from broker.core.engine import Engine
from broker.core.outbox import Outbox
from broker.reports.health import Behind, feed_reasons, sink_reasons
from broker.reports.pulse import Pulse
from broker.reports.sys_topics import SysTopics
from broker.version import VERSION, compiled_modules

if TYPE_CHECKING:
    from broker.app import App
    from broker.cluster.node import Node
    from broker.feed.status import FeedStatus
    from broker.ingest.sink import Sink
    from broker.links.websocket.dialect import DialectLink
    from broker.marketdata.market import Running
    from broker.storage.keeper import Keeper


HEALTH_PATH: Final = "/healthz"


@frozen
class Owed:
    """Bytes that peers have yet to take."""

    total: int = 0
    largest: int = 0
    p99: int = 0


class Facts:
    """One broker, for those who report about it.

    Args:
        app: running, or about to.
        clock: monotonic seconds.
    """

    def __init__(self, app: App, clock: Callable[[], float]) -> None:
        self._app = app
        self._clock = clock
        self.version = VERSION
        self.build = "compiled" if compiled_modules() else "interpreted"
        self.started_unix_s = time.time()
        self.pulse = Pulse()
        self._sys = SysTopics(app.engine, VERSION, self.build, clock())

    @property
    def engine(self) -> Engine:
        """The process's engine."""
        return self._app.engine

    @property
    def keeper(self) -> Keeper | None:
        """Who saves sessions and retained messages; None without persistence."""
        return self._app.keeper

    @property
    def feeds(self) -> dict[str, FeedStatus]:
        """The state of each feed by its name."""
        return self._app.feeds

    @property
    def is_draining(self) -> bool:
        """Whether clients are being asked to go."""
        return self._app.is_draining

    def sys_values(self) -> dict[str, str]:
        """The `$SYS/broker` topics, without their prefix, as they are now."""
        return self._sys.now(self._clock(), self._app.server.owed())

    def sys_changes(self) -> list[tuple[str, str]]:
        """The topics to publish, once every `sys_interval`."""
        return self._sys.changed(self._clock(), self._app.server.owed())

    def listeners(self) -> Iterator[tuple[str, str, int]]:
        """Address, protocol and open connections of each listener."""
        for door in self._app.doors:
            listener = door.listener
            where = listener.unix_path or (
                f"{listener.host}:{door.port}" if listener.host else str(door.port)
            )
            yield where, listener.protocol, door.open_count

    def outboxes(self) -> Iterator[Outbox]:
        """Of all connections that have had their handshake."""
        yield from (link.outbox for link in self._app.server.links())
        yield from (link.outbox for link in self.dialect_links())

    def dialect_links(self) -> list[DialectLink]:
        """Open connections of dialects' clients."""
        return [] if self._app.websockets is None else self._app.websockets.dialect_links()

    def owed(self) -> Owed:
        """What all peers together have yet to take."""
        sizes = sorted(outbox.pending_bytes for outbox in self.outboxes())
        if not sizes:
            return Owed()
        return Owed(sum(sizes), sizes[-1], sizes[(len(sizes) - 1) * 99 // 100])

    def dialect_connections(self) -> dict[str, float]:
        """Open WebSocket connections by dialect, those without any included."""
        if self._app.websockets is None:
            return {}
        return self._app.websockets.counts()

    def stuck_s(self) -> float:
        """For how long the loop has not turned, in seconds."""
        return self.pulse.stuck_s(self._clock())

    def unready(self) -> list[str]:
        """Why rows or messages may not get through, each in words; empty is ready."""
        app = self._app
        reasons = []
        if not app.is_listening:
            reasons.append("starting: the listeners are not open yet")
        if app.is_draining:
            reasons.append("draining: clients are asked to go elsewhere")
        if stuck_s := self.stuck_s():
            reasons.append(f"loop: it has not turned for {stuck_s:.1f} s")
        if app.keeper is not None and (trouble := app.keeper.trouble()):
            reasons.append(f"persistence: {trouble}")
        if app.cluster is not None:
            reasons += app.cluster.status.unready()
        behind = Behind.of(app.config)
        for status in app.feeds.values():
            reasons += feed_reasons(status, behind, time.time())
        for sink in self.sinks():
            reasons += sink_reasons(sink)
        return reasons

    def sinks(self) -> list[Sink]:
        """Tables that messages are written to."""
        return [] if self._app.ingest is None else list(self._app.ingest.sinks.values())

    @property
    def cluster(self) -> Node | None:
        """This process's part in a cluster, if it has one."""
        return self._app.cluster

    def calculators(self) -> list[Running]:
        """The market's, if there is one."""
        market = self._app.market
        return [] if market is None else list(market.market.running.values())

    def one_line(self) -> str:
        """How it is, for `systemctl status`."""
        reasons = self.unready()
        how = f"not ready: {reasons[0]}" if reasons else "ready"
        live = sum(feed.state == "live" for feed in self.feeds.values())
        return f"{how}; {self.engine.connected} clients, {live} of {len(self.feeds)} feeds live"

    def health(self, path: str) -> tuple[int, str]:
        """The answer to `/healthz` or `/readyz`: an HTTP status, and lines of text."""
        if path == HEALTH_PATH:
            stuck_s = self.stuck_s()
            return (503, f"the loop has not turned for {stuck_s:.1f} s\n") if stuck_s else (200, "ok\n")
        reasons = self.unready()
        return (503, "".join(f"{reason}\n" for reason in reasons)) if reasons else (200, "ready\n")
