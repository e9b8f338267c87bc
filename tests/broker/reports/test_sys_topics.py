"""Every `$SYS` topic of Mosquitto's, with its meaning and its unit."""

from __future__ import annotations

import re
from math import exp

import pytest
from support.peer import OPEN_DOOR, Peer, connected, subscribed

from broker.config.model import Config, Limits, Listener
from broker.core.engine import Engine, Policy
from broker.core.publication import Publication
from broker.embed import Broker
from broker.links.listening.door import Door
from broker.reports.sys_topics import PREFIX, LoadAverage, SysTopics
from broker.reports.usage import resident_bytes
from protocol.mqtt.codec import encode
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import Connect, Packet, Pingreq, Puback, Publish, Subscribe

LOADS = (
    "bytes/received", "bytes/sent", "messages/received", "messages/sent", "publish/received", "publish/sent",
    "publish/dropped", "connections", "sockets",
)  # fmt: skip

MOSQUITTO_TOPICS = {
    "bytes/received", "bytes/sent",
    "clients/active", "clients/connected", "clients/disconnected", "clients/expired", "clients/inactive",
    "clients/maximum", "clients/total",
    "connections/socket/count",
    "heap/current", "heap/maximum",
    "messages/received", "messages/sent", "messages/stored",
    "packet/out/bytes", "packet/out/count",
    "publish/bytes/received", "publish/bytes/sent",
    "publish/messages/dropped", "publish/messages/received", "publish/messages/sent",
    "retained messages/count", "shared_subscriptions/count", "subscriptions/count",
    "store/messages/bytes", "store/messages/count",
    "uptime", "version",
} | {f"load/{name}/{minutes}min" for name in LOADS for minutes in (1, 5, 15)}  # fmt: skip

OUR_TOPICS = {"rowcast/build"}


class Observer:
    """Asks a `SysTopics` and remembers what it said, as its retained messages would."""

    def __init__(self, engine: Engine) -> None:
        self.now = 1000.0
        self.values: dict[str, str] = {}
        self._topics = SysTopics(engine, "9.8.7", "interpreted", self.now)
        self.ask(0.0)

    def ask(self, later_s: float = 10.0, owed: tuple[int, int] = (0, 0)) -> dict[str, str]:
        """What changed; every value is in `values`."""
        self.now += later_s
        news = {topic.removeprefix(PREFIX): text for topic, text in self._topics.changed(self.now, owed)}
        self.values.update(news)
        return news

    def numbers(self, *names: str) -> list[int]:
        self.ask(0.0)
        return [int(self.values[name]) for name in names]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def observer(engine: Engine) -> Observer:
    return Observer(engine)


def test_the_topics_are_mosquittos_and_one_of_our_own(observer: Observer) -> None:
    assert set(observer.values) == MOSQUITTO_TOPICS | OUR_TOPICS


def test_what_did_not_change_is_not_said_again(engine: Engine, observer: Observer) -> None:
    assert set(observer.ask()) <= {"uptime", "heap/current", "heap/maximum"}
    connected(engine)
    news = set(observer.ask())
    assert "clients/connected" in news
    assert "subscriptions/count" not in news


class TestValues:
    def test_version_and_build(self, observer: Observer) -> None:
        assert observer.values["version"] == "rowcast version 9.8.7"
        assert observer.values["rowcast/build"] == "interpreted"

    def test_uptime_in_whole_seconds(self, observer: Observer) -> None:
        observer.ask(90.7)
        assert observer.values["uptime"] == "90 seconds"

    def test_clients(self, engine: Engine, observer: Observer) -> None:
        names = ("clients/connected", "clients/active", "clients/disconnected", "clients/inactive")
        all_names = (*names, "clients/total", "clients/maximum")
        first = connected(engine, b"clean")
        second = connected(engine, b"durable", clean=False)
        assert observer.numbers(*all_names) == [2, 2, 0, 0, 2, 2]
        first.drop()
        second.drop()
        assert observer.numbers(*all_names) == [0, 0, 1, 1, 1, 2]

    def test_clients_expired(self) -> None:
        engine = Engine(Policy(persistent_client_expiration_s=60.0))
        observer = Observer(engine)
        connected(engine, clean=False).drop()
        engine.now += 61.0
        engine.expire()
        assert observer.numbers("clients/expired", "clients/total") == [1, 0]

    def test_messages_are_packets_of_every_kind_and_publishes_are_publishes(
        self, engine: Engine, observer: Observer
    ) -> None:
        peer = connected(engine)  # CONNECT, CONNACK
        peer.send(Subscribe(1, ((b"t", 1),)), Pingreq())  # SUBACK, PINGRESP
        peer.send(Publish(b"t", b"12345", 1, packet_id=1))  # PUBLISH to itself, PUBACK
        peer.send(Puback(1))
        names = ("messages/received", "messages/sent", "publish/messages/received", "publish/messages/sent")
        assert observer.numbers(*names) == [5, 5, 1, 1]
        assert observer.numbers("publish/bytes/received", "publish/bytes/sent") == [5, 5]

    def test_bytes_are_those_on_the_wire(self, engine: Engine, observer: Observer) -> None:
        peer = Peer(engine)
        packets: list[Packet] = [Connect(b"id", True, 60), Pingreq()]
        peer.send(*packets)
        received = sum(len(encode(packet)) for packet in packets)
        assert observer.numbers("bytes/received", "bytes/sent") == [received, len(peer.read_bytes())]

    def test_a_full_queue_drops_and_a_rule_does_not(self, engine: Engine) -> None:
        engine = Engine(window=Window(inflight_messages=1, queued_messages=2))
        observer = Observer(engine)
        subscribed(engine, (b"t", 1))
        for _ in range(5):
            engine.publish(Publication(b"t", b"x", 1))
        engine.counters.dropped_acl += 7
        assert observer.numbers("publish/messages/dropped") == [2]

    def test_subscriptions_and_shared_ones(self, engine: Engine, observer: Observer) -> None:
        subscribed(engine, (b"a", 0), (b"b/#", 1), (b"$share/g/c", 1))
        assert observer.numbers("subscriptions/count", "shared_subscriptions/count") == [3, 1]

    def test_messages_that_are_kept_count_once_each(self, engine: Engine, observer: Observer) -> None:
        for client_id in (b"one", b"two"):
            peer = connected(engine, client_id, clean=False)
            peer.send(Subscribe(1, ((b"t", 1),)))
            peer.drop()
        engine.publish(Publication(b"t", b"12345", 1, True))
        engine.publish(Publication(b"other", b"123", 0, True))
        names = ("retained messages/count", "store/messages/count", "messages/stored", "store/messages/bytes")
        assert observer.numbers(*names) == [2, 2, 2, 8]

    def test_what_peers_have_yet_to_take(self, observer: Observer) -> None:
        observer.ask(1.0, owed=(3, 4096))
        assert (observer.values["packet/out/count"], observer.values["packet/out/bytes"]) == ("3", "4096")

    def test_sockets_that_are_open(self, engine: Engine, observer: Observer) -> None:
        engine.counters.sockets_opened += 5
        engine.counters.sockets_closed += 2
        assert observer.numbers("connections/socket/count") == [3]

    def test_memory_in_bytes(self, observer: Observer) -> None:
        current, maximum = observer.numbers("heap/current", "heap/maximum")
        # A Python process needs more than 5 MB, and this one less than 50 GB.
        assert 5e6 < current < 5e10
        assert maximum > 5e6
        assert abs(resident_bytes() - current) < 1e8


