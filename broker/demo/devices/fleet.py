"""Devices that measure, publish at QoS 1, lose their connection now and then, and send again what is not acknowledged;
and the operator who corrects them by SQL.
"""

from __future__ import annotations

import random
import time
from collections import deque
from typing import Final

import trio

from broker.demo.devices.account import Account, Reading, payload_of
from broker.demo.nodes.client import GONE, Connection
from broker.feed.driver.connection import TrioConnection
from protocol.mqtt.packets import Puback, Publish

DEVICES: Final = 8
METRICS: Final = ("temperature", "humidity")
IN_FLIGHT_MAX: Final = 100
"""Messages that a device has sent and that are not acknowledged; then it measures no more."""
CUT_EVERY: Final = 100
"""Messages of a device, about: between two losses of its connection."""
CORRECTED_EVERY: Final = 50
AGAIN_S: Final = 0.05

INSERT: Final = b"INSERT INTO readings (id, device, metric, value, at) VALUES (%s, %s, %s, %s, %s)"


class Device:
    """One device with a session of its own.

    Args:
        name: its client id, and its level of the topics.
    """

    def __init__(self, name: str, port: int, account: Account, seed: int) -> None:
        self.name = name
        self._port = port
        self._account = account
        self._random = random.Random(f"{seed} {name}")
        self._packet_id = 0
        self._in_flight: dict[int, Reading] = {}
        self._new: deque[int] = deque()
        """Of those in flight, the packet ids of what was not sent yet."""
        self._changed = trio.Event()

    def measure(self) -> bool:
        """A reading that is to be sent; False: too much is on its way."""
        if len(self._in_flight) >= IN_FLIGHT_MAX:
            return False
        value = f"{self._random.uniform(-10, 110):.2f}"
        reading = Reading(self.name, self._random.choice(METRICS), value, time.time_ns() // 1000)
        self._packet_id = self._packet_id % 65535 + 1
        self._in_flight[self._packet_id] = reading
        self._new.append(self._packet_id)
        self._account.send(reading, trio.current_time())
        self._changed.set()
        return True

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                connection = await Connection.open(self._port, self.name.encode(), clean=False)
            except GONE:
                await trio.sleep(AGAIN_S)
                continue
            try:
                await self._talk(connection)
            except* GONE:
                self._account.cuts += 1
            finally:
                await connection.close()

    async def _talk(self, connection: Connection) -> None:
        for packet_id, reading in list(self._in_flight.items()):
            if packet_id not in self._new:
                self._account.repeated += 1
                await connection.send(_publish(reading, packet_id, dup=True))  # [MQTT-4.4.0-1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive, connection)
            while True:
                while self._new:
                    packet_id = self._new.popleft()
                    await connection.send(_publish(self._in_flight[packet_id], packet_id))
                    if self._random.randrange(CUT_EVERY) == 0:
                        await connection.close()
                self._changed = trio.Event()
                await self._changed.wait()

    async def _receive(self, connection: Connection) -> None:
        while True:
            packet = await connection.receive()
            if isinstance(packet, Puback):
                reading = self._in_flight.pop(packet.packet_id)
                self._account.acknowledge(reading, trio.current_time())


class Fleet:
    """All devices and the operator; they send `rate` readings a second in all.

    Attributes:
        events: readings so far.
    """

    def __init__(self, port: int, account: Account, connection: TrioConnection, seed: int) -> None:
        self.events = 0
        self.devices = [Device(f"device-{n}", port, account, seed) for n in range(1, DEVICES + 1)]
        self._account = account
        self._connection = connection
        self._random = random.Random(seed)

    async def measure(self, rate: float, events: int | None) -> None:
        """Until so many were sent, or cancelled."""
        started = trio.current_time()
        while events is None or self.events < events:
            await trio.sleep_until(started + self.events / rate)
            with trio.CancelScope(shield=True):
                if self.events % CORRECTED_EVERY == CORRECTED_EVERY - 1:
                    await self._correct()
                elif not self._random.choice(self.devices).measure():
                    await trio.sleep(AGAIN_S)
                    continue
            self.events += 1

    async def _correct(self) -> None:
        at_us = time.time_ns() // 1000
        device = self._random.choice(self.devices)
        reading = Reading(device.name, METRICS[0], f"{self._random.uniform(0, 30):.3f}", at_us, "operator")
        self._account.send(reading, trio.current_time())
        values = [f"by hand {at_us}", reading.device, reading.metric, reading.value, reading.at]
        await self._connection.execute(INSERT, values)


def _publish(reading: Reading, packet_id: int, dup: bool = False) -> Publish:
    topic = f"telemetry/{reading.place}".encode()
    return Publish(topic, payload_of(reading), 1, False, dup, packet_id)
