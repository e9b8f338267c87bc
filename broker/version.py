"""What this installation is: its version, and whether the hot modules are compiled."""

from __future__ import annotations

import platform
from typing import Final

VERSION: Final = "0.1.0"
"""What `pyproject.toml` takes it from; reading an installation's metadata would cost the start 40 ms."""


def is_compiled() -> bool:
    """Whether mypyc compiled the hot modules; they behave the same when not, only slower."""
    from broker.core import engine

    return not str(engine.__file__).endswith(".py")


def describe() -> str:
    """One line, as `rowcast --version` prints it."""
    how = "compiled" if is_compiled() else "interpreted (no compiler was found at installation)"
    return f"rowcast version {VERSION}, {how}, Python {platform.python_version()}"
