"""Moments as rows have them, to microseconds since 1970; and where intervals begin.  Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from broker.market.numbers import BadValue, parse

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000

EPOCH_MONDAY_MS: Final = 4 * DAY_MS
"""1970-01-05, the first Monday."""

END_US: Final = 253_402_300_800_000_000
"""The end of the year 9999, in microseconds."""

INTERVALS_MS: Final[dict[str, int]] = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": 60 * MINUTE_MS,
    "2h": 120 * MINUTE_MS,
    "4h": 240 * MINUTE_MS,
    "6h": 360 * MINUTE_MS,
    "8h": 480 * MINUTE_MS,
    "12h": 720 * MINUTE_MS,
    "1d": DAY_MS,
    "1w": 7 * DAY_MS,
    "1M": 0,
}
"""Every interval there is; a month has no length of its own."""


def time_us(value: object) -> int:
    """A moment: seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by size, or ISO 8601.

    Raises:
        BadValue: it is neither.
    """
    if not isinstance(value, str):
        raise BadValue("bad_time")
    if value.isdigit() and len(value) == 13 and value.isascii():
        return int(value) * 1000
    if "-" in value[1:] or ":" in value or "T" in value:
        return _iso_us(value)
    try:
        number = parse(value)
    except BadValue:
        raise BadValue("bad_time") from None
    size = abs(number.units) // int(10**number.scale)
    per_unit = 1_000_000 if size < 10**11 else 1000 if size < 10**14 else 1
    if size >= 10**17:
        us = number.units // int(10 ** (number.scale + 3))
    else:
        us = number.units * per_unit // int(10**number.scale)
    if not 0 <= us < END_US:
        raise BadValue("bad_time")
    return us


def _iso_us(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadValue("bad_time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    us = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if not 0 <= us < END_US:
        raise BadValue("bad_time")
    return us


class Interval:
    """One interval of candles: `1m` to `1M`.

    Args:
        name: a key of `INTERVALS_MS`.
        day_starts_ms: when days, weeks and months begin, in milliseconds after midnight UTC.
    """

    def __init__(self, name: str, day_starts_ms: int) -> None:
        self.name = name
        self.length_ms = INTERVALS_MS[name]
        self.offset_ms = day_starts_ms
        if name == "1w":
            self.offset_ms += EPOCH_MONDAY_MS

    def start_ms(self, at_ms: int) -> int:
        """When the interval began in which this moment lies."""
        if self.length_ms:
            return at_ms - (at_ms - self.offset_ms) % self.length_ms
        moment = _moment(at_ms - self.offset_ms)
        return _ms(moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)) + self.offset_ms

    def end_ms(self, start_ms: int) -> int:
        """When the interval ends that begins at `start_ms`, which is when the next begins."""
        if self.length_ms:
            return start_ms + self.length_ms
        moment = _moment(start_ms - self.offset_ms)
        year, month = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)
        return _ms(moment.replace(year=year, month=month)) + self.offset_ms


def _moment(at_ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)


def _ms(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * DAY_MS + since.seconds * 1000 + since.microseconds // 1000
