"""`rowcast demo --example exchange|canton`: an example as it is, users who trade, clients who watch.

What each client must get is known from the transactions; what it gets comes over a real WebSocket.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.resources import as_file, files
from typing import Any, Final, TextIO

import attrs
import trio
import trio_websocket

from broker import Broker
from broker.config.model import Config
from broker.config.toml.configuration import load
from broker.demo.clients import HOST, ClientError, sign, why
from broker.demo.dialects.acts import ENGINE, Act, Scenario, Watcher
from broker.demo.dialects.canton import CantonScenario
from broker.demo.dialects.exchange import SYMBOLS, TRADE, ExchangeScenario
from broker.demo.dialects.market import Engine, MarketWatcher
from broker.demo.gateway import install_feeds, local, new_secret, opened, with_feeds
from broker.demo.measure import Ledger
from broker.demo.postgres import running_postgres
from broker.demo.run import Options, Stop, arrivals, cancel_on_signal, feeds_live
from broker.feed.driver.connection import TrioConnection

SCENARIOS: Final[Mapping[str, Scenario]] = {"exchange": ExchangeScenario(), "canton": CantonScenario()}

SHOW_INTERVAL_S: Final = 1.0


class Audience:
    """The clients' balances."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.ledgers = {watcher.name: Ledger() for watcher in scenario.watchers}
        self.market: MarketWatcher | None = None
        self.found: dict[str, Any] = {}
        """What the market's audit says."""

    def expect(self, channel: str, returned: str) -> None:
        """Part of the transaction that is open."""
        text = self.scenario.text(channel, returned)
        for watcher in self.scenario.watchers:
            if channel in watcher.channels:
                self.ledgers[watcher.name].expect("", text)

    def committed(self, at: float) -> None:
        """What was expected since the last call was committed at that time."""
        for ledger in self.ledgers.values():
            ledger.commit(at)

    @property
    def awaited(self) -> int:
        """How many messages are still on their way."""
        return sum(ledger.awaited for ledger in self.ledgers.values())

    def summary(self, now: float) -> dict[str, Any]:
        """Figures per kind of channel."""
        return {name: ledger.summary(now).as_json() for name, ledger in self.ledgers.items()}

    def is_exact(self, now: float) -> bool:
        """Whether nothing was lost, came twice, or differs from the database."""
        if self.market is not None and not self.market.is_exact(self.found):
            return False
        return all(ledger.summary(now).is_exact for ledger in self.ledgers.values())


async def demonstrate(name: str, options: Options, out: TextIO) -> int:
    """Run an example and show what its clients receive.

    Args:
        name: `exchange` or `canton`.
        options: `events` are messages here.

    Returns:
        The exit status: 1 if a number of events was asked for and not all came exactly once to whom they were due.
    """
    audience = Audience(SCENARIOS[name])
    events = 0
    async with trio.open_nursery() as nursery:
        stop = Stop(nursery.cancel_scope)
        nursery.start_soon(cancel_on_signal, stop)
        events = await _run(name, options, out, stop, audience)
        nursery.cancel_scope.cancel()
    now = trio.current_time()
    exact = audience.is_exact(now)
    summary = {"example": name, "events": events, "kind": options.kind, "ok": exact, "seed": options.seed}
    if audience.market is not None:
        summary["market"] = audience.found
    print(json.dumps({**summary, "clients": audience.summary(now)}), file=out, flush=True)
    return 0 if options.events is None or (exact and events >= options.events) else 1


async def _run(name: str, options: Options, out: TextIO, stop: Stop, audience: Audience) -> int:
    secret = new_secret()
    async with (
        running_postgres() as postgres,
        await TrioConnection.connect(postgres.dsn, autocommit=True) as connection,
    ):
        await connection.execute((files(__package__) / f"{name}.sql").read_bytes())
        config = _configuration(name, postgres.dsn, secret, options.kind)
        await install_feeds(connection, config)
        async with opened(config) as broker:
            await feeds_live(broker)
            url = _url(name, broker)
            async with (
                _watching(audience, url, secret),
                _shown(audience, options, out),
                trio.open_nursery() as watching,
            ):
                port = broker.app.admin_port
                invitations = _invitations(audience.scenario, url, secret, postgres.psql, port)
                print("\n".join(invitations), file=out, flush=True)
                market = MarketWatcher(list(SYMBOLS)) if config.market is not None else None
                if market is not None:
                    audience.market = market
                    await watching.start(market.run, url)
                    print(f"See it:\n  http://{url.split('/')[2]}/\n", file=out, flush=True)
                engine = None if market is None else Engine(broker)
                simulator = _Simulator(connection, audience, options.rate, engine)
                with trio.CancelScope() as stop.scope:
                    await simulator.run(audience.scenario, options)
                await arrivals(audience)
                if market is not None:
                    audience.found = await market.audit(connection)
                watching.cancel_scope.cancel()
                return simulator.events
        return simulator.events


