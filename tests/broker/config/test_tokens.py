"""Whether anything could verify a token, and that no key is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.config.tokens import JwtConfig, TokenConfig


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("secrets", ("s",)),
        ("keys", (Path("k"),)),
        ("secret_files", (Path("s"),)),
        ("jwks_file", Path("j")),
        ("jwks_url", "https://j"),
    ],
)
def test_any_kind_of_key_will_do(key: str, value: Any) -> None:
    assert TokenConfig(**{key: value}).is_set


def test_what_is_asked_of_tokens_verifies_none() -> None:
    assert not TokenConfig(require=("exp",), audience="a", issuer="i", jwks_refresh_s=5.0).is_set


def test_secrets_are_not_shown() -> None:
    assert "hidden" not in repr(TokenConfig(secrets=("hidden",)))


def test_secrets_are_one_or_more_and_not_shown() -> None:
    assert JwtConfig("secret").secret == ("secret",)
    assert "hidden" not in repr(JwtConfig(("hidden", "other"))) + repr(TokenConfig(secrets=("hidden",)))
