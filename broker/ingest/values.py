"""Messages to the text of their columns.  Pure; compiled.

Postgres itself makes values of the texts, so a number stays what it is digit for digit, and what is no value of its
type is refused by Postgres in its own words.  Only what Postgres has no text for is changed here: bytes, times that are
numbers, arrays, the members of a JSON payload.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from broker.config.ingest import Expression
from broker.ingest.sink import Waiting
from broker.ingest.times import TIMES, Refused, is_number, number_time, time_text
from protocol.json_members import Number

if TYPE_CHECKING:
    from mypy_extensions import i64

Value = str | None
_QOS: Final = ("0", "1", "2")
NAMES_REMEMBERED_MAX: Final = 10_000


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_JSON: Final = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=_no_constant)


def parsed(payload: bytes) -> Any:
    """The JSON value, numbers as `Number`.  Raises: Refused."""
    try:
        return _JSON.decode(payload.decode())
    except UnicodeDecodeError:
        raise Refused("the payload is not UTF-8") from None
    except ValueError as error:
        raise Refused(f"the payload is not JSON: {error}") from None
    except RecursionError:
        raise Refused("the payload is not JSON: too deep") from None


class Maker:
    """Makes one column's values."""

    def of(self, message: Waiting, document: Any) -> Value:
        """The value of a message whose payload was parsed, if any column wants that.  Raises: Refused."""
        raise NotImplementedError

    def quick(self, message: Waiting, members: list[Value], texts: i64) -> Value:
        """The same of one whose members were found by `members_into`."""
        return self.of(message, None)


class _Constant(Maker):
    def __init__(self, text: str) -> None:
        self._text = text

    def of(self, message: Waiting, document: Any) -> Value:
        return self._text


class _Level(Maker):
    def __init__(self, index: int) -> None:
        self._index = index

    def of(self, message: Waiting, document: Any) -> Value:
        return message.levels[self._index]


class _Qos(Maker):
    def of(self, message: Waiting, document: Any) -> Value:
        return _QOS[message.publication.qos]


class _Client(Maker):
    def __init__(self) -> None:
        self._texts: dict[bytes, str] = {}

    def of(self, message: Waiting, document: Any) -> Value:
        name = message.publication.client_id
        text = self._texts.get(name)
        if text is None:
            if len(self._texts) >= NAMES_REMEMBERED_MAX:
                self._texts.clear()
            text = self._texts[name] = name.decode(errors="replace")
        return text


class _User(Maker):
    def of(self, message: Waiting, document: Any) -> Value:
        user = message.publication.user_name
        return None if user is None else user.decode(errors="replace")