class _Simulator:
    """Commits acts, `rate` messages a second, and tells the audience what they must cause."""

    def __init__(
        self, connection: TrioConnection, audience: Audience, rate: float, engine: Engine | None
    ) -> None:
        self.events = 0
        self._connection = connection
        self._audience = audience
        self._rate = rate
        self._engine = engine

    async def run(self, scenario: Scenario, options: Options) -> None:
        started = trio.current_time()
        acts = scenario.acts(options.seed)
        while options.events is None or self.events < options.events:
            await trio.sleep_until(started + self.events / self._rate)
            # Cancelled in the middle, nobody could say whether it was committed.
            with trio.CancelScope(shield=True):
                await self._commit(next(acts))

    async def _commit(self, act: Act) -> None:
        trades: list[str] = []
        async with self._connection.transaction():
            for statement in act:
                cursor = await self._connection.execute(statement.sql.encode(), statement.values)
                found = await cursor.fetchone()
                if statement.channel != ENGINE:
                    assert found is not None
                    self._audience.expect(statement.channel, found[0])
                elif statement.sql == TRADE and found is not None:
                    trades.append(found[0])
        self._audience.committed(trio.current_time())
        if self._engine is not None and trades:
            await self._engine.tell(trades)
        self.events += len(act)


@asynccontextmanager
async def _watching(audience: Audience, url: str, secret: str) -> AsyncIterator[None]:
    async with trio.open_nursery() as clients:
        for watcher in audience.scenario.watchers:
            await clients.start(_watch, audience, watcher, url, secret)
        yield
        clients.cancel_scope.cancel()


async def _watch(
    audience: Audience,
    watcher: Watcher,
    url: str,
    secret: str,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    ledger = audience.ledgers[watcher.name]
    async with trio_websocket.open_websocket_url(url, message_queue_size=256) as websocket:
        try:
            for text in audience.scenario.greetings(watcher, sign(dict(watcher.claims), secret)):
                await websocket.send_message(text)
                _check_answer(watcher, str(await websocket.get_message()))
            task_status.started()
            while True:
                text = str(await websocket.get_message())
                if text.startswith('{"type":"ping"'):
                    await websocket.send_message('{"type":"pong"}')
                else:
                    ledger.receive("", text, trio.current_time())
        except trio_websocket.ConnectionClosed as closed:
            raise ClientError(f"the gateway closed the WebSocket of {watcher.name}: {why(closed)}") from None


def _check_answer(watcher: Watcher, text: str) -> None:
    answer = json.loads(text)
    if answer.get("result") is not True and answer.get("status") not in ("authenticated", "subscribed"):
        raise ClientError(f"the gateway refused the client {watcher.name}: {text}")


@asynccontextmanager
async def _shown(audience: Audience, options: Options, out: TextIO) -> AsyncIterator[None]:
    async def keep_showing() -> None:
        while True:
            await trio.sleep(SHOW_INTERVAL_S)
            summary = audience.summary(trio.current_time())
            print(json.dumps(summary) if options.json else _line(summary), file=out, flush=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_showing)
        yield
        nursery.cancel_scope.cancel()


def _line(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """One line for all clients: received of committed, and how long after COMMIT."""
    parts = []
    for name, client in summary.items():
        latency = (
            "" if client["p50_ms"] is None else f" p50 {client['p50_ms']:.1f} p99 {client['p99_ms']:.1f} ms"
        )
        wrong = client["lost"] + client["duplicated"] + client["unexpected"]
        parts.append(
            f"{name} {client['received']}/{client['expected']}{latency}"
            + (f" WRONG {wrong}" if wrong else "")
        )
    return " | ".join(parts)


def _configuration(name: str, dsn: str, secret: str, kind: str) -> Config:
    environment = {**os.environ, "DATABASE_URL": dsn, f"{name.upper()}_JWT_SECRET": secret}
    with as_file(files(__package__) / f"{name}.toml") as path:
        config = with_feeds(load(path, environment), kind)
    market = config.market
    if market is not None:  # the engine is in this process, and asks for the port
        market = attrs.evolve(market, intakes=tuple(attrs.evolve(one, port=0) for one in market.intakes))
    return local(attrs.evolve(config, market=market))


def _url(name: str, broker: Broker) -> str:
    port = next(port for listener, port in broker.app.addresses if name in listener.dialects)
    dialect = getattr(broker.app.config.gateway, name)
    return f"ws://{HOST}:{port}{dialect.path}"


def _invitations(scenario: Scenario, url: str, secret: str, psql: str, admin_port: int) -> list[str]:
    """How a reader joins in: where to connect and what to send, the database, publishing over HTTP."""
    watcher = next(watcher for watcher in scenario.watchers if watcher.claims)
    greetings = scenario.greetings(watcher, sign(dict(watcher.claims), secret))
    lines = ["Join in:", f"  {url}", *(f"    {text}" for text in greetings[:2]), f"  {psql}"]
    if admin_port:
        publish = f"http://{HOST}:{admin_port}/v1/mesh/publish"
        message = json.dumps({"c": "ex:BTCUSDT@depth", "d": "hello"})
        lines.append(f"  curl {publish} -H 'Content-Type: application/json' -d '{message}'")
    return [*lines, ""]
