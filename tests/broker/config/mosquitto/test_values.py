"""How one value of mosquitto.conf is read, and Mosquitto's words for what is wrong with it."""

from __future__ import annotations

import pytest

from broker.config.mosquitto.option import Kind, Level, Option
from broker.config.mosquitto.values import (
    Wrong,
    read_boolean,
    read_choice,
    read_integer,
    read_text,
)
from protocol.mqtt.topics import TEXT_BYTES_MAX


def option(kind: Kind, **more: object) -> Option:
    return Option("max_things", Level.BROKER, kind, "7", "how many", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("1", True), ("false", False), ("0 ignored", False), ("  true", True)]
)
def test_booleans_are_one_word(text: str, value: bool) -> None:
    assert read_boolean(option(Kind.BOOLEAN), text) is value


@pytest.mark.parametrize(
    ("text", "value"), [("10", 10), ("0x1F", 31), ("010", 8), ("-5", -5), ("+3 and more", 3), ("0", 0)]
)
def test_integers_are_what_strtol_takes(text: str, value: int) -> None:
    assert read_integer(option(Kind.INTEGER), text) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ten", "'max_things' value not a number."),
        ("08", "'max_things' value not a number."),
        ("1.5", "'max_things' value not a number."),
        ("2147483648", "'max_things' value out of range."),
        ("", "Empty 'max_things' value in configuration."),
        ("101", "Invalid 'max_things' value (101)."),
        ("-1", "Invalid 'max_things' value (-1)."),
    ],
)
def test_integers_that_are_wrong_are_refused_in_mosquittos_words(text: str, said: str) -> None:
    with pytest.raises(Wrong) as raised:
        read_integer(option(Kind.INTEGER, low=0, high=100), text)
    assert raised.value.text == said


def test_a_value_below_the_range_may_become_another() -> None:
    assert read_integer(option(Kind.INTEGER, low=20, clamp=20), "5") == 20


def test_a_text_goes_to_the_end_of_the_line() -> None:
    assert read_text(option(Kind.TEXT), "  a b # c \t") == "a b # c"


@pytest.mark.parametrize("text", ["a\x00b", "a\x7f", "\ud800", "\ufffe", "\x85"])
def test_what_mqtt_cannot_carry_is_no_text(text: str) -> None:
    with pytest.raises(Wrong, match="Malformed UTF-8"):
        read_text(option(Kind.TEXT), text)


def test_a_text_is_as_long_as_a_string_of_mqtt() -> None:
    assert len(read_text(option(Kind.TEXT), "ü" * (TEXT_BYTES_MAX // 2))) == TEXT_BYTES_MAX // 2
    with pytest.raises(Wrong, match="too long"):
        read_text(option(Kind.TEXT), "ü" * (TEXT_BYTES_MAX // 2 + 1))


def test_a_choice_is_one_of_the_words_and_the_cure_says_them() -> None:
    chosen = option(Kind.WORD, words=("any", "ipv4", "ipv6"))
    assert read_choice(chosen, "ipv4") == "ipv4"
    with pytest.raises(Wrong) as raised:
        read_choice(chosen, "ipv5")
    assert raised.value.cure == "Write any, ipv4 or ipv6."
