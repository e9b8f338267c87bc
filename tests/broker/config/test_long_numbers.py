"""Python makes no number of thousands of digits: a mistake of whoever wrote them, and no fault of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.arguments import Arguments, ArgumentsError, parse
from broker.config.ingest import parse_expression
from broker.config.model import ConfigError
from broker.config.mosquitto.configuration import load as load_conf
from broker.config.toml.configuration import load

DIGITS = "9" * 5000


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (f'[limits]\nmax_packet_size = "{DIGITS}kB"', "a size is wanted"),
        (f'[limits]\npersistent_client_expiration = "{DIGITS}d"', "a duration is wanted"),
        (f'[database]\ndsn = "host=x port={DIGITS}"\nkind = "wal"', "port: 1 to 65535 is wanted"),
        (f'[source]\na.tcp = "127.0.0.1:{DIGITS}"', "HOST:PORT"),
    ],
)
def test_in_a_toml_file(tmp_path: Path, text: str, wanted: str) -> None:
    path = tmp_path / "rowcast.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=wanted):
        load(path, {})


@pytest.mark.parametrize("line", ["listener {}", "max_packet_size {}", "persistent_client_expiration {}d"])
def test_in_a_mosquitto_conf(tmp_path: Path, line: str) -> None:
    path = tmp_path / "mosquitto.conf"
    path.write_text(line.format(DIGITS))
    with pytest.raises(ConfigError):
        load_conf(path, Arguments())


def test_as_a_port_on_the_command_line() -> None:
    with pytest.raises(ArgumentsError, match="Invalid port"):
        parse(["-p", DIGITS])


def test_as_the_place_of_an_element() -> None:
    with pytest.raises(ValueError, match="members with a point"):
        parse_expression(f"$.a[{DIGITS}]", ())
