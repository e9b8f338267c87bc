"""[[mqtt.sink]]: every mistake at once, each with its line and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.model import ConfigError
from broker.config.toml.configuration import load

TEXT = """[[listener]]
port = 1883
[database]
dsn = "dbname=x"
[[mqtt.sink]]
topics = "t/{device}/{device}"
table = "a.b.c"
columns = { v = "{nobody}", w = 1 }
[[mqtt.sink]]
topics = ["t/{device}", "u/{other}"]
table = "t"
columns = { v = "$..v" }
on_conflict = "replace"
acknowledge = "soon"
batch = { rows = 0 }
max_bytes = "1 lot"
[[mqtt.sink]]
topics = "t"
call = "f()"
[[mqtt.sink]]
topics = "t"
[[mqtt.sink]]
topics = "t"
table = "t"
columns = { v = "$.v" }
dead_letters = "a.b.c"
"""


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "rowcast.toml"
    file.write_text(TEXT)
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    told = [mistake.removeprefix(f"{file}:") for mistake in caught.value.mistakes]
    for line, word in [
        (6, "stands twice"),
        (7, "schema.name"),
        (8, "w: text in quotes"),
        (10, "names other levels"),
        (12, "members with a point"),
        (13, '"nothing" or "update"'),
        (14, '"committed" or "received"'),
        (15, "1 to 10000"),
        (16, "a size is wanted"),
        (19, "at least one argument"),
        (20, "one of `table"),
        (26, "schema.name"),
    ]:
        assert any(mistake.startswith(f"{line}: ") and word in mistake for mistake in told), (
            line,
            word,
            told,
        )


def test_a_sink_needs_a_database(tmp_path: Path) -> None:
    file = tmp_path / "rowcast.toml"
    file.write_text(
        '[[listener]]\nport = 1\n[[mqtt.sink]]\ntopics = "t"\ntable = "t"\ncolumns = { v = "$.v" }\n'
    )
    with pytest.raises(ConfigError, match=r"3: sink without a database: add \[database\]"):
        load(file, {})


def test_a_database_that_is_only_written_to_has_no_feed(tmp_path: Path) -> None:
    file = tmp_path / "rowcast.toml"
    file.write_text(
        '[[listener]]\nport = 1\n[database]\ndsn = "dbname=x"\n'
        '[[mqtt.sink]]\ntopics = "t"\ntable = "t"\ncolumns = { v = "$.v" }\nmax_bytes = "1MB"\n'
    )
    config = load(file, {})
    assert config.feeds == ()
    assert config.ingest is not None
    assert config.ingest.sinks[0].max_bytes == 1024**2
