"""What people are told to run, as they can type it."""

from __future__ import annotations

from typing import Final

INSTALL_COMMAND: Final = "`rowcast feed install -c FILE --apply`"
"""FILE: whoever says it may know feeds only, and not the file that they come from."""

INSTALL: Final = f"run {INSTALL_COMMAND}"
"""A cure."""

MADE_LOGICAL: Final = "ALTER SYSTEM SET wal_level = 'logical', restart Postgres; or use kind = \"outbox\""
"""A cure."""
