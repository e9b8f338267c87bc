"""Who answers the exchange's logins."""

from __future__ import annotations

import pytest

from broker.config.dialects.exchange import Exchange
from broker.config.tokens import HttpHookConfig, JwtConfig

HOOK, JWT = HttpHookConfig("http://h"), JwtConfig("s")


@pytest.mark.parametrize(
    ("config", "login"),
    [(Exchange(), None), (Exchange(HOOK), HOOK), (Exchange(jwt=JWT), JWT), (Exchange(HOOK, JWT), HOOK)],
)
def test_a_hook_goes_before_tokens_and_without_both_nobody_does(config: Exchange, login: object) -> None:
    assert config.login is login


def test_what_is_published_to_it_has_its_own_prefix() -> None:
    assert Exchange(publish_prefix="x-").mesh_prefix == "x-"
