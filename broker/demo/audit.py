"""Holds what two clients receive against what was committed, and sums it up for the view."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from attrs import define, field

from broker.demo.measure import Ledger, Rate
from broker.demo.postgres import Postgres
from broker.demo.simulator import Simulator
from broker.demo.view import Figures, Transport

ARRIVED_SHOWN: Final = 2


@define
class Watched:
    """One client: its balance, and what it got last."""

    name: str
    ledger: Ledger = field(factory=Ledger)
    arrived: deque[tuple[str, str]] = field(factory=lambda: deque(maxlen=ARRIVED_SHOWN))
    _rate: Rate = field(factory=Rate)

    def receive(self, place: str, text: str, at: float) -> None:
        """A client got this text at a topic or channel, at that time."""
        self.ledger.receive(place, text, at)
        self.arrived.append((place, text))

    def transport(self, now: float, judged_at: float) -> Transport:
        """Its figures; what was awaited for too long at `judged_at` is lost."""
        rate = self._rate.at(now, self.ledger.received)
        return Transport(self.name, self.ledger.summary(judged_at), rate)


@define
class Audit:
    """Both clients.  The simulator tells it what is due; they tell it what came."""

    mqtt: Watched = field(factory=lambda: Watched("MQTT"))
    websocket: Watched = field(factory=lambda: Watched("WebSocket"))

    def expect_mqtt(self, topic: str, text: str) -> None:
        """A commit will bring this text to a topic."""
        self.mqtt.ledger.expect(topic, text)

    def expect_websocket(self, channel: str, text: str) -> None:
        """A commit will bring this text to a channel."""
        self.websocket.ledger.expect(channel, text)

    def committed(self, at: float) -> None:
        """What was expected since the last call was committed at that time."""
        self.mqtt.ledger.commit(at)
        self.websocket.ledger.commit(at)

    @property
    def awaited(self) -> int:
        """How many messages are still on their way."""
        return self.mqtt.ledger.awaited + self.websocket.ledger.awaited


@define
class Observer:
    """Makes the snapshots that the view shows."""

    postgres: Postgres
    simulator: Simulator
    audit: Audit
    invitations: tuple[str, ...]
    kind: str
    started_at: float
    _rate: Rate = field(factory=Rate)

    def snapshot(self, now: float, warning: str = "", *, final: bool = False) -> Figures:
        """The state at `now`; in the final one everything still awaited is lost."""
        both = (self.audit.mqtt, self.audit.websocket)
        judged_at = math.inf if final else now
        return Figures(
            postgres_version=self.postgres.version,
            elapsed_s=now - self.started_at,
            events=self.simulator.events,
            transactions=self.simulator.transactions,
            events_rate=self._rate.at(now, self.simulator.events),
            transports=tuple(watched.transport(now, judged_at) for watched in both),
            arrived=tuple((watched.name, *arrival) for watched in both for arrival in watched.arrived),
            invitations=self.invitations,
            kind=self.kind,
            warning=warning,
        )
