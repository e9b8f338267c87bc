"""A mount point that ends within a level is taken, as by Mosquitto, and a warning says what comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.arguments import Arguments
from broker.config.load import load


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.conf", "listener 1883\nmount_point {}\n"),
        ("rowcast.toml", '[[listener]]\nport = 1883\nmount_point = "{}"\n'),
    ],
)
def test_a_mount_point_that_ends_within_a_level_is_warned_of(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text.format("site"))
    arguments = Arguments(config_file=file)
    (warning,) = load(arguments).warnings
    assert "mount_point site has no slash at its end" in warning
    assert f"{file}:" in warning
    file.write_text(text.format("site/"))
    assert load(arguments).warnings == ()
