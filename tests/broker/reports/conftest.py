"""Here it is tested what a loop that turns late is."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def loop_counts_as_turning() -> None:
    """Not here, unlike everywhere else."""
