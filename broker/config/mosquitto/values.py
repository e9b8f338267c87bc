"""Reading one value of mosquitto.conf, with Mosquitto's words for what is wrong and a cure of our own.

A value is what stands after the name: a word ends at a space, a text at the end of the line.
"""

from __future__ import annotations

import re

from broker.config.mosquitto.option import Kind, Option, Role
from protocol.mqtt.topics import TEXT_BYTES_MAX

# What strtol takes in base 0: decimal, 0x hexadecimal, 0 octal.
_INTEGER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)\Z")
_INTEGER_MAX = 2**31 - 1
DIGITS_MAX = 64
"""Of a number, zeros in front among them: Python makes none of thousands of digits."""

# Control characters, the halves of surrogate pairs (bytes that were not UTF-8 among them) and non-characters.
_NOT_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


class Wrong(Exception):
    """A mistake on one line: what Mosquitto says of it, and what would be right."""

    def __init__(self, text: str, cure: str) -> None:
        super().__init__(text)
        self.text = text
        self.cure = cure


def first_word(rest: str) -> str:
    """The first word of what follows the name, empty if there is none."""
    return rest.lstrip(" ").partition(" ")[0]


def read_word(option: Option, rest: str) -> str:
    """The first word of the value. Raises `Wrong` if there is none."""
    word = first_word(rest)
    if not word:
        raise empty(option)
    return word


def read_boolean(option: Option, rest: str) -> bool:
    """`true`, `1`, `false` or `0`. Raises `Wrong` for anything else."""
    word = read_word(option, rest)
    if word in ("true", "1"):
        return True
    if word in ("false", "0"):
        return False
    raise Wrong(
        f"Invalid '{option.titled}' value ({word}).", f"Write `{option.name} true` or `{option.name} false`."
    )


def read_integer(option: Option, rest: str) -> int:
    """A whole number within the option's range; below it, the option's `clamp` if it has one."""
    word = read_word(option, rest)
    if len(word) > DIGITS_MAX or not _INTEGER.match(word):
        raise Wrong(
            f"'{option.titled}' value not a number.", f"Write a whole number, as `{example(option)}`."
        )
    value = _c_integer(word)
    if abs(value) > _INTEGER_MAX and option.name != "memory_limit":
        raise Wrong(f"'{option.titled}' value out of range.", f"Write a number up to {_INTEGER_MAX}.")
    if option.low is not None and value < option.low:
        if option.clamp is not None:
            return option.clamp
        raise out_of_range(option, value)
    if option.high is not None and value > option.high:
        raise out_of_range(option, value)
    return value


def _c_integer(word: str) -> int:
    digits = word.lstrip("+-").lower()
    base = 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10
    return int(digits, base) * (-1 if word.startswith("-") else 1)


def read_text(option: Option, rest: str) -> str:
    """The rest of the line without the blanks around it."""
    text = rest.strip(" \t")
    if not text:
        raise empty(option)
    if _NOT_TEXT.search(text):
        raise not_text()
    if len(text.encode()) > TEXT_BYTES_MAX:
        raise Wrong(f"Invalid '{option.titled}' value (too long).", f"Write at most {TEXT_BYTES_MAX} bytes.")
    if option.high is not None and len(text.encode()) > option.high:
        raise out_of_range(option, text)
    return text


def read_choice(option: Option, rest: str) -> str:
    """One of the option's words. Raises `Wrong` for anything else."""
    word = read_word(option, rest)
    if word not in option.words:
        raise out_of_range(option, word)
    return word


def not_text() -> Wrong:
    """The mistake of bytes that are no text for MQTT, nor for the name of a file."""
    return Wrong("Malformed UTF-8 in configuration.", "Save the file as UTF-8, without control characters.")


def empty(option: Option) -> Wrong:
    """The mistake of an option without a value."""
    cure = f"Write the value after the name, as `{example(option)}`, or delete the line."
    text = f"Empty '{option.titled}' value in configuration."
    return Wrong(text, option.note if option.role is Role.REFUSED else cure)


def out_of_range(option: Option, value: object) -> Wrong:
    """The mistake of a value outside what the option takes, with that range."""
    said = option.range_error or "Invalid '{name}' value ({value})."
    before = (
        ""
        if option.kind is not Kind.INTEGER
        else "a number from "
        if option.high is not None
        else "a number of "
    )
    unit = " characters" if option.kind is Kind.TEXT else ""
    return Wrong(said.format(name=option.titled, value=value), f"Write {before}{option.range_text}{unit}.")


def example(option: Option) -> str:
    """The option as one might write it."""
    if option.words:
        return f"{option.name} {option.words[0]}"
    if option.kind is Kind.BOOLEAN:
        return f"{option.name} true"
    if option.kind is Kind.INTEGER:
        known = option.default if option.default.lstrip("-").isdigit() else option.low
        return f"{option.name} {10 if known is None else known}"
    return f"{option.name} VALUE"
