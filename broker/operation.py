"""What an operator sees of one broker and does to it: `$SYS`, the admin port, the metrics' port, health.

The ports are opened with the listeners, so that one that is taken stops the start, and are served as long as links
are, so that a broker that drains still says so.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import trio

from broker.config.model import AdminHttp, Config
from broker.core.publication import Publication
from broker.links.listening.inherited import Inherited
from broker.reports.facts import Facts
from broker.reports.feed_topics import FeedTopics
from broker.reports.sink_topics import SinkTopics

if TYPE_CHECKING:
    from broker.admin.http import AdminServer
    from broker.app import App
    from broker.gateway.gateway import Gateway

logger = logging.getLogger("broker")

SYS_QOS = 2
"""As Mosquitto publishes `$SYS`."""


class Port:
    """One HTTP port that is open, and what answers there."""

    def __init__(self, config: AdminHttp, inherited: Inherited | None = None) -> None:
        from broker.admin.site import open_admin

        self.config = config
        self.listeners = open_admin(config, inherited)
        self.number = int(self.listeners[0].socket.getsockname()[1])
        self.scope = trio.CancelScope()

    async def serve(self, server: AdminServer) -> None:
        """Answer until `close`."""
        from broker.admin.site import serve_http

        with self.scope:
            await serve_http(server, self.listeners)

    def close(self) -> None:
        """Stop listening and end what is served on it."""
        self.scope.cancel()
        for listener in self.listeners:
            listener.socket.close()


Ports: TypeAlias = tuple[Port | None, Port | None]
"""For administration, and for the metrics."""


def _opened(port: Port | None, wanted: AdminHttp | None) -> Port | None:
    if wanted is None:
        return None
    if port is not None and (port.config.host, port.config.port) == (wanted.host, wanted.port):
        return port
    return Port(wanted)


class Operation:
    """Reports and administration of one broker.

    Args:
        app: the broker; running when `run` is called.

    Attributes:
        facts: what everything here shows.
        drain, reload: what `rowcast ctl drain` and `reload` do; None in an embedded broker.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self.facts = Facts(app, trio.current_time)
        self.drain: Callable[[], None] | None = None
        self.reload: Callable[[], Awaitable[list[str]]] | None = None
        self._admin: Port | None = None
        self._metrics: Port | None = None
        self._gateway: Gateway | None = None
        self._feed_topics: dict[str, FeedTopics] = {}
        self._sink_topics: dict[str, SinkTopics] = {}
        self._sys_interval_changed = trio.Event()

    @property
    def admin_port(self) -> int:
        """0 if it is not open."""
        return 0 if self._admin is None else self._admin.number

    @property
    def metrics_port(self) -> int:
        """The number of the port for `/metrics` alone; 0 if there is none."""
        return 0 if self._metrics is None else self._metrics.number

    def open(self) -> None:
        """Open the ports.  Raises: ListenError; nothing stays open then."""
        config, inherited = self._app.config, self._app.inherited
        self._admin = None if config.admin is None else Port(config.admin, inherited)
        try:
            self._metrics = None if config.metrics is None else Port(config.metrics, inherited)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the admin port and that for metrics."""
        for port in (self._admin, self._metrics):
            if port is not None:
                port.close()

    def sockets(self) -> list[socket.socket]:
        """What listens, for the next process."""
        ports = [port for port in (self._admin, self._metrics) if port is not None]
        return [
            socket.socket(fileno=os.dup(listener.socket.fileno()))
            for port in ports
            for listener in port.listeners
        ]

    def opened_for(self, config: Config) -> Ports:
        """The ports for another configuration: those that are open where they stay, else new ones.

        Raises: ListenError; nothing has changed then.
        """
        admin = _opened(self._admin, config.admin)
        try:
            return admin, _opened(self._metrics, config.metrics)
        except BaseException:
            if admin is not None and admin is not self._admin:
                admin.close()
            raise

    def adopt(self, ports: Ports, open_gateway: Callable[[trio.Nursery], Gateway | None]) -> None:
        """Serve those from now on; one that is not among them is closed."""
        nursery, config = self._app.server.nursery, self._app.config
        before = (self._admin, self._metrics)
        self._admin, self._metrics = ports
        for port, settings in ((self._admin, config.admin), (self._metrics, config.metrics)):
            if port is not None and settings is not None:
                port.config = settings
        if self._gateway is None and self._admin is not None:
            self._gateway = open_gateway(nursery)
        if self._admin is not None and self._admin not in before:
            assert self._gateway is not None
            nursery.start_soon(self._admin.serve, self._admin_server(self._admin, self._gateway))
        if self._metrics is not None and self._metrics not in before:
            nursery.start_soon(self._metrics.serve, self._metrics_server(self._metrics))
        for port in before:
            if port is not None and port not in ports:
                port.close()

    def start(self, nursery: trio.Nursery, gateway: Gateway | None) -> None:
        """Report, and answer, until the nursery is cancelled."""
        self._gateway = gateway
        nursery.start_soon(self.facts.pulse.run)
        nursery.start_soon(self._publish_sys)
        if self._admin is not None:
            assert gateway is not None
            nursery.start_soon(self._admin.serve, self._admin_server(self._admin, gateway))
        if self._metrics is not None:
            nursery.start_soon(self._metrics.serve, self._metrics_server(self._metrics))

    def _admin_server(self, port: Port, gateway: Gateway) -> AdminServer:
        from broker.admin.access import LIVE_PATH, Access
        from broker.admin.api import Api
        from broker.admin.http import AdminServer
        from broker.admin.live import Live
        from broker.admin.publish_socket import PublishSocket
        from broker.admin.site import PUBLISH_PATH, page_routes, publish_routes, watch_routes
        from broker.reports.log_tail import TAIL

        app = self._app
        access = Access(lambda: port.config.token)
        api = Api(self.facts, self.drain, self.reload)
        live = Live(self.facts, TAIL, access.is_right)

        routes = {
            **page_routes(),
            **watch_routes(self.facts),
            **api.routes(),
            **publish_routes(gateway),
        }
        publisher = PublishSocket(gateway, access.shows_right_token)
        upgrades = {LIVE_PATH: live.serve, PUBLISH_PATH: publisher.serve}
        return AdminServer(routes, access.check, app.engine.counters, upgrades)

    def _metrics_server(self, port: Port) -> AdminServer:
        from broker.admin.access import Access
        from broker.admin.http import AdminServer
        from broker.admin.site import watch_routes

        access = Access(lambda: port.config.token, anybody=True)
        return AdminServer(watch_routes(self.facts), access.check, self._app.engine.counters)

    async def _publish_sys(self) -> None:
        """Say what has changed, every `sys_interval`, which SIGHUP may change; nothing while it is 0."""
        app = self._app
        while True:
            interval_s = app.config.sys_interval_s
            if interval_s <= 0:
                await self._sys_interval_changed.wait()
                self._sys_interval_changed = trio.Event()
                continue
            with app.engine.turn:
                news = self.facts.sys_changes()
                for name, status in app.feeds.items():
                    topics = self._feed_topics.setdefault(name, FeedTopics(status))
                    news += topics.changed()
                for sink in self.facts.sinks():
                    sinks = self._sink_topics.setdefault(sink.config.name, SinkTopics())
                    news += sinks.changed(sink)
                for topic, text in news:
                    app.engine.publish(Publication(topic.encode(), text.encode(), SYS_QOS, retain=True))
            with trio.move_on_after(interval_s):
                await self._sys_interval_changed.wait()
                self._sys_interval_changed = trio.Event()

    def sys_interval_changed(self) -> None:
        """`sys_interval` is another from now on."""
        self._sys_interval_changed.set()
