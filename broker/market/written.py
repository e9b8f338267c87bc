"""One side of a book as a text, its levels written alike: nothing is read that needn't be.  Pure; compiled.

What comes as JSON stays as it came, as long as only the numbers differ from level to level, as in
`[["42000.50","1.5"],["42000.00","2"]]`; what has been read already gets a line for each number.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from broker.market.levels import Level, level_of
from broker.market.numbers import BadValue

LEVEL_CHARACTERS_MIN: Final = 5
"""Of the shortest level, with what stands behind it."""


class Form:
    """What stands between the numbers: before the first price, before a size, before another price, at the end.

    Args:
        is_json: numbers may be JSON's, which have no leading zeros.
    """

    def __init__(self, opening: str, mid: str, separator: str, closing: str, is_json: bool) -> None:
        self.opening = opening
        self.mid = mid
        self.separator = separator
        self.closing = closing
        self.is_json = is_json

    def is_of(self, text: str) -> bool:
        """Whether a text begins and ends like this."""
        if len(text) < len(self.opening) + len(self.closing):
            return False
        return text.startswith(self.opening) and text.endswith(self.closing)

    def level(self, price: str, size: str) -> Level:
        """Raises: BadValue."""
        if self.is_json and (_is_padded(price) or _is_padded(size)):
            raise BadValue("not_json")
        return level_of(price, size)


LINES: Final = Form("", "\n", "\n]\n", "", False)


class Written:
    """Each level of `text` is its price, the form's `mid`, its size, and the form's `separator`."""

    def __init__(self, text: str, form: Form) -> None:
        self.text = text
        self.form = form

    def has_more_than(self, count: int) -> bool:
        """Whether there are more levels."""
        return len(self.text) > count * LEVEL_CHARACTERS_MIN and self.text.count(self.form.separator) > count

    def pairs(self, begin: int = 0) -> list[tuple[str, str]]:
        """Prices and sizes of the levels from there on.  Raises: BadValue."""
        found: list[tuple[str, str]] = []
        for level in self.text[begin:].split(self.form.separator)[:-1]:
            price, mid, size = level.partition(self.form.mid)
            if not mid:
                raise BadValue("bad_level")
            found.append((price, size))
        return found


def are_alike(one: Written, other: Written) -> bool:
    """Whether a level of the one is a level of the other if its text is the same; so are all of a side without any."""
    if not one.text or not other.text:
        return True
    form, of_other = one.form, other.form
    return (
        form.mid == of_other.mid and form.separator == of_other.separator and form.is_json == of_other.is_json
    )


EMPTY: Final = Written("", LINES)


class Unread:
    """An array of a row's JSON, of which nothing is known yet but where it ends.

    Args:
        text: the array.
        read: reads JSON; what is wrong with it is a ValueError, IndexError or StopIteration.
    """

    def __init__(self, text: str, read: Callable[[str], Any]) -> None:
        self.text = text
        self._read = read

    def levels(self) -> Any:
        """What is in it.  Raises: BadValue."""
        try:
            return self._read(self.text)
        except (ValueError, IndexError, StopIteration):
            raise BadValue("not_json") from None


_CLOSINGS: Final = {"[[": re.compile(r"\]\]"), "[{": re.compile(r"\}\]"), "[]": re.compile(r"\]")}
"""By how an array begins.  Expressions find them in a third of the time that `str.find` takes."""


def unread_at(text: str, start: int, read: Callable[[str], Any]) -> Unread | None:
    """The array of a row's object that begins there; None if it must be read to see where it ends.

    Args:
        text: the row, without any backslash, so that a quote is a string's begin or end.  If the brackets found are
            not the array's last ones, then the rest of the brackets and quotes are not those of an object's rest.
    """
    closing = _CLOSINGS.get(text[start : start + 2])
    found = None if closing is None else closing.search(text, start)
    return None if found is None else Unread(text[start : found.end()], read)


def written_of(unread: Unread, before: Form, price: str, size: str) -> Written:
    """A side without having read it.  Whoever reads its numbers sees whether all of it is of this form.

    Args:
        before: the form that the side had the last time.
        price, size: names of an object's members.

    Raises:
        BadValue: `irregular`; it must be read.
    """
    text = unread.text
    if text == "[]":
        return Written("", before)
    form = before if before is not LINES and before.is_of(text) else _form_of(text, price, size)
    return Written(text[len(form.opening) : len(text) - len(form.closing)] + form.separator, form)


def written_from(levels: list[Any], price: str, size: str) -> Written:
    """A side that was read.  Raises: BadValue.

    Args:
        levels: `[price, size, ...]`, or objects.
        price, size: their members' names.
    """
    lines: list[Any] = []
    for level in levels:
        if isinstance(level, list):
            if len(level) == 2:
                lines.extend(level)
            elif len(level) > 2:
                lines.extend(level[:2])
            else:
                raise BadValue("bad_level")
        elif isinstance(level, dict):
            lines.append(level.get(price))
            lines.append(level.get(size))
        else:
            raise BadValue("bad_level")
        lines.append("]")
    lines.append("")
    try:
        text = "\n".join(lines)
    except TypeError:
        raise BadValue("bad_level") from None
    if text.count("]") != len(levels):
        raise BadValue("bad_level")
    return Written(text, LINES)


_S: Final = r"[ \t\n\r]*"
_NUMBER: Final = r"[-+.0-9eE]+"
_NAME: Final = rf'{_S}"([^"\\]+)"{_S}:{_S}'
_ARRAY: Final = re.compile(rf'\[(\[{_S}("?)){_NUMBER}(\2{_S},{_S}("?)){_NUMBER}(\4{_S}\])({_S},{_S})\[')
_OBJECT: Final = re.compile(
    rf'\[(\{{{_NAME}("?)){_NUMBER}(\3{_S},{_NAME}("?)){_NUMBER}(\6{_S}\}})({_S},{_S})\{{'
)


def _form_of(text: str, price: str, size: str) -> Form:
    """The form of the first two levels.  Raises: BadValue."""
    found = _ARRAY.match(text)
    if found is not None:
        opening, quote, mid, other_quote, closing, comma = found.groups()
    else:
        found = _OBJECT.match(text)
        if found is None or found[2] != price or found[5] != size:
            raise BadValue("irregular")
        opening, _, quote, mid, _, other_quote, closing, comma = found.groups()
    form = Form("[" + opening, mid, closing + comma + opening, closing + "]", not (quote and other_quote))
    if not form.is_of(text):
        raise BadValue("irregular")
    return form


def _is_padded(number: str) -> bool:
    start = 1 if number.startswith("-") else 0
    return len(number) > start + 1 and number[start] == "0" and number[start + 1].isdigit()
