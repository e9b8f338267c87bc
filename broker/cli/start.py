"""Where `rowcast` and `python -m broker` begin, before anything else is loaded."""

from __future__ import annotations

import gc
from typing import Final

WHILE_LOADING: Final = 100_000
"""Loading makes some hundred thousand objects that stay: looking through them again and again would take ms of it."""


def main() -> int:
    """Obey the command line; the exit status."""
    gc.set_threshold(WHILE_LOADING)
    from broker.cli.main import main as obey

    return obey()
