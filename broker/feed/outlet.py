"""Where a feed's publications go, as a feed sees it: what every outlet takes, and what some of them can besides.

A feed asks by type whether an outlet can more.  There are those of `broker.outlet`, `broker.marketdata.outlet` and
`broker.cluster.rows`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from attrs import frozen

from broker.core.added import Added


class FeedOutlet(Protocol):
    """Where a feed's publications go.  Only `durable` may wait."""

    def publish(
        self, topic: bytes, payload: bytes, qos: int, retain: bool, added: Added | None = None
    ) -> None:
        """One message of a row, with what its route adds to it."""

    def flush(self) -> None:
        """Called after each batch: whatever was published goes out now."""

    async def durable(self) -> None:
        """Return when everything published before this call is as safe as its receivers asked for.

        With persistence on: when the journal has committed it.  Without: at once, since `publish` has handed it
        to every session's queue.
        """


@runtime_checkable
class TakesRuns(Protocol):
    """An outlet that takes several rows in one go."""

    def publish_run(self, topic: bytes, payloads: list[bytes], qos: int) -> None:
        """As `publish` for each of them, not retained."""


@runtime_checkable
class Watching(Protocol):
    """An outlet whose own loop can tell that a descriptor is readable, which takes no turn of Trio's."""

    def watch(self, fd: int, rung: Callable[[], None]) -> Watch | None:
        """What calls `rung`, inside a turn, while the descriptor is readable; None where there is no such loop."""


class Watch(Protocol):
    """A descriptor that can be watched; not at first."""

    def begin(self) -> None:
        """Watch it."""

    def end(self) -> None:
        """Watch it no more; at the latest before it is closed."""


@runtime_checkable
class Fenced(Protocol):
    """An outlet that takes rows from one reader at a time, and bounds what waits.

    `ends_other_readers`: who reads into it may end the connection of another reader.
    """

    ends_other_readers: bool

    async def until_room(self) -> None:
        """Return when more may be published."""


@runtime_checkable
class Placed(Protocol):
    """An outlet whose rows may be wanted again.

    `place`: where the row is of which publications come now, see `Placing`; b"" if they are of none that can
    be read again.
    """

    place: bytes


@frozen
class Resumption:
    """Behind which row a feed goes on, and why earlier ones come again; "" if they do not."""

    place: tuple[int, int]
    lost: str = ""


@runtime_checkable
class Keeping(Protocol):
    """An outlet that keeps rows, and so knows better than the database up to which it has them.

    `keep_s`: how long the database is to keep what the outlet has, in case that it is lost.
    `log`: a name of what it keeps them in now, for `rowcast.feed`.
    """

    keep_s: float

    @property
    def log(self) -> str:
        """Another one is another place."""

    def reads(self, database: str) -> None:
        """Rows and places are of this database from now on; those of two say nothing of each other."""

    def resume(self, log: str, place: tuple[int, int]) -> Resumption:
        """Where to go on, if `place` was saved when `log` was as it was then; "" for a feed without one."""

    def begin_anew(self) -> None:
        """Places that come from now on may be lower than those before."""


@runtime_checkable
class Breathing(Protocol):
    """An outlet that knows whether its receivers keep up."""

    @property
    def is_strained(self) -> bool:
        """Whether somebody is owed so much more than when they were last waited for that more may be too much."""

    def awaits_readers(self, now: float) -> bool:
        """Whether one of those is still taking what it is owed."""
