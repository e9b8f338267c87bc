"""A thousand WebSocket clients, a hundred of which stop reading; `python -m benchmarks.frozen` has the latencies.

The same clients, publisher and broker as there, with messages large enough that the kernel's buffers fill soon.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.frozen import Setting, broker, mistakes, play
from benchmarks.machine import allow_open_files

SETTING = Setting(messages_per_s=25, message_bytes=8 * 1024, seconds=5.0)


@pytest.mark.slow
def test_each_frozen_client_is_closed_or_conflated_and_costs_no_more_than_its_outbox(tmp_path: Path) -> None:
    if allow_open_files(SETTING.clients + 200) < SETTING.clients + 200:
        pytest.skip("too few files may be open here")
    with broker([sys.executable, "-m", "broker"], tmp_path, SETTING) as target:
        outcome = play(target, SETTING, freeze=True)
        assert mistakes(outcome, SETTING) == []
        # And the others got everything, or `play` would have raised; the broker is as good as new.
        again = play(target, SETTING, freeze=False)
        assert (again.closed, again.conflated) == (0, 0)
    assert "Traceback" not in (tmp_path / "output.log").read_text()
