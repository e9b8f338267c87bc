"""A feed's way to the calculators, beside its way into the engine."""

from __future__ import annotations

from typing import Final

from broker.config.market import TAP_TARGET
from broker.core.added import Added
from broker.core.engine import Engine
from broker.core.positions import Positions
from broker.marketdata.market import Market
from broker.outlet import EngineOutlet
from broker.storage.keeper import Keeper
from protocol.mqtt.reserved import CHANNEL_PREFIX

TAP_PREFIX: Final = CHANNEL_PREFIX + TAP_TARGET.encode() + b"/"
GAP_PREFIX: Final = b"$SYS/feed/"
GAP_SUFFIX: Final = b"/gap"


class MarketOutlet:
    """See `broker.feed.outlet.FeedOutlet`.  What routes to a tap is a row, and `flush` the end of its transaction."""

    def __init__(
        self, engine: Engine, keeper: Keeper | None, market: Market, positions: Positions | None = None
    ) -> None:
        self._engine = engine
        self._inner = EngineOutlet(engine, keeper, positions)
        self._market = market

    def publish(
        self, topic: bytes, payload: bytes, qos: int, retain: bool, added: Added | None = None
    ) -> None:
        """Give rows of a tap, and gaps of its source, to the calculators; everything else goes on."""
        if topic.startswith(TAP_PREFIX):
            self._market.take_text(topic[len(TAP_PREFIX) :].decode(), payload)
            return
        if topic.startswith(GAP_PREFIX) and topic.endswith(GAP_SUFFIX):
            self._market.gap(topic[len(GAP_PREFIX) : -len(GAP_SUFFIX)].decode())
        self._inner.publish(topic, payload, qos, retain, added)

    @property
    def place(self) -> bytes:
        """As the outlet behind it."""
        return self._inner.place

    @place.setter
    def place(self, place: bytes) -> None:
        self._inner.place = place

    def flush(self) -> None:
        """A transaction ends: calculators say what it changed."""
        with self._engine.turn:
            self._market.commit()

    @property
    def is_strained(self) -> bool:
        """As `broker.feed.outlet.Breathing`."""
        return self._inner.is_strained

    def awaits_readers(self, now: float) -> bool:
        """As the outlet behind it."""
        return self._inner.awaits_readers(now)

    async def durable(self) -> None:
        """As the outlet behind it."""
        await self._inner.durable()
