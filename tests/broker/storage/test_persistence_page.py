"""docs/persistence.md says what is."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from support.storage import engine_with

from broker.config.mosquitto.configuration import load
from broker.links.mqtt.answers import HELD_MAX
from broker.storage.database import open_database
from broker.storage.keeper import (
    PROMISED_RETRY_INTERVAL_S,
    REST,
    REST_S_MAX,
    RETRY_INTERVAL_S,
    persistence_path,
)
from broker.storage.records import snapshot
from broker.storage.writing import Writer

PAGE = (Path(__file__).parents[3] / "docs/persistence.md").read_text()
BLOCKS = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_configuration_keeps_its_state_where_the_page_says(tmp_path: Path) -> None:
    file = tmp_path / "rowcast.conf"
    file.write_text(BLOCKS[0])
    persistence = load(file, environment={}).persistence
    assert persistence.persistence
    assert f"`{persistence_path(persistence)}`" in PAGE
    assert f"`autosave_interval {persistence.autosave_interval_s}`" in PAGE


def test_the_query_shows_each_client_and_how_much_waits_for_it(tmp_path: Path) -> None:
    connection, _ = open_database(tmp_path / "rowcast.db")
    with closing(connection):
        Writer(connection).write(snapshot(engine_with(3), 0.0), pause_s=0)
    query = re.search(r'"(.*)"', BLOCKS[2], re.DOTALL)
    assert query is not None
    with closing(sqlite3.connect(tmp_path / "rowcast.db")) as reader:
        assert reader.execute(query[1]).fetchall() == [("away", 3)]


def test_the_times_are_the_ones_of_the_code() -> None:
    prose = " ".join(PAGE.split())
    assert f"tried again after {RETRY_INTERVAL_S:.0f} seconds" in prose
    assert PROMISED_RETRY_INTERVAL_S == 1.0
    assert f"is owed {HELD_MAX} of them" in prose
    assert REST == 3
    assert f"waits three times as long as the last one took, and {REST_S_MAX} s at most" in prose
