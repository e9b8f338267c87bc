"""What feeds' tests share: an outlet that remembers, and a feed that runs beside the test."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio
from support.polling import until

from broker.config.feeds import FeedConfig
from broker.core.added import Added
from broker.feed.status import FeedStatus
from broker.feed.supervise import supervise
from broker.gateway.channels import topic_of

SYSTEM_HEALTH: Final = topic_of("canton", "system_health")
"""Where a dialect tells of gaps."""

Published = tuple[bytes, bytes, int, bool]


class Collector:
    """A FeedOutlet.  `on_publish` is called for each publication, after it is kept."""

    def __init__(self) -> None:
        self.published: list[Published] = []
        self.added: list[Added | None] = []
        """What routes added to each of `published`."""
        self.announced: list[Published] = []
        """What tells of gaps, apart from the rows."""
        self.flushes = 0
        self.on_publish: Callable[[Published], None] = lambda published: None
        self._changed = trio.Event()

    def publish(
        self, topic: bytes, payload: bytes, qos: int, retain: bool, added: Added | None = None
    ) -> None:
        if topic.startswith((b"$SYS/", SYSTEM_HEALTH)):
            self.announced.append((topic, payload, qos, retain))
            return
        self.published.append((topic, payload, qos, retain))
        self.added.append(added)
        self.on_publish(self.published[-1])

    def flush(self) -> None:
        self.flushes += 1
        self._changed.set()
        self._changed = trio.Event()

    async def durable(self) -> None:
        """What is in the list can't be lost."""

    async def until(self, count: int, seconds: float = 120.0) -> list[Published]:
        """Wait for so many publications altogether."""
        with trio.move_on_after(seconds):
            while len(self.published) < count:
                await self._changed.wait()
        assert len(self.published) >= count, f"{len(self.published)} of {count} publications"
        return self.published

    async def gap(self) -> str:
        """Wait for the announcement of a gap; why it came."""
        await until(lambda: bool(self.announced))
        topic, payload, qos, retain = self.announced[0]
        assert (topic.startswith(b"$SYS/feed/"), topic.endswith(b"/gap"), qos, retain) == (
            True,
            True,
            1,
            True,
        )
        reason: str = json.loads(payload)["reason"]
        return reason

    def topics(self) -> list[bytes]:
        return [published[0] for published in self.published]

    def repeated(self) -> dict[tuple[bytes, bytes], int]:
        """Topic and payload of what was published more than once."""
        counts = Counter((topic, payload) for topic, payload, _, _ in self.published)
        return {key: count for key, count in counts.items() if count > 1}


class Running:
    """A supervised feed with its outlet and its status."""

    def __init__(self, config: FeedConfig) -> None:
        self.config = config
        self.outlet = Collector()
        self.status = FeedStatus(config.name)

    async def until_live(self, reconnects: int = 0, seconds: float = 120.0) -> None:
        """Wait until the feed is live, after at least so many lost connections."""
        await until(lambda: self.status.state == "live" and self.status.reconnects >= reconnects, seconds)


@asynccontextmanager
async def running(config: FeedConfig) -> AsyncIterator[Running]:
    """Run a feed until the block ends; live when it begins."""
    feed = Running(config)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, config, feed.outlet, feed.status)
        await feed.until_live()
        yield feed
        nursery.cancel_scope.cancel()


def check_positions(published: list[Published], first_end: bytes) -> None:
    """Two rows of one transaction, each with its position as the last member; `first_end` stands before the first's."""
    places = [json.loads(body)["position"].split("/") for _, body, _, _ in published]
    assert places[0][:-1] == places[1][:-1]
    assert int(places[1][-1]) == int(places[0][-1]) + 1
    assert published[0][1].endswith(b'%b,"position":"%b"}' % (first_end, "/".join(places[0]).encode()))
