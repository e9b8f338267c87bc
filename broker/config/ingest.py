"""[[mqtt.sink]]: which messages become rows of which table, as values, and the two small languages of it.

A topic pattern is a topic filter whose levels have names: `telemetry/{device}/{metric}`; `{rest...}` at the end takes
all levels that are left.  An expression says where a column's value comes from: `{level}`, `{$payload}` and the like,
`$.member` of the JSON payload, or text around such names.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import field, frozen

from broker.config.feeds import FeedConfig
from protocol.mqtt.topics import is_valid_topic_filter

BUILTINS: Final = ("$payload", "$qos", "$client", "$user", "$now", "$topic", "$message_id", "$retain")
UNITS: Final = ("s", "ms", "us")

ROWS_MAX: Final = 10_000
"""Of one batch."""
MESSAGES_MAX: Final = 100_000
BYTES_MAX: Final = 64 * 1024 * 1024
"""What waits for the table, unless the configuration says otherwise."""

_LEVEL: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\.\.\.)?\}")
_PATH: Final = re.compile(r"\$((?:\.[^.\[\]*?@$ {}]+|\[[0-9]{1,9}\])*)(?: (\w+))?")
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[([0-9]{1,9})\]")
_NAMED: Final = re.compile(r"\{([^{}]*)\}")
_CALL: Final = re.compile(r"\s*([^\s()]+)\s*\((.*)\)\s*", re.DOTALL)
_QUOTED: Final = re.compile(r"'(?:[^']|'')*'")
_COMMA: Final = re.compile(r",(?=(?:[^']*'[^']*')*[^']*\Z)")
"""Between two arguments: quotes behind it come in pairs."""
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@frozen
class TopicPattern:
    """A topic filter that names levels.

    `topic_filter` is what to subscribe to, `names` are the levels' names in their order, `regex` has a group for each.
    """

    text: str
    topic_filter: bytes
    names: tuple[str, ...]
    regex: re.Pattern[str] = field(eq=False, repr=False)


@frozen
class Expression:
    """Where a value comes from.

    Exactly one of: `path`, the way to a member of the JSON payload, with `unit` for a time that is a number; `pieces`,
    constants and names by turns, beginning and ending with a constant.
    """

    text: str
    path: tuple[str | int, ...] | None = None
    unit: str = ""
    pieces: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names in braces, in their order."""
        return self.pieces[1::2]

    @property
    def sole(self) -> str:
        """The name, if it is nothing but one; else ""."""
        return self.pieces[1] if len(self.pieces) == 3 and not self.pieces[0] + self.pieces[2] else ""


@frozen
class Batch:
    """Rows that are written together: at most `rows`, or as many as came within `every_s`."""

    rows: int = 1000
    every_s: float = 0.02


@frozen
class SinkConfig:
    """One [[mqtt.sink]]."""

    name: str
    topics: tuple[TopicPattern, ...]
    table: str = ""
    """`schema.table`, or "" where a function is called."""
    function: str = ""
    columns: tuple[tuple[str, Expression], ...] = ()
    """By column; of a function the arguments in their order."""
    on_conflict: str = ""
    """`nothing`, `update`, or "", which refuses the row."""
    on_null: str = "null"
    """What a member that is missing or null means: `null`, or `refuse` the row."""
    batch: Batch = field(factory=Batch)
    dead_letters: str = ""
    acknowledge: str = "committed"
    max_messages: int = MESSAGES_MAX
    max_bytes: int = BYTES_MAX
    where: str = field(default="", eq=False)

    @property
    def target(self) -> str:
        """The table, or the function, that is given the messages."""
        return self.table or self.function


@frozen
class IngestConfig:
    """Every sink, and the database they write to."""

    database: FeedConfig
    sinks: tuple[SinkConfig, ...] = ()


