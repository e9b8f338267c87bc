"""Which addresses can't have the same port."""

from __future__ import annotations

import pytest

from broker.config.addresses import overlap


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (None, "127.0.0.1", True),
        ("", "::1", True),
        ("0.0.0.0", "10.0.0.1", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "10.0.0.1", False),
        ("::", "::1", True),
        ("::", "127.0.0.1", False),
        ("0.0.0.0", "::", False),
    ],
)
def test_overlap(one: str | None, other: str | None, expected: bool) -> None:
    assert overlap(one, other) is expected
    assert overlap(other, one) is expected
