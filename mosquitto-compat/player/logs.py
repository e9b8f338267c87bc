"""Log lines without what differs from run to run, and without the names that cannot be equal."""

from __future__ import annotations

import re

VERSION = re.compile(r"\b(mosquitto|[Rr]owcast) version [\w.+-]+")
_RULES = (
    (re.compile(r"^\d{9,}: "), ""),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"), "{time}"),
    (re.compile(r"auto-[0-9A-Fa-f-]{36}"), "auto-{id}"),
    (re.compile(r"\b[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}\b"), "{id}"),
    (re.compile(r"\b\d{9,}\b"), "{seconds}"),  # behind the ids, whose last digits may look like it
    (re.compile(r"(127\.0\.0\.1|::1|\[::1\]):\d+"), r"{peer}"),
    (VERSION, "{broker} version {version}"),
)
# 2.1 names the protocol as 3, 4, 5 where 2.0 wrote 1, 2, 5, and puts the address behind the client id.
_MOSQUITTO = ((re.compile(r"\(p1, "), "(p3, "), (re.compile(r"\(p2, "), "(p4, "))
# The place of a mistake is compared, its cure is not: that has its own tests, and Mosquitto gives none.
_CURE = re.compile(r"(Found at \S+\.) .*")
_ROWCAST = (
    (_CURE, r"\1"),
    (re.compile(r"(Client \S+) \[[^\]]*\]+"), r"\1"),
)


def normal(line: str, kind: str) -> str:
    """A line as the comparison sees it."""
    for pattern, replacement in (*_RULES, *(_MOSQUITTO if kind == "mosquitto" else _ROWCAST)):
        line = pattern.sub(replacement, line)
    return line.rstrip()


def error_line(line: str) -> str:
    """The line without its time when it says why a start failed, otherwise nothing."""
    line = normal(line, "")
    return line if "Error" in line else ""
