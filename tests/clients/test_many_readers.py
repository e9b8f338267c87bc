"""Two thousand readers at once, over a restart of the server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from support.ports import free_port
from support.rowcast_process import RowcastProcess

sys.path.insert(0, str(Path(__file__).parents[2] / "clients/python"))
from rowcast_client import Message, Refused
from rowcast_client.trio import connect

READERS = 2000
MESSAGES = 60
WITHIN_S = 1500.0
SETTINGS = """
[[listener]]
port = {websocket_port}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["rowcast"]

[websocket.rowcast]
anonymous_subscribe = ["#"]
anonymous_publish = ["#"]

[[history]]
topics = ["many/#"]

[persistence]
persistence = true
persistence_location = "FOLDER"
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def started(folder: Path, port: int) -> RowcastProcess:
    process = RowcastProcess.from_toml(
        folder, SETTINGS.replace("FOLDER", str(folder)).replace("{websocket_port}", str(port))
    )
    process.__enter__()
    return process


async def publish(writer: Any, topic: str, number: int) -> None:
    """Until it is answered: a number that was on its way as the server ended may come twice, and readers say so."""
    while True:
        try:
            await writer.publish(topic, number)
            return
        except Refused as refused:
            assert refused.code == "disconnected"  # noqa: PT017
            await trio.sleep(0.05)


async def test_none_misses_or_repeats_a_message_over_a_restart(tmp_path: Path) -> None:
    port = free_port()
    url = f"ws://127.0.0.1:{port}/rowcast"
    process = await trio.to_thread.run_sync(started, tmp_path, port)
    heard: list[list[int]] = [[] for _ in range(READERS)]
    ready = 0

    async def read(found: list[int]) -> None:
        nonlocal ready
        async with connect(url) as reader:
            subscription = reader.subscribe("many/+", "start")
            ready += 1
            async for event in subscription:
                assert isinstance(event, Message), event
                found.append(event.data)
                if event.data == MESSAGES - 1:
                    return

    try:
        with trio.fail_after(WITHIN_S):
            async with trio.open_nursery() as nursery, connect(url) as writer:
                for found in heard:
                    nursery.start_soon(read, found)
                    await trio.lowlevel.checkpoint()
                for number in range(MESSAGES):
                    if number == MESSAGES // 2:
                        await trio.to_thread.run_sync(process.__exit__, None, None, None)
                        process = await trio.to_thread.run_sync(started, tmp_path, port)
                    await publish(writer, "many/7", number)
        assert ready == READERS
        # A number may have been published twice, where its answer was lost with the server: for all the same.
        assert sorted(set(heard[0])) == list(range(MESSAGES))
        assert len(heard[0]) <= MESSAGES + 1
        assert [number for number, found in enumerate(heard) if found != heard[0]] == []
    finally:
        await trio.to_thread.run_sync(process.__exit__, None, None, None)
