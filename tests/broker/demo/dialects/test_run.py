"""An example of another dialect: what is committed, who has to get it, and whether it was all."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio_websocket
from support.said_sql import SaidSql
from trio.testing import MockClock

from broker import Broker
from broker.demo.clients import HOST, ClientError
from broker.demo.dialects.acts import ENGINE, Act, Statement, Watcher
from broker.demo.dialects.exchange import TRADE
from broker.demo.dialects.market import Engine, MarketWatcher
from broker.demo.dialects.run import (
    SCENARIOS,
    Audience,
    _check_answer,
    _configuration,
    _invitations,
    _line,
    _shown,
    _Simulator,
    _url,
    _watch,
)
from broker.demo.run import Options

ALICE = Watcher("alice", {"uid": 1}, frozenset({"a", "both"}))
BOB = Watcher("bob", {}, frozenset({"b", "both"}))


class Scenario:
    """Says a greeting of three, and does what it is told again and again."""

    def __init__(self, *acts: Act) -> None:
        self.watchers: tuple[Watcher, ...] = (BOB, ALICE)
        self._acts = acts

    def acts(self, seed: int) -> Any:
        while True:
            yield from self._acts

    def greetings(self, watcher: Watcher, token: str) -> list[str]:
        return [f"{watcher.name} has {len(token) > 20}", "second", "third"]

    def text(self, channel: str, returned: str) -> str:
        return f"{channel}: {returned}"


class Told(Engine):
    def __init__(self) -> None:
        self.rows: list[list[str]] = []

    async def tell(self, rows: Any) -> None:
        self.rows.append(list(rows))


def statement(channel: str, sql: str = "insert") -> Statement:
    return Statement(sql, {"channel": channel}, channel)


async def run(
    scenario: Scenario, events: int, rows: Any = (("row",),), engine: Engine | None = None
) -> tuple[Audience, SaidSql, _Simulator]:
    audience, database = Audience(scenario), SaidSql(lambda text, values: rows)
    simulator = _Simulator(database.connection, audience, 10.0, engine)
    await simulator.run(scenario, Options(events))
    return audience, database, simulator


async def test_whoever_watches_a_channel_is_due_what_was_committed(autojump_clock: MockClock) -> None:
    act = (statement("a"), statement("both"))
    audience, database, simulator = await run(Scenario(act), 1)
    assert simulator.events == 2, "a transaction is whole"
    assert [text for text, _ in database.said] == ["begin", "insert", "insert", "commit"]
    assert audience.awaited == 3
    alice, bob = audience.ledgers["alice"], audience.ledgers["bob"]
    alice.receive("", "a: row", 1.0)
    for one in (alice, bob):
        one.receive("", "both: row", 1.0)
    assert audience.awaited == 0
    assert audience.is_exact(1.0)
    assert audience.summary(1.0)["alice"]["received"] == 2
    bob.receive("", "both: row", 1.0)
    assert not audience.is_exact(1.0)


async def test_it_goes_on_at_its_rate(autojump_clock: MockClock) -> None:
    _, database, simulator = await run(Scenario((statement("a"),)), 4)
    assert simulator.events == 4
    assert database.said.count(("commit", None)) == 4
    assert trio.current_time() == pytest.approx(0.3)


async def test_the_engine_is_told_of_trades_that_are_committed(autojump_clock: MockClock) -> None:
    act = (statement(ENGINE, TRADE), statement(ENGINE, "level"), statement(ENGINE, TRADE), statement("a"))
    engine = Told()
    audience, _, simulator = await run(Scenario(act, (statement(ENGINE, "level"),)), 5, engine=engine)
    assert engine.rows == [["row", "row"]]
    assert (simulator.events, audience.awaited) == (5, 1)
    await run(Scenario(act), 1)
    engine = Told()
    await run(Scenario((statement(ENGINE, TRADE),)), 1, (), engine)
    assert engine.rows == []


async def test_a_message_without_its_row_is_a_fault_of_the_demo(autojump_clock: MockClock) -> None:
    with pytest.raises(AssertionError):
        await run(Scenario((statement("a"),)), 1, ())


@pytest.mark.parametrize(("differences", "exact"), [([], True), (["the book of B"], False)])
def test_an_audience_with_a_market_is_exact_if_that_is(differences: list[str], exact: bool) -> None:
    audience = Audience(Scenario())
    audience.market = MarketWatcher(["B"])
    audience.found = {"faults": [], "differences": differences}
    assert audience.is_exact(0.0) is exact


@pytest.mark.parametrize(
    ("answer", "is_refusal"),
    [
        ('{"result":true}', False),
        ('{"status":"authenticated"}', False),
        ('{"status":"subscribed"}', False),
        ('{"result":false}', True),
        ('{"result":1}', True),
        ('{"status":"error"}', True),
        ("{}", True),
    ],
)
def test_an_answer_that_is_no_yes_is_an_error(answer: str, is_refusal: bool) -> None:
    if not is_refusal:
        _check_answer(ALICE, answer)
        return
    with pytest.raises(ClientError, match="refused the client alice"):
        _check_answer(ALICE, answer)


def balance(**more: Any) -> dict[str, Any]:
    figures = {"received": 2, "expected": 3, "lost": 0, "duplicated": 0, "unexpected": 0, "p50_ms": None}
    return {**figures, **more}


@pytest.mark.parametrize(
    ("summary", "line"),
    [
        ({"a": balance()}, "a 2/3"),
        ({"a": balance(p50_ms=0.25, p99_ms=9.99)}, "a 2/3 p50 0.2 p99 10.0 ms"),
        ({"a": balance(lost=1, duplicated=2, unexpected=4)}, "a 2/3 WRONG 7"),
        ({"a": balance(), "b": balance(received=3)}, "a 2/3 | b 3/3"),
    ],
)
def test_a_line_has_all_clients(summary: dict[str, dict[str, Any]], line: str) -> None:
    assert _line(summary) == line


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("kind", ["wal", "listen"])
def test_an_example_is_its_file_on_ports_of_this_machine(name: str, kind: str) -> None:
    config = _configuration(name, "postgresql://localhost/demo", "s" * 32, kind)
    assert {feed.kind for feed in config.feeds} == {kind}
    assert {feed.dsn for feed in config.feeds} == {"postgresql://localhost/demo"}
    assert {listener.host for listener in config.listeners} == {HOST}
    if config.market is not None:
        assert [one.port for one in config.market.intakes] == [0] * len(config.market.intakes)
    assert (config.market is not None) is (name == "exchange")


def test_the_address_is_that_of_the_listener_with_its_dialect() -> None:
    listeners = [(SimpleNamespace(dialects=("canton",)), 1), (SimpleNamespace(dialects=("exchange",)), 2)]
    dialect = SimpleNamespace(path="/ws")
    config = SimpleNamespace(gateway=SimpleNamespace(exchange=dialect))
    broker = cast("Broker", SimpleNamespace(app=SimpleNamespace(addresses=listeners, config=config)))
    assert _url("exchange", broker) == f"ws://{HOST}:2/ws"


@pytest.mark.parametrize("admin_port", [0, 8080])
def test_a_visitor_is_told_how_to_join_in(admin_port: int) -> None:
    lines = _invitations(Scenario(), "ws://x/ws", "s" * 32, "psql -h /x", admin_port)
    assert lines[:5] == ["Join in:", "  ws://x/ws", "    alice has True", "    second", "  psql -h /x"]
    assert lines[-1] == ""
    commands = lines[5:-1]
    assert len(commands) == (1 if admin_port else 0)
    if admin_port:
        assert commands[0].startswith(f"  curl http://{HOST}:8080/v1/mesh/publish ")
        assert json.loads(commands[0].rpartition("-d '")[2].removesuffix("'"))["d"] == "hello"


async def test_a_client_says_who_it_is_answers_pings_and_counts_the_rest() -> None:
    got: list[str] = []
    text = '{"type":"ping"}'

    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        websocket = await request.accept()
        for _ in range(3):
            got.append(str(await websocket.get_message()))
            await websocket.send_message('{"result":true}')
        await websocket.send_message(text)
        got.append(str(await websocket.get_message()))
        await websocket.send_message("a: row")
        await websocket.aclose(1000, "the end")

    audience = Audience(Scenario())
    audience.expect("a", "row")
    audience.committed(0.0)
    with pytest.RaisesGroup(
        pytest.RaisesExc(ClientError, match="WebSocket of alice: .*the end"), flatten_subgroups=True
    ):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(trio_websocket.serve_websocket, serve, HOST, 0, None)
            await nursery.start(_watch, audience, ALICE, f"ws://{HOST}:{server.port}/", "s" * 32)
            await trio.sleep_forever()
    assert got == ["alice has True", "second", "third", '{"type":"pong"}']
    assert audience.awaited == 0
    assert audience.ledgers["alice"].summary(trio.current_time()).unexpected == 0


@pytest.mark.parametrize("as_json", [False, True])
async def test_the_balance_is_shown_once_a_second(autojump_clock: MockClock, as_json: bool) -> None:
    out = io.StringIO()
    async with _shown(Audience(Scenario()), Options(json=as_json), out):
        await trio.sleep(2.5)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("{" if as_json else "bob 0/0 | alice 0/0")
