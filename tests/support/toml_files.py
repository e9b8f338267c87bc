"""A TOML configuration as text, and what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from broker.config.model import Config, ConfigError
from broker.config.toml.configuration import load
from broker.config.toml.lines import Lines
from broker.config.toml.reader import Reader
from broker.config.toml.tables import RENAMES

ENVIRONMENT: Final = {"DATABASE_URL": "postgres://reader@db/econia", "SECRET": "s" * 32}

ECONIA = """\
[database]
dsn = "env:DATABASE_URL"
[[listener]]
port = 1883
[[listener]]
port = 3001
protocol = "websockets"
dialects = ["econia", "mqtt"]
[websocket.econia]
jwt = { secret = "env:SECRET" }
[source.events]
listen = ["fill", "cancel"]
[source.econiaws]
listen = "econiaws"
kind = "$.channel"
row = "$.payload"
[mqtt]
qos = 1
[[mqtt.route]]
from = "events"
kind = "fill"
topics = "fill/{market_id}/{maker}"
once_per = ["market_id", "order_id"]
[[mqtt.route]]
from = "events"
topics = ["{$kind}/{market_id}"]
[[websocket.route]]
from = "econiaws"
channel = "{$kind}"
[[recover]]
table = "public.fill_events"
key = ["version", "index"]
kind = { events = "fill", econiaws = "fill_event" }
"""
"""Two listeners, two sources, three routes, and rows that are read again; see `ENVIRONMENT`."""


def read(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Config:
    path = folder / "rowcast.toml"
    path.write_text(text)
    return load(path, ENVIRONMENT if environ is None else environ)


def mistakes(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Each as `LINE: what`."""
    with pytest.raises(ConfigError) as refused:
        read(folder, text, environ)
    return [mistake.removeprefix(f"{folder / 'rowcast.toml'}:") for mistake in refused.value.mistakes]


def check_changed(folder: Path, right: str, wrong: str, line: int, words: str) -> None:
    """ECONIA with this in it instead of that has a mistake on this line, whose words are matched."""
    assert right in ECONIA
    found = mistakes(folder, ECONIA.replace(right, wrong, 1))
    where = f"{line}: "
    matching = [one for one in found if one.startswith(where) and re.match(words, one.removeprefix(where))]
    assert matching, "\n".join(found)


def reader_of(text: str = "", folder: Path = Path("/etc")) -> Reader:
    """For a document that is read in part."""
    return Reader(folder / "rowcast.toml", Lines(text), RENAMES)


def noted(reader: Reader) -> list[str]:
    """Its mistakes without their places."""
    return [str(mistake).partition(": ")[2] for mistake in reader.mistakes()]
