"""A channel is one topic, no topic is two channels, and no name reaches beyond its own level."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from broker.gateway.channels import CHANNEL_BYTES_MAX, BadChannel, topic_of
from protocol.mqtt.topics import is_valid_topic_name, matches

any_name = st.text(min_size=1, max_size=CHANNEL_BYTES_MAX // 4)
encodable = any_name.filter(lambda name: not any("\ud800" <= c <= "\udfff" for c in name))


def test_usual_names_stay_readable() -> None:
    assert topic_of("econia", "fill_event") == b"$ws/econia/fill_event"
    assert topic_of("exchange", "1001@balance") == b"$ws/exchange/1001@balance"
    assert topic_of("canton", "market_data/AAPL/USDC") == b"$ws/canton/market_data%2FAAPL%2FUSDC"


@given(encodable)
@example("#")
@example("+")
@example("a/#")
@example("$SYS")
@example("%2F")
@example("\x00")
@example("../../exchange/1001@balance")
def test_a_topic_is_one_level_below_its_dialect_and_comes_back_as_it_was(name: str) -> None:
    topic = topic_of("exchange", name)
    assert topic.count(b"/") == 2
    assert not set(b"+#\x00") & set(topic)
    assert is_valid_topic_name(topic)
    assert unquote(topic.removeprefix(b"$ws/exchange/").decode()) == name


@given(encodable, encodable)
@example("%2F", "/")
@example("a+b", "a b")
@example("BTCUSDT@depth", "btcusdt@depth")
def test_two_names_never_share_a_topic(one: str, other: str) -> None:
    assume(one != other)
    assert topic_of("exchange", one) != topic_of("exchange", other)
    assert not matches(topic_of("exchange", one), topic_of("exchange", other))


@pytest.mark.parametrize("name", ["", "x" * (CHANNEL_BYTES_MAX + 1), "\ud800"])
def test_a_name_that_can_be_no_channel_is_refused(name: str) -> None:
    with pytest.raises(BadChannel):
        topic_of("exchange", name)
