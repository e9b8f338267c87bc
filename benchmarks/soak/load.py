"""What happens in each tick: clients that stay, clients that come and go, rows, retained messages, sessions.

Everything is closed: a part's tick ends when all that it caused was delivered and acknowledged, to the byte.
"""

from __future__ import annotations

import itertools
import ssl
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import psycopg

from benchmarks import packets
from benchmarks.clients import (
    Client,
    Lost,
    TlsClient,
    connect,
    open_socket,
    read_exactly,
    subscribe,
    subscriber,
)
from benchmarks.measurement import Target
from benchmarks.soak.world import World
from benchmarks.workloads.feed import Rows
from benchmarks.workloads.websocket import Reader, econia_message, frame, open_econia, shake_hands

RECEIVERS: Final = 50
BURST: Final = 20
NAMES_AWAY: Final = 20
KEPT_TOPICS: Final = 100
BROWSERS: Final = 20
_PAYLOAD: Final = bytes(64)
_BINARY: Final = 0x82
_PONG: Final = 0x8A


class Part(ABC):
    """One kind of load.

    Attributes:
        delivered: how many messages its clients have got.
        every: it happens in every so many ticks.
    """

    every = 1

    def __init__(self) -> None:
        self.delivered = 0

    @abstractmethod
    def tick(self, number: int) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """End all clients, sessions and retained messages."""


def all_parts(world: World) -> list[Part]:
    return [
        FanOut(world),
        Careful(world),
        Kept(world),
        Visitors(world),
        Away(world),
        Browsers(world),
        Table(world),
    ]


class FanOut(Part):
    """QoS 0 to many, a fifth of them under TLS; one retained message is replaced."""

    def __init__(self, world: World) -> None:
        super().__init__()
        targets = [world.plain, world.plain, world.plain, world.plain, world.tls]
        self._receivers = [
            subscriber(target.mqtt, b"soak-%d" % i, b"soak/all/#")
            for i, target in zip(range(RECEIVERS), itertools.cycle(targets))
        ]
        self._publisher = connect(world.plain.mqtt, b"soak-pub")

    def tick(self, number: int) -> None:
        """Topics of this tick alone, so that caches meet what they will never see again."""
        topics = [b"soak/all/%010d/%02d" % (number, i) for i in range(BURST)]
        retained = packets.publish(b"soak/all/retained", _PAYLOAD, retain=True)
        block = b"".join(packets.publish(topic, _PAYLOAD) for topic in topics) + retained
        self._publisher.sendall(block)
        for receiver in self._receivers:
            read_exactly(receiver, len(block))
        self.delivered += (BURST + 1) * RECEIVERS

    def close(self) -> None:
        self._publisher.sendall(packets.publish(b"soak/all/retained", b"", retain=True))
        _end(self._publisher, *self._receivers)


class Careful(Part):
    """QoS 1 from one to one, each acknowledged, the receiver under TLS."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._receiver = subscriber(world.tls.mqtt, b"soak-careful", b"soak/careful", qos=1)
        self._publisher = connect(world.plain.mqtt, b"soak-careful-pub")
        self._ids = itertools.cycle(range(1, 60_000, BURST))

    def tick(self, number: int) -> None:
        _publish_acknowledged(self._publisher, b"soak/careful", next(self._ids), BURST)
        _take(self._receiver, b"soak/careful", BURST)
        self.delivered += BURST

    def close(self) -> None:
        _end(self._publisher, self._receiver)


class Kept(Part):
    """A retained topic comes with each tick, and one goes; now and then somebody asks for all of them."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._target = world.plain
        self._publisher = connect(world.plain.mqtt, b"soak-kept")
        self._topics: deque[bytes] = deque()

    def tick(self, number: int) -> None:
        topic = b"soak/kept/%010d" % number
        self._topics.append(topic)
        _publish_acknowledged(self._publisher, topic, 1, 1, retain=True)
        if len(self._topics) > KEPT_TOPICS:
            _publish_acknowledged(self._publisher, self._topics.popleft(), 1, 1, retain=True, payload=b"")
        if number % 50 == 0:
            self._ask(b"asks-%d" % number, len(packets.publish(topic, _PAYLOAD)))

    def _ask(self, name: bytes, message_bytes: int) -> None:
        with closing(subscriber(self._target.mqtt, name, b"soak/kept/#")) as client:
            read_exactly(client, len(self._topics) * message_bytes)
            self.delivered += len(self._topics)

    def close(self) -> None:
        for topic in self._topics:
            _publish_acknowledged(self._publisher, topic, 1, 1, retain=True, payload=b"")
        _end(self._publisher)


