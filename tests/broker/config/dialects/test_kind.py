"""What a dialect is that says nothing else."""

from __future__ import annotations

import pytest

from broker.config.dialects.canton import Canton
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.kind import Asked, DialectKind
from broker.config.dialects.limits import DialectLimits
from broker.config.dialects.rowcast import Rowcast
from broker.config.tokens import JwtConfig


class Plain(DialectKind):
    name = "plain"
    path = "/plain"


def test_nobody_can_log_in_and_nothing_is_limited() -> None:
    plain = Plain()
    assert (plain.login, plain.mesh_prefix, plain.message_bytes_max, plain.account_connections_max) == (
        None, "plain:", 0, 0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/plain", Asked()),
        ("/plain?token=x", Asked()),
        ("/plain?", Asked()),
        ("/plain/", None),
        ("/Plain", None),
        ("/", None),
        ("plain", None),
    ],
)
def test_its_path_is_the_whole_of_the_target_but_for_a_query(target: str, expected: Asked | None) -> None:
    assert Plain().asked(target) == expected


def test_a_message_is_as_long_as_its_limits_allow() -> None:
    assert Exchange(limits=DialectLimits(message_bytes_max=5)).message_bytes_max == 5


def test_each_says_who_answers_logins_and_what_is_published_to_it_is_called() -> None:
    canton = Canton(JwtConfig("s"), connections_per_account_max=4)
    assert (canton.login, canton.mesh_prefix, canton.account_connections_max) == (
        JwtConfig("s"),
        "canton:",
        4,
    )
    rowcast = Rowcast()
    assert (rowcast.login, rowcast.mesh_prefix, rowcast.has_channels) == (rowcast.tokens, "", False)


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("/a", ""),
        ("/a/b-c.d", ""),
        ("/", ""),
        ("a", 'it begins with a slash, as "/a"'),
        ("", 'it begins with a slash, as "/"'),
        ("/a?b", "it is the whole path, without ? { and }"),
        ("/{jwt}", "it is the whole path, without ? { and }"),
    ],
)
def test_a_path_that_no_handshake_asks_for_is_told(path: str, fault: str) -> None:
    kind = Exchange(path=path)
    assert kind.path_fault() == fault
    if not fault:
        assert kind.asked(path) is not None
