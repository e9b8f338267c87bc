"""Names, filters and matching: the standard's own examples, then a naive model on random ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.budgets import cases
from support.packet_cases import MALFORMED_TEXTS

from protocol.mqtt.errors import MalformedPacket
from protocol.mqtt.topics import (
    TEXT_BYTES_MAX,
    check_text,
    check_topic_filter,
    check_topic_name,
    has_wildcard,
    is_valid_text,
    is_valid_topic_filter,
    is_valid_topic_name,
    matches,
)

# --- validity ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "topic",
    [
        "t",
        "/",
        "//",
        " ",
        "/finance",
        "a/b/c",
        "Accounts payable",
        "$SYS/x",
        "température/é",
        "\U0002a6d4",
        "\ufeff",
        "\u2028",
        "\xa0",
    ],
)
def test_a_topic_name_is_also_a_filter(topic: str) -> None:
    assert not has_wildcard(topic.encode())
    assert is_valid_topic_name(topic.encode())
    assert is_valid_topic_filter(topic.encode())
    check_topic_name(topic.encode())
    check_topic_filter(topic.encode())


@pytest.mark.parametrize(
    "topic_filter", ["#", "+", "sport/tennis/#", "+/tennis/#", "sport/+/player1", "/+", "+/+", "$SYS/#"]
)
def test_a_filter_with_wildcards_is_no_name(topic_filter: str) -> None:
    assert has_wildcard(topic_filter.encode())
    check_topic_filter(topic_filter.encode())
    assert is_valid_topic_filter(topic_filter.encode())
    assert not is_valid_topic_name(topic_filter.encode())
    with pytest.raises(MalformedPacket, match=r"MQTT-3\.3\.2-2"):
        check_topic_name(topic_filter.encode())


@pytest.mark.parametrize(
    ("topic_filter", "tag"),
    [
        ("sport/tennis#", "MQTT-4.7.1-2"),
        ("sport/tennis/#/ranking", "MQTT-4.7.1-2"),
        ("#/", "MQTT-4.7.1-2"),
        ("##", "MQTT-4.7.1-2"),
        ("+#", "MQTT-4.7.1-2"),
        ("sport+", "MQTT-4.7.1-3"),
        ("+a/#", "MQTT-4.7.1-3"),
        ("a/++", "MQTT-4.7.1-3"),
        ("", "MQTT-4.7.3-1"),
        ("t" * (TEXT_BYTES_MAX + 1), "MQTT-4.7.3-3"),
        ("/" * 201, ""),
    ],
    ids=repr,
)
def test_a_bad_filter_is_refused_with_its_statement(topic_filter: str, tag: str) -> None:
    assert not is_valid_topic_filter(topic_filter.encode())
    with pytest.raises(MalformedPacket) as refused:
        check_topic_filter(topic_filter.encode())
    assert refused.value.tag == tag


@pytest.mark.parametrize(
    ("topic", "tag"), [("", "MQTT-4.7.3-1"), ("t" * 65_536, "MQTT-4.7.3-3"), ("/" * 201, "")], ids=repr
)
def test_a_bad_name_is_refused_with_its_statement(topic: str, tag: str) -> None:
    assert not is_valid_topic_name(topic.encode())
    with pytest.raises(MalformedPacket) as refused:
        check_topic_name(topic.encode())
    assert refused.value.tag == tag


@pytest.mark.parametrize(
    ("topic", "code"), [(b"a/#", 0x82), (b"+", 0x82), (b"/" * 201, 0x82), (b"\xff+", 0x81)]
)
def test_a_text_that_is_no_name_is_a_protocol_error_as_by_mosquitto(topic: bytes, code: int) -> None:
    with pytest.raises(MalformedPacket) as refused:
        check_topic_name(topic)
    assert refused.value.reason_code == code


def test_200_separators_and_65535_bytes_are_taken() -> None:
    longest = b"/" * 200 + b"t" * (TEXT_BYTES_MAX - 200)
    assert is_valid_topic_name(longest)
    assert is_valid_topic_filter(longest)


@pytest.mark.parametrize("around", [b"", b"ascii", "é".encode()], ids=repr)
@pytest.mark.parametrize(
    ("name", "text", "tag"), MALFORMED_TEXTS, ids=[name for name, _, _ in MALFORMED_TEXTS]
)
def test_malformed_text_is_refused_wherever_it_stands(
    name: str, text: bytes, tag: str, around: bytes
) -> None:
    text = around + text + around
    assert not is_valid_text(text)
    assert not is_valid_topic_name(text)
    assert not is_valid_topic_filter(text)
    for check in (check_topic_name, check_topic_filter, lambda text: check_text(text, name)):
        with pytest.raises(MalformedPacket) as refused:
            check(text)
        assert refused.value.tag == tag


def test_an_empty_text_is_valid() -> None:
    assert is_valid_text(b"")


def test_every_code_point_is_judged_as_section_1_5_3_says() -> None:
    """Goal: no code point slips through the fast paths.  Method: all of Unicode, one text each."""
    refused = {
        code for code in range(0x110000) if not is_valid_text(chr(code).encode("utf-8", "surrogatepass"))
    }
    controls = {*range(0x20), *range(0x7F, 0xA0)}
    surrogates = set(range(0xD800, 0xE000))
    non_characters = {
        *range(0xFDD0, 0xFDF0),
        *(plane << 16 | end for plane in range(17) for end in (0xFFFE, 0xFFFF)),
    }
    assert refused == controls | surrogates | non_characters


# --- matching ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic_filter", "matching", "others"),
    [  # §4.7.1.2, §4.7.1.3, §4.7.2, §4.7.3
        ("sport/tennis/#", ["sport/tennis", "sport/tennis/player1/ranking"], ["sport/golf", "sport"]),
        ("sport/#", ["sport", "sport/", "sport/a/b"], ["sports", "/sport"]),
        ("#", ["a", "/", "a/b"], ["$SYS", "$SYS/monitor"]),
        ("sport/tennis/+", ["sport/tennis/player1", "sport/tennis/"], ["sport/tennis", "sport/tennis/player1/ranking"]),
        ("sport/+", ["sport/"], ["sport", "sport/a/b"]),
        ("+/+", ["/finance", "a/b", "/"], ["finance", "a/b/c", "$a/b"]),
        ("/+", ["/finance", "/"], ["finance", "a/finance"]),
        ("+", ["finance"], ["/finance", "$SYS"]),
        ("+/#", ["a", "a/b", "/"], ["$a", "$a/b"]),
        ("+/monitor/Clients", ["a/monitor/Clients"], ["$SYS/monitor/Clients"]),
        ("$SYS/#", ["$SYS", "$SYS/a"], ["SYS/a"]),
        ("$SYS/monitor/+", ["$SYS/monitor/Clients"], ["$SYS/monitor"]),
        ("ACCOUNTS", ["ACCOUNTS"], ["Accounts", "ACCOUNTS/"]),
        ("a/$b/+", ["a/$b/c"], ["a/b/c"]),
        ("a/+/#", ["a/", "a/$b", "a/b/c"], ["a"]),
    ],
)  # fmt: skip
def test_matching_as_the_standard_shows_it(topic_filter: str, matching: list[str], others: list[str]) -> None:
    for topic in matching:
        assert matches(topic_filter.encode(), topic.encode()), topic
    for topic in others:
        assert not matches(topic_filter.encode(), topic.encode()), topic


def naive(wanted: list[str], levels: list[str]) -> bool:
    if wanted == ["#"]:
        return True
    if not wanted or not levels:
        return not wanted and not levels
    return wanted[0] in ("+", levels[0]) and naive(wanted[1:], levels[1:])


LEVEL = st.sampled_from(["", "a", "b", "$c"])
FILTER = st.builds(
    lambda levels, tail: levels + tail,
    st.lists(LEVEL | st.just("+"), max_size=4),
    st.sampled_from([[], ["#"]]),
)


@settings(derandomize=True, max_examples=cases(400))
@given(FILTER, st.lists(LEVEL, min_size=1, max_size=5))
def test_matching_as_a_naive_model(wanted: list[str], levels: list[str]) -> None:
    topic_filter, topic = "/".join(wanted).encode(), "/".join(levels).encode()
    if not topic or not topic_filter:
        return
    wild_on_dollar = topic.startswith(b"$") and wanted[0] in ("+", "#")
    assert matches(topic_filter, topic) == (naive(wanted, levels) and not wild_on_dollar)
