"""A TOML configuration as text, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from broker.config.model import Config, ConfigError
from broker.config.toml.configuration import load
from broker.config.toml.lines import Lines
from broker.config.toml.reader import Reader
from broker.config.toml.tables import RENAMES


def read(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Config:
    path = folder / "rowcast.toml"
    path.write_text(text)
    return load(path, environ or {})


def mistakes(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Each as `LINE: what`."""
    with pytest.raises(ConfigError) as refused:
        read(folder, text, environ)
    return [mistake.removeprefix(f"{folder / 'rowcast.toml'}:") for mistake in refused.value.mistakes]


def reader_of(text: str = "", folder: Path = Path("/etc")) -> Reader:
    """For a document that is read in part."""
    return Reader(folder / "rowcast.toml", Lines(text), RENAMES)


def noted(reader: Reader) -> list[str]:
    """Its mistakes without their places."""
    return [str(mistake).partition(": ")[2] for mistake in reader.mistakes()]
