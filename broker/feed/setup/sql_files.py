"""The statements of an installation that are long enough for files of their own, in `sql/`.

Imports nothing of the broker: feeds that run ask for some of these statements, too.
"""

from __future__ import annotations

from importlib import resources


def sql_file(name: str) -> str:
    """One of the files in `sql/`, without its last semicolon, so that another statement can follow."""
    path = resources.files("broker.feed.setup") / "sql" / name
    return path.read_text(encoding="utf-8").strip().rstrip(";")
