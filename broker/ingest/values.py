"""Messages to the text of their columns.  Pure.

Postgres itself makes values of the texts, so a number stays what it is digit for digit, and what is no value of its
type is refused by Postgres in its own words.  Only what Postgres has no text for is changed here: bytes, times that are
numbers, arrays, the members of a JSON payload.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from broker.config.ingest import Expression, SinkConfig
from broker.ingest.flat import flat
from broker.ingest.sink import Waiting
from protocol.json_members import Number

Value = str | None
Maker = Callable[[Waiting, Any], Value]
Bulk = Callable[[list[Waiting], list[Any]], list[Value]]
_QOS: Final = ("0", "1", "2")

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECONDS: Final = {"s": 1_000_000, "ms": 1_000, "us": 1}
SECONDS_BELOW: Final = 100_000_000_000
"""A number without a unit is seconds below it (the year 5138), milliseconds below a thousand times it, else µs."""
EXPONENT_MAX: Final = 20
TIMES: Final = frozenset({"timestamptz", "timestamp", "date"})


_second_texts: dict[int, str] = {}
SECONDS_REMEMBERED_MAX: Final = 10_000


class Refused(ValueError):
    """This message makes no row; the text says why."""


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_JSON: Final = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=_no_constant)
_scan: Callable[[str, int], tuple[Any, int]] = _JSON.scan_once  # type: ignore[attr-defined]


class Rows:
    """Makes the columns of a batch.

    Args:
        config: the sink's.
        types: of each column, as Postgres names them inside: `int4`, `_text`.
    """

    def __init__(self, config: SinkConfig, types: tuple[str, ...]) -> None:
        levels = config.topics[0].names
        self._refuses_null = config.on_null == "refuse"
        self._columns = [
            (name, _maker(one, levels, kind), one)
            for (name, one), kind in zip(config.columns, types, strict=True)
        ]
        self._bulks = [
            _bulk(one, levels, kind, make) for (_, make, one), kind in zip(self._columns, types, strict=True)
        ]
        self._reads_json = any(one.path is not None for _, one in config.columns)
        self._members = _members_of([one for _, one in config.columns if one.path is not None])

    def columns(
        self, batch: list[Waiting]
    ) -> tuple[list[Waiting], list[list[Value]], list[tuple[Waiting, str]]]:
        """All columns of a batch: the messages that make rows, a list for each column, and the others with reasons."""
        refused: list[tuple[Waiting, str]] = []
        documents: list[Any] = [None] * len(batch)
        if self._reads_json:
            batch, documents = _documents(batch, self._members, refused)
        try:
            columns = [bulk(batch, documents) for bulk in self._bulks]
            if not self._refuses_null or not any(None in column for column in columns):
                return batch, columns, refused
        except (Refused, AttributeError):
            pass  # an AttributeError: a payload that is no object
        taken: list[Waiting] = []
        rows: list[list[Value]] = []
        for one in batch:
            try:
                rows.append(self.of(one))
                taken.append(one)
            except Refused as error:
                refused.append((one, str(error)))
        return taken, [list(column) for column in zip(*rows, strict=True)], refused

    def of(self, message: Waiting) -> list[Value]:
        """A row.

        Raises:
            Refused: no row can be made of it.
        """
        document: Any = None
        if self._reads_json:
            document = parsed(message.payload)
        row = [make(message, document) for _, make, _ in self._columns]
        if self._refuses_null and None in row:
            name, _, one = self._columns[row.index(None)]
            raise Refused(f"column {name}: {one.text} is missing or null")
        return row


def _members_of(expressions: list[Expression]) -> dict[bytes, str]:
    """What `flat` looks for; {} where more than members of an object is wanted."""
    names: dict[bytes, str] = {}
    for one in expressions:
        name = one.path[0] if one.path is not None and len(one.path) == 1 else None
        if not isinstance(name, str):
            return {}
        names[json.dumps(name, ensure_ascii=False).encode()] = name
    return names


def _documents(
    batch: list[Waiting], names: dict[bytes, str], refused: list[tuple[Waiting, str]]
) -> tuple[list[Waiting], list[Any]]:
    """The messages whose payloads are JSON, and those values, or as much of them as is wanted."""
    taken: list[Waiting] = []
    documents: list[Any] = []
    for one in batch:
        members = flat(one.payload, names) if names else None
        if members is not None:
            taken.append(one)
            documents.append(members)
            continue
        try:
            text = one.payload.decode()
            document, end = _scan(text, 0)
            if end != len(text):
                document = parsed(one.payload)
        except (ValueError, StopIteration, RecursionError):
            try:
                document = parsed(one.payload)  # blanks around it, or the reason in words
            except Refused as error:
                refused.append((one, str(error)))
                continue
        taken.append(one)
        documents.append(document)
    return taken, documents


def _bulk(one: Expression, levels: tuple[str, ...], kind: str, make: Maker) -> Bulk:
    """What makes a column of many messages; the same as `make` for each."""
    name = one.sole
    if name in levels:
        index = levels.index(name)
        return lambda batch, documents: [message.levels[index] for message in batch]
    if name == "$qos":
        return lambda batch, documents: [_QOS[message.publication.qos] for message in batch]
    path = one.path
    if (
        path is not None
        and len(path) == 1
        and isinstance(path[0], str)
        and _converter("", kind) is plain_text
    ):
        member = path[0]
        # A payload that is no object has no `get`; then each message is looked at.
        return lambda batch, documents: [
            value if value is None or type(value) is Number or type(value) is str else json_text(value)
            for value in [document.get(member) for document in documents]
        ]
    return lambda batch, documents: [
        make(message, document) for message, document in zip(batch, documents, strict=True)
    ]


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


def _maker(one: Expression, levels: tuple[str, ...], kind: str) -> Maker:
    if one.path is not None:
        return _member(one.path, one.unit, kind)
    if not one.names:
        constant = one.pieces[0]
        return lambda message, document: constant
    if one.sole == "$payload":
        return _payload(kind)
    makers = [_named(name, levels) for name in one.names]
    if one.sole:
        make = makers[0]
        return lambda message, document: make(message)
    constants = one.pieces[::2]

    def joined(message: Waiting, document: Any) -> Value:
        found = [constants[0]]
        for make, constant in zip(makers, constants[1:], strict=True):
            found += [make(message) or "", constant]
        return "".join(found)

    return joined


def _named(name: str, levels: tuple[str, ...]) -> Callable[[Waiting], Value]:
    if name in levels:
        index = levels.index(name)
        return lambda message: message.levels[index]
    return _BUILTINS[name]


def _user(message: Waiting) -> Value:
    user = message.publication.user_name
    return None if user is None else user.decode(errors="replace")


_BUILTINS: Final[dict[str, Callable[[Waiting], Value]]] = {
    "$payload": lambda message: _text(message.payload),
    "$qos": lambda message: str(message.publication.qos),
    "$client": lambda message: message.publication.client_id.decode(errors="replace"),
    "$user": _user,
    "$now": lambda message: time_text(message.received_ns // 1000),
    "$topic": lambda message: message.levels[-1],
    "$message_id": lambda message: message.message_id,
    "$retain": lambda message: "true" if message.publication.retain else "false",
}


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise Refused("the payload is not UTF-8 text, which only a column of type bytea takes") from None


def _payload(kind: str) -> Maker:
    if kind == "bytea":
        return lambda message, document: "\\x" + message.payload.hex()
    if kind in TIMES:
        return lambda message, document: _time(_text(message.payload).strip(), "")
    return lambda message, document: _text(message.payload)


def _member(path: tuple[str | int, ...], unit: str, kind: str) -> Maker:
    convert = _converter(unit, kind)
    if len(path) == 1 and isinstance(path[0], str):
        name = path[0]

        def sole(message: Waiting, document: Any) -> Value:
            value = document.get(name) if type(document) is dict else None
            return None if value is None else convert(value)

        return sole

    def deep(message: Waiting, document: Any) -> Value:
        value = document
        for step in path:
            if isinstance(step, str):
                value = value.get(step) if isinstance(value, dict) else None
            else:
                value = value[step] if isinstance(value, list) and step < len(value) else None
            if value is None:
                return None
        return convert(value)

    return deep


def _converter(unit: str, kind: str) -> Callable[[Any], Value]:
    if kind in ("json", "jsonb"):
        return json_text
    if kind in TIMES:
        return lambda value: _time(value, unit)
    if kind.startswith("_"):
        return lambda value: array_text(value) if isinstance(value, list) else plain_text(value)
    return plain_text


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
    if isinstance(value, Number) or (isinstance(value, str) and _is_number(value, unit)):
        return time_text(microseconds(value, unit))
    if isinstance(value, str):
        return value
    raise Refused(f"no time: {json_text(value)[:100]}")


def _is_number(text: str, unit: str) -> bool:
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
