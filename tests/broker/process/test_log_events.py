"""What a line of the log is about: every template that has a name is logged, and its arguments are named in order."""

from __future__ import annotations

import ast
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from broker.process import logs
from broker.process.log_events import EVENTS, event_of, json_line


def test_every_named_event_is_logged_somewhere() -> None:
    root = Path(logs.__file__).parent.parent
    logged = set()
    for path in root.rglob("*.py"):
        if path.name == "log_events.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                logged.add(node.value)
    assert set(EVENTS) - logged == set()
    for template, (_, *names) in EVENTS.items():
        assert len(re.findall("%", template)) == len(names), template


def record(template: Any, *arguments: object, created: float = 1_800_000_000.0) -> logging.LogRecord:
    made = logging.LogRecord("broker", logging.WARNING, "", 0, template, arguments, None)
    made.created = created
    return made


@pytest.mark.parametrize(
    ("made", "event"),
    [
        (record("Reloading config."), ("config_reloaded", {})),
        (
            record("Client %s [%s] %s", "ada", "10.0.0.1:5", "left."),
            ("client_disconnected", {"client": "ada", "peer": "10.0.0.1:5", "reason": "left."}),
        ),
        (
            record("a bug in Rowcast, met by what came from %s: %s%s", "x", "y", " (3 more)"),
            ("bug", {"peer": "x", "reason": "y"}),
        ),
        (record("feed %s: something new: %d", "f", 7), ("feed", {"feed": "f"})),
        (record("feed %s: without a name"), ("log", {})),
        (record("something %s", "else"), ("log", {})),
        (record(ValueError("no text")), ("log", {})),
    ],
)
def test_a_line_is_an_event_with_its_arguments_named(
    made: logging.LogRecord, event: tuple[str, dict[str, Any]]
) -> None:
    assert event_of(made) == event


@pytest.mark.parametrize(
    ("created", "time"),
    [
        (1_800_000_000.0, "2027-01-15T08:00:00.000Z"),
        (1_800_000_000.9999, "2027-01-15T08:00:00.999Z"),
        (0.0125, "1970-01-01T00:00:00.012Z"),
    ],
)
def test_the_time_is_utc_with_milliseconds_and_never_ahead(created: float, time: str) -> None:
    said = json.loads(json_line(record("x", created=created), "notice", ""))
    assert said == {"time": time, "severity": "notice", "event": "log", "message": "x"}


def test_a_line_is_one_line_and_keeps_numbers_as_numbers() -> None:
    made = record("Client %s [%s] %s", b"ada", "grün\n", 7)
    line = json_line(made, "warning", "Traceback\n  in x")
    assert "\n" not in line
    assert "grün" in line
    said = json.loads(line)
    assert (said["client"], said["peer"], said["reason"]) == ("b'ada'", "grün\n", 7)
    assert said["traceback"] == "Traceback\n  in x"
