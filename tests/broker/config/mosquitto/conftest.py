from __future__ import annotations

from pathlib import Path

import pytest
from support.conf_mistakes import Read

from broker.config.arguments import Arguments
from broker.config.model import Config
from broker.config.mosquitto.configuration import load


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Reads a text as main.conf in the working directory."""
    monkeypatch.chdir(tmp_path)

    def read(text: str, arguments: Arguments | None = None, **environment: str) -> Config:
        Path("main.conf").write_text(text, newline="")
        return load(Path("main.conf"), arguments, environment)

    return read
