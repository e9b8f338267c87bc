"""What the system says of this process, and 0 where it says nothing."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from broker.reports import usage


def test_memory_is_between_nothing_and_the_most_that_there_was() -> None:
    assert 1 << 20 < usage.resident_bytes() <= usage.resident_bytes_max() + (16 << 20)
    status = Path("/proc/self/status").read_text()
    (peak,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    assert usage.resident_bytes_max() == pytest.approx(int(peak.split()[1]) * 1024, rel=0.1)


def test_the_most_is_never_less_than_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = 1 << 30
    monkeypatch.setattr(usage, "Path", lambda _: FakePath(f"1 {pages}"))
    assert usage.resident_bytes_max() == usage.resident_bytes() == pages * resource.getpagesize()


def test_a_file_that_is_opened_is_one_more() -> None:
    before = usage.open_files()
    descriptor = os.open("/dev/null", os.O_RDONLY)
    try:
        assert usage.open_files() == before + 1
    finally:
        os.close(descriptor)
    assert usage.open_files() == before


def test_the_limit_is_the_one_that_holds() -> None:
    assert usage.open_files_max() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0


@pytest.mark.parametrize("text", ["", "1", "1 x"])
def test_a_system_that_says_it_otherwise_says_nothing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "Path", lambda _: FakePath(text))
    assert usage.resident_bytes() == 0


class FakePath:
    def __init__(self, text: str) -> None:
        self._text = text

    def read_text(self) -> str:
        return self._text


def test_where_there_is_no_proc_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "Path", lambda _: Path("/nowhere/at/all"))
    assert (usage.resident_bytes(), usage.open_files()) == (0, 0)
    monkeypatch.setattr(usage, "resource", None)
    assert (usage.resident_bytes(), usage.resident_bytes_max(), usage.open_files_max()) == (0, 0, 0)
