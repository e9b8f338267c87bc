"""A node's part in a cluster as numbers: none without a cluster, and one family for each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from broker.cluster.status import ClusterStatus
from broker.reports.cluster_metrics import cluster_families
from broker.reports.exposition import prometheus_text


def facts(status: ClusterStatus | None, owed: int = 0, owned: int = 0) -> Any:
    if status is None:
        return SimpleNamespace(cluster=None)
    node = SimpleNamespace(
        status=status,
        publisher=SimpleNamespace(owed=lambda: owed),
        owners=SimpleNamespace(owned=dict.fromkeys(range(owned))),
    )
    return SimpleNamespace(cluster=node)


def values(status: ClusterStatus, owed: int = 0, owned: int = 0) -> dict[str, float]:
    text = prometheus_text(cluster_families(facts(status, owed, owned)))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.partition(" ") for line in lines)}


def test_without_a_cluster_there_is_nothing() -> None:
    assert list(cluster_families(facts(None))) == []


def test_each_number_is_the_status_own() -> None:
    status = ClusterStatus()
    status.published, status.gaps, status.moved_here, status.position = 7, 2, 3, 40
    found = values(status, owed=5, owned=4)
    for name, value in (
        ("published_total", 7),
        ("gaps_total", 2),
        ("moved_here_total", 3),
        ("position", 40),
        ("waiting", 5),
        ("sessions", 4),
    ):
        assert found[f"rowcast_cluster_{name}"] == value, name


@pytest.mark.parametrize(
    ("said", "log_last", "position", "behind"),
    [(0, 50, 40, 10), (20, 50, 40, 20), (0, 40, 50, 0), (0, 40, 40, 0)],
)
def test_how_far_it_is_behind_is_the_more_of_what_is_known(
    said: int, log_last: int, position: int, behind: int
) -> None:
    status = ClusterStatus()
    status.behind, status.log_last, status.position = said, log_last, position
    assert values(status)["rowcast_cluster_behind"] == behind


@pytest.mark.parametrize(("server", "connected"), [("", 0), ("nats:4222", 1)])
def test_it_is_connected_or_not(server: str, connected: int) -> None:
    status = ClusterStatus()
    status.server = server
    assert values(status)["rowcast_cluster_connected"] == connected


def test_only_feeds_that_are_read_here_count() -> None:
    status = ClusterStatus()
    status.feeds.update({"a": "here", "b": "n2", "c": "here", "d": ""})
    assert values(status)["rowcast_cluster_feeds_here"] == 2
