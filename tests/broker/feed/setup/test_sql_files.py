"""The files of an installation's statements."""

from __future__ import annotations

from importlib import resources

from broker.feed.setup.sql_files import sql_file


def test_files_can_be_followed_by_more() -> None:
    names = [file.name for file in (resources.files("broker.feed.setup") / "sql").iterdir()]
    assert len(names) > 10
    assert [name for name in names if sql_file(name).endswith(";") or not sql_file(name)] == []
