"""Tests that put stand-ins in the place of classes that may be compiled, which takes the interpreted ones."""

from __future__ import annotations

import pytest

from broker.version import compiled_modules

interpreted_only = pytest.mark.skipif(
    compiled_modules() > 0, reason="compiled classes take no stand-ins for their parts"
)
