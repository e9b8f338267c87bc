"""Writes docs/mosquitto-conf.md from the table of options.

`python -m broker.config.mosquitto.options_document > docs/mosquitto-conf.md`
"""

from __future__ import annotations

from collections.abc import Iterable

from broker.config.mosquitto.option import Kind, Level, Option, Role
from broker.config.mosquitto.options import OPTIONS

_INTRODUCTION = """\
# mosquitto.conf

Rowcast reads mosquitto.conf as Mosquitto 2.1 does: every word that Mosquitto knows is known here, with its type, its
range and its level. `rowcast --test-config -c FILE` tells all mistakes of a file at once, each with file, line and
cure. This page is written from the table that the reader itself obeys (`broker/config/mosquitto/options.py`).

- One option per line: its name, one space, its value. A `#` begins a comment only as the first character of a line.
- Text values reach to the end of the line. Switches are `true` or `false` (or `1`, `0`).
- What stands below `listener` is about that listener. Options of a listener above any are about the *default listener*,
  which is there only if `port` or `bind_address` is.
- A file without `listener`, `port` and `bind_address` gives *local only mode*: loopback, on port 1883 or those of `-p`,
  open to anonymous clients unless `allow_anonymous false`. With one of them, `-p` is ignored and anonymous clients
  need `allow_anonymous true`.
- Without `per_listener_settings true`, `acl_file`, `password_file`, `allow_anonymous` and `allow_zero_length_clientid`
  are the whole broker's, wherever they stand.
- The first column of options has ↻ where SIGHUP reads the option again.
"""

_SECTIONS = (
    ("For the whole broker", "", Role.HONOURED, (Level.BROKER,)),
    (
        "Who may connect, and do what",
        "",
        Role.HONOURED,
        (Level.SECURITY,),
    ),
    (
        "For one listener",
        "",
        Role.HONOURED,
        (Level.LISTENER, Level.LISTENER_OR_DEFAULT, Level.NAMED_LISTENER),
    ),
    (
        "Accepted, without effect",
        "They are read and checked, and named in a warning when the broker starts.",
        Role.WITHOUT_EFFECT,
        tuple(Level),
    ),
    (
        "Refused",
        "The broker does not start with one of these; the message says what to do instead.",
        Role.REFUSED,
        tuple(level for level in Level if level not in (Level.BRIDGE, Level.PLUGIN)),
    ),
    (
        "Inside a refused bridge or plugin",
        "Checked as Mosquitto checks them, so that their mistakes are told too.",
        Role.REFUSED,
        (Level.BRIDGE, Level.PLUGIN),
    ),
)


def document() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    for title, text, role, levels in _SECTIONS:
        options = [option for option in OPTIONS.values() if option.role is role and option.level in levels]
        parts.append("\n".join(filter(None, (f"## {title}\n", text and text + "\n", _table(options)))))
    return "\n".join(parts)


def _table(options: Iterable[Option]) -> str:
    rows = ["| option | value | default | meaning |", "|---|---|---|---|"]
    rows.extend(_row(option) for option in options)
    return "\n".join(rows) + "\n"


def _row(option: Option) -> str:
    name = f"`{option.name}`" + (" ↻" if option.reload else "")
    default = f"`{option.default}`" if option.default and option.kind is not Kind.TEXT else option.default
    note = "" if option.level in (Level.BRIDGE, Level.PLUGIN) else option.note
    meaning = " ".join(filter(None, (option.meaning, _where(option), note))).replace("  ", " ")
    return f"| {name} | {_value(option)} | {default} | {meaning} |".replace("|  |", "| |")


def _value(option: Option) -> str:
    if option.kind in (Kind.SPECIAL, Kind.WORD):
        return option.range_text
    unit = " characters" if option.kind is Kind.TEXT and option.range_text else ""
    return ", ".join(filter(None, (option.kind.value, option.range_text + unit)))


def _where(option: Option) -> str:
    if option.level is Level.LISTENER and option.role is Role.HONOURED:
        return "Below a `listener` only."
    if option.level is Level.NAMED_LISTENER and option.role is Role.HONOURED:
        return "Below a `listener` only, not for the default one."
    return ""


if __name__ == "__main__":
    print(document(), end="")
