"""The account of the round trip: what is missing, twice or not ours is seen."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from broker.demo.devices.account import Account, Reading, payload_of

READING = Reading("device-1", "temperature", "21.50", 1700000000123456)


def row(reading: Reading) -> dict[str, str]:
    at = f"{reading.at:%Y-%m-%dT%H:%M:%S.%f}+00:00"
    return {
        "device": reading.device,
        "metric": reading.metric,
        "value": reading.value,
        "at": at,
        "source": "mqtt",
    }


def test_a_payload_has_the_value_digit_for_digit_and_the_time_to_the_microsecond() -> None:
    payload = json.loads(payload_of(READING), parse_float=Decimal)
    assert str(payload["v"]) == "21.50"
    assert payload["at"] == "2023-11-14T22:13:20.123456+00:00"


def test_what_is_acknowledged_and_seen_once_is_exact() -> None:
    account = Account()
    account.send(READING, 1.0)
    assert account.awaited == 2
    account.see("readings/device-1/temperature", row(READING), 1.25)
    account.acknowledge(READING, 1.125)
    assert account.awaited == 0
    assert account.is_exact(2.0)
    summary = account.summary(2.0)
    assert summary["acknowledged"]["p50_ms"] == 125
    assert summary["browser"]["p50_ms"] == 250


@pytest.mark.parametrize("topic", ["readings/device-1/temperature", "corrections/device-1/temperature"])
def test_a_row_twice_or_by_a_topic_for_others_is_not_exact(topic: str) -> None:
    account = Account()
    account.send(READING, 1.0)
    account.acknowledge(READING, 1.0)
    account.see("readings/device-1/temperature", row(READING), 1.0)
    account.see(topic, row(READING), 1.0)
    assert not account.is_exact(1.0)


def test_a_value_that_is_not_the_one_that_was_sent_is_not_exact() -> None:
    account = Account()
    account.send(READING, 1.0)
    account.acknowledge(READING, 1.0)
    account.see("readings/device-1/temperature", {**row(READING), "value": "21.5"}, 1.0)
    assert not account.is_exact(1.0)


def test_a_correction_is_due_by_both_topics_and_has_no_acknowledgement() -> None:
    account = Account()
    account.send(Reading("device-1", "temperature", "20.000", 1, "operator"), 1.0)
    assert (account.acknowledged.awaited, account.browser.awaited, account.corrections.awaited) == (0, 1, 1)
