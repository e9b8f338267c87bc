"""The torture of sinks.py, short.  `TORTURE_SEED` repeats a run as far as its timing allows."""

from __future__ import annotations

import os
import random

import pytest
from support.postgres import Cluster
from torture.sinks import DEEDS, torture

SECONDS = 6.0


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("acknowledge", "deeds"),
    [("committed", DEEDS), ("received", DEEDS), ("received", DEEDS[1:])],
    ids=["committed", "received", "received_and_never_killed"],
)
def test_what_was_acknowledged_is_in_the_table_once_and_in_order(
    acknowledge: str, deeds: tuple[str, ...]
) -> None:
    """But for what waited for the table at a kill, where that was acknowledged."""
    seed = int(os.environ.get("TORTURE_SEED") or random.SystemRandom().getrandbits(32))
    cluster = Cluster()
    try:
        outcome = torture(cluster, SECONDS, seed, acknowledge, deeds)
    finally:
        cluster.close()
    assert not outcome.faults, f"{outcome}\n{outcome.log[-3000:]}"
    assert outcome.published > 0
