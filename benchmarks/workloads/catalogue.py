"""All workloads with the words and goals that belong to them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from attrs import frozen

from benchmarks import packets
from benchmarks.measurement import Measurement, Target
from benchmarks.workloads import acknowledged, connections, delivery, feed, retained, websocket

Run = Callable[[Target, float], Measurement]


@frozen
class Workload:
    """One row of the results.

    Attributes:
        name: for the command line.
        title: for the tables.
        run: (target, seconds) → Measurement.
        needs: what a peer must be able to do.
        unit: what is counted.
        quick: part of `make bench-quick`.
    """

    name: str
    title: str
    run: Run
    needs: str = "mqtt"
    unit: str = "deliveries"
    quick: bool = False


def _five(
    key: str,
    title: str,
    run: Run,
    needs: str = "mqtt-5",
    unit: str = "deliveries",
    user_properties: int = 0,
) -> Workload:
    """The same load by clients of MQTT 5.0: beside the row of 3.1.1 it says what that costs."""

    def speaking_five(target: Target, seconds: float) -> Measurement:
        with packets.speaking(5, user_properties):
            return run(target, seconds)

    return Workload(f"five-{key}", f"MQTT 5.0: {title}", speaking_five, needs, unit)


FIVE: Final = (
    _five(
        "burst-1",
        "1→1 QoS 0, publisher batches 200",
        partial(delivery.fan_out, subscribers=1, burst=200, depth=4),
    ),
    _five(
        "single-1",
        "1→1 QoS 0, one packet per write, window 64",
        partial(delivery.one_packet_per_write, publishers=1, window=64),
    ),
    _five("burst-100", "1→100 QoS 0", partial(delivery.fan_out, subscribers=100, burst=50, depth=2)),
    _five("burst-900", "1→900 QoS 0", partial(delivery.fan_out, subscribers=900, burst=50, depth=2)),
    _five("fan-1000", "1→1000 QoS 0", partial(delivery.fan_out, subscribers=1000, burst=10, depth=2)),
    _five(
        "mixed-1000",
        "1→1000 QoS 0, 500 of them of 3.1.1",
        partial(delivery.fan_out_to_both, each=500, burst=10, depth=2),
    ),
    Workload(
        "mixed-1000",
        "1→1000 QoS 0, 500 of them of MQTT 5.0",
        partial(delivery.fan_out_to_both, each=500, burst=10, depth=2),
        "mqtt-5",
    ),
    Workload(
        "fan-1000", "1→1000 QoS 0", partial(delivery.fan_out, subscribers=1000, burst=10, depth=2), "mqtt-5"
    ),
    _five(
        "properties-1",
        "1→1 QoS 0, publisher batches 200, five user properties",
        partial(delivery.fan_out, subscribers=1, burst=200, depth=4),
        user_properties=5,
    ),
    _five(
        "properties-100",
        "1→100 QoS 0, five user properties",
        partial(delivery.fan_out, subscribers=100, burst=50, depth=2),
        user_properties=5,
    ),
    _five(
        "qos1-1",
        "1→1 QoS 1 end to end, window 20",
        partial(acknowledged.at_least_once, subscribers=1, window=20),
    ),
    _five(
        "qos1-100",
        "1→100 QoS 1 end to end, window 20",
        partial(acknowledged.at_least_once, subscribers=100, window=20),
    ),
    _five("qos2-1", "1→1 QoS 2 end to end, window 10", partial(acknowledged.exactly_once, window=10)),
    _five(
        "idle",
        "memory of 10 000 idle clients with a subscription",
        partial(connections.idle_memory, count=10_000),
        unit="clients",
    ),
)


def _secured(key: str, title: str, needs: str, run: Run, unit: str = "deliveries") -> Workload:
    return Workload(key, title, run, needs, unit)


SECURED: Final = (
    _secured(
        "tls-single-1",
        "TLS 1→1 QoS 0, one packet per write",
        "tls",
        partial(delivery.one_packet_per_write, publishers=1, window=8),
    ),
    _secured(
        "tls-fan-in-100",
        "TLS 100→1 QoS 0, one packet per write",
        "tls",
        partial(delivery.one_packet_per_write, publishers=100, window=8),
    ),
    _secured("tls-ping-pong", "TLS ping-pong, one in flight", "tls", delivery.ping_pong),
    _secured(
        "tls-qos1-100",
        "TLS 1→100 QoS 1, window 4",
        "tls",
        partial(acknowledged.at_least_once, subscribers=100, window=4),
    ),
    _secured(
        "tls-burst-900",
        "TLS 1→900 QoS 0, chunks of 2",
        "tls",
        partial(delivery.fan_out, subscribers=900, burst=2, depth=2),
    ),
    _secured(
        "tls-burst-100",
        "TLS 1→100 QoS 0, chunks of 5",
        "tls",
        partial(delivery.fan_out, subscribers=100, burst=5, depth=2),
    ),
    _secured(
        "tls-qos1-1",
        "TLS 1→1 QoS 1, window 4",
        "tls",
        partial(acknowledged.at_least_once, subscribers=1, window=4),
    ),
    _secured(
        "tls-qos2-1",
        "TLS 1→1 QoS 2, window 4",
        "tls",
        partial(acknowledged.exactly_once, window=4),
    ),
    _secured(
        "tls-idle",
        "memory of 2 000 idle TLS clients with a subscription",
        "tls",
        partial(connections.idle_memory, count=2000),
        "clients",
    ),
    _secured(
        "tls-connect",
        "TLS, RSA 2048: 300 clients connect and subscribe, one after the other",
        "tls-rsa",
        partial(connections.connect_in_turn, count=300),
        "clients",
    ),
    _secured(
        "tls-resume",
        "TLS, RSA 2048: 300 clients resume a session and subscribe, one after the other",
        "tls-rsa",
        partial(connections.connect_in_turn, count=300, resume=True),
        "clients",
    ),
    _secured(
        "rules-burst-1",
        "1→1 QoS 0 batched, with password_file and acl_file",
        "rules",
        partial(delivery.fan_out, subscribers=1, burst=200, depth=4),
    ),
    _secured(
        "rules-connect",
        "2 000 clients with a password ($7$, 101 iterations) connect and subscribe, one after the other",
        "rules",
        partial(connections.connect_in_turn, count=2000),
        "clients",
    ),
)


WORKLOADS: Final = (
    Workload(
        "burst-1",
        "1→1 QoS 0, publisher batches 200",
        partial(delivery.fan_out, subscribers=1, burst=200, depth=4),
        needs="one-topic",
        quick=True,
    ),
    Workload(
        "single-1",
        "1→1 QoS 0, one packet per write, window 64",
        partial(delivery.one_packet_per_write, publishers=1, window=64),
        needs="one-topic",
        quick=True,
    ),
    Workload(
        "burst-100",
        "1→100 QoS 0",
        partial(delivery.fan_out, subscribers=100, burst=50, depth=2),
        needs="one-topic",
        quick=True,
    ),
    Workload(
        "burst-900",
        "1→900 QoS 0",
        partial(delivery.fan_out, subscribers=900, burst=50, depth=2),
        needs="one-topic",
        quick=True,
    ),
    Workload(
        "fan-in-100",
        "100→1 QoS 0, one packet per write, 64 in flight",
        partial(delivery.one_packet_per_write, publishers=100, window=64),
        needs="one-topic",
        quick=True,
    ),
    Workload("ping-pong", "ping-pong, one in flight", delivery.ping_pong, needs="one-topic", quick=True),
    Workload(
        "paced-100",
        "1→100 QoS 0 at 200 messages/s, latency to the last",
        partial(delivery.paced_fan_out, subscribers=100, per_second=200),
    ),
    Workload("pairs-100", "100→100 pairs QoS 0, bursts of 10", partial(delivery.pairs, count=100, burst=10)),
    Workload(
        "many-topics",
        "100 000 topics in random order, 100 subscribers",
        partial(delivery.many_topics, subscribers=100, topics_each=1000, burst=5),
        "large",
    ),
    Workload(
        "qos1-1",
        "1→1 QoS 1 end to end, window 20",
        partial(acknowledged.at_least_once, subscribers=1, window=20),
        "acknowledged",
        quick=True,
    ),
    Workload(
        "qos1-100",
        "1→100 QoS 1 end to end, window 20",
        partial(acknowledged.at_least_once, subscribers=100, window=20),
        "acknowledged",
        quick=True,
    ),
    Workload(
        "qos1-100-narrow",
        "1→100 QoS 1 end to end, window 4",
        partial(acknowledged.at_least_once, subscribers=100, window=4),
        "acknowledged",
    ),
    Workload(
        "qos1-900",
        "1→900 QoS 1 end to end, window 20",
        partial(acknowledged.at_least_once, subscribers=900, window=20),
        "acknowledged",
    ),
    Workload(
        "qos2-1",
        "1→1 QoS 2 end to end, window 10",
        partial(acknowledged.exactly_once, window=10),
        "acknowledged",
        quick=True,
    ),
    *FIVE,
    *SECURED,
    Workload(
        "retained",
        "100 000 retained topics to a new # subscriber",
        partial(retained.retained_replay, topics=100_000),
        "retain",
    ),
    Workload("start-up", "from start to the first CONNACK", connections.start_up, unit="starts", quick=True),
    Workload(
        "connect",
        "connect storm: 5 000 clients connect and subscribe",
        partial(connections.connect_storm, count=5000),
        "connections",
        "clients",
    ),
    Workload(
        "connect-turn",
        "2 000 clients connect and subscribe, one after the other",
        partial(connections.connect_in_turn, count=2000),
        "connections",
        "clients",
    ),
    Workload(
        "connect-10k",
        "10 000 clients connect and subscribe, all at once",
        partial(connections.connect_storm, count=10_000, batch=10_000),
        "large",
        "clients",
    ),
    Workload(
        "connect-paced",
        "10 000 clients connect and subscribe within one second, at an even pace",
        partial(connections.connect_paced, count=10_000, within_s=1.0),
        "large",
        "clients",
    ),
    Workload(
        "steady",
        "1→10 over 1 000 topics, without churn",
        partial(connections.subscribe_churn, topics=1000, per_second=0),
    ),
    Workload(
        "churn",
        "1→10 over 1 000 topics, beside 1 000 SUBSCRIBE/s",
        partial(connections.subscribe_churn, topics=1000, per_second=1000),
    ),
    Workload(
        "idle",
        "memory of 10 000 idle clients with a subscription",
        partial(connections.idle_memory, count=10_000),
        "large",
        "clients",
    ),
    *(
        Workload(
            f"ws-{dialect}",
            f"WebSocket fan-out 1→1000, {title}, 256 bytes, bursts of 10",
            partial(websocket.fan_out, dialect=dialect, clients=1000, burst=10),
            needs,
        )
        for dialect, title, needs in (
            ("mqtt", "MQTT", "mqtt-websocket"),
            ("econia", "Econia", "dialects"),
            ("exchange", "exchange", "dialects"),
            ("canton", "CantonDEX", "dialects"),
        )
    ),
    Workload(
        "ws-single",
        "WebSocket fan-out 1→1000, Econia, one message at a time",
        partial(websocket.fan_out, dialect="econia", clients=1000, burst=1),
        "dialects",
    ),
    Workload(
        "ws-one",
        "WebSocket fan-out 1→1000, MQTT, one message at a time",
        partial(websocket.fan_out, dialect="mqtt", clients=1000, burst=1),
        "mqtt-websocket",
    ),
    Workload(
        "wss-one",
        "WebSocket fan-out 1→1000 over TLS, MQTT, one message at a time",
        partial(websocket.fan_out, dialect="mqtt", clients=1000, burst=1),
        "tls-websocket",
    ),
    Workload(
        "ws-connect",
        "1 000 WebSocket clients connect, one after the other",
        partial(websocket.connect_in_turn, count=1000),
        "ws-connections",
        "clients",
    ),
    Workload(
        "ws-idle",
        "memory of 2 000 idle WebSocket clients",
        partial(websocket.idle_memory, dialect="econia", count=2000),
        "ws-connections",
        "clients",
    ),
    *(
        Workload(
            f"feed-{subscribers}",
            f"rows committed → {subscribers} subscriber{'s' if subscribers > 1 else ''}, {rows} rows a transaction",
            partial(feed.drain, subscribers=subscribers, per_transaction=rows),
            "feed",
        )
        for subscribers, rows in ((1, 1000), (100, 100), (1000, 20))
    ),
    Workload(
        "feed-commits",
        "rows committed → 1 subscriber, 1 row a transaction, 4 writers",
        partial(feed.many_commits, writers=4),
        "feed",
    ),
    Workload(
        "feed-latency",
        "COMMIT to client, 100 rows/s, 1 subscriber",
        partial(feed.commit_to_client, subscribers=1, per_second=100),
        "feed",
    ),
    Workload(
        "feed-both",
        "COMMIT to a WebSocket client beside an MQTT client, 100 transactions/s",
        partial(feed.commit_to_both, per_second=100),
        "feed-websocket",
    ),
)

BY_NAME: Final = {workload.name: workload for workload in WORKLOADS}
