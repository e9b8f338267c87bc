"""What is published through a WebSocket or HTTP becomes a row as well, and is answered when that is committed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
import trio
import trio.testing
from support.ingesting import SINK, TABLE, config_of, ingesting, rows_of
from support.installed import sql
from support.polling import until
from support.websockets import masked

from broker.admin.committing import outcome
from broker.admin.publishing import MeshPublisher, Published
from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.kind import Asked
from broker.config.dialects.rowcast import Rowcast
from broker.config.tokens import TokenConfig
from broker.core.engine import Engine
from broker.core.history import History
from broker.core.outbox import Outbox
from broker.core.positions import Positions
from broker.core.promise import Promise
from broker.gateway.gateway import Gateway
from broker.gateway.tokens import TokenVerifier
from broker.links.in_turns import in_turns
from broker.links.websocket.readers import Readers
from broker.links.websocket.rowcast import UNANSWERED_MAX, RowcastLink
from protocol.dialects.base import Clock
from protocol.dialects.rowcast import RowcastDialect

SECRET = "s" * 32
TOKENS = TokenConfig(secrets=(SECRET,))


class Socket:
    """A `rowcast` client that may publish to `telemetry/#`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        config = GatewayConfig(rowcast=Rowcast(tokens=TOKENS))
        gateway = Gateway(config, engine, {"rowcast": TokenVerifier(TOKENS)})
        self._wire = b""
        outbox = Outbox(engine.round, 10_000_000, self._send)
        assert config.rowcast is not None
        dialect = config.rowcast.open(Asked(), None, Clock(0.0), 0.0)
        assert isinstance(dialect, RowcastDialect)
        readers = Readers(History(Positions("e"), []), lambda _: None, lambda *_: None, lambda *_: None)
        self.link = RowcastLink(dialect, gateway, outbox, "peer", 65536, self._ask, readers)
        self.outbox = outbox
        self.link.open()
        self.says(connect={"token": jwt.encode({"sub": "x", "publish": ["telemetry/#"]}, SECRET, "HS256")})
        assert "connected" in self.read()[0]

    def _ask(self, link: Any, token: str) -> None:
        link.logged_in(TokenVerifier(TOKENS).verify(token, Clock(1_000_000.0), 0.0))

    def _send(self, data: bytes) -> int:
        self._wire += data
        return len(data)

    def says(self, **members: object) -> None:
        with self.engine.turn:
            self.link.received(masked(0x81, json.dumps(members).encode()))

    def read(self) -> list[dict[str, Any]]:
        """All answers so far, and none of them twice."""
        found = []
        wire, self._wire = self._wire, b""
        while wire:
            length, start = wire[1], 2
            if length == 126:
                length, start = int.from_bytes(wire[2:4], "big"), 4
            found.append(json.loads(wire[start : start + length]))
            wire = wire[start + length :]
        return found


async def answers(socket: Socket, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def has_come() -> bool:
        found.extend(socket.read())
        return len(found) >= count

    await until(has_come)
    return found


async def test_a_websocket_is_answered_after_the_commit(tmp_path: Path, database: str) -> None:
    sql(database, TABLE)
    async with ingesting(config_of(tmp_path, database, SINK)) as (engine, _):
        socket = Socket(engine)
        socket.says(id=1, publish="telemetry/d/m", data={"v": 5})
        assert socket.read() == []
        assert await answers(socket, 1) == [{"id": 1, "published": True}]
        assert rows_of(database, "SELECT device, value FROM telemetry") == [("d", 5)]


async def test_a_websocket_is_told_what_the_table_refused(tmp_path: Path, database: str) -> None:
    sql(database, TABLE)
    async with ingesting(config_of(tmp_path, database, SINK)) as (engine, _):
        socket = Socket(engine)
        for number in range(10):
            socket.says(id=number, publish="telemetry/d/m", data={"v": number if number != 4 else "x"})
        found = {one["id"]: one for one in await answers(socket, 10)}
    assert found.pop(4)["error"]["code"] == "refused"
    assert all(one["published"] for one in found.values())
    assert rows_of(database, "SELECT count(*) FROM telemetry") == [(9,)]


async def test_what_a_token_forbids_is_never_written(tmp_path: Path, database: str) -> None:
    sql(database, TABLE)
    sinks = SINK.replace('"telemetry/{device}/{metric}"', '"{device}/{metric}/x"')
    async with ingesting(config_of(tmp_path, database, sinks)) as (engine, hub):
        socket = Socket(engine)
        socket.says(id=1, publish="secret/d/x", data={"v": 5})
        (answer,) = socket.read()
        assert answer["error"]["code"] == "not_authorised"
        socket.says(id=2, publish="telemetry/d/x", data={"v": 6})
        await answers(socket, 1)
        await hub.drained()
    assert rows_of(database, "SELECT value FROM telemetry") == [(6,)]


async def test_an_unanswered_websocket_is_not_read_on_and_on(tmp_path: Path, database: str) -> None:
    """So many requests wait for the table, and no more is read until some are answered."""
    sql(database, TABLE)
    async with ingesting(config_of(tmp_path, database, SINK)) as (engine, _):
        socket = Socket(engine)
        for number in range(UNANSWERED_MAX):  # the writer runs only when this task waits
            assert not socket.outbox.is_paused
            socket.says(id=number, publish="telemetry/d/m", data={"v": number})
        assert socket.outbox.is_paused
        await answers(socket, UNANSWERED_MAX)
        assert not socket.outbox.is_paused
    assert rows_of(database, "SELECT count(*) FROM telemetry") == [(UNANSWERED_MAX,)]


async def test_a_websocket_that_left_is_told_nothing(tmp_path: Path, database: str) -> None:
    sql(database, TABLE)
    async with ingesting(config_of(tmp_path, database, SINK)) as (engine, hub):
        socket = Socket(engine)
        socket.says(id=1, publish="telemetry/d/m", data={"v": 5})
        with engine.turn:
            socket.link.ended()
        await hub.drained()
        assert socket.read() == []
    assert rows_of(database, "SELECT value FROM telemetry") == [(5,)]


async def test_http_is_answered_after_the_commit_and_told_of_refusals(tmp_path: Path, database: str) -> None:
    sql(database, TABLE)
    async with ingesting(config_of(tmp_path, database, SINK)) as (engine, _):
        publisher = MeshPublisher(Gateway(GatewayConfig(rowcast=Rowcast(tokens=TOKENS)), engine, {}))

        async def post(*items: dict[str, object]) -> tuple[int, dict[str, object]]:
            messages = await in_turns(publisher.read(json.dumps(items).encode()))
            with engine.turn:
                published = publisher.publish(messages)
            return await outcome(published)

        assert await post({"topic": "telemetry/d/m", "d": {"v": 1}}) == (
            200,
            {"result": True, "published": 1},
        )
        assert rows_of(database, "SELECT value FROM telemetry") == [(1,)]
        bodies = ('{"v": 2}', '{"v": "x"}', '{"v": 3}')
        batch: list[dict[str, object]] = [{"topic": "telemetry/d/m", "d": body} for body in bodies]
        status, said = await post(*batch)
        assert (status, said["refused"]) == (422, [1])
        assert await post({"topic": "elsewhere", "d": "x"}) == (200, {"result": True, "published": 1})
    assert rows_of(database, "SELECT value FROM telemetry ORDER BY 1") == [(1,), (2,), (3,)]


async def test_http_says_when_a_commit_takes_too_long(autojump_clock: trio.testing.MockClock) -> None:
    promise = Promise()
    promise.join()
    assert (await outcome(Published([None, promise])))[0] == 504
