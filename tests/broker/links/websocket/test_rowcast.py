"""`rowcast` connections and the Python client's core, against a model, through connections that break anywhere.

Each run: rings that forget, publishers, a client with overlapping subscriptions behind a kernel that takes what it
likes, cuts at any byte, a server that is stopped or killed and started anew.  At the end each subscription has every
message of its filter in order and each once, but where it was told of a gap; and then the state makes up for it.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support import javascript_client
from support.javascript_client import NodeClient, NodeSubscription, NodeTabs
from support.websockets import FrameParser, masked

from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.kind import Asked
from broker.config.dialects.rowcast import Rowcast
from broker.core.engine import Engine
from broker.core.history import History, Ring
from broker.core.outbox import Outbox
from broker.core.positions import Positions
from broker.core.publication import Publication
from broker.gateway.gateway import Gateway
from broker.links.websocket.catching_up import StateWalk
from broker.links.websocket.following import FollowingLink
from broker.links.websocket.readers import Readers
from broker.links.websocket.rowcast import RowcastLink
from broker.links.websocket.words import RowcastWords
from protocol.dialects.base import Clock
from protocol.dialects.rowcast import Read, RowcastDialect

sys.path.insert(0, str(Path(__file__).parents[4] / "clients/python"))
from rowcast_client.core import Client, Event, Gap, Message, State, Subscription

CONFIG = GatewayConfig(rowcast=Rowcast(anonymous_subscribe=("#",), anonymous_publish=("#",)))
TOPICS = ("a", "b", "a/b", "a/c", "r/1", "r/2", "r/3")
TABS = 3
FILTERS = ("#", "a/#", "+/b", "r/+", "r/1", "a", "+/+")


class Server:
    """One process: what it has is lost with it, but for the rings after an orderly stop."""

    def __init__(self, chance: random.Random, now: float, before: Server | None, orderly: bool) -> None:
        self.engine = Engine()
        self.engine.turn.clock = lambda: self.engine.now
        self.gateway = Gateway(CONFIG, self.engine, {})
        self.line: list[FollowingLink] = []
        self.history: History
        if before is None or not orderly:
            self.positions = Positions(f"e{chance.random()}")
        else:
            old = before.history.positions
            self.positions = Positions(
                f"e{chance.random()}", old.number, {**old.older, old.epoch: old.number}
            )
        count = chance.choice((5, 60, 10**6))
        self.rings = [Ring(self.positions, one, 10**9, count, 1e9) for one in (b"a/#", b"r/#")]
        for index, ring in enumerate(self.rings):
            if before is not None and orderly:
                old_ring = before.rings[index]
                ring.restore(
                    [(copied(one), at, place) for one, at, place in old_ring.kept()],
                    old_ring.lost_through,
                    "gone",
                )
            self.engine.subscribe(ring, ring.topic_filter, 0)
        if before is not None:
            for one in before.engine.retained.all():
                self.engine.retained.put(Publication(one.topic, one.payload, 0, True))  # as from the file
        self.history = History(self.positions, self.rings)
        self.readers = Readers(self.history, self.line.append, lambda *_: None, lambda *_: None)
        assert CONFIG.rowcast is not None
        self.dialect = CONFIG.rowcast


def as_event(kind: str, value: Any) -> Event:
    """What the JavaScript client tells, as the Python one tells it."""
    if kind == "message":
        return Message(value["topic"], value["data"])
    if kind == "state":
        return State([Message(one["topic"], one["data"]) for one in value])
    return Gap(value["reason"])


def copied(publication: Publication) -> Publication:
    made = Publication(publication.topic, publication.payload)
    made.sequence = publication.sequence
    return made


class Connection:
    """A link with a kernel that takes as many bytes as it likes, and a wire that may be cut."""

    def __init__(self, server: Server, chance: random.Random) -> None:
        self.server = server
        self.wire = b""
        self.takes = 0
        self.chance = chance
        self.parser = FrameParser()
        engine = server.engine
        limit = chance.choice((2_000, 20_000, 1_000_000))
        self.outbox = Outbox(engine.round, limit, self._send)
        dialect = server.dialect.open(Asked(), None, Clock(0.0), engine.now)
        assert isinstance(dialect, RowcastDialect)
        self.link = RowcastLink(
            dialect, server.gateway, self.outbox, "peer", 65536, lambda *_: None, server.readers
        )
        self.link.open()

    def _send(self, data: bytes) -> int:
        taken = min(self.takes, len(data))
        if not taken:
            raise BlockingIOError
        self.takes -= taken
        self.wire += data[:taken]
        return taken

    def receive(self, texts: list[str]) -> None:
        for text in texts:
            self.link.received(masked(0x81, text.encode()))
        self.server.engine.flush()

    def move(self) -> None:
        """The kernel takes some more, and those who catch up have their turn."""
        self.takes = self.chance.choice((0, 1, 100, 5_000, 10**9))
        if self.outbox.blocked:
            self.outbox.writable()
        for link in self.server.line[:]:
            self.server.line.remove(link)
            link.catch_up()
        self.server.engine.flush()

    def cut(self) -> None:
        self.outbox.close()
        self.link.lost()
        self.link.ended()


class Application:
    """What a program makes of the events: for each subscription the messages that it has."""

    def __init__(self) -> None:
        self.got: dict[str, list[tuple[str, int]]] = {}
        self.values: dict[str, dict[str, int]] = {}
        self.gaps = 0

    def take(self, one: Subscription | NodeSubscription, event: Event | tuple[str, Any]) -> None:
        if isinstance(event, tuple):
            event = as_event(*event)
        got = self.got.setdefault(one.topic, [])
        values = self.values.setdefault(one.topic, {})
        if isinstance(event, Message):
            got.append((event.topic, event.data))
            values[event.topic] = event.data
        elif isinstance(event, State):
            values.clear()
            values.update({each.topic: each.data for each in event.messages})
            got.clear()
        elif isinstance(event, Gap):
            self.gaps += 1
            got.clear()

    def forget(self, topic: str) -> None:
        self.got.pop(topic, None)
        self.values.pop(topic, None)


def run(seed: int, client: Client | NodeClient) -> tuple[int, int]:
    chance = random.Random(seed)
    now = 0.0
    server = Server(chance, now, None, False)
    application = Application()
    filters = chance.sample(FILTERS, chance.randint(1, 4))
    if isinstance(client, NodeTabs):
        wanted = [f"{tab}|{one}" for one in filters for tab in range(TABS) if chance.random() < 0.7]
        filters = wanted or [f"0|{filters[0]}"]
    for one in filters:
        client.subscribe(one, state=True)
    published: list[tuple[str, int]] = []
    connection: Connection | None = None
    asleep = 0

    def hear() -> None:
        assert connection is not None
        count = chance.choice((1, 7, 300, 10**9))
        data, connection.wire = connection.wire[:count], connection.wire[count:]
        texts, code = connection.parser.texts(data)
        for text in texts:
            for one, event in client.received(text, now):
                application.take(one, event)
        connection.receive(client.take())
        if code is not None:
            disconnect(code)
        elif isinstance(client, NodeTabs) and client.has_lost:
            disconnect(None)

    def disconnect(code: int | None) -> None:
        """None: the client has done it."""
        nonlocal connection
        assert connection is not None
        connection.cut()
        connection = None
        client.take()
        if code is not None:
            client.closed(code)
        if isinstance(client, NodeTabs):
            client.has_lost = False

    def connect() -> None:
        nonlocal connection
        connection = Connection(server, chance)
        client.opened(None, now)
        connection.receive(client.take())

    for _ in range(chance.randint(20, 200)):
        now += 0.01
        server.engine.now = now
        for _ in range(chance.choice((0, 1, 1, 4, 40))):
            topic = chance.choice(TOPICS)
            message = (topic, len(published))
            published.append(message)
            server.engine.publish(Publication(topic.encode(), str(message[1]).encode(), 0, topic[0] == "r"))
        server.engine.flush()
        if connection is None:
            if chance.random() < 0.5:
                connect()
            continue
        connection.move()
        if asleep:
            asleep -= 1  # the tab: its connection stays, and nobody reads
            continue
        hear()
        dice = chance.random()
        if connection is not None and dice < 0.03:
            disconnect(
                chance.choice((1006, 1006, 3001, 1013))
            )  # cut; its token has expired; others come first
        elif dice < 0.04:
            if connection is not None:
                disconnect(1001)
            server = Server(chance, now, server, chance.random() < 0.7)
        elif dice < 0.045:
            reason = b'{"reason":"rows may be missing"}'
            server.engine.publish(Publication(b"$SYS/feed/main/gap", reason, 1, True))
        elif dice < 0.055:
            asleep = chance.randint(1, 60)
        elif connection is not None and dice < 0.07:
            again = chance.choice(filters)
            if isinstance(client, NodeTabs) and chance.random() < 0.5:
                client.kill(int(again[0]))
                for one in filters:
                    if one[0] == again[0]:
                        application.forget(one)
                if client.has_lost:
                    disconnect(None)
                else:
                    connection.receive(client.take())
                continue
            client.subscribe(again, client.subscriptions[again].at, state=True)
            connection.receive(client.take())
    assert client.stopped is None
    for _ in range(10_000):
        if connection is None:
            connect()
        connection.move() if connection is not None else None
        hear()
        is_quiet = connection is not None and not connection.wire and not connection.outbox.pending_bytes
        if is_quiet and not server.line and all(one.phase == "live" for one in client.subscriptions.values()):
            break
    else:
        raise AssertionError("it never became live")
    check(filters, published, application)
    return application.gaps, sum(map(len, application.got.values()))


def check(filters: list[str], published: list[tuple[str, int]], application: Application) -> None:
    from rowcast_client.core import matches

    for one in filters:
        topic_filter = one.partition("|")[2] or one
        wanted = [message for message in published if matches(topic_filter, message[0])]
        got = application.got.get(one, [])
        # Since the last gap or state: all of it, up to the end.
        assert got == wanted[len(wanted) - len(got) :], one
        newest = {topic: number for topic, number in wanted if topic[0] == "r"}
        values = application.values.get(one, {})
        assert {topic: number for topic, number in values.items() if topic[0] == "r"} == newest, one


def test_every_message_in_order_and_once_or_a_gap() -> None:
    gaps = got = 0
    for seed in range(40):
        more_gaps, more_got = run(seed, Client())
        gaps += more_gaps
        got += more_got
    assert gaps > 50
    assert got > 5_000


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_same_for_a_thousand_seeds() -> None:
    for seed in range(100, 1100):
        run(seed, Client())


@pytest.mark.skipif(not javascript_client.is_there(), reason="needs Node")
def test_the_same_for_the_javascript_client() -> None:
    javascript(range(2000, 2004))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not javascript_client.is_there(), reason="needs Node")
def test_the_same_for_the_javascript_client_and_a_thousand_seeds() -> None:
    javascript(range(2004, 3010))


def javascript(seeds: range) -> None:
    for seed in seeds:
        client = NodeClient()
        try:
            run(seed, client)
        finally:
            client.end()


@pytest.mark.skipif(not javascript_client.is_there(), reason="needs Node")
def test_the_same_for_tabs_that_share_a_connection() -> None:
    tabs(
        [*range(4000, 4003), 4026, 4170]
    )  # the last two: overlapping filters, and a tab that asks again at once


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not javascript_client.is_there(), reason="needs Node")
def test_the_same_for_tabs_and_five_hundred_seeds() -> None:
    tabs(range(4003, 4510))


def tabs(seeds: Sequence[int]) -> None:
    got = 0
    for seed in seeds:
        client = NodeTabs(TABS)
        try:
            got += run(seed, client)[1]
        finally:
            client.end()
    assert got > 10 * len(seeds)


def test_a_large_state_is_sent_in_turns_and_as_it_was_when_it_was_asked_for() -> None:
    chance = random.Random(5)
    server = Server(chance, 0.0, None, orderly=False)
    topics = [f"r/{number}" for number in range(5_000)]
    for topic in topics:
        server.engine.retained.put(Publication(topic.encode(), b"0", 0, True))
    connection = Connection(server, chance)
    connection.outbox.limit_bytes = 10**6
    connection.takes = 10**9
    client, application = Client(), Application()
    client.subscribe("r/#", state=True)
    client.opened(None, 0.0)

    def tell(data: bytes) -> None:
        for text in connection.parser.texts(data)[0]:
            for one, event in client.received(text, 0.0):
                application.take(one, event)

    for _ in range(2):
        before = len(connection.wire)
        connection.receive(client.take())
        tell(connection.wire[before:])
    with server.engine.turn:  # some of those that were sent, and some that were not
        for topic in topics[::250]:
            server.engine.publish(Publication(topic.encode(), b"1", 0, True))
    for _ in range(100):
        before = len(connection.wire)
        connection.move()
        assert len(connection.wire) - before < 100_000, "one turn's worth"
        tell(connection.wire[before:])
        connection.receive(client.take())
    assert application.got["r/#"] == [(topic, 1) for topic in topics[::250]]
    assert application.values["r/#"] == {topic: int(index % 250 == 0) for index, topic in enumerate(topics)}


def test_looking_for_a_state_takes_turns_however_little_there_is() -> None:
    store = Engine().retained
    for number in range(20_000):
        store.put(Publication(b"r/%d/x" % number, b"0", 0, True))
    store.put(Publication(b"r/last/y", b"1", 0, True))
    words = RowcastWords(Read("", b"r/+/y"), History(Positions("e")))
    state, turns, found = StateWalk(store, words, 0), 0, b""
    while not state.is_over():
        found += state.some()
        turns += 1
    assert turns > 10
    assert found == b'{"topic":"r/last/y","retained":true,"data":1}'
