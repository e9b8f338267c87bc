"""The kinds of feeds: for each one object that runs, installs, checks, and says what it leaves behind.

What a kind can do, as far as a configuration must know it, stands in `broker.config.feeds.FEED_KINDS`.  A new kind is
an entry there and one here.  Every part is imported when it is asked for, so that only what is used is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broker.config.feeds import FeedConfig
from broker.feed.outlet import FeedOutlet
from broker.feed.status import FeedStatus

if TYPE_CHECKING:
    from broker.feed.setup.findings import Check
    from broker.feed.setup.steps import Step
    from broker.feed.supervise import Feed


class Kind:
    """One kind of feed."""

    def feed(self, config: FeedConfig, outlet: FeedOutlet, status: FeedStatus) -> Feed:
        """What runs."""
        raise NotImplementedError

    def install_steps(self, config: FeedConfig, publishers: str, widen: bool) -> list[Step]:
        """As `broker.feed.setup.install.install_steps`; what another kind has left behind is taken away."""
        raise NotImplementedError

    def checks(self) -> tuple[Check, ...]:
        """What `rowcast feed check` asks, in order."""
        raise NotImplementedError

    def breaks_writers(self) -> tuple[Check, ...]:
        """Of these, those whose `wrong` would make a statement of the application's fail once it is installed."""
        return ()


class ListenKind(Kind):
    """Rows come as notifications."""

    def feed(self, config: FeedConfig, outlet: FeedOutlet, status: FeedStatus) -> Feed:
        from broker.feed.listen.feed import ListenFeed

        return ListenFeed(config, outlet, status)

    def install_steps(self, config: FeedConfig, publishers: str, widen: bool) -> list[Step]:
        from broker.feed.setup.install_listen import install_steps

        return install_steps(config)

    def checks(self) -> tuple[Check, ...]:
        from broker.feed.setup.doctor_listen import CHECKS

        return CHECKS


class OutboxKind(Kind):
    """Rows are collected by triggers in a table of ours."""

    def feed(self, config: FeedConfig, outlet: FeedOutlet, status: FeedStatus) -> Feed:
        from broker.feed.outbox.feed import OutboxFeed

        return OutboxFeed(config, outlet, status)

    def install_steps(self, config: FeedConfig, publishers: str, widen: bool) -> list[Step]:
        from broker.feed.setup.install_outbox import install_steps

        return install_steps(config, publishers)

    def checks(self) -> tuple[Check, ...]:
        from broker.feed.setup.doctor_outbox import CHECKS

        return CHECKS


class WalKind(Kind):
    """Rows are read from the write-ahead log."""

    def feed(self, config: FeedConfig, outlet: FeedOutlet, status: FeedStatus) -> Feed:
        from broker.feed.wal.feed import WalFeed

        return WalFeed(config, outlet, status)

    def install_steps(self, config: FeedConfig, publishers: str, widen: bool) -> list[Step]:
        from broker.feed.setup.install_wal import install_steps

        return install_steps(config, publishers, widen)

    def checks(self) -> tuple[Check, ...]:
        from broker.feed.setup.doctor_wal import CHECKS

        return CHECKS

    def breaks_writers(self) -> tuple[Check, ...]:
        from broker.feed.setup.doctor_wal import check_replica_identity

        return (check_replica_identity,)


KINDS: Final[dict[str, Kind]] = {"listen": ListenKind(), "wal": WalKind(), "outbox": OutboxKind()}


def kind_of(config: FeedConfig) -> Kind:
    """What a feed of this configuration is."""
    return KINDS[config.kind]