class Visitors(Part):
    """Names that never come again subscribe and vanish: plain, under TLS, resumed, in a browser."""

    every = 5

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._session: ssl.SSLSession | None = None
        self._ways = itertools.cycle([self._plain, self._encrypted, self._resumed, self._browser])

    def tick(self, number: int) -> None:
        next(self._ways)(number)
        self.delivered += 1

    def _plain(self, number: int) -> None:
        with closing(connect(self._world.plain.mqtt, b"passer-by-%d" % number)) as client:
            for packet, answer_bytes in _changes(number):
                client.sendall(packet)
                read_exactly(client, answer_bytes)

    def _encrypted(self, number: int) -> None:
        with closing(connect(self._world.tls.mqtt, b"encrypted-%d" % number)) as client:
            subscribe(client, b"passing/%d" % number, qos=1)
            if isinstance(client, TlsClient):
                self._session = client.tls.session

    def _resumed(self, number: int) -> None:
        with closing(connect(self._world.tls.mqtt, b"resumed-%d" % number, self._session)) as client:
            subscribe(client, b"passing/%d" % number, qos=1)
            if isinstance(client, TlsClient) and not client.tls.session_reused:
                raise Lost("the broker did not resume a session")

    def _browser(self, number: int) -> None:
        target = self._world.tls if number % 2 else self._world.plain
        with closing(open_socket(target.websocket)) as client:
            shake_hands(client, "/mqtt", "mqtt")
            client.sendall(frame(packets.connect(b"browser-%d" % number), _BINARY))
            read_exactly(client, 2 + 4)  # a frame's head, CONNACK
            client.sendall(frame(packets.subscribe(1, b"passing/%d" % number), _BINARY))
            read_exactly(client, 2 + packets.suback_bytes())

    def close(self) -> None:
        """They are gone already."""


class Away(Part):
    """Sessions of clients that come back one after the other for what they missed, under TLS each second time."""

    every = 5

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._owed = dict.fromkeys((b"away-%02d" % i for i in range(NAMES_AWAY)), 0)
        self._names = itertools.cycle(self._owed)
        self._publisher = connect(world.plain.mqtt, b"soak-away-pub")
        for name in self._owed:
            client = self._come(world.plain, name, present=False)
            subscribe(client, b"soak/away", qos=1)
            client.sendall(packets.DISCONNECT)
            _end(client)

    def tick(self, number: int) -> None:
        _publish_acknowledged(self._publisher, b"soak/away", 1, 2)
        for name in self._owed:
            self._owed[name] += 2
        name = next(self._names)
        target = self._world.tls if number % 2 else self._world.plain
        client = self._come(target, name, present=True)
        count, self._owed[name] = self._owed[name], 0
        _take(client, b"soak/away", count)
        client.sendall(packets.DISCONNECT)
        _end(client)
        self.delivered += count

    def _come(self, target: Target, name: bytes, present: bool) -> Client:
        client = open_socket(target.mqtt)
        client.sendall(packets.connect(name, clean_session=False))
        answer = read_exactly(client, 4)
        if answer != bytes((0x20, 2, present, 0)):
            raise Lost(f"the broker answered {name!r} with {bytes(answer)!r}")
        return client

    def close(self) -> None:
        for name in self._owed:
            _end(connect(self._world.plain.mqtt, name))  # a clean session is the end of the other
        _end(self._publisher)


class Browsers(Part):
    """Rows to WebSocket clients, half of them under TLS; one leaves and one comes."""

    every = 5

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._database = psycopg.connect(world.plain.facts["dsn"], autocommit=True)
        self._clients = deque(self._open(i) for i in range(BROWSERS))

    def _open(self, number: int) -> tuple[Client, Reader]:
        target = self._world.tls if number % 2 else self._world.plain
        client = open_econia(target, number)
        return client, Reader(client)

    def tick(self, number: int) -> None:
        messages = [econia_message(number + i) for i in range(5)]
        self._database.execute("SELECT pg_notify('econiaws', t) FROM unnest(%s::text[]) t", (messages,))
        for _, reader in self._clients:
            reader.expect(5)
        self.delivered += 5 * BROWSERS
        if number % 50 == 0:
            for client, _ in self._clients:
                client.sendall(
                    frame(b"", _PONG)
                )  # before it is asked: a reader counts messages and sees no ping
            _end(self._clients.popleft()[0])
            self._clients.append(self._open(number // 50))

    def close(self) -> None:
        _end(*(client for client, _ in self._clients))
        self._database.close()


class Table(Part):
    """Rows of one transaction to MQTT clients."""

    every = 5

    def __init__(self, world: World) -> None:
        super().__init__()
        self._rows = Rows(world.plain, 5)

    def tick(self, number: int) -> None:
        self._rows.insert(10)
        self._rows.receive(10)
        self.delivered += 50

    def close(self) -> None:
        self._rows.close()


def _changes(number: int) -> Iterator[tuple[bytes, int]]:
    yield packets.subscribe(1, b"passing/%d/+" % number), packets.suback_bytes()
    yield packets.subscribe(2, b"passing/%d/#" % number), packets.suback_bytes()
    yield packets.unsubscribe(3, b"passing/%d/+" % number), packets.ACK_BYTES


def _publish_acknowledged(
    publisher: Client, topic: bytes, first: int, count: int, retain: bool = False, payload: bytes = _PAYLOAD
) -> None:
    publisher.sendall(b"".join(packets.publish(topic, payload, 1, first + i, retain) for i in range(count)))
    read_exactly(publisher, count * packets.ACK_BYTES)


def _take(receiver: Client, topic: bytes, count: int) -> None:
    """Read so many messages of QoS 1 and acknowledge them, a window's worth at a time."""
    size = packets.publish_bytes(topic, _PAYLOAD, 1)
    offset = packets.packet_id_offset(topic, _PAYLOAD, 1)
    for taken in range(0, count, BURST):
        batch = min(BURST, count - taken)
        received = read_exactly(receiver, batch * size)
        receiver.sendall(packets.acknowledge(packets.PUBACK, received, batch, size, offset))


def _end(*clients: Client) -> None:
    for client in clients:
        client.close()
