"""`acknowledge = "saved"`: what leaves only when it is on disk."""

from __future__ import annotations

import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import trio
import trio.testing
from support.peer import Peer, connected
from support.polling import until

from broker.config.model import ConfigError, Persistence
from broker.config.mosquitto.configuration import load as load_conf
from broker.config.toml.configuration import load
from broker.core.engine import Engine
from broker.core.outbox import nothing
from broker.core.saving import SWEEP_AT, Saving
from broker.links.mqtt.answers import HELD_MAX
from broker.storage import keeper as keeper_module
from broker.storage.database import open_database
from broker.storage.journal import Journal
from broker.storage.keeper import Keeper
from broker.storage.records import Snapshot
from protocol.mqtt.packets import Puback, Pubcomp, Publish, Pubrec, Pubrel, Suback, Subscribe

WITHIN_S = 60.0


class Disk:
    """A journal whose disk may be full or slow.

    Attributes:
        works: what is saved is kept; otherwise the save fails.
        free: set while a save may end.
        on_saved: called when a save is on disk, before its broker knows.
    """

    def __init__(self, journal: Journal) -> None:
        self.works = True
        self.free = trio.Event()
        self.free.set()
        self.saves = 0
        self.on_saved: Callable[[], None] = nothing
        self._journal = journal

    @property
    def path(self) -> Path:
        return self._journal.path

    @property
    def saved_s(self) -> float:
        return self._journal.saved_s

    @property
    def problem(self) -> str:
        return "" if self.works else "the disk is full"

    @property
    def needs_whole(self) -> bool:
        return self._journal.needs_whole

    def begin(self, take: Callable[[], Snapshot], ended: Callable[[bool], None]) -> bool:
        def saved(succeeded: bool) -> None:
            self.saves += 1
            self.on_saved()
            ended(succeeded)

        return self.works and self.free.is_set() and self._journal.begin(take, saved)

    async def save(
        self,
        take: Callable[[], Awaitable[Snapshot]],
        *,
        hurry: bool = False,
        announce: bool = True,
        close_behind: bool = False,
    ) -> bool:
        await self.free.wait()
        if not self.works:
            await trio.lowlevel.checkpoint()
            return False
        succeeded = await self._journal.save(take, hurry=hurry, announce=announce, close_behind=close_behind)
        self.saves += 1
        self.on_saved()
        return succeeded

    async def close(self) -> None:
        await self._journal.close()


@asynccontextmanager
async def keeping(folder: Path) -> AsyncIterator[tuple[Engine, Disk, Keeper]]:
    settings = Persistence(True, folder, acknowledge="saved", autosave_interval_s=0)
    engine = Engine()
    engine.turn.clock = trio.current_time
    journal, _ = await Journal.open(folder / "rowcast.db")
    disk = Disk(journal)
    keeper = Keeper(engine, disk, settings)  # type: ignore[arg-type]
    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeper.run)
            yield engine, disk, keeper
            disk.works = True
            disk.free.set()
            nursery.cancel_scope.cancel()
    await keeper.close()


async def read(peer: Peer, count: int) -> list[object]:
    """The next so many packets, when they have come."""
    packets: list[object] = []

    def have_come() -> bool:
        peer.engine.flush()
        packets.extend(peer.read())
        return len(packets) >= count

    await until(have_come)
    return packets


def payloads_after_power_cut(folder: Path, into: Path) -> set[bytes]:
    """What a copy of the file as it is now holds of queues and retained messages."""
    into.mkdir()
    for file in folder.glob("rowcast.db*"):
        if not file.name.endswith("-shm"):
            shutil.copy(file, into)
    connection, saved = open_database(into / "rowcast.db")
    with closing(connection):
        kept = {message.payload for message in saved.retained}
        for record in saved.sessions:
            kept |= {one.message.payload for one in record.queued}
        return kept


async def away(engine: Engine) -> None:
    """A durable session with a subscription, whose client has left."""
    peer = connected(engine, b"away", clean=False)
    peer.send(Subscribe(1, ((b"kept/#", 2),)))
    assert await read(peer, 1) == [Suback(1, (2,))]
    peer.drop()


