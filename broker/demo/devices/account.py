"""What devices and an operator have sent, what of it was acknowledged, seen and kept, and whether that is the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attrs import define, field, frozen

from broker.demo.measure import Ledger
from broker.feed.driver.connection import TrioConnection

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
KEPT: Final = "SELECT device, metric, value::text, at, source FROM readings"


@frozen
class Reading:
    """One measured value; no two of a device and metric are of the same time.

    Args:
        value: a number, as it is written.
        at_us: microseconds since 1970.
    """

    device: str
    metric: str
    value: str
    at_us: int
    source: str = "mqtt"

    @property
    def place(self) -> str:
        """The levels of its topics behind the first."""
        return f"{self.device}/{self.metric}"

    @property
    def text(self) -> str:
        """All of it but its place."""
        return f"{self.value} at {self.at_us} from {self.source}"

    @property
    def at(self) -> datetime:
        """When it was measured."""
        return EPOCH + timedelta(microseconds=self.at_us)


@define
class Account:
    """Ledgers of one run, and all that was sent."""

    acknowledged: Ledger = field(factory=Ledger)
    """PUBACKs, and how long after the PUBLISH."""
    browser: Ledger = field(factory=Ledger)
    """Every row, and how long after its message was sent."""
    corrections: Ledger = field(factory=Ledger)
    """Rows that no device sent."""
    sent: list[Reading] = field(factory=list)
    cuts: int = 0
    repeated: int = 0
    """Messages that were sent again after a cut."""

    def send(self, reading: Reading, now: float) -> None:
        """It is sent, or inserted, for the first time."""
        self.sent.append(reading)
        ledgers = [self.browser, self.acknowledged if reading.source == "mqtt" else self.corrections]
        for ledger in ledgers:
            ledger.expect(reading.place, reading.text)
            ledger.commit(now)

    def acknowledge(self, reading: Reading, now: float) -> None:
        """Its PUBACK came."""
        self.acknowledged.receive(reading.place, reading.text, now)

    def see(self, topic: str, row: dict[str, Any], now: float) -> None:
        """The browser got a row."""
        family, _, place = topic.partition("/")
        at_us = (datetime.fromisoformat(row["at"]) - EPOCH) // timedelta(microseconds=1)
        reading = Reading(row["device"], row["metric"], row["value"], at_us, row["source"])
        ledger = self.corrections if family == "corrections" else self.browser
        ledger.receive(place, reading.text, now)

    @property
    def awaited(self) -> int:
        """How much is still on its way."""
        return self.acknowledged.awaited + self.browser.awaited + self.corrections.awaited

    def summary(self, now: float) -> dict[str, Any]:
        """The figures at `now`."""
        return {
            "acknowledged": self.acknowledged.summary(now).as_json(),
            "browser": self.browser.summary(now).as_json(),
            "corrections": self.corrections.summary(now).as_json(),
            "cuts": self.cuts,
            "sent_again": self.repeated,
        }

    def is_exact(self, now: float) -> bool:
        """Whether everything came once, and nothing else."""
        ledgers = (self.acknowledged, self.browser, self.corrections)
        return all(ledger.summary(now).is_exact for ledger in ledgers)

    async def missing_and_surplus(self, connection: TrioConnection) -> tuple[int, int]:
        """How many of the sent readings are not in the table, and how many rows are there that should not be."""
        cursor = await connection.execute(KEPT)
        kept = [
            Reading(device, metric, value, (at - EPOCH) // timedelta(microseconds=1), source)
            for device, metric, value, at, source in await cursor.fetchall()
        ]
        sent = set(self.sent)
        return len(sent - set(kept)), len(kept) - len(sent & set(kept))


def payload_of(reading: Reading) -> bytes:
    """What a device sends: its value digit for digit."""
    return f'{{"v": {reading.value}, "at": {json.dumps(reading.at.isoformat())}}}'.encode()
