"""Times as Postgres reads them, from numbers and texts.  Pure; compiled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECONDS: Final = {"s": 1_000_000, "ms": 1_000, "us": 1}
SECONDS_BELOW: Final = 100_000_000_000
"""A number without a unit is seconds below it (the year 5138), milliseconds below a thousand times it, else µs."""
EXPONENT_MAX: Final = 20
TIMES: Final = frozenset({"timestamptz", "timestamp", "date"})
SECONDS_REMEMBERED_MAX: Final = 10_000
_SECOND_DIGITS: Final = 10
"""Of a second from 2001 to 2286."""
_UNIT_BY_DIGITS: Final = {10: "s", 13: "ms", 16: "us"}
_AFTER: Final = {10: ".000000+00:00", 13: "000+00:00", 16: "+00:00"}

_second_texts: dict[int, str] = {}
_digit_texts: dict[str, str] = {}


class Refused(ValueError):
    """This message makes no row; the text says why."""


def number_time(text: str, unit: str) -> str:
    """ISO 8601 in UTC of a number since 1970.

    Args:
        unit: `s`, `ms`, `us`, or "" where its size tells.

    Raises:
        Refused: no number, or far from any time.
    """
    length = len(text)
    its_unit = _UNIT_BY_DIGITS.get(length)
    if its_unit is not None and (unit == its_unit or not unit) and "1" <= text[0] <= "9" and text.isdigit():
        second = text[:_SECOND_DIGITS]
        known = _digit_texts.get(second)
        if known is None and text.isascii():
            if len(_digit_texts) >= SECONDS_REMEMBERED_MAX:
                _digit_texts.clear()
            known = _digit_texts[second] = time_text(int(second) * 1_000_000)[: -len(".000000+00:00")]
        if known is not None:
            return known + ("" if length == _SECOND_DIGITS else ".") + text[_SECOND_DIGITS:] + _AFTER[length]
    return time_text(microseconds(text, unit))


def is_number(text: str, unit: str) -> bool:
    """Whether a text is a number of seconds or the like: always if a unit is given, else if no date looks like it."""
    return bool(text) and (bool(unit) or (text.isascii() and text.isdigit() and len(text) >= 9))


def microseconds(text: str, unit: str) -> int:
    """Since 1970, rounded down.

    Raises:
        Refused: no number, or far from any time.
    """
    try:
        if text.isdigit():
            whole: Decimal | int = int(text) if len(text) < 30 else Decimal("inf")
        else:
            whole = Decimal(text)
            if not whole.is_finite() or abs(whole.adjusted()) > EXPONENT_MAX:
                raise Refused(f"no time: {text[:100]}")
    except (InvalidOperation, ValueError):
        raise Refused(f"no time: {text[:100]}") from None
    if not unit:
        size = abs(Decimal(whole)) if isinstance(whole, Decimal) else whole
        unit = "s" if size < SECONDS_BELOW else "ms" if size < SECONDS_BELOW * 1000 else "us"
    try:
        return int(whole * MICROSECONDS[unit] // 1)
    except (InvalidOperation, OverflowError, ValueError):
        raise Refused(f"no time: {text[:100]}") from None


def time_text(since_epoch_us: int) -> str:
    """ISO 8601 in UTC.  Raises: Refused, outside of the years 1 to 9999."""
    second, fraction = divmod(since_epoch_us, 1_000_000)
    try:
        text = _second_texts.get(second)
        if text is None:
            if len(_second_texts) >= SECONDS_REMEMBERED_MAX:
                _second_texts.clear()
            moment = EPOCH + timedelta(seconds=second)
            text = _second_texts[second] = moment.isoformat().removesuffix("+00:00")
        return f"{text}.{fraction:06d}+00:00"
    except OverflowError:
        raise Refused(f"no time: {since_epoch_us} µs since 1970") from None
