"""How many cases a random test draws."""

from __future__ import annotations

from typing import Final

from hypothesis import settings

THOROUGH_CASES: Final = 100
"""What hypothesis draws where nobody says another number."""


def cases(thorough: int) -> int:
    """As many where slow tests are wanted, too; in a quick run their share (see `tests/conftest.py`)."""
    return max(1, thorough * settings().max_examples // THOROUGH_CASES)