async def test_what_comes_while_a_save_is_written_is_saved_right_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: it does not wait until somebody looks whether there is something to save."""
    monkeypatch.setattr(keeper_module, "CHANGES_LOOK_INTERVAL_S", 1000.0)
    async with keeping(tmp_path) as (engine, disk, _):
        reader, first, second = (connected(engine, name, clean=False) for name in (b"r", b"a", b"b"))
        reader.send(Subscribe(1, ((b"t", 1),)))
        await read(reader, 1)

        def publish_once() -> None:
            disk.on_saved = nothing
            second.send(Publish(b"t", b"2", 1, packet_id=2))

        disk.on_saved = publish_once
        first.send(Publish(b"t", b"1", 1, packet_id=1))
        assert await read(first, 1) == [Puback(1)]
        assert await read(second, 1) == [Puback(2)]


async def test_a_suback_and_a_puback_wait_for_the_disk(tmp_path: Path) -> None:
    async with keeping(tmp_path) as (engine, disk, _):
        disk.free = trio.Event()
        subscriber = connected(engine, b"away", clean=False)
        subscriber.send(Subscribe(1, ((b"kept/#", 2),)))
        publisher = connected(engine, b"publisher")
        publisher.send(Publish(b"kept/1", b"x", 1, packet_id=7))
        await trio.testing.wait_all_tasks_blocked()
        assert publisher.read() == []
        assert not any(isinstance(packet, Suback) for packet in subscriber.read())
        disk.free.set()
        assert await read(publisher, 1) == [Puback(7)]
        assert await read(subscriber, 1) == [Suback(1, (2,))]


async def test_what_is_acknowledged_is_in_the_file_at_that_moment(tmp_path: Path) -> None:
    seeded = random.Random(17)
    folder = tmp_path / "live"
    folder.mkdir()
    async with keeping(folder) as (engine, disk, _):
        await away(engine)
        peers = [connected(engine, b"p%d" % number) for number in range(10)]
        acknowledged: set[bytes] = set()
        for turn in range(5):
            sent = {}
            for number, peer in enumerate(peers):
                retain = seeded.random() < 0.3
                payload = b"%d %d" % (turn, number)
                peer.send(Publish(b"kept/%d/%d" % (turn, number), payload, 1, retain, packet_id=turn + 1))
                sent[number] = payload
            before = disk.saves
            for number, peer in enumerate(peers):
                assert await read(peer, 1) == [Puback(turn + 1)]
                acknowledged.add(sent[number])
            assert disk.saves - before <= 3, "they share saves"
            assert payloads_after_power_cut(folder, tmp_path / f"cut{turn}") >= acknowledged


async def test_qos_2_waits_at_each_step_and_when_it_is_sent_again(tmp_path: Path) -> None:
    async with keeping(tmp_path) as (engine, disk, _):
        await away(engine)
        publisher = connected(engine, b"publisher", clean=False)
        disk.free = trio.Event()
        publisher.send(Publish(b"kept/1", b"x", 2, packet_id=7))
        publisher.send(Publish(b"kept/1", b"x", 2, dup=True, packet_id=7))
        await trio.testing.wait_all_tasks_blocked()
        assert publisher.read() == []
        disk.free.set()
        assert await read(publisher, 2) == [Pubrec(7), Pubrec(7)]
        disk.free = trio.Event()
        publisher.send(Pubrel(7))
        publisher.send(Pubrel(7))
        await trio.testing.wait_all_tasks_blocked()
        assert publisher.read() == []
        disk.free.set()
        assert await read(publisher, 2) == [Pubcomp(7), Pubcomp(7)]


async def test_a_full_disk_slows_those_only_whose_messages_are_kept(tmp_path: Path) -> None:
    async with keeping(tmp_path) as (engine, disk, keeper):
        await away(engine)
        disk.works = False
        kept, other, reader = (connected(engine, name) for name in (b"kept", b"other", b"reader"))
        kept.send(Publish(b"kept/1", b"x", 1, packet_id=1))
        await until(lambda: keeper.problem != "")
        reader.send(Subscribe(1, ((b"live", 0),)))
        other.send(Publish(b"live", b"y", 1, packet_id=2))
        assert other.read() == [Puback(2)]
        assert reader.read() == [Suback(1, (0,)), Publish(b"live", b"y", 0)]
        assert kept.read() == []
        disk.works = True
        assert await read(kept, 1) == [Puback(1)]
        assert keeper.problem == ""


async def test_acknowledgements_keep_their_order(tmp_path: Path) -> None:
    async with keeping(tmp_path) as (engine, disk, _):
        await away(engine)
        disk.free = trio.Event()
        publisher = connected(engine, b"publisher")
        publisher.send(Publish(b"kept/1", b"x", 1, packet_id=1), Publish(b"live", b"y", 1, packet_id=2))
        assert publisher.read() == []
        disk.free.set()
        assert await read(publisher, 2) == [Puback(1), Puback(2)]


async def test_a_client_that_is_owed_much_is_read_no_more(tmp_path: Path) -> None:
    async with keeping(tmp_path) as (engine, disk, _):
        await away(engine)
        disk.free = trio.Event()
        publisher = connected(engine, b"publisher")
        for number in range(1, HELD_MAX + 1):
            assert not publisher.outbox.holds_reading
            publisher.send(Publish(b"kept/1", b"x", 1, packet_id=number))
        assert publisher.outbox.holds_reading
        disk.free.set()
        assert len(await read(publisher, HELD_MAX)) == HELD_MAX
        assert not publisher.outbox.holds_reading


def test_what_clients_that_left_were_owed_is_forgotten() -> None:
    engine = Engine()
    saving = engine.saving = Saving(engine, engine.kept_changes())
    for _ in range(3 * SWEEP_AT // 1000):
        publisher = connected(engine, b"publisher")
        for number in range(1, 1001):
            publisher.send(Publish(b"t", b"x", 1, True, packet_id=number))
        publisher.drop()
        assert publisher.read() == []
    assert saving.waiting() <= SWEEP_AT


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('persistence = true\nacknowledge = "fsync"', '"received" or "saved" is wanted'),
        ('acknowledge = "saved"', "needs `persistence = true`"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, table: str, problem: str) -> None:
    file = tmp_path / "rowcast.toml"
    file.write_text(f"[[listener]]\nport = 1883\n[persistence]\n{table}\n")
    with pytest.raises(ConfigError, match=problem):
        load(file, {})


def test_in_mosquitto_conf_it_takes_persistence(tmp_path: Path) -> None:
    file = tmp_path / "rowcast.conf"
    file.write_text("listener 1883\nrowcast_acknowledge saved\n")
    with pytest.raises(ConfigError, match=r"without persistence. Found at rowcast_acknowledge saved. Add"):
        load_conf(file, environment={})
    file.write_text("listener 1883\npersistence true\nrowcast_acknowledge saved\n")
    assert load_conf(file, environment={}).persistence.acknowledge == "saved"


async def test_a_publish_of_qos_2_and_its_pubrel_wait_for_the_disk(tmp_path: Path) -> None:
    async with keeping(tmp_path) as (engine, disk, _):
        subscriber = connected(engine, b"here", clean=False)
        subscriber.send(Subscribe(1, ((b"kept/#", 2),)))
        assert await read(subscriber, 1) == [Suback(1, (2,))]
        publisher = connected(engine, b"publisher")
        disk.free = trio.Event()
        publisher.send(Publish(b"kept/2", b"x", 2, packet_id=7), Pubrel(7), Publish(b"kept/0", b"z", 0))
        publisher.send(Publish(b"kept/1", b"y", 1, packet_id=8))
        await trio.testing.wait_all_tasks_blocked()
        assert subscriber.read() == [Publish(b"kept/0", b"z", 0)], "only QoS 0 passes by"
        disk.free.set()
        assert await read(subscriber, 2) == [
            Publish(b"kept/2", b"x", 2, packet_id=1),
            Publish(b"kept/1", b"y", 1, packet_id=2),
        ]
        disk.free = trio.Event()
        subscriber.send(Pubrec(1), Pubrec(1))
        await trio.testing.wait_all_tasks_blocked()
        assert subscriber.read() == []
        disk.free.set()
        assert await read(subscriber, 2) == [Pubrel(1), Pubrel(1)]


async def test_what_waits_for_the_disk_is_sent_to_the_next_connection_instead(tmp_path: Path) -> None:
    async with keeping(tmp_path) as (engine, disk, _):
        subscriber = connected(engine, b"here", clean=False)
        subscriber.send(Subscribe(1, ((b"kept/#", 2),)))
        assert await read(subscriber, 1) == [Suback(1, (2,))]
        disk.free = trio.Event()
        connected(engine, b"publisher").send(Publish(b"kept/2", b"x", 2, packet_id=7), Pubrel(7))
        again = connected(engine, b"here", clean=False, present=True)
        await trio.testing.wait_all_tasks_blocked()
        assert again.read() == []
        disk.free.set()
        assert await read(again, 1) == [Publish(b"kept/2", b"x", 2, dup=True, packet_id=1)]
        assert subscriber.read() == []


async def test_who_is_here_when_it_is_switched_waits_from_then_on_and_no_longer(tmp_path: Path) -> None:
    async with keeping(tmp_path) as (engine, disk, keeper):
        saved = Persistence(True, tmp_path, acknowledge="saved", autosave_interval_s=0)
        keeper.adopt(Persistence(True, tmp_path, autosave_interval_s=0))
        subscriber = connected(engine, b"here", clean=False)
        subscriber.send(Subscribe(1, ((b"kept/#", 2),)))
        assert subscriber.read() == [Suback(1, (2,))]
        publisher = connected(engine, b"publisher")
        disk.free = trio.Event()
        keeper.adopt(saved)
        publisher.send(Publish(b"kept/2", b"x", 2, packet_id=7), Pubrel(7))
        assert subscriber.read() == []
        keeper.adopt(Persistence(True, tmp_path, autosave_interval_s=0))
        assert subscriber.read() == [Publish(b"kept/2", b"x", 2, packet_id=1)]
        publisher.send(Publish(b"kept/2", b"y", 2, packet_id=8), Pubrel(8))
        assert subscriber.read() == [Publish(b"kept/2", b"y", 2, packet_id=2)]
