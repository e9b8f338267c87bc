"""Topic templates: text with `{column}` and `{$kind}`; `{{` and `}}` stand for the braces themselves."""

from __future__ import annotations

import re

from attrs import frozen

from protocol.mqtt.topics import SEPARATORS_MAX, is_valid_topic_name

KIND = "$kind"
"""A name in a template that is not a column: what the row is."""

OPERATION = "$operation"
"""What was done to the row: `insert`, `update`, `delete`, or `snapshot`."""

POSITION = "$position"
"""Where a row is in its feed's order; for properties alone, since each row has another."""

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")


@frozen
class Template:
    """A parsed template.  `pattern % values` is the text, `values` in the order of `names`."""

    text: str
    pattern: str
    names: tuple[str, ...]
    """Columns and `$kind`, as often and in the order in which they appear."""
    pieces: tuple[str, ...]
    """What is constant: before the first name, between two, and behind the last."""


def parse_template(text: str, in_property: bool = False) -> Template:
    """Split a template into what is constant and what a row fills in.

    Args:
        in_property: it is no topic, and may name `{$position}`.

    Raises:
        ValueError: an unpaired brace, an empty name, or an unknown `$name`, and what is right.
    """
    known = (KIND, OPERATION, POSITION) if in_property else (KIND, OPERATION)
    pieces = [""]
    names: list[str] = []
    for token in _TOKEN.finditer(text):
        name = token.group(1)
        if name is not None:
            names.append(_checked_name(name, known))
            pieces.append("")
        elif token.group() in ("{", "}"):
            raise ValueError(
                f"unpaired {token.group()!r}: a column is written {{column}}, a brace {{{{ or }}}}"
            )
        else:
            pieces[-1] += {"{{": "{", "}}": "}"}.get(token.group(), token.group())
    pattern = "%s".join(piece.replace("%", "%%") for piece in pieces)
    return Template(text, pattern, tuple(names), tuple(pieces))


def names_in(text: str, in_property: bool = False) -> tuple[str, ...]:
    """What a template fills in; nothing for one that is malformed, which is told elsewhere."""
    try:
        return parse_template(text, in_property).names
    except ValueError:
        return ()


def check_topic(template: Template) -> None:
    """Whether every row that fits can make it a topic name that MQTT allows.

    Raises:
        ValueError: what is wrong with the constant part, and what would be right.
    """
    if not template.text:
        raise ValueError("an empty topic: write at least one level")
    if template.text.startswith("$"):
        raise ValueError("topics that start with $ are the broker's own: start with another character")
    sample = (template.pattern % (("x",) * len(template.names))).encode()
    if sample.count(b"/") > SEPARATORS_MAX:
        raise ValueError(f"more than {SEPARATORS_MAX} slashes: no client could subscribe to it")
    if not is_valid_topic_name(sample):
        raise ValueError("a topic to publish to holds no +, #, control character, and at most 65535 bytes")


def _checked_name(name: str, known: tuple[str, ...]) -> str:
    if not name:
        raise ValueError("{} without a name: write the column's name in the braces")
    if name.startswith("$") and name not in known:
        words = [f"{{{one}}}" for one in known]
        raise ValueError(
            f"{{{name}}} is not known: the only names with a $ are {', '.join(words[:-1])} and {words[-1]}"
        )
    return name
