"""Cutting the power finds nothing with a disk that syncs, and finds what is lost with one that only says so."""

from __future__ import annotations

import shutil

import pytest
from torture.power import CUTS, live_once

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None and shutil.which("gcc") is None, reason="needs a C compiler"
)


def test_nothing_acknowledged_is_lost_and_nothing_of_qos_2_comes_twice() -> None:
    assert live_once(17, CUTS, syncs=True) == []


def test_a_disk_that_lies_is_found_out() -> None:
    assert live_once(17, CUTS, syncs=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_two_hundred_cuts(seed: int) -> None:
    assert live_once(seed, CUTS, syncs=True) == []
