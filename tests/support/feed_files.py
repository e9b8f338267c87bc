"""Configurations of a feed as files, for commands that read one."""

from __future__ import annotations

from pathlib import Path


def feed_file(folder: Path, dsn: str, kind: str, *tables: str) -> str:
    """A file with a feed of these tables of `public`, whose rows go to `t/ID`; its path."""
    path = folder / "c.toml"
    names = ", ".join(f'"public.{table}"' for table in tables)
    path.write_text(f"""
[security]
allow_anonymous = true
[[listener]]
port = 1883
[database]
dsn = "{dsn}"
kind = "{kind}"
replication = {{ allow_unbounded_wal = true }}
[source.rows]
tables = [{names}]
[[mqtt.route]]
from = "rows"
topics = "t/{{id}}"
""")
    return str(path)
