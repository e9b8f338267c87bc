"""What a dialect is that says nothing else."""

from __future__ import annotations

import pytest

from broker.config.dialects.canton import Canton
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.kind import Asked, DialectKind
from broker.config.dialects.limits import DialectLimits
from broker.config.dialects.rowcast import Rowcast
from broker.config.tokens import JwtConfig
from protocol.dialects.base import Clock, Identity, Unsubscribe


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


def test_nobody_s_rights_change_with_settings_that_are_about_none() -> None:
    exchange = Exchange()
    assert list(exchange.renew(exchange.open(Asked(), None, Clock(0.0), 0.0), 1.0)) == []


def test_roles_that_mean_less_end_what_they_allowed() -> None:
    canton = Canton(JwtConfig("s" * 32))
    peer = canton.open(Asked(), None, Clock(0.0), 0.0)
    peer.login_ended(Identity("acc_1", frozenset({"admin", "compliance_officer"})), 0.0)
    for channel in ("orders", "compliance_events"):
        peer.receive(f'{{"type":"subscribe","channel":"{channel}","account_id":"acc_9"}}', 0.0)
    peer.receive('{"type":"subscribe","channel":"trades"}', 0.0)
    less = Canton(JwtConfig("s" * 32), any_account_roles=(), compliance_roles=("nobody",))
    ended = [command for command in less.renew(peer, 1.0) if isinstance(command, Unsubscribe)]
    assert ended == [Unsubscribe("orders/acc_9"), Unsubscribe("compliance_events")]
    assert list(less.renew(peer, 2.0)) == []
