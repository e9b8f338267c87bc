"""The round trip: device → MQTT → table → write-ahead log → browser, audited.

What each party must get is known from what was sent; the table is asked at the end.
"""

from __future__ import annotations

import json
import os
from importlib.resources import as_file, files
from typing import Any, Final, TextIO

import trio
import trio_websocket

from broker.config.model import Config
from broker.config.toml.configuration import load
from broker.demo.clients import HOST, ClientError, why
from broker.demo.devices.account import Account
from broker.demo.devices.fleet import Fleet
from broker.demo.gateway import install_feeds, local, opened, port_of, with_feeds
from broker.demo.postgres import running_postgres
from broker.demo.run import Options, Stop, arrivals, cancel_on_signal, feeds_live
from broker.feed.driver.connection import TrioConnection

SHOW_INTERVAL_S: Final = 1.0
SUBSCRIBE: Final = {"id": 1, "subscribe": ["readings/#", "corrections/#"]}


async def demonstrate(options: Options, out: TextIO) -> int:
    """Run the example and show what becomes of the devices' messages.

    Returns:
        The exit status: 1 if a number of events was asked for and not every message became one row, and came once.
    """
    summary: dict[str, Any] = {}
    async with trio.open_nursery() as nursery:
        stop = Stop(nursery.cancel_scope)
        nursery.start_soon(cancel_on_signal, stop)
        summary = await _run(options, out, stop)
        nursery.cancel_scope.cancel()
    if not summary:
        return 0 if options.events is None else 1
    print(json.dumps(summary), file=out, flush=True)
    return 0 if options.events is None or (summary["ok"] and summary["events"] >= options.events) else 1


async def _run(options: Options, out: TextIO, stop: Stop) -> dict[str, Any]:
    async with (
        running_postgres() as postgres,
        await TrioConnection.connect(postgres.dsn, autocommit=True) as connection,
    ):
        await connection.execute((files(__package__) / "devices.sql").read_bytes())
        config = _configuration(postgres.dsn, options.kind)
        await install_feeds(connection, config)
        async with opened(config) as broker:
            await feeds_live(broker)
            mqtt, websocket = port_of(broker, "mqtt"), port_of(broker, "websockets", "rowcast")
            account = Account()
            fleet = Fleet(mqtt, account, connection, options.seed)
            print("\n".join(_invitations(mqtt, websocket, postgres.psql)), file=out, flush=True)
            async with trio.open_nursery() as parties:
                await parties.start(watch, f"ws://{HOST}:{websocket}/rowcast", account)
                parties.start_soon(_keep_showing, account, options, out)
                for device in fleet.devices:
                    parties.start_soon(device.run)
                with trio.CancelScope() as stop.scope:
                    await fleet.measure(options.rate, options.events)
                await arrivals(account)
                parties.cancel_scope.cancel()
            missing, surplus = await account.missing_and_surplus(connection)
            now = trio.current_time()
            return {
                "example": "devices",
                "events": fleet.events,
                "seed": options.seed,
                "ok": account.is_exact(now) and not missing and not surplus,
                "rows": {"missing": missing, "surplus": surplus},
                **account.summary(now),
            }


async def watch(
    url: str, account: Account, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """What a browser sees, until cancelled."""
    async with trio_websocket.open_websocket_url(url, message_queue_size=256) as websocket:
        try:
            await websocket.send_message(json.dumps(SUBSCRIBE))
            task_status.started()
            while True:
                message = json.loads(await websocket.get_message(), parse_float=str, parse_int=str)
                now = trio.current_time()
                if "topic" in message:
                    account.see(message["topic"], message["data"], now)
                elif "ping" in message:
                    await websocket.send_message('{"pong":1}')
                elif "error" in message:
                    raise ClientError(f"the gateway refused the browser: {message['error']}")
        except trio_websocket.ConnectionClosed as closed:
            raise ClientError(f"the gateway closed the browser's WebSocket: {why(closed)}") from None


async def _keep_showing(account: Account, options: Options, out: TextIO) -> None:
    while True:
        await trio.sleep(SHOW_INTERVAL_S)
        summary = account.summary(trio.current_time())
        print(json.dumps(summary) if options.json else line(summary), file=out, flush=True)


def line(summary: dict[str, Any]) -> str:
    """One second's figures."""
    acknowledged, browser = summary["acknowledged"], summary["browser"]
    return (
        f"rows {acknowledged['received']:>7}   acknowledged after {_ms(acknowledged)}"
        f"   in the browser {browser['received']:>7} after {_ms(browser)}   lost {browser['lost']}"
        f"   twice {browser['duplicated']}   cut {summary['cuts']}, {summary['sent_again']} sent again"
    )


def _ms(figures: dict[str, Any]) -> str:
    return "-" if figures["p50_ms"] is None else f"{figures['p50_ms']:.1f} ms"


def _configuration(dsn: str, kind: str) -> Config:
    environment = {**os.environ, "DATABASE_URL": dsn}
    with as_file(files(__package__) / "devices.toml") as path:
        config = with_feeds(load(path, environment), kind)
    return local(config)


def _invitations(mqtt: int, websocket: int, psql: str) -> list[str]:
    """How a reader joins in: as a device, as a browser, as the operator."""
    reading = '{"v": 21.50, "at": "2026-01-01T12:00:00Z"}'
    return [
        "Join in:",
        f"  mosquitto_pub -p {mqtt} -q 1 -t telemetry/mine/temperature -m '{reading}'",
        f"  ws://{HOST}:{websocket}/rowcast",
        f"    {json.dumps(SUBSCRIBE)}",
        f"  {psql}",
        "",
    ]