def parse_pattern(text: str) -> TopicPattern:
    """Raises: ValueError, with what is wrong and what would be right."""
    levels: list[str] = []
    regex: list[str] = []
    names: list[str] = []
    written = text.split("/")
    for index, level in enumerate(written):
        is_last = index == len(written) - 1
        named = _LEVEL.fullmatch(level)
        if named is not None:
            if named[1] in names:
                raise ValueError(f"{{{named[1]}}} stands twice: give each level a name of its own")
            names.append(named[1])
            if named[2] and not is_last:
                raise ValueError(f"{level} takes all levels that are left, so it must be the last one")
            levels.append("#" if named[2] else "+")
            regex.append("(.*)" if named[2] else "([^/]*)")
        elif "{" in level or "}" in level:
            raise ValueError(f"{level}: a name takes a whole level, such as {{device}}")
        else:
            levels.append(level)
            regex.append({"+": "[^/]*", "#": ".*"}.get(level, re.escape(level)))
    topic_filter = "/".join(levels)
    if topic_filter.startswith("$"):
        raise ValueError("topics that begin with $ are the broker's own")
    if not is_valid_topic_filter(topic_filter.encode(errors="replace")):
        raise ValueError(f'"{text}" is no topic filter: levels between /, + for any, # only at the end')
    pattern = "/".join(regex)
    if levels[-1] == "#" and len(levels) > 1:
        # `a/#` matches `a`, too [MQTT-4.7.1-2].
        pattern = "/".join(regex[:-1]) + "(?:/" + regex[-1] + ")?"
    return TopicPattern(text, topic_filter.encode(), tuple(names), re.compile(pattern, re.DOTALL))


def parse_expression(text: str, levels: tuple[str, ...]) -> Expression:
    """Raises: ValueError, with what is wrong and what would be right."""
    if text.startswith("$"):
        found = _PATH.fullmatch(text)
        if found is None:
            raise ValueError(
                f'"{text}": $ and members with a point before each are wanted, such as "$.value"'
            )
        if found[2] and found[2] not in UNITS:
            raise ValueError(f'"{text}": the unit of a time is s, ms or us, not {found[2]}')
        path = tuple(name or int(index) for name, index in _STEP.findall(found[1]))
        return Expression(text, path, found[2] or "")
    return _parse_text(text, levels)


def _parse_text(text: str, levels: tuple[str, ...]) -> Expression:
    pieces: list[str] = []
    position = 0
    for named in _NAMED.finditer(text):
        name = named[1]
        if name not in levels and name not in BUILTINS:
            known = ", ".join(f"{{{one}}}" for one in (*levels, *BUILTINS))
            raise ValueError(f"{{{name}}} is not known: there are {known}")
        pieces += [text[position : named.start()], name]
        position = named.end()
    pieces.append(text[position:])
    if any("{" in piece or "}" in piece for piece in pieces[::2]):
        raise ValueError(f'"{text}": an unpaired brace: a level is written {{level}}')
    return Expression(text, None, "", tuple(pieces))


def parse_call(text: str, levels: tuple[str, ...]) -> tuple[str, tuple[tuple[str, Expression], ...]]:
    """`app.ingest(topic, $.v)` to the function's name and its arguments.

    An argument is a level's name, one of `topic`, `payload` and so on, a path, or text in single quotes, in which two
    of them stand for one.

    Raises:
        ValueError: what is wrong, and what would be right.
    """
    found = _CALL.fullmatch(text)
    if found is None:
        raise ValueError(
            f'"{text}": a function and its arguments are wanted, such as "app.ingest(topic, payload)"'
        )
    check_name(found[1])
    if not found[2].strip():
        raise ValueError(f'"{text}": at least one argument is wanted, such as payload')
    arguments = [
        (f"argument {index}", _parse_argument(written.strip(), levels))
        for index, written in enumerate(_COMMA.split(found[2]), 1)
    ]
    return found[1], tuple(arguments)


def _parse_argument(written: str, levels: tuple[str, ...]) -> Expression:
    if _WORD.fullmatch(written):
        return parse_expression(f"{{{written}}}" if written in levels else f"{{${written}}}", levels)
    if _QUOTED.fullmatch(written):
        return _parse_text(written[1:-1].replace("''", "'"), levels)
    if written.startswith(("$", "{")):
        return parse_expression(written, levels)
    raise ValueError(f"{written or 'nothing'}: a name, a path or text in single quotes is wanted")


def check_name(name: str) -> None:
    """Raises: ValueError if it can't be a table's or a function's name."""
    if not all(name.split(".")) or name.count(".") > 1:
        raise ValueError(f'"schema.name" or "name" is wanted, not "{name}"')
