"""A broker in an asyncio program: an error that says what to do, and the way that the page shows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import trio
from support.nodes import Client

from broker import Broker, Config, Listener
from broker.config.model import Security


def test_asyncio_is_told_that_a_broker_needs_trio() -> None:
    async def main() -> None:
        async with Broker(Config()):
            pass

    with pytest.raises(RuntimeError, match=r"trio\.run\(\), not asyncio\.run\(\)"):
        asyncio.run(main())


def test_trio_as_asyncios_guest() -> None:
    heard: list[bytes] = []

    async def broker_main() -> None:
        async with Broker(Config()) as broker:
            await broker.publish("greeting", b"hello", retain=True)
            async for message in broker.subscribe("greeting"):
                heard.append(message.payload)
                break

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        trio.lowlevel.start_guest_run(
            broker_main,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=ended.set_result,
        )
        (await asyncio.wait_for(ended, 20)).unwrap()

    asyncio.run(main())
    assert heard == [b"hello"]


async def test_rules_of_a_connection_count_whatever_the_configured_listeners_say(tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic read public/#\n")
    rules.chmod(0o600)
    security = Security(allow_anonymous=True, acl_file=rules)
    async with Broker(Config()) as broker:
        client = Client(broker, Listener(port=1, security=security))
        await client.connect(b"c")
        await client.subscribe((b"#", 0))
        await broker.publish("secret", b"1")
        await broker.publish("public/1", b"2")
        assert (await client.message())[:2] == (b"public/1", b"2")
