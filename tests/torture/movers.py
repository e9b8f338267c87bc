"""Clients that move between nodes, die with wills, and share; and what the judge asks of what they saw.

A client of a moving id asks for an answer on its older connection whenever a newer one has its CONNACK: an answer to
what was sent after that would mean two owners.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import trio
from attrs import Factory, define
from torture.wire import GONE, Connection, connect

from protocol.mqtt.packets import Disconnect, Pingreq, Pingresp, Puback, Publish, Suback, Subscribe, Will

MOVERS = 3
SHARERS = 3
MORTALS = 3
CONNECT_S = 25.0

FREE, MAYBE, ONE = "none", "at most one", "one"


@define
class Moved:
    """What moving clients did and saw."""

    received: dict[int, list[int]] = Factory(dict)
    """By mover, numbers in the order in which they came."""
    shared: Counter[bytes] = Factory(Counter)
    connections: int = 0
    takeovers: int = 0
    two_owners: list[str] = Factory(list)
    not_present: list[str] = Factory(list)
    mortals: dict[bytes, str] = Factory(dict)
    """By client id, how many wills there have to be."""
    subscribed: set[int] = Factory(set)


def judge_moved(
    moved: Moved, log: list[tuple[bytes, bytes]], acknowledged: set[tuple[bytes, bytes]]
) -> list[str]:
    """Every promise that was broken, in words."""
    faults = list(moved.two_owners) + list(moved.not_present)
    for mover in moved.subscribed:
        topic = b"mv/%d" % mover
        wanted = {int(payload) for one, payload in acknowledged if one == topic}
        got = moved.received.get(mover, [])
        missing = sorted(wanted - set(got))
        if missing:
            faults.append(f"mover {mover}: {len(missing)} of {len(wanted)} never came: {missing[:10]}")
        firsts = list(dict.fromkeys(got))
        if firsts != sorted(firsts):
            faults.append(f"mover {mover}: out of order")
    wanted_shared = {payload for topic, payload in acknowledged if topic == b"sh/x"}
    missing_shared = wanted_shared - moved.shared.keys()
    if missing_shared:
        faults.append(f"group: {len(missing_shared)} never came to anybody: {sorted(missing_shared)[:10]}")
    wills = Counter(topic.partition(b"/")[2] for topic, _ in log if topic.startswith(b"will/"))
    for client_id, wanted_wills in moved.mortals.items():
        count = wills.get(client_id, 0)
        if count > 1 or (count == 0 and wanted_wills == ONE) or (count == 1 and wanted_wills == FREE):
            faults.append(f"{client_id!r}: {count} wills, wanted {wanted_wills}")
    return faults


class Movers:
    """All of them.

    Args:
        is_over: no more trouble: they come to an end.
    """

    def __init__(self, ports: list[int], seed: int, is_over: Callable[[], bool]) -> None:
        self.moved = Moved()
        self._ports = ports
        self._random = random.Random(seed + 1)
        self._is_over = is_over
        self._ready = 0
        self.ready = trio.Event()

    async def run(self) -> None:
        """Until the trouble is over, and everything that was promised has come."""
        async with trio.open_nursery() as nursery:
            for number in range(MOVERS):
                nursery.start_soon(self._move, number)
            for number in range(SHARERS):
                nursery.start_soon(self._share, number)
            for number in range(MORTALS):
                nursery.start_soon(self._die, number)

    def _is_ready(self) -> None:
        self._ready += 1
        if self._ready == MOVERS + 1:
            self.ready.set()

    async def _connect(self, client_id: bytes, clean: bool, will: Will | None = None) -> Connection | None:
        try:
            with trio.fail_after(CONNECT_S):
                return await connect(self._random.choice(self._ports), client_id, clean, will)
        except GONE:
            await trio.sleep(0.2)
            return None

    # --- a persistent session that moves -------------------------------------------------------------------

    async def _move(self, number: int) -> None:
        moved = self.moved
        client_id = b"mover%d" % number
        got = moved.received.setdefault(number, [])
        older: Connection | None = None
        async with trio.open_nursery() as nursery:
            while not self._is_over():
                client = await self._connect(client_id, False)
                if client is None:
                    continue
                moved.connections += 1
                if number in moved.subscribed and not client.is_present:
                    moved.not_present.append(f"mover {number}: its session was gone")
                if older is not None:
                    moved.takeovers += 1
                    nursery.start_soon(self._ask_older, older, number)
                    older = None
                with suppress(*GONE), trio.move_on_after(self._random.uniform(0.2, 3.0)):
                    await client.send(Subscribe(1, ((b"mv/%d" % number, 1),)))
                    await self._read(client, got, number)
                if self._random.random() < 0.5:
                    older = client  # the next connection takes over
                else:
                    await client.close()
                    await trio.sleep(self._random.uniform(0, 2.0))
            nursery.cancel_scope.deadline = trio.current_time() + 10
        if older is not None:
            await older.close()
        await self._read_rest(client_id, number, got)

    async def _read(self, client: Connection, got: list[int], number: int) -> None:
        while True:
            packet = await client.receive()
            if isinstance(packet, Suback) and number not in self.moved.subscribed:
                self.moved.subscribed.add(number)
                self._is_ready()
            if isinstance(packet, Publish):
                got.append(int(packet.payload))
                await client.send(Puback(packet.packet_id))

    async def _read_rest(self, client_id: bytes, number: int, got: list[int]) -> None:
        """All that is still to come, until nothing comes for a while."""
        quiet = 0
        while quiet < 2:
            client = await self._connect(client_id, False)
            if client is None:
                continue
            before = len(got)
            with suppress(*GONE), trio.move_on_after(4):
                await self._read(client, got, number)
            quiet = quiet + 1 if len(got) == before else 0
            await client.close()

    async def _ask_older(self, older: Connection, number: int) -> None:
        """It must not be answered any more: another connection has the client."""
        with suppress(*GONE), trio.move_on_after(8):
            await older.send(Pingreq())
            while True:
                packet = await older.receive()
                if isinstance(packet, Pingresp):
                    self.moved.two_owners.append(f"mover {number}: two owners")
                    break
        await older.close()

    # --- members of a group --------------------------------------------------------------------------------

    async def _share(self, number: int) -> None:
        client_id = b"sharer%d" % number
        is_first = number == 0
        while not self._is_over():
            await self._be_member(client_id, not is_first, self._random.uniform(0.5, 4.0), is_first)
        await self._be_member(client_id, not is_first, 15, False)

    async def _be_member(self, client_id: bytes, clean: bool, for_s: float, is_first: bool) -> None:
        client = await self._connect(client_id, clean)
        if client is None:
            return
        with suppress(*GONE), trio.move_on_after(for_s):
            await client.send(Subscribe(1, ((b"$share/g/sh/#", 1),)))
            while True:
                packet = await client.receive()
                if isinstance(packet, Suback) and is_first and not self.ready.is_set():
                    self._is_ready()
                    is_first = False
                if isinstance(packet, Publish):
                    self.moved.shared[packet.payload] += 1
                    await client.send(Puback(packet.packet_id))
        await client.close()

    # --- wills ---------------------------------------------------------------------------------------------

    async def _die(self, number: int) -> None:
        count = 0
        while not self._is_over():
            count += 1
            client_id = b"mortal%d-%d" % (number, count)
            self.moved.mortals[client_id] = MAYBE  # a CONNECT that was not answered may have been taken
            client = await self._connect(client_id, True, Will(b"will/" + client_id, b"0", 1, False))
            if client is None:
                continue
            self.moved.mortals[client_id] = ONE
            with suppress(*GONE), trio.move_on_after(self._random.uniform(0.1, 4.0)):
                await client.receive()
            if self._random.random() < 0.3:
                self.moved.mortals[client_id] = MAYBE  # its node may die before it reads this
                with suppress(*GONE), trio.move_on_after(2):
                    await client.send(Disconnect())
                    await client.receive()
            await client.close()