class TestLoads:
    def test_one_interval_by_hand(self) -> None:
        """600 in 10 s are 3600 a minute; from 0 the averages move by 1 - exp(-10 / period)."""
        load = LoadAverage("x")
        load.update(600, 10.0)
        assert dict(load.topics()) == {
            "load/x/1min": "552.67",  # 3600 * (1 - 0.846482)
            "load/x/5min": "118.02",  # 3600 * (1 - 0.967216)
            "load/x/15min": "39.78",  # 3600 * (1 - 0.988950)
        }

    def test_several_intervals_by_the_formula(self) -> None:
        load = LoadAverage("x")
        expected = [0.0, 0.0, 0.0]
        total = 0
        for new, elapsed_s in ((600, 10.0), (0, 10.0), (50, 11.5), (9000, 60.0)):
            total += new
            load.update(total, elapsed_s)
            rate = new * 60.0 / elapsed_s
            for index, minutes in enumerate((1, 5, 15)):
                expected[index] = rate + exp(-elapsed_s / (60.0 * minutes)) * (expected[index] - rate)
        assert load.values == pytest.approx(expected)

    def test_a_steady_rate_is_reached(self) -> None:
        load = LoadAverage("x")
        for tick in range(1, 1000):
            load.update(tick * 20, 10.0)
        assert next(iter(load.topics())) == ("load/x/1min", "120.00")

    def test_each_load_has_its_count(self, engine: Engine, observer: Observer) -> None:
        counters = engine.counters
        counters.packets_received += 1
        counters.publishes_sent += 2
        counters.other_packets_sent += 1  # three packets in all
        counters.dropped_queue_full += 4
        counters.publishes_received += 5
        counters.bytes_received += 6
        counters.bytes_sent += 7
        counters.sockets_opened += 8
        counters.connections_accepted += 6
        counters.connections_refused += 3  # a CONNECT that was refused is one, too
        observer.ask(60.0)
        gained = {"messages/received": 1, "messages/sent": 3, "publish/sent": 2, "publish/dropped": 4,
                  "publish/received": 5, "bytes/received": 6, "bytes/sent": 7, "sockets": 8,
                  "connections": 9}  # fmt: skip
        assert {name: observer.values[f"load/{name}/1min"] for name in LOADS} == {
            name: f"{count * (1 - exp(-1)):.2f}" for name, count in gained.items()
        }

    def test_refused_clients_count_as_connections(self, engine: Engine, observer: Observer) -> None:
        closed_door = Door(Listener(port=1), Limits(), connection_messages=False)
        for door in (OPEN_DOOR, closed_door):
            Peer(engine, door).send(Connect(b"a", True, 60))
        observer.ask(60.0)
        assert observer.values["load/connections/1min"] == f"{2 * (1 - exp(-1)):.2f}"


async def test_a_client_gets_them_retained_and_wildcards_at_the_root_do_not_match_them() -> None:
    async with Broker(Config(sys_interval_s=1)) as broker:
        async for message in broker.subscribe("$SYS/broker/version"):
            assert re.fullmatch(r"rowcast version \d+\.\d+\.\d+.*", message.payload.decode())
            break
        assert broker.app.engine.retained.matching(b"#") == []
        assert broker.app.engine.retained.matching(b"+/broker/version") == []


async def test_an_interval_of_0_says_nothing() -> None:
    async with Broker(Config(sys_interval_s=0)) as broker:
        assert len(broker.app.engine.retained) == 0
