"""The demo's other examples: what is simulated, and that every message comes once to whom it is due."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice

import pytest
from support.initdb import quick_initdb

from broker.demo.dialects.acts import ENGINE
from broker.demo.dialects.run import SCENARIOS, Audience
from broker.demo.postgres import PostgresError, find_binaries


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_same_seed_gives_the_same_acts(name: str) -> None:
    first, again = (list(islice(SCENARIOS[name].acts(7), 200)) for _ in range(2))
    assert first == again
    assert first != list(islice(SCENARIOS[name].acts(8), 200))


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_channel_that_is_written_to_is_watched(name: str) -> None:
    written = {statement.channel for act in islice(SCENARIOS[name].acts(0), 2000) for statement in act} - {
        ENGINE
    }
    watched = frozenset[str]().union(*(watcher.channels for watcher in SCENARIOS[name].watchers))
    assert written == watched


def test_a_message_is_due_to_those_who_watch_its_channel_only() -> None:
    audience = Audience(SCENARIOS["exchange"])
    audience.expect("1001@balance", '{"uid" : 1001}')
    audience.committed(1.0)
    assert {name: ledger.awaited for name, ledger in audience.ledgers.items()} == {
        "1001": 1,
        "1002": 0,
        "1003": 0,
    }
    audience.ledgers["1002"].receive("", '{"event":"@balance","data":{"uid" : 1001}}', 1.1)
    assert not audience.is_exact(1.2)


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_example_runs_from_one_command(name: str) -> None:
    try:
        path = f"{quick_initdb(find_binaries().directory)}:{os.environ['PATH']}"
    except PostgresError as error:
        pytest.skip(str(error))
    command = [sys.executable, "-m", "broker", "demo", "--example", name, "--events", "150", "--rate", "400"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=150, check=False, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["ok"]
    assert summary["events"] >= 150
