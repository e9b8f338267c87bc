"""The one list of values that every way into the broker is given: bytes, texts, and JSON.

Numbers beyond floats and decimals, nesting beyond the stack, text that is none, zero bytes, names beyond the limits.
"""

from __future__ import annotations

from typing import Final

JSON_TEXTS: Final = [
    "null",
    "true",
    "0",
    "-0",
    "1e400",
    "-1e400",
    "1e9999999999999999999",
    "1e-9999999999999999999",
    "NaN",
    "-Infinity",
    "9" * 5000,
    "-" + "9" * 400,
    '""',
    '"\\u0000"',
    '"\\ud800"',
    '"\\udfff\\ud800"',
    '"' + "x" * 70_000 + '"',
    '"' + "/" * 300 + '"',
    '"#"',
    '"+/#"',
    '"$SYS/#"',
    '"$share/g"',
    '"%00%ff%"',
    '"\\u202e\\u0007"',
    "[]",
    "[null]",
    "[[]]",
    "[" * 900 + "]" * 900,
    "[" * 100_000,
    "{}",
    '{"":{}}',
    '{"a":' * 900 + "1" + "}" * 900,
    '{"a":' * 100_000,
]
"""Some are no JSON, whatever they look like."""

TEXTS: Final = [
    *JSON_TEXTS,
    "",
    "\0",
    "\x7f\x01",
    "\ufeff",
    "\uffff",
    "x" * 65_536,
    "/" * 201,
    "a\r\nb: c",
    "%",
    "%s%n%d",
    '{"type":"orderbook_update","changes":{"bids":[{"price":1e9999999999999999999}]}}',
    '{"type":"orderbook_update","changes":{"bids":[{"price":NaN}],"asks":[{"price":[]}]}}',
    '{"type":"orderbook_update","changes":{"bids":[{"price":"' + "9" * 5000 + '"}]}}',
    '{"c":"canton:a\\u0000","d":"\\ud800"}',
    '{"c":"canton:' + "/" * 70_000 + '","d":[]}',
]

VALUES: Final = [
    *(text.encode() for text in TEXTS),
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    bytes(range(256)),
]
