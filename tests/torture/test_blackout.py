"""The torture of blackout.py, short.  `TORTURE_SEED` repeats a run as far as its timing allows."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator

import pytest
from support.postgres import Cluster
from torture.blackout import KINDS, torture

CUTS = 10

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        shutil.which("cc") is None and shutil.which("gcc") is None, reason="needs a C compiler"
    ),
]


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_acknowledged_is_a_row_and_every_row_is_received(own_cluster: Cluster, kind: str) -> None:
    seed = int(os.environ.get("TORTURE_SEED") or random.SystemRandom().getrandbits(32))
    faults, _, published, log = torture(own_cluster, CUTS, seed, kind)
    assert not faults, f"seed {seed}: {faults}\n{log[-3000:]}"
    assert published > 0
