"""One Rowcast process for all the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.postgres import cluster, database  # noqa: F401 - fixtures
from support.rowcast_process import RowcastProcess

CLIENTS = Path(__file__).parents[2] / ".venv" / "clients"


@pytest.fixture(scope="module")
def rowcast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RowcastProcess]:
    with RowcastProcess(tmp_path_factory.mktemp("rowcast")) as process:
        yield process


@pytest.fixture(scope="session")
def clients() -> Path:
    """Where the other client libraries are installed."""
    assert (CLIENTS / "node" / ".done").exists(), "install the clients first: scripts/setup-clients"
    return CLIENTS
