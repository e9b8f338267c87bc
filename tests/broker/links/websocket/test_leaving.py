"""What a client of a JSON dialect sent before its connection ended counts, also while it waits for something."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import jwt
import pytest
import trio
import trio.testing
from support.polling import until
from support.websockets import RawClient, Running, listening, masked, token

from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.rowcast import Rowcast
from broker.config.tokens import TokenConfig
from broker.core.limits import DEPARTED_SHARE_MAX
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.gateway.channels import topic_of
from broker.gateway.identity import Identifier
from broker.gateway.tokens import TokenVerifier
from protocol.dialects.base import Clock, Identity, Refusal
from protocol.dialects.econia import WRITER_MESSAGES_PER_S_MAX

SECRET = "s" * 32
TOKENS = TokenConfig(secrets=(SECRET,))
TOKEN = jwt.encode({"sub": "x", "exp": 1 << 40, "publish": ["#"]}, SECRET, algorithm="HS256")
PATH = "/rowcast"


class Elsewhere(Identifier):
    """Knows whose a token is once `answers` is set."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = trio.Event()
        self._verifier = TokenVerifier(TOKENS)

    async def identify(self, token: str, clock: Clock, now: float) -> Identity | Refusal:
        self.asked += 1
        await self.answers.wait()
        return self._verifier.verify(token, clock, now)


@asynccontextmanager
async def broker_with(elsewhere: Elsewhere) -> AsyncIterator[Running]:
    config = GatewayConfig(rowcast=Rowcast(tokens=TOKENS, anonymous_publish=("#",)))
    async with listening(config, ("rowcast",), {"rowcast": elsewhere}) as broker:
        yield broker


def said(**members: object) -> bytes:
    return masked(0x81, json.dumps(members).encode())


def published(count: int) -> bytes:
    return b"".join(
        said(id=number, publish=f"t/{number}", data=number, retain=True) for number in range(count)
    )


async def leave(client: RawClient, how: str) -> None:
    assert isinstance(client.stream, trio.SocketStream)
    if how == "reset":
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(client.stream)


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_what_came_before_the_end_counts(how: str) -> None:
    async with broker_with(Elsewhere()) as broker:
        with trio.fail_after(60):
            client = await broker.raw_websocket(PATH)
            await client.send(published(200))
            await leave(client, how)
            await broker.links_left(0)
            assert len(broker.engine.retained) == 200


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_what_came_before_the_end_counts_while_somebody_else_decides(how: str) -> None:
    elsewhere = Elsewhere()
    async with broker_with(elsewhere) as broker:
        with trio.fail_after(60):
            client = await broker.raw_websocket(PATH)
            await client.send(said(id=0, connect={"token": TOKEN}) + published(5))
            await client.send(said(id=1, publish="u", data=1)[:-3])
            await leave(client, how)
            await until(lambda: elsewhere.asked == 1)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert (broker.gateway.count(), elsewhere.asked, len(broker.engine.retained)) == (1, 1, 0)
            elsewhere.answers.set()
            await broker.links_left(0)
            assert len(broker.engine.retained) == 5


class Counting(Receiver):
    def __init__(self) -> None:
        super().__init__(plain=False)
        self.count = 0

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self.count += 1


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_what_came_before_the_end_counts_while_the_client_is_slowed_down(how: str) -> None:
    count = int(1.5 * WRITER_MESSAGES_PER_S_MAX)
    async with listening() as broker:
        counting = Counting()
        broker.engine.subscribe(counting, topic_of("econia", "c"), 0)
        with trio.fail_after(60):
            client = await broker.raw_websocket("/" + token(mode="w", channels=["c"]))
            await client.send(masked(0x81, b"x") * count)
            await leave(client, how)
            await broker.links_left(0)
            assert counting.count == count


async def test_those_that_left_are_bounded() -> None:
    elsewhere = Elsewhere()
    async with broker_with(elsewhere) as broker:
        with trio.fail_after(60):
            for _ in range(DEPARTED_SHARE_MAX + 10):
                client = await broker.raw_websocket(PATH)
                await client.send(said(id=0, connect={"token": TOKEN}) + published(1))
                await leave(client, "end")
            await broker.links_left(DEPARTED_SHARE_MAX)
            assert broker.gateway.count() == DEPARTED_SHARE_MAX
            elsewhere.answers.set()
            await broker.links_left(0)
            assert len(broker.websockets._departed) == 0
