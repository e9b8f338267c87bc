"""What a CantonDEX server says, member for member, and which names a client may give."""

from __future__ import annotations

import json
from typing import Any

import pytest

from protocol.dialects import canton_messages as messages
from protocol.dialects.base import Refusal
from protocol.dialects.canton_messages import CHANNEL_WORDS, NAME_CHARACTERS_MAX, REFUSAL_TEXTS, ErrorCode

AT = "2026-11-27T05:00:00.000Z"


@pytest.mark.parametrize(
    ("said", "members"),
    [
        (
            messages.authenticated("acc"),
            {
                "type": "auth_response",
                "status": "authenticated",
                "account_id": "acc",
                "message": "Successfully authenticated",
            },
        ),
        (
            messages.not_authenticated("INVALID_TOKEN", "why"),
            {
                "type": "auth_response",
                "status": "failed",
                "error_code": "INVALID_TOKEN",
                "error_message": "why",
            },
        ),
        (
            messages.subscribed("orders", {"account_id": "acc"}),
            {
                "type": "subscription_response",
                "channel": "orders",
                "account_id": "acc",
                "status": "subscribed",
                "message": "Now receiving order updates",
            },
        ),
        (
            messages.unsubscribed("market_data"),
            {
                "type": "unsubscribe_response",
                "channel": "market_data",
                "status": "unsubscribed",
                "message": "No longer receiving market data",
            },
        ),
        (messages.ping(AT), {"type": "ping", "timestamp": AT}),
        (
            messages.error(ErrorCode.RATE_LIMITED, AT, limit=5),
            {
                "type": "error",
                "code": "RATE_LIMITED",
                "message": "Rate limit exceeded",
                "details": {"limit": 5},
                "timestamp": AT,
            },
        ),
        (
            messages.skipped("BTC-USD", 3, AT),
            {
                "type": "messages_skipped",
                "channel": "market_data",
                "symbol": "BTC-USD",
                "skipped": 3,
                "timestamp": AT,
            },
        ),
        (
            messages.service_degraded("feed", "grün", 1_800_000_000.4),
            {
                "type": "service_degraded",
                "service": "feed",
                "status": "degraded",
                "message": "grün",
                "timestamp": "2027-01-15T08:00:00Z",
            },
        ),
    ],
)
def test_members_have_the_documents_names_words_and_order(said: str, members: dict[str, Any]) -> None:
    found = json.loads(said)
    if "timestamp" in found and found["timestamp"] != AT:
        assert found["timestamp"].startswith(members["timestamp"][:-1])
        found["timestamp"] = members["timestamp"]
    assert found == members
    assert list(found) == list(members)


@pytest.mark.parametrize(
    ("about", "inner", "members"),
    [
        ({"account_id": "acc"}, "orders/acc", {"account_id": "acc"}),
        (
            {"symbols": ["A", "B/C"], "aggregation": "1s"},
            "market_data/B/C",
            {"symbols": ["B/C"], "aggregation": "1s"},
        ),
    ],
)
def test_an_answer_for_one_channel_names_it_and_is_left_open(
    about: dict[str, object], inner: str, members: dict[str, object]
) -> None:
    channel = inner.partition("/")[0]
    open_ended = messages.subscribed_since(channel, about, inner)
    found = json.loads(open_ended + "}")
    assert found.pop("subscription") == inner
    assert found == json.loads(messages.subscribed(channel, members))


@pytest.mark.parametrize(
    ("value", "is_name"),
    [
        ("BTC-USD", True),
        ("a", True),
        ("ü é", True),
        ("x" * NAME_CHARACTERS_MAX, True),
        ("x" * (NAME_CHARACTERS_MAX + 1), False),
        ("", False),
        ("a\n", False),
        ("a\0", False),
        ("\u202e", False),
        ("\ud800", False),
        (5, False),
        (None, False),
        (["a"], False),
    ],
)
def test_a_name_is_printable_text_and_not_too_long(value: object, is_name: bool) -> None:
    assert messages.is_name(value) == is_name
    assert messages.names([value], 1) == ([value] if is_name else None)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (["a", "b", "a"], ["a", "b"]),
        (["a", "b", "c"], ["a", "b", "c"]),
        (["a"] * 4, None),
        ([], None),
        (["a", ""], None),
        (["a", 5], None),
        ("a", None),
        ({"a": 1}, None),
        (None, None),
    ],
)
def test_a_list_of_names_has_each_once_and_no_more_than_may_be(
    value: object, found: list[str] | None
) -> None:
    assert messages.names(value, 3) == found


def test_every_channel_has_its_words_and_every_refusal_its_text() -> None:
    for channel in CHANNEL_WORDS:
        assert json.loads(messages.subscribed(channel, {}))["message"].startswith("Now receiving ")
    assert set(REFUSAL_TEXTS) == set(Refusal)
