"""A test that is interrupted while its broker starts leaves no broker behind."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from support.rowcast_process import RowcastProcess


class Interrupted(threading.Event):
    """Somebody presses Ctrl-C while it is waited for."""

    def wait(self, timeout: float | None = None) -> bool:
        raise KeyboardInterrupt


def test_process_ends_where_its_start_is_interrupted(tmp_path: Path) -> None:
    broker = RowcastProcess(tmp_path)
    broker._decided = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        broker.__enter__()
    assert broker.wait(0) != 0


def test_process_that_ends_by_itself_is_told_with_what_it_said(tmp_path: Path) -> None:
    broker = RowcastProcess(tmp_path, "nonsense\n")
    with pytest.raises(AssertionError, match=r"does not start(?s:.*)nonsense"):
        broker.__enter__()
