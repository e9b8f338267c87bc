"""Decimals, exact: a whole number, how many of its digits stand behind the point, and one text.  Pure; compiled.

Invariant: `text` is plain (no exponent, no sign of a zero, no leading zeros) and has the zeros behind the point that
the source gave; two numbers of the same value are equal whatever their texts.
"""

from __future__ import annotations

from typing import Final

DIGITS_MAX: Final = 40
"""Of one number, written out.  Postgres' numeric has more, but no price and no size does."""

TEXT_MAX: Final = 48
"""Characters that are looked at."""


class BadValue(ValueError):
    """A value that can't be used.  `reason` is a short name to count it under."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Number:
    """`units` / 10**`scale`; `text` says it.  Never changed: many share one."""

    def __init__(self, units: int, scale: int, text: str) -> None:
        self.units = units
        self.scale = scale
        self.text = text


KNOWN_MAX: Final = 20_000
_KNOWN: Final[dict[str, Number]] = {}
"""Prices and sizes come again and again."""


def parse(value: object) -> Number:
    """A number from its text, as JSON writes numbers, or as text in JSON.

    Raises:
        BadValue: `not_a_number`, or `number_too_long` if it would take more than 40 digits.
    """
    if not isinstance(value, str):
        raise BadValue("not_a_number")
    text: str = value
    known = _KNOWN.get(text)
    if known is not None:
        return known
    found = _parse(text)
    if len(_KNOWN) >= KNOWN_MAX:
        _KNOWN.clear()
    _KNOWN[text] = found
    return found


def _parse(text: str) -> Number:
    length = len(text)
    if length > TEXT_MAX:
        raise BadValue("number_too_long" if _is_written_as_number(text) else "not_a_number")
    point = text.find(".")
    if point < 0:
        if text.isdigit() and text.isascii() and (length == 1 or not text.startswith("0")):
            if length > DIGITS_MAX:
                raise BadValue("number_too_long")
            return Number(int(text), 0, text)
    elif 0 < point < length - 1 and length <= DIGITS_MAX + 1:
        digits = text.replace(".", "", 1)
        if digits.isdigit() and digits.isascii() and (point == 1 or not text.startswith("0")):
            return Number(int(digits), length - point - 1, text)
    return _parse_carefully(text)


def _is_written_as_number(text: str) -> bool:
    return text.lstrip("-")[:1].isdigit() and not text.strip("-+.0123456789eE")


def _parse_carefully(text: str) -> Number:
    """Signs, exponents, leading zeros."""
    negative = text.startswith("-")
    mantissa, mark, exponent = (text[1:] if negative else text).replace("E", "e").partition("e")
    whole, point, fraction = mantissa.partition(".")
    if not _are_digits(whole) or (point and not _are_digits(fraction)):
        raise BadValue("not_a_number")
    power = 0
    if mark:
        if not _are_digits(exponent.lstrip("+-")) or len(exponent) - len(exponent.lstrip("+-")) > 1:
            raise BadValue("not_a_number")
        if len(exponent) > 4:
            raise BadValue("number_too_long")
        power = int(exponent)
    units = int(whole + fraction)
    scale = len(fraction) - power
    if scale < 0:
        if -scale > DIGITS_MAX:
            raise BadValue("number_too_long")
        units *= int(10**-scale)
        scale = 0
    if scale > DIGITS_MAX or len(str(units)) > DIGITS_MAX:
        raise BadValue("number_too_long")
    if negative:
        units = -units
    return Number(units, scale, text_of(units, scale))


def _are_digits(text: str) -> bool:
    return text.isdigit() and text.isascii()


def text_of(units: int, scale: int) -> str:
    """`units` / 10**`scale`, written out."""
    if scale == 0:
        return str(units)
    if units < 0:
        return "-" + text_of(-units, scale)
    digits = str(units)
    if len(digits) <= scale:
        digits = "0" * (scale + 1 - len(digits)) + digits
    return digits[:-scale] + "." + digits[-scale:]


def scaled(number: Number, scale: int) -> int:
    """The number in units of 10**-`scale`, which is not less than its own."""
    if number.scale == scale:
        return number.units
    return number.units * int(10 ** (scale - number.scale))


def value_of(number: Number) -> tuple[int, int]:
    """The same for numbers of the same value."""
    units, scale = number.units, number.scale
    while scale > 0 and units % 10 == 0:
        units //= 10
        scale -= 1
    return units, scale


def is_less(one: Number, other: Number) -> bool:
    """Whether one is less than the other, exactly."""
    if one.scale == other.scale:
        return one.units < other.units
    scale = max(one.scale, other.scale)
    return scaled(one, scale) < scaled(other, scale)


def is_same(one: Number, other: Number) -> bool:
    """Whether both have one value."""
    if one.scale == other.scale:
        return one.units == other.units
    scale = max(one.scale, other.scale)
    return scaled(one, scale) == scaled(other, scale)


class Sum:
    """An exact sum.  It has as many digits behind the point as the longest of what was added, as SQL's has."""

    def __init__(self) -> None:
        self.units = 0
        self.scale = 0

    def add(self, units: int, scale: int) -> None:
        """Add `units` / 10**`scale`."""
        if scale == self.scale:
            self.units += units
        elif scale < self.scale:
            self.units += units * int(10 ** (self.scale - scale))
        else:
            self.units = self.units * int(10 ** (scale - self.scale)) + units
            self.scale = scale

    def text(self) -> str:
        """The sum's digits, as shortly as they can be written."""
        return text_of(self.units, self.scale)


def percent(part: Sum, whole: Number, places: int) -> str:
    """`part` / `whole` in per cent, rounded half to even; `whole` is not 0."""
    scale = max(part.scale, whole.scale)
    up = part.units * int(10 ** (scale - part.scale)) * int(10 ** (places + 2))
    down = scaled(whole, scale)
    return text_of(divided(up, down), places)


def divided(up: int, down: int) -> int:
    """The quotient, rounded half to even."""
    if down < 0:
        up, down = -up, -down
    quotient, rest = up // down, up % down
    if 2 * rest > down or (2 * rest == down and quotient % 2 == 1):
        return quotient + 1
    return quotient
