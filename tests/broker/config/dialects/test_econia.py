"""A path that holds a token, and what a token opens before there is a connection."""

from __future__ import annotations

import pytest
from attrs import evolve

from broker.config.dialects.econia import Econia
from broker.config.dialects.kind import Asked, NotAdmitted
from broker.config.tokens import JwtConfig
from protocol.dialects.base import Clock, Close, Identity, Refusal
from protocol.dialects.econia import REFUSAL_TEXTS

KIND = Econia(JwtConfig("s", mode_claim="m", channels_claims=("c",)), path="/ws/{channel?}/{jwt}")
CLOCK = Clock(0.0)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/ws/TOKEN", Asked("TOKEN")),
        ("/ws/a%2Fb/TOKEN", Asked("TOKEN", "a/b")),
        ("/ws/a/TOKEN?x=1", Asked("TOKEN", "a")),
        ("/ws", None),
        ("/other/TOKEN", None),
        ("/ws/a/b/TOKEN", None),
    ],
)
def test_the_path_says_token_and_channel(target: str, expected: Asked | None) -> None:
    assert KIND.asked(target) == expected


@pytest.mark.parametrize(
    ("found", "channel", "words"),
    [
        (Refusal.EXPIRED, None, REFUSAL_TEXTS[Refusal.EXPIRED]),
        (None, None, "Missing mode"),
        (Identity("a", claims={"c": ["x"]}), None, "Missing mode"),
        (Identity("a", claims={"mode": "r", "c": ["x"]}), None, "Missing mode"),
        (Identity("a", claims={"m": "x", "c": ["x"]}), None, "Unknown mode: it must be r, w or rw"),
    ],
)
def test_who_is_not_admitted_is_told_why_in_the_dialect_s_words(
    found: Identity | Refusal | None, channel: str | None, words: str
) -> None:
    with pytest.raises(NotAdmitted) as refused:
        KIND.open(Asked("t", channel), found, CLOCK, 0.0)
    assert str(refused.value) == words


def test_a_token_without_channels_is_refused_unless_they_are_not_required() -> None:
    bearer = Identity("a", claims={"m": "r"})
    with pytest.raises(NotAdmitted):
        KIND.open(Asked("t", "x"), bearer, CLOCK, 0.0)
    lenient = Econia(KIND.jwt, path=KIND.path, channels_required=False)
    assert lenient.open(Asked("t", "x"), bearer, CLOCK, 0.0) is not None


def test_a_token_with_channels_opens_a_connection() -> None:
    assert KIND.open(Asked("t"), Identity("a", claims={"m": "rw", "c": "x"}), CLOCK, 0.0) is not None


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/{channel?}/{jwt}", "/c/t"),
        ("/{channel}/{jwt}", "/c/t"),
        ("/{jwt}", "/t"),
        ("/a/b/{channel?}/{jwt}", "/a/b/t"),
        ("/", None),
        ("", None),
        ("/ws", None),
        ("ws/{jwt}", None),
        ("/{jwt}/{channel}", None),
        ("/{channel}/ws/{jwt}", None),
        ("/{token}", None),
        ("/{jwt}/", None),
        ("/a?b/{jwt}", None),
    ],
)
def test_a_path_has_a_token_behind_all_else_or_is_told(path: str, target: str | None) -> None:
    kind = Econia(KIND.jwt, path=path)
    assert (kind.path_fault() == "") == (target is not None)
    if target is not None:
        assert kind.asked(target) is not None


@pytest.mark.parametrize("required", [True, False])
def test_who_reads_a_channel_that_its_token_does_not_name_leaves_once_tokens_must(required: bool) -> None:
    lenient = evolve(KIND, channels_required=False)
    now = evolve(KIND, channels_required=required)
    nameless = lenient.open(Asked("t", "x"), Identity("a", claims={"m": "r"}), CLOCK, 0.0)
    named = lenient.open(Asked("t", "x"), Identity("a", claims={"m": "r", "c": ["x"]}), CLOCK, 0.0)
    assert list(now.renew(nameless, 1.0)) == [Close(1008, "No allowed channels")] * required
    assert list(now.renew(named, 1.0)) == []
