"""The torture of run.py, short: every bad thing happens at least once to each kind of feed.

`TORTURE_SEED` repeats a run as far as its timing allows; a failure names the seed.
"""

from __future__ import annotations

import os
import random

import pytest
from support.postgres import Cluster
from torture.run import KINDS, configured, torture

SECONDS = 5.0
"""Of trouble for each kind; starting, settling and judging come on top."""


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", KINDS)
async def test_torture_costs_delay_and_nothing_else(kind: str) -> None:
    await endure(kind, "feed")


@pytest.mark.timeout(180)
async def test_subscriber_with_a_session_gets_every_row_though_the_broker_is_killed() -> None:
    await endure("wal", "broker")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", KINDS)
async def test_what_people_do_loses_nothing_in_silence(kind: str) -> None:
    await endure(kind, "people")


async def endure(kind: str, victim: str) -> None:
    seed = int(os.environ.get("TORTURE_SEED") or random.SystemRandom().getrandbits(32))
    cluster = configured(Cluster())
    try:
        outcome = await torture(cluster, kind, SECONDS, seed, victim)
    finally:
        cluster.close()
    assert not outcome.verdict.faults, f"{outcome}\n{outcome.errors[-3000:]}"
    assert outcome.verdict.publications > 0
