"""QoS 1 and 2 end to end: a message counts when its publisher has the last answer *and* its subscribers have it.

Every packet of a kind has one size, so that packet ids are copied out by stride.
"""

from __future__ import annotations

import gc
import itertools
import select
import time
from collections import deque
from typing import Final

from benchmarks import packets
from benchmarks.clients import PATIENCE_S, Client, Lost, connect, read_into, subscriber
from benchmarks.measurement import WARM_UP_S, Clocks, Measurement, Pipeline, Target, measure_pipeline, repeat
from benchmarks.workloads.delivery import PAYLOAD, TOPIC

_PUBLISH_QOS_2: Final = 0x34
_PUBREC: Final = 0x50


def at_least_once(target: Target, seconds: float, subscribers: int, window: int) -> Measurement:
    """QoS 1 to every subscriber; `window` messages under way in two groups, acknowledged group by group."""
    group = window // 2
    receivers = [subscriber(target.mqtt, b"sub-%d" % i, TOPIC, qos=1) for i in range(subscribers)]
    publisher = connect(target.mqtt, b"pub")
    blocks = itertools.cycle(_blocks(1, group, groups=2))
    size, id_at = _layout()
    buffer = bytearray(group * size)
    view = memoryview(buffer)

    def receive() -> None:
        read_into(publisher, view, group * packets.ACK_BYTES)
        for receiver in receivers:
            read_into(receiver, view, len(buffer))
            receiver.send(packets.acknowledge(packets.PUBACK, buffer, group, size, id_at))

    pipeline = Pipeline(lambda: publisher.sendall(next(blocks)), receive)
    return measure_pipeline(target, pipeline, group * subscribers, seconds)


def exactly_once(target: Target, seconds: float, window: int) -> Measurement:
    """QoS 2 from one publisher to one subscriber; `window` messages under way, sent in halves."""
    flow = _ExactlyOnce(target, window // 2)
    gc.collect()
    gc.disable()
    repeat(flow.step, WARM_UP_S)
    flow.samples_us.clear()
    before = flow.completed
    clocks = Clocks(target)
    repeat(flow.step, seconds)
    measured = clocks.measure(flow.completed - before, flow.samples_us)
    gc.enable()
    return measured


class _ExactlyOnce:
    """Both clients of one QoS 2 flow, each answering whatever has come with one write."""

    def __init__(self, target: Target, group: int) -> None:
        self._size, self._id_at = _layout()
        self._receiver = subscriber(target.mqtt, b"sub", TOPIC, qos=2)
        self._publisher = connect(target.mqtt, b"pub")
        self._group = group
        self._blocks = itertools.cycle(_blocks(2, group, groups=100))
        self._sent_at: deque[float] = deque()
        self._published = self._received = 0
        self._rest = b""
        self._poll = select.poll()
        for client in (self._receiver, self._publisher):
            self._poll.register(client, select.POLLIN)
        self.completed = 0
        self.samples_us: list[float] = []
        self._send_group()
        self._send_group()

    def step(self) -> None:
        """Answer what has come, and send as many groups as both ends have completed."""
        ready = self._poll.poll(PATIENCE_S * 1000)
        if not ready:
            raise Lost("a QoS 2 flow stands still")
        for descriptor, _ in ready:
            if descriptor == self._publisher.fileno():
                self._answer_publisher()
            else:
                self._answer_subscriber()
        while min(self._published, self._received) - self.completed >= self._group:
            self.completed += self._group
            self.samples_us.append((time.perf_counter() - self._sent_at.popleft()) * 1e6)
            self._send_group()

    def _send_group(self) -> None:
        self._sent_at.append(time.perf_counter())
        self._publisher.sendall(next(self._blocks))

    def _answer_publisher(self) -> None:
        received = _received(self._publisher)
        if len(received) % packets.ACK_BYTES:
            raise Lost("an ack came in two pieces")
        answers = []
        for at in range(0, len(received), packets.ACK_BYTES):
            if received[at] == _PUBREC:
                answers.append(packets.PUBREL + received[at + 2 : at + 4])
            else:
                self._published += 1
        if answers:
            self._publisher.sendall(b"".join(answers))

    def _answer_subscriber(self) -> None:
        received = self._rest + _received(self._receiver)
        answers = []
        at = 0
        while at < len(received):
            if received[at] == _PUBLISH_QOS_2:
                if at + self._size > len(received):
                    break
                answers.append(packets.PUBREC + received[at + self._id_at : at + self._id_at + 2])
                at += self._size
            else:
                if at + packets.ACK_BYTES > len(received):
                    break
                answers.append(packets.PUBCOMP + received[at + 2 : at + 4])
                self._received += 1
                at += packets.ACK_BYTES
        self._rest = received[at:]
        if answers:
            self._receiver.sendall(b"".join(answers))


def _layout() -> tuple[int, int]:
    """The size of a PUBLISH at QoS 1 or 2, and where its packet id stands."""
    return packets.publish_bytes(TOPIC, PAYLOAD, 1), packets.packet_id_offset(TOPIC, PAYLOAD, 1)


def _received(client: Client) -> bytes:
    received = client.recv(65536)
    if not received:
        raise Lost("the broker closed a connection of a QoS 2 flow")
    return received


def _blocks(qos: int, group: int, groups: int) -> list[bytes]:
    """Writes of `group` packets, whose ids do not repeat within `groups` writes."""
    return [
        b"".join(packets.publish(TOPIC, PAYLOAD, qos, i * group + j + 1) for j in range(group))
        for i in range(groups)
    ]
