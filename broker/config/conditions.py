"""What a route's `where` may say: the part of SQL that can be decided from a row's text as Postgres decides it.  Pure.

    status = 'open' AND (price > 10.50 OR is_vip) AND note IS NOT NULL AND side IN ('bid', 'ask')

Columns are written as in SQL: lower-case, or in double quotes.  Numbers are compared as numbers, text for equality.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeAlias

from attrs import frozen

Decide: TypeAlias = Callable[[Mapping[str, Any]], bool | None]
Literal: TypeAlias = Decimal | str | bool

DEPTH_MAX: Final = 50
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<text>'(?:[^']|'')*')|(?P<quoted>"(?:[^"]|"")+")"""
    r"""|(?P<word>[^\W\d]\w*)|(?P<sign><=|>=|<>|!=|[=<>(),]))"""
)
_ORDERS: Final = ("<", "<=", ">", ">=")
_KEYWORDS: Final = frozenset({"and", "or", "not", "in", "is", "null", "true", "false"})
_RIGHT: Final = "such as status = 'open' AND price > 10"


@frozen
class Condition:
    """A parsed `where`.

    Attributes:
        sql: the same for Postgres, with every column quoted.
        types: each column with what its values are compared as: `number`, `text`, `boolean`, or `` if only with NULL.
        decide: whether a row fulfils it: True, False, or None where Postgres says NULL.

    Raises (`decide`): KeyError, if the row lacks a column.
    """

    sql: str
    types: tuple[tuple[str, str], ...]
    decide: Decide

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the condition reads, each once."""
        return tuple(dict.fromkeys(name for name, _ in self.types))


def parse_condition(text: str) -> Condition:
    """Raises: ValueError, with what is wrong and what would be right."""
    parser = _Parser(text)
    sql, decide = parser.expression(0)
    parser.expect_end()
    return Condition(sql, tuple(dict.fromkeys(parser.types)), decide)


def any_of(conditions: list[Condition]) -> str:
    """SQL that is fulfilled where one of them is."""
    return " OR ".join(f"({text})" for text in dict.fromkeys(condition.sql for condition in conditions))


_Part: TypeAlias = tuple[str, Decide]


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self.types: list[tuple[str, str]] = []

    def expression(self, depth: int) -> _Part:
        if depth > DEPTH_MAX:
            raise ValueError(f"more than {DEPTH_MAX} parentheses in each other")
        sql, decide = self._all_of(depth)
        while self._take_word("or"):
            other_sql, other = self._all_of(depth)
            sql, decide = f"{sql} OR {other_sql}", _either(decide, other)
        return sql, decide

    def expect_end(self) -> None:
        if self._at < len(self._tokens):
            raise ValueError(
                f"{self._tokens[self._at][1]} is not expected here; right is a condition {_RIGHT}"
            )

    def _all_of(self, depth: int) -> _Part:
        sql, decide = self._negated(depth)
        while self._take_word("and"):
            other_sql, other = self._negated(depth)
            sql, decide = f"{sql} AND {other_sql}", _both(decide, other)
        return sql, decide

    def _negated(self, depth: int) -> _Part:
        count = 0
        while self._take_word("not"):
            count += 1
        sql, decide = self._primary(depth)
        return (f"NOT ({sql})", _not(decide)) if count % 2 else (sql, decide)

    def _primary(self, depth: int) -> _Part:
        if self._take_sign("("):
            sql, decide = self.expression(depth + 1)
            self._want_sign(")")
            return f"({sql})", decide
        column = self._column()
        name = '"' + column.replace('"', '""') + '"'
        if self._take_word("is"):
            negated = self._take_word("not")
            if not self._take_word("null"):
                raise ValueError("after IS, NULL or NOT NULL is wanted")
            self.types.append((column, ""))
            return f"{name} IS {'NOT ' * negated}NULL", _is_null(column, negated)
        negated = self._take_word("not")
        if self._take_word("in"):
            return self._among(column, name, negated)
        if negated:
            raise ValueError("after NOT, IN is wanted here")
        kind, sign = self._peek()
        if kind != "sign" or sign in "(),":
            self.types.append((column, "boolean"))
            return name, _compared(column, "=", True)
        self._at += 1
        sign = "<>" if sign == "!=" else sign
        literal = self._literal(column)
        if sign in _ORDERS and not isinstance(literal, Decimal):
            raise ValueError(f"{sign} compares numbers; text can be compared with = and <>")
        return f"{name} {sign} {_written(literal)}", _compared(column, sign, literal)

    def _among(self, column: str, name: str, negated: bool) -> _Part:
        self._want_sign("(")
        literals = [self._literal(column)]
        while self._take_sign(","):
            literals.append(self._literal(column))
        self._want_sign(")")
        decide = _compared(column, "=", literals[0])
        for literal in literals[1:]:
            decide = _either(decide, _compared(column, "=", literal))
        sql = f"{name} {'NOT ' * negated}IN ({', '.join(map(_written, literals))})"
        return sql, _not(decide) if negated else decide

    def _column(self) -> str:
        kind, token = self._peek()
        if kind == "quoted":
            self._at += 1
            return token[1:-1].replace('""', '"')
        if kind != "word" or token.lower() in _KEYWORDS:
            raise ValueError(
                f"a column is wanted instead of {token or 'the end'}; right is a condition {_RIGHT}"
            )
        self._at += 1
        return token.lower()

    def _literal(self, column: str) -> Literal:
        kind, token = self._peek()
        self._at += 1
        if kind == "number":
            self.types.append((column, "number"))
            return Decimal(token)
        if kind == "text":
            self.types.append((column, "text"))
            return token[1:-1].replace("''", "'")
        if kind == "word" and token.lower() in ("true", "false"):
            self.types.append((column, "boolean"))
            return token.lower() == "true"
        if kind == "quoted":
            raise ValueError(
                f"{token} in double quotes is a column; text stands in single ones: '{token[1:-1]}'"
            )
        raise ValueError(f"a number, 'text', TRUE or FALSE is wanted instead of {token or 'the end'}")

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("", "")

    def _take_word(self, word: str) -> bool:
        kind, token = self._peek()
        found = kind == "word" and token.lower() == word
        self._at += found
        return found

    def _take_sign(self, sign: str) -> bool:
        found = self._peek() == ("sign", sign)
        self._at += found
        return found

    def _want_sign(self, sign: str) -> None:
        if not self._take_sign(sign):
            raise ValueError(f"{sign} is wanted instead of {self._peek()[1] or 'the end'}")


def _tokens(text: str) -> list[tuple[str, str]]:
    found = []
    end = len(text.rstrip())
    at = 0
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise ValueError(f"{text[at:].strip()[:20]} can't be read; right is a condition {_RIGHT}")
        found.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    if "\0" in text:
        raise ValueError("it holds a NUL")
    return found


def _written(literal: Literal) -> str:
    if isinstance(literal, bool):
        return "TRUE" if literal else "FALSE"
    if isinstance(literal, Decimal):
        return str(literal)
    return "'" + literal.replace("'", "''") + "'" if "\\" not in literal else _escaped(literal)


def _escaped(literal: str) -> str:
    """The same whatever standard_conforming_strings says."""
    return "E'" + literal.replace("\\", "\\\\").replace("'", "''") + "'"


def _either(one: Decide, other: Decide) -> Decide:
    def decide(row: Mapping[str, Any]) -> bool | None:
        found = one(row), other(row)
        return True if True in found else None if None in found else False

    return decide


def _both(one: Decide, other: Decide) -> Decide:
    def decide(row: Mapping[str, Any]) -> bool | None:
        found = one(row), other(row)
        return False if False in found else None if None in found else True

    return decide


def _not(one: Decide) -> Decide:
    def decide(row: Mapping[str, Any]) -> bool | None:
        found = one(row)
        return None if found is None else not found

    return decide


def _is_null(column: str, negated: bool) -> Decide:
    return lambda row: (row[column] is None) != negated


def _compared(column: str, sign: str, literal: Literal) -> Decide:
    def decide(row: Mapping[str, Any]) -> bool | None:
        value = row[column]
        if value is None:
            return None
        if isinstance(literal, bool) or isinstance(value, bool) or type(value) is not str:
            return (
                _is(value is literal, sign) if isinstance(value, bool) and isinstance(literal, bool) else None
            )
        if isinstance(literal, str):
            return _is(value == literal, sign)
        try:
            return _ordered(Decimal(value), sign, literal)
        except InvalidOperation:
            return None  # no number, which Postgres would not have compared

    return decide


def _is(equal: bool, sign: str) -> bool:
    return equal if sign == "=" else not equal


def _ordered(value: Decimal, sign: str, literal: Decimal) -> bool:
    if value.is_nan():  # in Postgres it is higher than every number
        return sign in ("<>", ">", ">=")
    if sign in ("=", "<>"):
        return _is(value == literal, sign)
    lower, equal = value < literal, value == literal
    return {"<": lower, "<=": lower or equal, ">": not lower and not equal, ">=": not lower}[sign]
