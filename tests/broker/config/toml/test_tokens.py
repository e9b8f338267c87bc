"""[tokens]: what is read, and what is told of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.toml_files import noted, reader_of

from broker.config.tokens import TokenConfig
from broker.config.toml.reader import Unresolved
from broker.config.toml.tokens import read_tokens

SECRET = "s" * 32


def test_without_the_table_there_are_none() -> None:
    assert read_tokens(reader_of(), {}) == TokenConfig()


@pytest.mark.parametrize(
    "table",
    [
        {"secrets": [SECRET], "require": ["exp"], "audience": "a"},
        {"jwks_url": "https://id/k", "jwks_refresh": "1s"},
        {"jwks_url": Unresolved("env:X")},
        {"keys": ["k.pem"]},
        {"jwks_file": "k.pem"},
    ],
)
def test_any_way_to_verify_them_will_do(tmp_path: Path, table: dict[str, Any]) -> None:
    (tmp_path / "k.pem").touch()
    reader = reader_of(folder=tmp_path)
    assert read_tokens(reader, {"tokens": table}).is_set
    assert reader.mistakes() == []


@pytest.mark.parametrize(
    ("table", "mistakes"),
    [
        ({}, ["tokens: name what verifies them: secrets, keys, jwks_file or jwks_url"]),
        ({"audience": "a"}, ["tokens: name what verifies them: secrets, keys, jwks_file or jwks_url"]),
        (
            {"secrets": [SECRET, "short"]},
            ["secret: at least 32 bytes are wanted, such as `openssl rand -hex 32` prints"],
        ),
        ({"keys": ["none.pem"]}, ["keys: there is no {folder}/none.pem"]),
        ({"jwks_file": "none.json"}, ["jwks_file: there is no {folder}/none.json"]),
        (
            {"jwks_url": "k.json"},
            [
                'jwks_url: an address is wanted, such as "https://id.example/.well-known/jwks.json";'
                " for a file there is"
                " jwks_file"
            ],
        ),
        ({"secrets": [SECRET], "jwks_refresh": "999ms"}, ["jwks_refresh: at least 1s is wanted"]),
        ({"secrets": 5}, ["secrets: text in quotes is wanted, not a whole number"]),
    ],
)
def test_what_can_t_be_is_told(tmp_path: Path, table: dict[str, Any], mistakes: list[str]) -> None:
    reader = reader_of(folder=tmp_path)
    read_tokens(reader, {"tokens": table})
    assert noted(reader) == [mistake.format(folder=tmp_path) for mistake in mistakes]