class _Now(Maker):
    def of(self, message: Waiting, document: Any) -> Value:
        return time_text(message.received_ns // 1000)


class _Topic(Maker):
    def of(self, message: Waiting, document: Any) -> Value:
        return message.levels[-1]


class _MessageId(Maker):
    def of(self, message: Waiting, document: Any) -> Value:
        return message.message_id


class _Retain(Maker):
    def of(self, message: Waiting, document: Any) -> Value:
        return "true" if message.publication.retain else "false"


class _Payload(Maker):
    def __init__(self, kind: str) -> None:
        self._is_bytes = kind == "bytea"
        self._is_time = kind in TIMES

    def of(self, message: Waiting, document: Any) -> Value:
        if self._is_bytes:
            return "\\x" + message.payload.hex()
        try:
            text = message.payload.decode()
        except UnicodeDecodeError:
            raise Refused("the payload is not UTF-8 text, which only a column of type bytea takes") from None
        return _text_time(text.strip(), "") if self._is_time else text


class _Joined(Maker):
    def __init__(self, makers: list[Maker], constants: tuple[str, ...]) -> None:
        self._makers = makers
        self._constants = constants

    def of(self, message: Waiting, document: Any) -> Value:
        found = self._constants[0]
        for index, make in enumerate(self._makers, 1):
            found += (make.of(message, document) or "") + self._constants[index]
        return found


class Member(Maker):
    """Of the JSON payload.

    Args:
        slot: where `members_into` puts it, if it is a member of the payload itself.
    """

    def __init__(self, path: tuple[str | int, ...], unit: str, kind: str, slot: i64 = -1) -> None:
        self._path = path
        self._unit = unit
        self._is_json = kind in ("json", "jsonb")
        self._is_time = kind in TIMES
        self._is_array = kind.startswith("_")
        self._slot = slot

    def of(self, message: Waiting, document: Any) -> Value:
        value = document
        for step in self._path:
            if isinstance(step, str):
                value = value.get(step) if isinstance(value, dict) else None
            else:
                value = value[step] if isinstance(value, list) and step < len(value) else None
            if value is None:
                return None
        return self._text(value)

    def quick(self, message: Waiting, members: list[Value], texts: i64) -> Value:
        value = members[self._slot]
        if value is None:
            return None
        if self._is_time:
            return (
                _text_time(value, self._unit) if texts >> self._slot & 1 else number_time(value, self._unit)
            )
        if self._is_json and texts >> self._slot & 1:
            return json_text(value)
        return value

    def _text(self, value: Any) -> str:
        if self._is_json:
            return json_text(value)
        if self._is_time:
            return _time(value, self._unit)
        if self._is_array and isinstance(value, list):
            return array_text(value)
        return plain_text(value)


_BUILTINS: Final[dict[str, Callable[[], Maker]]] = {
    "$qos": _Qos,
    "$client": _Client,
    "$user": _User,
    "$now": _Now,
    "$topic": _Topic,
    "$message_id": _MessageId,
    "$retain": _Retain,
}


def maker(one: Expression, levels: tuple[str, ...], kind: str, slots: dict[str, int]) -> Maker:
    """What makes the values of an expression.

    Args:
        levels: the names of the topic's; kind: the column's type, as Postgres names it inside.
        slots: where `members_into` puts the members that it looks for.
    """
    if one.path is not None:
        slot = slots.get(str(one.path[0]), -1) if len(one.path) == 1 else -1
        return Member(one.path, one.unit, kind, slot)
    if not one.names:
        return _Constant(one.pieces[0])
    makers = [_named(name, levels, kind if one.sole else "text") for name in one.names]
    return makers[0] if one.sole else _Joined(makers, one.pieces[::2])


def _named(name: str, levels: tuple[str, ...], kind: str) -> Maker:
    if name in levels:
        return _Level(levels.index(name))
    if name == "$payload":
        return _Payload(kind)
    return _BUILTINS[name]()


def plain_text(value: Any) -> str:
    """Text as it is, numbers digit for digit, the rest as JSON."""
    if type(value) is str or type(value) is Number:
        return value
    return json_text(value)


def json_text(value: Any) -> str:
    """JSON again, numbers digit for digit."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join([f"{json.dumps(name)}:{json_text(one)}" for name, one in value.items()]) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(json_text, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def array_text(value: list[Any]) -> str:
    """Postgres's text of an array, of arrays, too."""
    found = [
        "NULL" if one is None else array_text(one) if isinstance(one, list) else quoted(plain_text(one))
        for one in value
    ]
    return "{" + ",".join(found) + "}"


def _time(value: Any, unit: str) -> str:
    if isinstance(value, Number):
        return number_time(value, unit)
    if isinstance(value, str):
        return _text_time(value, unit)
    raise Refused(f"no time: {json_text(value)[:100]}")


def _text_time(text: str, unit: str) -> str:
    return number_time(text, unit) if is_number(text, unit) else text


def column_text(values: list[Value]) -> str:
    """One column of many rows as Postgres's text of a `text[]`."""
    try:
        joined = '","'.join(values)  # type: ignore[arg-type]
    except TypeError:
        return "{" + ",".join(["NULL" if one is None else quoted(one) for one in values]) + "}"
    if "\\" in joined or joined.count('"') != 2 * (len(values) - 1):
        return "{" + ",".join([quoted(one or "") for one in values]) + "}"
    return '{"' + joined + '"}'


def quoted(text: str) -> str:
    """An element of an array's text form, in quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
