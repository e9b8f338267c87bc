"""The torture of run.py, short: every bad thing happens at least once to each kind of feed.

What happens is always the same, as far as timing allows; `make torture` draws it, and takes longer.  `TORTURE_SEED`
is what it names when it fails.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support.postgres import Cluster
from torture.run import KINDS, configured, torture

SEED = int(os.environ.get("TORTURE_SEED") or 227745753)

SECONDS = 4.0
"""Of trouble for each kind; starting, settling and judging come on top."""


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """One for all, since making it takes as long as half a torture."""
    cluster = configured(Cluster())
    yield cluster
    cluster.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", KINDS)
async def test_torture_costs_delay_and_nothing_else(server: Cluster, kind: str) -> None:
    await endure(server, kind, "feed")


@pytest.mark.timeout(400)
async def test_subscriber_with_a_session_gets_every_row_though_the_broker_is_killed(server: Cluster) -> None:
    await endure(server, "wal", "broker")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", KINDS)
async def test_what_people_do_loses_nothing_in_silence(server: Cluster, kind: str) -> None:
    await endure(server, kind, "people")


async def endure(server: Cluster, kind: str, victim: str) -> None:
    outcome = await torture(server, kind, SECONDS, SEED, victim)
    assert not outcome.verdict.faults, f"{outcome}\n{outcome.errors[-3000:]}"
    assert outcome.verdict.publications > 0
