"""What can go wrong with the persistence file at the start.  Here, so that catching it does not load SQLite."""

from __future__ import annotations


class StorageError(Exception):
    """The file can't be used: its name, what is wrong, what to do."""
