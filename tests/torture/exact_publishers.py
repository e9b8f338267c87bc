"""Publishers at QoS 2 with persistent sessions, which go on on any node with what they have in flight; and their judge.

They use the lowest packet id that is free, and send everything twice in a row: so a message that says the same under
the same packet id is another one, over and over.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import trio
from attrs import Factory, define
from torture.wire import GONE, Connection, connect

from protocol.mqtt.packets import Pubcomp, Publish, Pubrec, Pubrel

WINDOWS = (1, 1, 4)
"""Messages in flight, of each publisher."""

CONNECT_S = 25.0
ANSWER_S = 10.0
END_S = 60.0
TOPIC = b"q2/"


@define
class Exact:
    """What they did."""

    sent: dict[int, list[bytes]] = Factory(dict)
    """By publisher, in the order of first sending; all of them have had their PUBCOMP."""
    unfinished: list[int] = Factory(list)
    connections: int = 0
    repeated: int = 0
    not_present: list[str] = Factory(list)


def judge_exact(exact: Exact, log: list[tuple[bytes, bytes]]) -> list[str]:
    """Every promise that was broken, in words."""
    faults = list(exact.not_present)
    faults += [f"publisher {name} at QoS 2 came to no end" for name in exact.unfinished]
    for name, sent in exact.sent.items():
        got = [payload for topic, payload in log if topic == TOPIC + b"%d" % name]
        if got != sent and name not in exact.unfinished:
            at = next((n for n, pair in enumerate(zip(got, sent, strict=False)) if pair[0] != pair[1]), -1)
            faults.append(
                f"publisher {name} at QoS 2: {len(sent)} sent, {len(got)} in the log; from {at} on"
                f" {sent[at : at + 4]} became {got[at : at + 4]}"
            )
    return faults


@define(eq=False)
class _InFlight:
    packet_id: int
    payload: bytes
    is_sent: bool = False
    is_received: bool = False


class ExactPublishers:
    """All of them.

    Args:
        is_over: no more trouble: they come to an end.
    """

    def __init__(self, ports: list[int], seed: int, is_over: Callable[[], bool]) -> None:
        self.exact = Exact()
        self._ports = ports
        self._random = random.Random(seed + 2)
        self._is_over = is_over

    async def run(self) -> None:
        """Until the trouble is over, and everything has come to its end."""
        async with trio.open_nursery() as nursery:
            for name, window in enumerate(WINDOWS):
                nursery.start_soon(self._publish, name, window)

    async def _publish(self, name: int, window: int) -> None:
        sent = self.exact.sent.setdefault(name, [])
        in_flight: list[_InFlight] = []
        is_known = False
        with trio.CancelScope() as scope:
            while in_flight or not self._is_over():
                if self._is_over() and scope.deadline == float("inf"):
                    scope.deadline = trio.current_time() + END_S
                client: Connection | None = None
                with suppress(*GONE):
                    with trio.fail_after(CONNECT_S):
                        client = await connect(self._random.choice(self._ports), b"exact%d" % name, False)
                    self.exact.connections += 1
                    if is_known and not client.is_present:
                        self.exact.not_present.append(f"publisher {name} at QoS 2: its session was gone")
                    is_known = True
                    for one in in_flight:
                        self.exact.repeated += one.is_sent and not one.is_received
                        await self._send(client, name, one)
                    with trio.move_on_after(self._random.uniform(1.0, 8.0)):
                        await self._go_on(client, name, window, sent, in_flight)
                if client is not None:
                    await client.close()
                await trio.sleep(0.1)
        if in_flight:
            self.exact.unfinished.append(name)

    async def _go_on(
        self, client: Connection, name: int, window: int, sent: list[bytes], in_flight: list[_InFlight]
    ) -> None:
        while in_flight or not self._is_over():
            while len(in_flight) < window and not self._is_over():
                used = {one.packet_id for one in in_flight}
                packet_id = next(n for n in range(1, window + 1) if n not in used)
                one = _InFlight(packet_id, b"%d" % (len(sent) // 2))
                in_flight.append(one)
                sent.append(one.payload)
                await self._send(client, name, one)
            with trio.fail_after(ANSWER_S):
                packet = await client.receive()
            for one in list(in_flight):
                if packet == Pubrec(one.packet_id):
                    one.is_received = True
                    await self._send(client, name, one)
                elif packet == Pubcomp(one.packet_id) and one.is_received:
                    in_flight.remove(one)
            if self._random.random() < 0.02:
                await trio.sleep(self._random.uniform(0, 0.2))

    async def _send(self, client: Connection, name: int, one: _InFlight) -> None:
        if one.is_received:
            await client.send(Pubrel(one.packet_id))
            return
        dup, one.is_sent = one.is_sent, True
        await client.send(Publish(TOPIC + b"%d" % name, one.payload, 2, False, dup, one.packet_id))
