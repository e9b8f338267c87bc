"""`rowcast demo`: what runs in it, and in which order it starts and stops.

Postgres, gateway, clients, simulator: each is opened inside what it needs, so that it ends before it.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol, TextIO

import trio
from attrs import define, frozen

from broker import Broker
from broker.demo import gateway
from broker.demo.audit import Audit, Observer
from broker.demo.clients import HOST, ClientError, sign, watch_mqtt, watch_websocket
from broker.demo.crowd import FAMOUS, Crowd
from broker.demo.display import Display, LatestWarning, kept_warnings, opened_display
from broker.demo.postgres import Postgres, running_postgres
from broker.demo.simulator import Simulator, create_schema
from broker.demo.view import Figures, final_words, json_line
from broker.feed.driver.connection import TrioConnection

LAST_MESSAGES_TIMEOUT_S: Final = 10.0
FEEDS_TIMEOUT_S: Final = 15.0
SETTLE_S: Final = 0.5
"""After the last expected message: time for one to come twice."""


@frozen
class Options:
    """What the command line of `rowcast demo` says."""

    events: int | None = None
    """Stop when that many are committed; None: when told."""
    rate: float = 200.0
    """Committed events per second."""
    seed: int = 0
    kind: str = "wal"
    """Of the feed: `wal`, `outbox` or `listen`."""
    json: bool = False


@define
class Stop:
    """What a signal cancels: everything while it starts, then only the simulator, so that what is on its way
    still arrives.
    """

    scope: trio.CancelScope


async def demonstrate(options: Options, out: TextIO) -> int:
    """Run the demo and show it on `out`.

    Returns:
        The exit status: 1 if a number of events was asked for and not all of their messages came exactly once.

    Raises:
        PostgresError, ClientError: alone or in an ExceptionGroup.
    """
    final: list[Figures] = []
    if out.isatty() and not options.json:
        print("Starting Postgres, an exchange and Rowcast ...", file=out, flush=True)
    async with trio.open_nursery() as nursery:
        stop = Stop(nursery.cancel_scope)
        nursery.start_soon(cancel_on_signal, stop)
        await _run(options, out, stop, final.append)
        nursery.cancel_scope.cancel()
    return _conclude(options, out, final)


def _conclude(options: Options, out: TextIO, final: list[Figures]) -> int:
    if not final:
        return 0 if options.events is None else 1
    snapshot = final[0]
    complete = options.events is not None and snapshot.events >= options.events
    exact = all(transport.summary.is_exact for transport in snapshot.transports)
    if not options.json:
        print("\n".join(final_words(snapshot)), file=out)
    if options.json or options.events is not None:
        ok = exact and (complete or options.events is None)
        print(
            json_line(snapshot, seed=options.seed, rate=options.rate, kind=options.kind, ok=ok),
            file=out,
            flush=True,
        )
    return 0 if options.events is None or (complete and exact) else 1


async def _run(options: Options, out: TextIO, stop: Stop, finish: Callable[[Figures], None]) -> None:
    secret = gateway.new_secret()
    async with (
        running_postgres() as postgres,
        await TrioConnection.connect(postgres.dsn, autocommit=True) as connection,
    ):
        await create_schema(connection)
        config = gateway.configuration(postgres.dsn, secret, options.kind)
        await gateway.install_feeds(connection, config)
        audit = Audit()
        with opened_display(out, json=options.json) as display, kept_warnings() as warnings:
            async with gateway.opened(config) as broker, _watching(broker, secret, audit):
                simulator = Simulator(connection, Crowd(options.seed), audit, options.rate)
                invitations = _invitations(broker, secret, postgres)
                observer = Observer(
                    postgres, simulator, audit, invitations, options.kind, trio.current_time()
                )
                async with _shown(display, observer, warnings):
                    with trio.CancelScope() as stop.scope:
                        await simulator.run(options.events)
                    await arrivals(audit)
                finish(observer.snapshot(trio.current_time(), final=True))


async def feeds_live(broker: Broker) -> None:
    """Wait until every feed reads from Postgres.  Raises: ClientError."""
    feeds = broker.app.feeds.values()
    with trio.move_on_after(FEEDS_TIMEOUT_S):
        while any(feed.state != "live" for feed in feeds):  # noqa: ASYNC110 - plain data, has no event
            await trio.sleep(0.01)
        return
    problems = "; ".join(f"{feed.name}: {feed.problem or feed.state}" for feed in feeds)
    raise ClientError(f"the gateway does not read from Postgres: {problems}")


@asynccontextmanager
async def _watching(broker: Broker, secret: str, audit: Audit) -> AsyncIterator[None]:
    await feeds_live(broker)
    async with trio.open_nursery() as clients:
        await clients.start(watch_mqtt, gateway.port_of(broker, "mqtt"), audit.mqtt.receive)
        await clients.start(watch_websocket, _websocket_port(broker), secret, audit.websocket.receive)
        yield
        clients.cancel_scope.cancel()


@asynccontextmanager
async def _shown(display: Display, observer: Observer, warnings: LatestWarning) -> AsyncIterator[None]:
    async def keep_showing() -> None:
        while True:
            display.show(observer.snapshot(trio.current_time(), warnings.text))
            await trio.sleep(display.interval_s)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_showing)
        yield
        nursery.cancel_scope.cancel()


class Awaiting(Protocol):
    """Who knows what is still on its way."""

    @property
    def awaited(self) -> int:
        """How many messages that is."""


async def arrivals(account: Awaiting) -> None:
    """Wait for what is still on its way, for some time, and for what comes twice."""
    with trio.move_on_after(LAST_MESSAGES_TIMEOUT_S):
        while account.awaited:  # noqa: ASYNC110 - arrivals are the clients', which know of no event
            await trio.sleep(0.02)
        await trio.sleep(SETTLE_S)


ENDING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
]
"""Signals that end the demo, of those that this system has."""


async def cancel_on_signal(stop: Stop) -> None:
    """End what `stop` holds at the first signal."""
    # A second signal finds the usual handlers again and ends at once.
    with trio.open_signal_receiver(*ENDING) as signals:
        async for _ in signals:
            break
    stop.scope.cancel()


def _websocket_port(broker: Broker) -> int:
    return gateway.port_of(broker, "websockets", "econia")


def _invitations(broker: Broker, secret: str, postgres: Postgres) -> tuple[str, ...]:
    # A token without channels opens any one channel, and is short enough to be copied.
    token = sign({"mode": "r"}, secret)
    return (
        f"mosquitto_sub -p {gateway.port_of(broker, 'mqtt')} -v -t 'fill/+/{FAMOUS}/+'",
        f"ws://{HOST}:{_websocket_port(broker)}/fill_event/{token}",
        postgres.psql,
    )
