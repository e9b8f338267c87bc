"""Exit statuses, as Mosquitto's."""

from __future__ import annotations

from typing import Final

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
"""A listener, a file or a database that can't be had, or a check that found something."""

EXIT_CONFIG: Final = 3
"""A mistake on the command line or in a configuration."""

EXIT_INTERRUPTED: Final = 130
"""Ctrl-C at a prompt, as shells say it."""
