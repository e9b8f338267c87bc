"""Devices that lose their connections: each reading is sent until it is acknowledged, under one packet id."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from support.polling import until
from support.said_sql import SaidSql
from trio.testing import MockClock

from broker.demo.clients import HOST, PacketReader
from broker.demo.devices import fleet as module
from broker.demo.devices.account import Account
from broker.demo.devices.fleet import CORRECTED_EVERY, DEVICES, IN_FLIGHT_MAX, INSERT, Device, Fleet
from broker.demo.nodes.client import GONE
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connack, Connect, Packet, Puback, Publish


class Broker:
    """Acknowledges the messages that `takes` says; closes a connection after `lives` of them."""

    def __init__(self, takes: Callable[[Publish], bool] = lambda packet: True, lives: int = 10**6) -> None:
        self.takes, self.lives = takes, lives
        self.got: list[Publish] = []
        self.connects: list[Connect] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        reader = PacketReader(stream)
        packet: Packet = await reader.next()
        assert isinstance(packet, Connect)
        self.connects.append(packet)
        await stream.send_all(encode(Connack(False, 0)))
        count = 0
        with suppress(*GONE):
            while count < self.lives:
                packet = await reader.next()
                assert isinstance(packet, Publish)
                self.got.append(packet)
                count += 1
                if self.takes(packet):
                    await stream.send_all(encode(Puback(packet.packet_id)))
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def running(broker: Broker, account: Account, name: str = "device-1") -> AsyncIterator[Device]:
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await trio.open_tcp_listeners(0, host=HOST)
        nursery.start_soon(trio.serve_listeners, broker.serve, listeners)
        device = Device(name, listeners[0].socket.getsockname()[1], account, 1)
        nursery.start_soon(device.run)
        yield device
        nursery.cancel_scope.cancel()


async def test_no_more_is_measured_than_may_be_on_its_way() -> None:
    account = Account()
    device = Device("d", 0, account, 1)
    assert [device.measure() for _ in range(IN_FLIGHT_MAX + 1)] == [True] * IN_FLIGHT_MAX + [False]
    assert len(account.sent) == IN_FLIGHT_MAX
    assert {reading.device for reading in account.sent} == {"d"}
    assert {reading.metric for reading in account.sent} == {"temperature", "humidity"}


async def test_packet_ids_begin_again_and_none_is_0() -> None:
    device = Device("d", 0, Account(), 1)
    device._packet_id = 65533
    for _ in range(4):
        device.measure()
    assert list(device._in_flight) == [65534, 65535, 1, 2]


async def test_the_same_seed_measures_the_same() -> None:
    def values(name: str, seed: int) -> list[str]:
        account = Account()
        device = Device(name, 0, account, seed)
        for _ in range(5):
            device.measure()
        return [reading.value for reading in account.sent]

    assert values("a", 1) == values("a", 1)
    assert len({tuple(values(*one)) for one in (("a", 1), ("a", 2), ("b", 1))}) == 3


async def test_each_reading_is_sent_once_and_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CUT_EVERY", 10**9)
    account, broker = Account(), Broker()
    async with running(broker, account) as device:
        for _ in range(3):
            device.measure()
        await until(lambda: not account.acknowledged.awaited)
        device.measure()
        await until(lambda: len(broker.got) == 4)
        await until(lambda: not account.acknowledged.awaited)
    assert [packet.packet_id for packet in broker.got] == [1, 2, 3, 4]
    assert {(packet.qos, packet.dup, packet.retain) for packet in broker.got} == {(1, False, False)}
    reading = account.sent[0]
    assert broker.got[0].topic == f"telemetry/device-1/{reading.metric}".encode()
    assert json.loads(broker.got[0].payload)["v"] == float(reading.value)
    (connect,) = broker.connects
    assert (connect.client_id, connect.clean_session) == (b"device-1", False)
    assert (account.cuts, account.repeated) == (0, 0)


async def test_what_was_not_acknowledged_is_sent_again_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CUT_EVERY", 10**9)
    account = Account()
    broker = Broker(lambda packet: packet.packet_id != 2 or packet.dup, lives=3)
    async with running(broker, account) as device:
        for _ in range(5):
            device.measure()
        await until(lambda: not account.acknowledged.awaited)
    again = [packet.packet_id for packet in broker.got if packet.dup]
    assert 2 in again
    assert {packet.packet_id for packet in broker.got} == {1, 2, 3, 4, 5}
    assert account.repeated >= len(again)
    assert account.cuts >= 1
    topics = {packet.packet_id: packet.topic for packet in broker.got}
    assert all(topics[packet.packet_id] == packet.topic for packet in broker.got)


async def test_a_device_that_cuts_itself_off_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CUT_EVERY", 1)
    account, broker = Account(), Broker()
    async with running(broker, account) as device:
        for _ in range(3):
            device.measure()
            await until(lambda: not account.acknowledged.awaited)
    assert len(broker.connects) >= 3
    assert account.is_exact(0.0) is False, "nothing was seen"
    assert account.acknowledged.summary(0.0).is_exact


async def test_the_fleet_measures_at_its_rate_and_is_corrected_now_and_then(
    autojump_clock: MockClock,
) -> None:
    account, database = Account(), SaidSql()
    fleet = Fleet(0, account, database.connection, 3)
    assert [device.name for device in fleet.devices] == [f"device-{n}" for n in range(1, DEVICES + 1)]
    await fleet.measure(100.0, 120)
    assert trio.current_time() == pytest.approx(119 / 100.0, abs=0.02)
    assert (fleet.events, len(account.sent)) == (120, 120)
    by_hand = [number for number, one in enumerate(account.sent) if one.source == "operator"]
    assert by_hand == [CORRECTED_EVERY - 1, 2 * CORRECTED_EVERY - 1]
    assert [text for text, _ in database.said] == [INSERT.decode()] * 2
    reading, values = account.sent[by_hand[0]], database.said[0][1]
    assert values == [f"by hand {reading.at_us}", reading.device, reading.metric, reading.value, reading.at]
    assert len({one.device for one in account.sent}) > 1


async def test_a_fleet_that_has_too_much_on_its_way_waits(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IN_FLIGHT_MAX", 3)
    account = Account()
    fleet = Fleet(0, account, SaidSql().connection, 3)
    with trio.move_on_after(5) as scope:
        await fleet.measure(10**6, None)
    assert scope.cancelled_caught
    devices = len(account.sent) - sum(one.source == "operator" for one in account.sent)
    assert devices == DEVICES * 3
    assert fleet.events == len(account.sent)
