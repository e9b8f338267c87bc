"""The nursery tree and nothing else: what must outlive something is opened outside it.

    CORE      what keeps the broker's state
    └─ LINKS     the pump, one task per connection that needs one
       └─ FEEDS     one supervised task per feed
          └─ ACCEPT    one task per listener; its body waits for stop

Stop unwinds it inside out: no new connections, no more rows, what is owed is flushed until the deadline, wills go
out, connections close, and what is left is saved.
"""

from __future__ import annotations

import importlib
import logging
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio
from attrs import evolve

from broker.config.model import Config, Listener, Security
from broker.core.engine import Engine, Policy
from broker.core.history import History
from broker.core.outbox import nothing
from broker.core.positions import Positions
from broker.core.session import DeliveryRules
from broker.drain import drain_clients
from broker.gateway.authentication import Rules, load_rules, reload_rules
from broker.links.listening.accept import accept_forever, open_sockets
from broker.links.listening.acceptor import Take
from broker.links.listening.door import Door, Occupancy
from broker.links.listening.inherited import Inherited
from broker.links.listening.sources import Sources
from broker.links.listening.tickets import renew_ticket_keys
from broker.links.readiness import tell_if_portable
from broker.links.server import Server
from broker.operation import Operation
from broker.process.history import age, keep_history, open_history, renew_history
from broker.process.token_keys import keep_tokens_fresh
from protocol.mqtt.outbound import Window

if TYPE_CHECKING:
    from broker.cluster.feeds import ElectedFeed
    from broker.cluster.node import Node
    from broker.feed.status import FeedStatus
    from broker.feed.supervise import Supervisor
    from broker.gateway.gateway import Gateway
    from broker.ingest.hub import Hub
    from broker.links.websocket.server import WebSocketServer
    from broker.marketdata.service import MarketService
    from broker.storage.keeper import Keeper

logger = logging.getLogger("broker")

LOCAL_ONLY = (
    "Starting in local only mode. Connections will only be possible from clients running on this machine."
)
"""Mosquitto's words where no listener is configured."""


def engine_for(config: Config) -> Engine:
    """The engine that a configuration describes."""
    limits, delivery = config.limits, config.delivery
    return Engine(
        Policy(
            retain_available=delivery.retain_available,
            check_retain_source=delivery.check_retain_source,
            allow_duplicate_messages=delivery.allow_duplicate_messages,
            persistent_client_expiration_s=limits.persistent_client_expiration_s or 0.0,
            message_size_limit=limits.message_size_limit_bytes,
            retained_messages_max=limits.max_retained_messages,
            retained_bytes_max=limits.max_retained_bytes,
            subscriptions_max=limits.max_subscriptions,
        ),
        Window(
            limits.max_inflight_messages,
            limits.max_inflight_bytes,
            limits.max_queued_messages,
            limits.max_queued_bytes,
        ),
        DeliveryRules(delivery.queue_qos0_messages, delivery.upgrade_outgoing_qos),
    )


