"""Which connections the gateway looks at when their clocks may have come."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import pairwise

import trio

from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.kind import DialectKind
from broker.config.dialects.rowcast import Rowcast
from broker.core.engine import Engine
from broker.gateway.gateway import A_TURN, Gateway


class Alarm:
    """A connection that wants to be ticked at a time."""

    def __init__(self, gateway: Gateway, at: float) -> None:
        self.gateway, self.at = gateway, at
        self.ticked: list[float] = []
        self.told: list[set[str]] = []

    def is_due(self, now: float) -> bool:
        return now >= self.at

    def tick(self, now: float) -> None:
        self.ticked.append(now)
        self.gateway.closed(self)

    def renew(self, kinds: Mapping[str, DialectKind]) -> None:
        self.told.append(set(kinds))

    def rows_missing(self, channels: object) -> None:
        raise NotImplementedError


async def test_only_those_are_ticked_whose_time_has_come() -> None:
    chance = random.Random(7)
    clock = 0.0
    engine = Engine()
    engine.turn.clock = lambda: clock
    gateway = Gateway(GatewayConfig(), engine)
    alarms = [Alarm(gateway, chance.uniform(0, 100)) for _ in range(500)]
    for alarm in alarms:
        gateway.opened(alarm)
    for second in range(101):
        clock = float(second)
        await gateway.tick()
    assert gateway.count() == 0
    assert all(len(alarm.ticked) == 1 and 0 <= alarm.ticked[0] - alarm.at < 1 for alarm in alarms)


async def test_others_have_their_turn_while_very_many_are_ticked() -> None:
    engine = Engine()
    gateway = Gateway(GatewayConfig(), engine)
    alarms = [Alarm(gateway, 0.0) for _ in range(20 * A_TURN)]
    for alarm in alarms:
        gateway.opened(alarm)
    engine.now = 1.0
    ticked: list[int] = []

    async def watch() -> None:
        while gateway.count():
            ticked.append(sum(len(alarm.ticked) for alarm in alarms))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        nursery.start_soon(gateway.tick)
    ticked.append(len(alarms))
    assert max(later - earlier for earlier, later in pairwise(ticked)) <= 3 * A_TURN


def test_all_that_are_open_are_told_of_other_settings_a_few_in_each_turn() -> None:
    engine = Engine()
    gateway = Gateway(GatewayConfig(), engine)
    alarms = [Alarm(gateway, 0.0) for _ in range(1000)]
    for alarm in alarms:
        gateway.opened(alarm)
    engine.slicing.on_waiting = lambda: None
    gateway.adopt(GatewayConfig(rowcast=Rowcast()))
    assert 0 < sum(len(alarm.told) for alarm in alarms) < len(alarms)
    last = alarms[-1]
    gateway.closed(last)
    while engine.slicing.waits():
        engine.slicing.turn()
    assert [alarm.told for alarm in alarms[:-1]] == [[{"rowcast"}]] * (len(alarms) - 1)
    assert last.told == []


def test_what_ends_with_other_settings_is_said_at_once() -> None:
    engine = Engine()
    gateway = Gateway(GatewayConfig(), engine)
    gateway.opened(Alarm(gateway, 0.0))
    under_way: list[bool] = []
    engine.slicing.on_waiting = lambda: None
    engine.turn.on_settled(lambda: under_way.append(True))
    gateway.adopt(GatewayConfig(rowcast=Rowcast()))
    assert under_way == [True]
