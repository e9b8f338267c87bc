"""For all tests: what is drawn decides, never how long a busy machine takes to draw it."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings
from support import initdb

settings.register_profile("thorough", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("thorough"), max_examples=30, derandomize=True)

# Each of some hundred processes that tests start would compile every module anew, before it does anything.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_configure(config: pytest.Config) -> None:
    """A quick run draws the same few cases every time; one with slow tests more of them, and others every time."""
    settings.load_profile("quick" if config.option.markexpr == "not slow" else "thorough")
    initdb.begin_run()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected stays to the end; looking for garbage in it would take a third of each worker's time for it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_unconfigure() -> None:
    initdb.end_run()
