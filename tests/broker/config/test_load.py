"""Which language a file is read in, and what the command line says over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.arguments import Arguments
from broker.config.load import load
from broker.config.model import ConfigError


def test_a_suffix_says_that_it_is_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "10.0.0.1")
    file = tmp_path / "r.toml"
    file.write_text('[[listener]]\nport = 1884\nhost = "env:PLACE"\n')
    config = load(Arguments(config_file=file, quiet=True))
    assert [(one.host, one.port) for one in config.listeners] == [("10.0.0.1", 1884)]
    assert config.logging.log_type == (), "-q"


@pytest.mark.parametrize("name", ["rowcast.conf", "rowcast", "toml"])
def test_whatever_else_it_is_called_it_is_a_mosquitto_conf(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text("listener 1884\n")
    config = load(Arguments(config_file=file, quiet=True))
    assert [one.port for one in config.listeners] == [1884]
    assert config.logging.log_type == (), "-q"
    file.write_text("[[listener]]\n")
    with pytest.raises(ConfigError, match="Unknown configuration variable"):
        load(Arguments(config_file=file))


def test_without_a_file_there_is_a_listener_on_loopback() -> None:
    [listener] = load(Arguments(ports=(1885,))).listeners
    assert (listener.port, listener.local_only) == (1885, True)
