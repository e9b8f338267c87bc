"""What this installation is: its version, and whether the hot modules are compiled."""

from __future__ import annotations

import importlib.machinery
import os
import pathlib
import platform
from typing import Final

VERSION: Final = "0.1.0"
"""What `pyproject.toml` takes it from; reading an installation's metadata would cost the start 40 ms."""


def compiled_modules() -> int:
    """How many of the modules that mypyc may compile are compiled here; they behave the same when not, only slower."""
    suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    above = pathlib.Path(__file__).parent.parent
    return sum(
        name.endswith(suffixes)
        for top in ("broker", "protocol")
        for *_, names in os.walk(above / top)
        for name in names
    )


def describe() -> str:
    """One line, as `rowcast --version` prints it."""
    if modules := compiled_modules():
        how = f"compiled ({modules} module{'s' if modules > 1 else ''})"
    else:
        how = "interpreted (installed without a C compiler, or with ROWCAST_COMPILE=0)"
    return f"rowcast version {VERSION}, {how}, Python {platform.python_version()}"
