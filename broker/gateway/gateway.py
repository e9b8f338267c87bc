"""What all clients of the WebSocket dialects share: channels in the engine, logins, intervals, the clock.

Invariant: `_links` holds exactly the open dialect connections, and `_per_account` counts those that logged in.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol, TypeVar

import trio

from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.kind import DialectKind
from broker.config.feeds import FeedConfig
from broker.config.tokens import HttpHookConfig, JwtConfig
from broker.core.barrier import barrier
from broker.core.engine import Engine
from broker.core.parts import Part
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.slicing import Work
from broker.gateway.aggregates import Aggregate
from broker.gateway.channels import topic_of
from broker.gateway.gaps import GAP_FILTER, Channels, GapWatch
from broker.gateway.identity import HttpHook, Identifier, JwtVerifier
from broker.gateway.tokens import TokenVerifier, UnusableKey
from protocol.dialects.base import Clock, Identity, Refusal, Subscribe
from protocol.dialects.conflation import Conflation

logger = logging.getLogger("broker.gateway")

TICK_S: Final = 0.25
"""How often expiries, heartbeats and idle connections are looked at."""

AGGREGATE_TICK_S: Final = 0.05

A_TURN: Final = 200
"""So many have theirs before others go on; each may send."""

RENEW_STEPS: Final = 8
"""What it counts for that one connection is told of other settings; see `broker.core.slicing`."""

T = TypeVar("T")


class GatewayLink(Protocol):
    """What the gateway knows of a connection."""

    def is_due(self, now: float) -> bool:
        """Whether one of its clocks has come; cheap, for it is asked of all of them."""

    def tick(self, now: float) -> None:
        """One of its clocks may have come."""

    def renew(self, kinds: Mapping[str, DialectKind]) -> None:
        """The dialects, by name, are set up like this from now on: what its client may not do any more ends."""

    def rows_missing(self, channels: Channels) -> None:
        """A feed says that rows may be missing that would have come to these."""


class Renewing(Work):
    """Dialects may be set up otherwise: every connection is told, the oldest first."""

    def __init__(self, links: dict[GatewayLink, None], kinds: Iterable[DialectKind]) -> None:
        super().__init__()
        self._links = links
        self._kinds = {kind.name: kind for kind in kinds}
        self._left = list(reversed(links))

    def go_on(self, steps: int) -> int:
        used = 0
        while self._left and used < steps:
            link = self._left.pop()
            used += RENEW_STEPS
            if link in self._links:
                link.renew(self._kinds)
        self.is_over = not self._left
        return used


class PacedReader(Protocol):
    """A reader of channels with a state at an interval."""

    def pace(self, now: float) -> None:
        """Send what is due."""


class Gateway:
    """The dialects' side of the broker.

    Args:
        config: which dialects there are, and how.
        engine: where channels live as topics.
        identifiers: who answers logins, by dialect; made from the configuration if not given.
    """

    def __init__(
        self, config: GatewayConfig, engine: Engine, identifiers: Mapping[str, Identifier] | None = None
    ) -> None:
        self.config = config
        self.engine = engine
        self._hooks: dict[str, HttpHook] = {}
        """Kept for as long as the process lives, with their connections."""
        self._identifiers = identifiers_for(config, self._hooks) if identifiers is None else identifiers
        self.tokens_changed = trio.Event()
        self._links: dict[GatewayLink, None] = {}
        self._connections_max = {kind.name: kind.account_connections_max for kind in config.dialects}
        self._per_account: dict[tuple[str, str], int] = {}
        self._account_of: dict[GatewayLink, tuple[str, str]] = {}
        self._aggregates: dict[bytes, Aggregate] = {}
        self._aggregating = trio.Event()
        self._pacing: dict[PacedReader, None] = {}
        self._gaps = GapWatch(self._links)

    def adopt(self, config: GatewayConfig) -> None:
        """Take over new settings, for clients and logins to come; what they allow less of ends for all."""
        try:
            self._identifiers = identifiers_for(config, self._hooks)
        except UnusableKey as error:
            logger.error("%s", error)
            logger.error("The keys read before stay in use.")
            return
        self.config = config
        self.tokens_changed.set()
        self._connections_max = {kind.name: kind.account_connections_max for kind in config.dialects}
        with self.engine.turn:
            self.engine.slicing.begin(Renewing(self._links, config.dialects))

    def adopt_feeds(self, feeds: Iterable[FeedConfig]) -> None:
        """Whose gaps mean what to which channels."""
        self.engine.unsubscribe(self._gaps, GAP_FILTER)
        if self._gaps.adopt(feeds):
            self.engine.subscribe(self._gaps, GAP_FILTER, 0)

    async def run(self) -> None:
        """Tick until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._publish_aggregates)
            nursery.start_soon(self._keep_tokens_fresh)
            try:
                while True:
                    await trio.sleep(TICK_S)
                    await self.tick()
            finally:
                await self._close_hooks()

    async def tick(self) -> None:
        """Let each connection look at its own clocks: pings, idle time, tokens that end; some in each turn."""
        with self.engine.turn:
            now = self.engine.now
        due = [link for link in self._links if link.is_due(now)]
        for some in _by_turns(due):
            with self.engine.turn:
                for link in some:
                    if link in self._links:
                        with barrier(self.engine.counters, "a WebSocket client's clock"):
                            link.tick(self.engine.now)
            await trio.lowlevel.checkpoint()

    # --- connections ---------------------------------------------------------------------------------------

    def opened(self, link: GatewayLink) -> None:
        """A connection is made; from now on it is ticked."""
        self._links[link] = None

    def closed(self, link: GatewayLink) -> None:
        """A connection has ended; its account may have another in its place."""
        self._links.pop(link, None)
        key = self._account_of.pop(link, None)
        if key is not None:
            self._per_account[key] -= 1
            if not self._per_account[key]:
                del self._per_account[key]

    def count(self) -> int:
        """Open dialect connections."""
        return len(self._links)

    def identify_at_once(self, dialect: str, token: str, clock: Clock) -> Identity | Refusal | None:
        """Whose token this is; None if somebody else has to be asked, by `identify`."""
        identifier = self._identifiers.get(dialect)
        if identifier is None:
            return Refusal.INVALID
        if isinstance(identifier, TokenVerifier) and identifier.must_ask(token):
            return None
        if isinstance(identifier, JwtVerifier):
            with barrier(self.engine.counters, f"a token of {dialect}"):
                return identifier.verify(token, clock, trio.current_time())
            return Refusal.INVALID
        return None

    async def identify(self, dialect: str, token: str, clock: Clock) -> Identity | Refusal:
        """Find out whose token this is, whoever knows it."""
        identifier = self._identifiers.get(dialect)
        if identifier is None:
            return Refusal.INVALID
        with barrier(self.engine.counters, f"a token of {dialect}"):
            return await identifier.identify(token, clock, trio.current_time())
        return Refusal.INVALID

    def occupy(self, link: GatewayLink, dialect: str, account: str) -> bool:
        """Count a connection to its account, once; False if the account has its fill already."""
        count_max = self._connections_max.get(dialect, 0)
        if not count_max or not account or link in self._account_of or link not in self._links:
            return True
        key = (dialect, account)
        if self._per_account.get(key, 0) >= count_max:
            return False
        self._per_account[key] = self._per_account.get(key, 0) + 1
        self._account_of[link] = key
        return True

    # --- channels ------------------------------------------------------------------------------------------

    def subscribe(self, receiver: Receiver, dialect: str, wanted: Subscribe, conflation: Conflation) -> bytes:
        """Subscribe to a channel, as it comes or at an interval.  What it retains, `retained` says.

        Returns:
            The topic that the receiver will see, for `unsubscribe`.

        Raises:
            BadChannel: the name can't be a channel.
        """
        topic = source = topic_of(dialect, wanted.channel)
        if wanted.every_s > 0:
            topic = topic_of(f"{dialect}@{round(wanted.every_s * 1000)}ms", wanted.channel)
            self._join_aggregate(topic, source, wanted.every_s, conflation)
        self.engine.subscribe(receiver, topic, 0)
        return topic

    def unsubscribe(self, receiver: Receiver, topic: bytes) -> None:
        """End a subscription, and with an aggregate's last reader what the aggregate itself follows."""
        self.engine.unsubscribe(receiver, topic)
        aggregate = self._aggregates.get(topic)
        if aggregate is None:
            return
        aggregate.readers -= 1
        if not aggregate.readers:
            self.engine.unsubscribe(aggregate, aggregate.source)
            del self._aggregates[topic]

    def retained(self, dialect: str, channel: str) -> list[Publication]:
        """What a new reader of this channel gets at once, at whatever interval it reads.  Raises: BadChannel."""
        return self.engine.retained.matching(topic_of(dialect, channel))

    def parts(self, dialect: str, channel: str) -> list[Part]:
        """What a channel with a state is made of.  Raises: BadChannel."""
        return self.engine.parts.of(topic_of(dialect, channel))

    def publish(self, dialect: str, channel: str, payload: bytes) -> None:
        """Send a text to every reader of a channel.  Raises: BadChannel."""
        self.engine.publish(Publication(topic_of(dialect, channel), payload))

    def _join_aggregate(self, topic: bytes, source: bytes, every_s: float, conflation: Conflation) -> None:
        aggregate = self._aggregates.get(topic)
        if aggregate is None:
            aggregate = self._aggregates[topic] = Aggregate(
                topic, source, every_s, conflation, self.engine.publish_here, self.engine.counters
            )
            self.engine.subscribe(aggregate, source, 0)
            self._aggregating.set()
        aggregate.readers += 1

    def join_pacing(self, reader: PacedReader) -> None:
        """Call its `pace` about twenty times a second."""
        self._pacing[reader] = None
        self._aggregating.set()

    def leave_pacing(self, reader: PacedReader) -> None:
        """This reader has nothing to send later any more."""
        self._pacing.pop(reader, None)

    async def _keep_tokens_fresh(self) -> None:
        while True:
            self.tokens_changed = trio.Event()
            async with trio.open_nursery() as nursery:
                for verifier in self._identifiers.values():
                    if isinstance(verifier, TokenVerifier):
                        nursery.start_soon(verifier.keep_fresh, self.engine.counters)
                await self.tokens_changed.wait()
                nursery.cancel_scope.cancel()

    async def _publish_aggregates(self) -> None:
        while True:
            await self._aggregating.wait()
            await trio.sleep(AGGREGATE_TICK_S)
            await self.publish_aggregates()

    async def publish_aggregates(self) -> None:
        """Publish what is due of aggregates, and let readers at an interval send; some in each turn."""
        for aggregates in _by_turns(list(self._aggregates.values())):
            with self.engine.turn:
                for aggregate in aggregates:
                    aggregate.publish_due(self.engine.now, self.engine.publish_here)
            await trio.lowlevel.checkpoint()
        for readers in _by_turns(list(self._pacing)):
            with self.engine.turn:
                for reader in readers:
                    if reader in self._pacing:
                        with barrier(self.engine.counters, "a WebSocket client's interval"):
                            reader.pace(self.engine.now)
            await trio.lowlevel.checkpoint()
        if not self._aggregates and not self._pacing:
            self._aggregating = trio.Event()

    async def _close_hooks(self) -> None:
        with trio.CancelScope(shield=True):
            for hook in self._hooks.values():
                await hook.aclose()


def _by_turns(items: list[T]) -> Iterator[list[T]]:
    return (items[start : start + A_TURN] for start in range(0, len(items), A_TURN))


def identifiers_for(config: GatewayConfig, hooks: dict[str, HttpHook]) -> dict[str, Identifier]:
    """Who answers the logins of each dialect that has any.

    Args:
        hooks: those that there are, by dialect; they are told what is asked of them now.  A missing one is added.
    """
    found: dict[str, Identifier] = {}
    for kind in config.dialects:
        login = kind.login
        if isinstance(login, HttpHookConfig):
            hook = hooks.get(kind.name)
            if hook is None:
                hook = hooks[kind.name] = HttpHook(login)
            hook.adopt(login)
            found[kind.name] = hook
        elif isinstance(login, JwtConfig):
            found[kind.name] = JwtVerifier(login)
        elif login is not None:
            found[kind.name] = TokenVerifier(login)
    return found
