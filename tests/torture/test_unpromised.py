"""Without `acknowledge = "saved"` a power cut costs what came since the last save, and nothing before it."""

from __future__ import annotations

import shutil

import pytest
from torture.unpromised import SETTINGS, live_once

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None and shutil.which("gcc") is None, reason="needs a C compiler"
)


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_a_save_covered_that_had_ended_is_there(setting: str) -> None:
    assert live_once(2, setting) == []


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_disk_that_lies_is_found_out(setting: str) -> None:
    assert live_once(1, setting, syncs=False)
