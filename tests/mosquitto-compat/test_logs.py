"""What differs from run to run in log lines is named, whatever its digits are."""

from __future__ import annotations

import pytest
from player import logs


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("1795779393: as dev-21FD2358-6AD8-4452-B115-123456789012 (p4).", "as dev-{id} (p4)."),
        ("as auto-21FD2358-6AD8-4452-B115-123456789012 (p4).", "as auto-{id} (p4)."),
        ("saved at 1795779393", "saved at {seconds}"),
    ],
    ids=["prefix", "auto", "seconds"],
)
def test_an_id_is_one_though_it_ends_in_digits(line: str, shown: str) -> None:
    assert logs.normal(line, "rowcast") == shown
