"""The round trip runs from one command: each message one row, each row once in the browser."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def test_devices_lose_their_connections_and_no_row_is_missing_or_there_twice() -> None:
    command = [
        sys.executable,
        "-m",
        "broker",
        "demo",
        "--example",
        "devices",
        "--events",
        "300",
        "--rate",
        "600",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    if "no PostgreSQL" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["ok"]
    assert summary["rows"] == {"missing": 0, "surplus": 0}
    assert summary["cuts"] > 0
    assert summary["corrections"]["received"] == 300 // 50
