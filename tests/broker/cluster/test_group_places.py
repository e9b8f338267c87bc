"""Where a group goes on whose consumer is gone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from support.memory_nats import MemoryNats

from broker.cluster.group_places import GroupPlaces
from broker.cluster.link import Unavailable
from broker.cluster.names import Names
from broker.cluster.setup import epoch_of

KEY = (b"g", b"t")
LOG = "shop_MSGS"


class Places:
    """Of a node that has read six messages of a log."""

    def __init__(self) -> None:
        self.server = MemoryNats()
        self.stream = self.server.stream(LOG, ("shop.MSGS.>",))
        for _ in range(6):
            self.stream.put(b"shop.MSGS.c.m.t", b"", b"")
        self.epoch = epoch_of(self.stream.created)
        reader: Any = SimpleNamespace(epoch=self.epoch, last=6, on_lost=[])
        self.reader = reader
        self.places = GroupPlaces(self.server.connected(), Names("shop"), reader)

    def make_anew(self, count: int) -> str:
        self.stream = self.server.stream(LOG, ("shop.MSGS.>",))
        for _ in range(count):
            self.stream.put(b"shop.MSGS.c.m.t", b"", b"")
        return epoch_of(self.stream.created)

    def reads(self, epoch: str, last: int) -> None:
        """The reader has found another log, or that this one has lost its end."""
        self.reader.epoch, self.reader.last = epoch, last
        for listener in self.reader.on_lost:
            listener()

    async def start(self) -> tuple[str, int]:
        return await self.places.start_of(KEY)


async def test_a_new_group_begins_behind_what_there_is() -> None:
    it = Places()
    assert await it.start() == (it.epoch, 6)
    it.reader.epoch, it.reader.last = "0", 0  # nothing was read yet
    it.places.serves(KEY, it.places.here())
    assert await it.start() == (it.epoch, 6)


async def test_one_with_members_here_behind_what_they_were_given() -> None:
    it = Places()
    it.places.begins(KEY, (it.epoch, 2))
    assert await it.start() == (it.epoch, 2)
    it.places.gave(KEY, 4)
    it.places.gave(KEY, 3)
    it.places.serves(KEY, (it.epoch, 6))
    assert await it.start() == (it.epoch, 4)
    it.places.forget(KEY)
    it.places.gave(KEY, 5)
    assert await it.start() == (it.epoch, 6)


async def test_one_whose_sessions_come_back_behind_the_first_that_left() -> None:
    it = Places()
    it.places.came_back(KEY, it.epoch, 4)
    it.places.came_back(KEY, it.epoch, 3)
    it.places.came_back(KEY, it.epoch, 5)
    it.places.came_back(KEY, "another", 1)
    assert await it.start() == (it.epoch, 3)
    it.places.serves(KEY, (it.epoch, 5))
    assert await it.start() == (it.epoch, 5), "it has had its consumer all the time"


@pytest.mark.parametrize("how", ["given", "came back"])
async def test_in_a_log_that_was_made_anew_everything_is_for_it(how: str) -> None:
    it = Places()
    if how == "given":
        it.places.serves(KEY, (it.epoch, 6))
    else:
        it.places.came_back(KEY, it.epoch, 6)
    epoch = it.make_anew(2)
    assert await it.start() == (epoch, 0)
    it.reads(epoch, 0)
    assert await it.start() == (epoch, 0)
    if how == "given":
        it.places.gave(KEY, 1)  # by the consumer that another node has made
        assert await it.start() == (epoch, 1)


async def test_who_has_yet_to_catch_up_does_not_say_where_a_group_begins() -> None:
    it = Places()
    it.stream.fall_behind(2)
    with pytest.raises(Unavailable):
        await it.start()
    it.places.serves(KEY, (it.epoch, 5))
    with pytest.raises(Unavailable):
        await it.start()
    it.stream.catch_up()
    assert await it.start() == (it.epoch, 5)


async def test_in_a_log_that_has_lost_its_end_it_begins_there_too() -> None:
    it = Places()
    it.places.serves(KEY, (it.epoch, 6))
    it.stream.lose(2)
    it.reads(it.epoch, 4)
    assert await it.start() == (it.epoch, 4)


async def test_without_a_log_there_is_no_place() -> None:
    it = Places()
    it.server.streams.clear()
    with pytest.raises(Unavailable):
        await it.start()
