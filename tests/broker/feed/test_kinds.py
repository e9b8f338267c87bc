"""Each kind of feed runs, installs and checks as its own name says, and the configuration knows all of them."""

from __future__ import annotations

import pytest
from support.feeds import Collector

from broker.config.feeds import FEED_KINDS, FeedConfig
from broker.feed.kinds import KINDS, kind_of
from broker.feed.listen.feed import ListenFeed
from broker.feed.outbox.feed import OutboxFeed
from broker.feed.setup import doctor_listen, doctor_outbox, doctor_wal
from broker.feed.status import FeedStatus
from broker.feed.wal.feed import WalFeed


def config(kind: str) -> FeedConfig:
    return FeedConfig("main", "dbname=x", kind)


def test_every_kind_that_a_configuration_may_name_is_there() -> None:
    assert KINDS.keys() == FEED_KINDS.keys()


@pytest.mark.parametrize(("kind", "feed"), [("listen", ListenFeed), ("wal", WalFeed), ("outbox", OutboxFeed)])
def test_what_runs_is_of_its_kind(kind: str, feed: type) -> None:
    made = kind_of(config(kind)).feed(config(kind), Collector(), FeedStatus("main"))
    assert type(made) is feed


@pytest.mark.parametrize(
    ("kind", "checks"),
    [("listen", doctor_listen.CHECKS), ("wal", doctor_wal.CHECKS), ("outbox", doctor_outbox.CHECKS)],
)
def test_what_is_asked_of_the_database_is_its_own(kind: str, checks: object) -> None:
    assert kind_of(config(kind)).checks() == checks


def test_only_a_replica_identity_breaks_writers_and_it_is_asked_about_anyway() -> None:
    assert {name: kind.breaks_writers() for name, kind in KINDS.items()} == {
        "listen": (),
        "wal": (doctor_wal.check_replica_identity,),
        "outbox": (),
    }
    assert doctor_wal.check_replica_identity in doctor_wal.CHECKS
