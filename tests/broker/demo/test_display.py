"""Where the demo shows itself: by what stands behind its output, and the log's last warning."""

from __future__ import annotations

import io
import json
import logging

import pytest

from broker.demo.display import JsonDisplay, LineDisplay, PageDisplay, kept_warnings, opened_display
from broker.demo.screen import CLOSE, OPEN
from broker.demo.view import Figures

FIGURES = Figures("18", 1.0, 5, 2, 5.0, (), (), ("mosquitto_sub -p 1883",))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("out", "json", "kind"),
    [(io.StringIO(), False, LineDisplay), (Terminal(), False, PageDisplay), (Terminal(), True, JsonDisplay)],
)
def test_a_page_is_for_a_terminal_where_no_json_is_asked_for(
    out: io.StringIO, json: bool, kind: type
) -> None:
    with opened_display(out, json=json) as display:
        assert type(display) is kind
    assert out.getvalue() == (OPEN + CLOSE if kind is PageDisplay else "")


def test_lines_begin_with_the_commands_to_join_in_once() -> None:
    out = io.StringIO()
    with opened_display(out, json=False) as display:
        display.show(FIGURES)
        display.show(FIGURES)
    lines = out.getvalue().splitlines()
    assert lines[:2] == ["Join in from another terminal:", "  mosquitto_sub -p 1883"]
    assert ["5 events" in line for line in lines[2:]] == [True, True]


def test_json_is_an_object_a_line() -> None:
    out = io.StringIO()
    with opened_display(out, json=True) as display:
        display.show(FIGURES)
        display.show(FIGURES)
    assert [json.loads(line)["events"] for line in out.getvalue().splitlines()] == [5, 5]


def test_the_last_warning_is_kept_and_loggers_write_where_they_did_afterwards() -> None:
    root = logging.getLogger()
    before = root.handlers[:]
    log = logging.getLogger("broker.test")
    with kept_warnings() as kept:
        assert kept.text == ""
        log.warning("first %d", 1)
        log.error("second")
        log.info("third")
        assert kept.text == "ERROR: second"
    assert root.handlers == before
    with pytest.raises(KeyError), kept_warnings():
        raise KeyError
    assert root.handlers == before
