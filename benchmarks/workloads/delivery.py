"""QoS 0: one publisher or many, one subscriber or many, in bursts or one packet per write."""

from __future__ import annotations

import itertools
import random
import time
from typing import Final, TypeVar

from benchmarks import packets
from benchmarks.clients import Client, connect, read_into, subscribe, subscriber
from benchmarks.measurement import Clocks, Measurement, Pipeline, Target, measure_pipeline, repeat

PAYLOAD: Final = bytes(range(64))
TOPIC: Final = b"bench/topic/0001"
_VIEW: Final = memoryview(bytearray(4 * 1024 * 1024))
_T = TypeVar("_T")


def receive_from_all(receivers: list[Client], count: int) -> None:
    """Read `count` bytes from each, in the order in which a broker is likely to serve them."""
    for receiver in receivers:
        read_into(receiver, _VIEW, count)


def fan_out(target: Target, seconds: float, subscribers: int, burst: int, depth: int) -> Measurement:
    """One publisher, `subscribers` receivers of everything; `burst` packets in each write, `depth` writes under way."""
    receivers = [subscriber(target.mqtt, b"sub-%d" % i, TOPIC) for i in range(subscribers)]
    publisher = connect(target.mqtt, b"pub")
    block = packets.publish(TOPIC, PAYLOAD) * burst
    pipeline = Pipeline(
        lambda: publisher.sendall(block), lambda: receive_from_all(receivers, len(block)), depth
    )
    return measure_pipeline(target, pipeline, burst * subscribers, seconds)


def fan_out_to_both(target: Target, seconds: float, each: int, burst: int, depth: int) -> Measurement:
    """As `fan_out`, to `each` clients of 3.1.1 and as many of 5.0; the publisher speaks what the workload does."""
    receivers: list[tuple[Client, int]] = []
    for level in (4, 5):
        with packets.speaking(level):
            size = burst * packets.publish_bytes(TOPIC, PAYLOAD)
            receivers += [
                (subscriber(target.mqtt, b"sub-%d-%d" % (level, i), TOPIC), size) for i in range(each)
            ]
    publisher = connect(target.mqtt, b"pub")
    block = packets.publish(TOPIC, PAYLOAD) * burst

    def receive() -> None:
        for receiver, size in receivers:
            read_into(receiver, _VIEW, size)

    pipeline = Pipeline(lambda: publisher.sendall(block), receive, depth)
    return measure_pipeline(target, pipeline, burst * 2 * each, seconds)


def one_packet_per_write(target: Target, seconds: float, publishers: int, window: int) -> Measurement:
    """`publishers` in turn write one packet each; one subscriber; `window` packets under way in two halves."""
    receiver = subscriber(target.mqtt, b"sub", TOPIC)
    senders = [connect(target.mqtt, b"pub-%d" % i).send for i in range(publishers)]
    packet = packets.publish(TOPIC, PAYLOAD)
    half = window // 2
    expected = half * len(packet)
    turns = itertools.cycle(_turns(senders, half))

    def send() -> None:
        for send_one in next(turns):
            send_one(packet)

    pipeline = Pipeline(send, lambda: read_into(receiver, _VIEW, expected))
    return measure_pipeline(target, pipeline, half, seconds)


def _turns(items: list[_T], size: int) -> list[list[_T]]:
    """All items in rotation, cut in lists of `size`, until the rotation closes."""
    endless = itertools.cycle(items)
    return [list(itertools.islice(endless, size)) for _ in items]


def ping_pong(target: Target, seconds: float) -> Measurement:
    """One message under way at a time: what a message costs when nothing else happens."""
    receiver = subscriber(target.mqtt, b"sub", TOPIC)
    publisher = connect(target.mqtt, b"pub")
    packet = packets.publish(TOPIC, PAYLOAD)
    pipeline = Pipeline(
        lambda: publisher.sendall(packet), lambda: read_into(receiver, _VIEW, len(packet)), depth=1
    )
    return measure_pipeline(target, pipeline, 1, seconds)


def pairs(target: Target, seconds: float, count: int, burst: int) -> Measurement:
    """`count` publishers with a topic and a subscriber each; `burst` packets per write, two writes under way."""
    topics = [b"bench/pair/%05d" % i for i in range(count)]
    receivers = [subscriber(target.mqtt, b"sub-%d" % i, topic) for i, topic in enumerate(topics)]
    blocks = [
        (connect(target.mqtt, b"pub-%d" % i).sendall, packets.publish(topic, PAYLOAD) * burst)
        for i, topic in enumerate(topics)
    ]
    expected = len(blocks[0][1])

    def send() -> None:
        for send_all, block in blocks:
            send_all(block)

    pipeline = Pipeline(send, lambda: receive_from_all(receivers, expected))
    return measure_pipeline(target, pipeline, count * burst, seconds)


def many_topics(
    target: Target, seconds: float, subscribers: int, topics_each: int, burst: int
) -> Measurement:
    """Every topic of a large tree once in random order, each with one subscriber among many.

    A write holds `burst` packets for each subscriber in random order; two writes are under way.  The seed is
    fixed, so that every broker gets the same order.
    """
    seed = random.Random(20260)
    topics = [[b"bench/tree/%04d/%04d" % (i, j) for j in range(topics_each)] for i in range(subscribers)]
    receivers = [_many_subscriber(target, i, own) for i, own in enumerate(topics)]
    blocks = itertools.cycle(_random_blocks(seed, topics, burst))
    publisher = connect(target.mqtt, b"pub")
    expected = burst * packets.publish_bytes(topics[0][0], PAYLOAD)
    pipeline = Pipeline(
        lambda: publisher.sendall(next(blocks)), lambda: receive_from_all(receivers, expected)
    )
    return measure_pipeline(target, pipeline, subscribers * burst, seconds)


def _many_subscriber(target: Target, number: int, topics: list[bytes]) -> Client:
    client = connect(target.mqtt, b"sub-%d" % number)
    for start in range(0, len(topics), 100):
        subscribe(client, *topics[start : start + 100])
    return client


def _random_blocks(seed: random.Random, topics: list[list[bytes]], burst: int) -> list[bytes]:
    orders = [seed.sample(own, len(own)) for own in topics]
    blocks = []
    for start in range(0, len(orders[0]) - burst + 1, burst):
        chosen = [topic for order in orders for topic in order[start : start + burst]]
        seed.shuffle(chosen)
        blocks.append(b"".join(packets.publish(topic, PAYLOAD) for topic in chosen))
    return blocks


def paced_fan_out(target: Target, seconds: float, subscribers: int, per_second: int) -> Measurement:
    """Messages at a fixed pace to many subscribers; the latency counts from the moment each one was due.

    So a broker that pauses is charged for all that should have been sent meanwhile.
    """
    receivers = [subscriber(target.mqtt, b"sub-%d" % i, TOPIC) for i in range(subscribers)]
    publisher = connect(target.mqtt, b"pub")
    packet = packets.publish(TOPIC, PAYLOAD)
    samples_us: list[float] = []
    due = time.perf_counter()

    def send_when_due() -> None:
        nonlocal due
        while (now := time.perf_counter()) < due:
            if due - now > 0.002:
                time.sleep(due - now - 0.001)
        publisher.sendall(packet)
        receive_from_all(receivers, len(packet))
        samples_us.append((time.perf_counter() - due) * 1e6)
        due += 1 / per_second

    repeat(send_when_due, 0.3)
    samples_us.clear()
    clocks = Clocks(target)
    sent = repeat(send_when_due, seconds)
    return clocks.measure(sent * subscribers, samples_us)