class App:
    """One running broker.

    Args:
        config: what to run.  Listeners may be empty: an embedded broker needs none.

    Attributes:
        engine: the broker itself.
        server: its links; set while `run` runs.
        addresses: (listener, port) of every open TCP listener, once started.
        feeds: what became of each feed, by name; of sources beside the database and of calculators, too.
        market: what is calculated, if anything is.
        operation: reports and administration; set while `run` runs.
        is_listening: every listener is open, and new connections are taken.
        is_draining: clients are asked to go; see `drain_s`.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.engine = engine_for(config)
        self.server: Server
        self.addresses: list[tuple[Listener, int]] = []
        self.feeds: dict[str, FeedStatus] = {}
        self._supervisors: dict[str, Supervisor | ElectedFeed] = {}
        self.doors: list[Door] = []
        self.websockets: WebSocketServer | None = None
        self.operation: Operation
        self.is_listening = False
        self.is_draining = False
        self.keeper: Keeper | None = None
        self.history = History(Positions("-"))
        self.market: MarketService | None = None
        self.ingest: Hub | None = None
        """Tables that messages are written to, if there are any."""
        self.cluster: Node | None = None
        """This process's part in a cluster, if it has one."""
        self._sources = Sources(())
        self._stop = trio.Event()
        self._listening: list[tuple[socket.socket, Door]] = []
        self.inherited = Inherited()
        """Sockets that listen already; taken where a listener wants just that place."""
        self.on_run: Callable[[], None] = nothing
        """Called when `operation` is there, for whoever has something to offer to it."""

    def stop(self, *, at_once: bool = False) -> None:
        """Begin the orderly end; `run` returns when it is done.

        Args:
            at_once: without asking clients to go first.
        """
        if at_once:
            self.config = evolve(self.config, drain_s=0.0)
        self._stop.set()

    def sockets(self) -> list[socket.socket]:
        """Everything that listens, for the next process; HTTP ports as copies."""
        return [*(sock for sock, _ in self._listening), *self.operation.sockets()]

    def reload(self, config: Config, rules: dict[Security, Rules] | None = None) -> None:
        """Take over what Mosquitto takes over on SIGHUP, and what WebSocket dialects ask of their clients.

        That is everything but the addresses of listeners.  A password or ACL file that can't be read leaves the rules
        of all listeners as they were, a certificate file its listener's TLS; the log says why.

        Args:
            config: what `broker.config.reload.reloaded` made: the same listeners, in the same order.
            rules: what its files say, if they have been read.

        Raises:
            ListenError: an HTTP port can't be opened; nothing has changed.
        """
        ports = self.operation.opened_for(config)
        if config.sys_interval_s != self.config.sys_interval_s:
            self.operation.sys_interval_changed()
        self.config = config
        self.operation.adopt(ports, self._open_gateway)
        if self.market is not None and config.market is not None:
            self.market.adopt(config.market)
            self._show_market(self.market)
        if self.cluster is not None and config.cluster is not None:
            self.cluster.adopt(config.cluster)
        for feed in config.feeds:
            self._supervisors[feed.name].adopt(feed)
        rules = rules or reload_rules(listener.security for listener in config.listeners)
        for door, listener in zip(self.doors, config.listeners, strict=True):
            if rules is None:
                listener = evolve(listener, security=door.listener.security)
            else:
                door.rules = rules[listener.security]
            if listener.tls is not None and not door.renew_tls(listener.tls):
                listener = evolve(listener, tls=door.listener.tls)
            door.configure(listener, config.limits, config.logging.connection_messages)
        fresh = engine_for(config)
        self.engine.adopt(fresh.policy, fresh.window, fresh.rules)
        self._sources.renew(self.engine)
        self._adopt_ingest()
        if self.keeper is not None:
            self.keeper.adopt(config.persistence)
        if self.websockets is not None:
            self.websockets.adopt(config.gateway, config.all_feeds)
        renew_history(self.history, config, self.feeds)

    @property
    def admin_port(self) -> int:
        """0 if it is not open."""
        return self.operation.admin_port

    @property
    def is_stopping(self) -> bool:
        """Whether somebody has asked this process to end."""
        return self._stop.is_set()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop`.  Started once every listener is open.

        Raises:
            StorageError: the persistence file can't be used.
            ListenError: a listener can't be opened; nothing has been served then, nor saved.
        """
        # What the first unusual CONNECT (3.1, a bridge's, a malformed one) would load while everybody waits.
        importlib.import_module("protocol.mqtt.connect_layout")
        self.operation = Operation(self)
        self.on_run()
        if self.config.persistence.persistence:
            from broker.storage.keeper import Keeper

            self.keeper = await Keeper.open(self.engine, self.config.persistence)
        self.history = open_history(self.config, self.engine, self.feeds)
        try:
            listening = self._listening = self._open_listeners()
            self._sources = Sources(self.doors)
            async with trio.open_nursery() as core:
                if self.keeper is not None:
                    core.start_soon(self.keeper.run)
                await self._run_links(listening, task_status)
                core.cancel_scope.cancel()
        finally:
            if self.keeper is not None:
                await self.keeper.close()
                keep_history(self.history, self.config)

    async def save(self) -> bool:
        """Save now what outlives the process; False if it failed, or there is no persistence."""
        if self.keeper is None:
            logger.warning("Nothing is saved: `persistence` is false.")
            return False
        return await self.keeper.save()

    async def _run_links(
        self, listening: Sequence[tuple[socket.socket, Door]], task_status: trio.TaskStatus[None]
    ) -> None:
        async with trio.open_nursery() as links:
            self.server = Server(self.engine, links)
            if self.keeper is not None:
                self.keeper.watch(self.server.pump)
            tell_if_portable()
            self._sources.renew(self.engine)
            links.start_soon(self.server.pump.run)
            links.start_soon(self.server.sweep)
            links.start_soon(renew_ticket_keys, self.doors)
            links.start_soon(age, self.history)
            links.start_soon(keep_tokens_fresh, self.doors, self.engine.counters)
            self.operation.start(links, self._open_gateway(links))
            self._start_ingest(links)
            await self._join_cluster(links)
            await self._run_feeds(listening, task_status)
            with trio.move_on_after(self.config.shutdown_grace_s):
                await self.server.send_wills()
                if self.websockets is not None:
                    await self.websockets.close_all()
                if self.ingest is not None:
                    await self.ingest.drained()
                await self.server.drained()
                if self.cluster is not None:
                    self.server.close_all()
                    await self.cluster.leave()
            links.cancel_scope.cancel()

    async def _run_feeds(
        self, listening: Sequence[tuple[socket.socket, Door]], task_status: trio.TaskStatus[None]
    ) -> None:
        async with trio.open_nursery() as feeds:
            self._start_feeds(feeds)
            async with trio.open_nursery() as accepting:
                for sock, door in listening:
                    accepting.start_soon(accept_forever, sock, door, self.server, self._take(door))
                self.is_listening = True
                task_status.started()
                await self._stop.wait()
                self.is_draining = True
                accepting.cancel_scope.cancel()
            config = self.config
            await drain_clients(self.server, self.websockets, config.drain_s, config.drain_to.encode())
            feeds.cancel_scope.cancel()

    async def _join_cluster(self, nursery: trio.Nursery) -> None:
        if self.config.cluster is None:
            return  # and nothing of it is even imported
        from broker.cluster.node import Node

        self.cluster = Node(self.config.cluster, self.engine, self.history, self.server.pump)
        self.server.share_clients(self.cluster.clients)
        await nursery.start(self.cluster.run, self._stop)

    def _start_ingest(self, nursery: trio.Nursery) -> None:
        self._ingest_nursery = nursery
        self._adopt_ingest()

    def _adopt_ingest(self) -> None:
        wanted = self.config.ingest
        if self.ingest is None:
            if wanted is None:
                return  # and psycopg is not even imported
            from broker.ingest.hub import Hub

            self.ingest = Hub(self.engine, self._ingest_nursery)
        self.ingest.adopt(wanted)

    def _start_feeds(self, nursery: trio.Nursery) -> None:
        market = self.config.market
        if market is not None:
            from broker.marketdata.service import MarketService

            self.market = MarketService(market, self.engine, self.feeds, self.keeper)
            self._show_market(self.market)
            nursery.start_soon(self.market.run, self._start_database_feeds)
        else:
            self._start_database_feeds(nursery)

    def _show_market(self, market: MarketService) -> None:
        """The page that shows it, where one is wanted."""
        if self.websockets is None:
            return
        self.websockets.agreeing.site = None
        if market.config.page:
            from broker.marketdata.site import Site

            self.websockets.agreeing.site = Site(market, self.config.gateway).answer

    def _start_database_feeds(self, nursery: trio.Nursery) -> None:
        if not self.config.feeds:
            return  # and psycopg is not even imported
        from broker.feed.outlet import FeedOutlet
        from broker.feed.status import FeedStatus
        from broker.feed.supervise import Supervisor
        from broker.outlet import EngineOutlet

        for feed in self.config.feeds:
            status = self.feeds[feed.name] = FeedStatus(feed.name)
            if self.cluster is not None:
                elected = self._supervisors[feed.name] = self.cluster.feed(feed, status)
                nursery.start_soon(elected.run)
                continue
            positions = self.history.positions
            if self.market is None:
                outlet: FeedOutlet = EngineOutlet(self.engine, self.keeper, positions, self.server.watch)
            else:
                outlet = self.market.feed_outlet(positions)
            supervisor = Supervisor(feed, outlet, status)
            self._supervisors[feed.name] = supervisor
            nursery.start_soon(supervisor.run)

    def _open_gateway(self, nursery: trio.Nursery) -> Gateway | None:
        if self.config.admin is None and not any(
            one.protocol == "websockets" for one in self.config.listeners
        ):
            return None  # and trio-websocket is not even imported
        from broker.gateway.gateway import Gateway
        from broker.links.websocket.server import WebSocketServer

        gateway = Gateway(self.config.gateway, self.engine)
        gateway.adopt_feeds(self.config.all_feeds)
        self.websockets = WebSocketServer(self.server, gateway, self.history)
        self.websockets.agreeing.health = self.operation.facts.health
        nursery.start_soon(gateway.run)
        return gateway

    def _take(self, door: Door) -> Take:
        """What becomes of a listener's connections."""
        proceed: Take = self.server.add_socket
        if door.listener.is_plain:
            return proceed
        if door.listener.protocol == "websockets":
            assert self.websockets is not None
            proceed = self.websockets.take
        from broker.links.listening.entrance import Entrance

        return Entrance(self.server, proceed).take

    def _open_listeners(self) -> list[tuple[socket.socket, Door]]:
        opened: list[tuple[socket.socket, Door]] = []
        rules = load_rules(listener.security for listener in self.config.listeners)
        occupancy = Occupancy()
        try:
            for listener in self.config.listeners:
                messages = self.config.logging.connection_messages
                door = Door(listener, self.config.limits, messages, rules[listener.security], occupancy)
                self.doors.append(door)
                if listener.local_only:
                    logger.warning("%s", LOCAL_ONLY)
                for sock in open_sockets(listener, self.inherited):
                    opened.append((sock, door))
                    if listener.unix_path is None:
                        door.port = sock.getsockname()[1]
                        self.addresses.append((listener, door.port))
            self.operation.open()
            for place in self.inherited.close():
                logger.warning("A socket was handed to this process that no listener wants: %s.", place)
        except BaseException:
            for sock, _ in opened:
                sock.close()
            raise
        return opened
