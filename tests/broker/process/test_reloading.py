"""SIGHUP with long files: only who says CONNECT waits for them, and is decided about by what they say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import trio
from support.ports import free_port
from trio.testing import memory_stream_pair

from broker.app import App
from broker.config.mosquitto.configuration import load
from broker.config.steps import BLOCK_BYTES
from broker.gateway.passwords import Pbkdf2
from broker.process.logs import Log
from broker.process.reloading import Reloading
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connect, ConnectReturnCode, Pingreq

HASH = Pbkdf2.make(b"p", 1).encode()
BLOCKS = 60
PINGRESP = b"\xd0\x00"
ACCEPTED, REFUSED = (
    bytes((0x20, 2, 0, code)) for code in (ConnectReturnCode.ACCEPTED, ConnectReturnCode.NOT_AUTHORIZED)
)


class SilentLog:
    def reopen(self) -> None:
        pass

    def apply(self, _: object) -> None:
        pass


class Running:
    """A broker of two files."""

    def __init__(self, folder: Path) -> None:
        self.passwords, self.rules = folder / "passwords", folder / "rules"
        self.write("old", "stays")
        self.rules.write_text("topic readwrite #\n")
        config = folder / "rowcast.conf"
        config.write_text(
            f"listener {free_port()} 127.0.0.1\nallow_anonymous false\n"
            f"password_file {self.passwords}\nacl_file {self.rules}\n"
        )
        config.chmod(0o600)
        self.app = App(load(config))
        self.reloading = Reloading(self.app, self.app.config, lambda: load(config), cast(Log, SilentLog()))
        self.nursery: trio.Nursery
        self.mistakes: list[str] | None = None

    def write(self, *names: str, blocks: int = 0) -> None:
        """A password file with these users at its end."""
        many = [f"user{number}:{HASH}" for number in range(blocks * BLOCK_BYTES // len(HASH))]
        self.passwords.write_text("\n".join([*many, *(f"{name}:{HASH}" for name in names), ""]))
        self.passwords.chmod(0o600)

    async def ask(self) -> None:
        self.mistakes = None
        self.mistakes = await self.reloading.ask()

    async def opened(self, name: str) -> trio.abc.Stream:
        """A connection on which CONNECT has been said."""
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(self.app.server.serve_stream, theirs, self.app.doors[0], f"{name}:1")
        await ours.send_all(encode(Connect(name.encode(), True, 60, user_name=name.encode(), password=b"p")))
        return ours


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Running]:
    broker = Running(folder)
    async with trio.open_nursery() as nursery:
        broker.nursery = nursery
        await nursery.start(broker.app.run)
        broker.reloading.begin()
        yield broker
        broker.app.stop(at_once=True)
        nursery.cancel_scope.cancel()


async def test_connected_clients_go_on_while_long_files_are_read_and_new_ones_wait_for_them(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as broker:
        old = await broker.opened("old")
        assert await old.receive_some() == ACCEPTED
        broker.write("stays", "new", blocks=BLOCKS)
        broker.nursery.start_soon(broker.ask)
        await trio.lowlevel.checkpoint()
        gone, new = await broker.opened("old"), await broker.opened("new")
        await old.send_all(encode(Pingreq()))
        assert await old.receive_some() == PINGRESP
        assert broker.mistakes is None, "the files are still being read"
        assert await new.receive_some() == ACCEPTED
        assert broker.mistakes == []
        assert await gone.receive_some() == REFUSED
        assert await old.receive_some() == b"", "its user is no more"


async def test_the_others_have_a_turn_at_each_step_of_each_file(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        for name in ("passwords", "rules"):
            turns, broker.mistakes = 0, None
            if name == "passwords":
                broker.write("old", blocks=BLOCKS)
            else:
                broker.rules.write_text("topic readwrite a/b\n" * (BLOCKS * BLOCK_BYTES // 20))
            broker.nursery.start_soon(broker.ask)
            await trio.lowlevel.checkpoint()
            while broker.mistakes is None:
                turns += 1
                await trio.lowlevel.checkpoint()
            assert turns >= BLOCKS - 1
            assert broker.mistakes == []


async def test_with_short_files_nobody_is_served_in_between(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        broker.write("stays")
        broker.reloading.is_due = True
        broker.nursery.start_soon(broker.reloading.obey)
        while broker.reloading.holds_off():
            assert broker.app.doors[0].rules.hash_of(b"old") is not None
            await trio.lowlevel.checkpoint()
        assert broker.app.doors[0].rules.hash_of(b"old") is None


async def test_a_mistake_in_a_long_file_leaves_everything_and_those_who_waited_come_in(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as broker:
        broker.write("new", "new", blocks=BLOCKS)
        broker.nursery.start_soon(broker.ask)
        await trio.lowlevel.checkpoint()
        old, new = await broker.opened("old"), await broker.opened("new")
        assert await old.receive_some() == ACCEPTED
        assert await new.receive_some() == REFUSED
        assert broker.mistakes is not None
        assert "Duplicate user 'new'" in broker.mistakes[0]


async def test_what_is_asked_for_while_files_are_read_is_done_afterwards(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        broker.write("old", blocks=BLOCKS)
        async with trio.open_nursery() as signals:
            signals.start_soon(broker.reloading.obey)
            await trio.lowlevel.checkpoint()
            broker.write("new")
            for _ in range(3):
                signals.start_soon(broker.reloading.obey)
            new = await broker.opened("new")
            assert await new.receive_some() == ACCEPTED
        assert broker.app.doors[0].rules.hash_of(b"old") is None
