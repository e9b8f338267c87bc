"""A page that stays in place: only what changed is written, and the terminal is given back whatever happens."""

from __future__ import annotations

import io

import pytest

from broker.demo.screen import BEGIN_UPDATE, CLOSE, END_UPDATE, OPEN, Screen, opened_screen


def test_screen_writes_only_the_lines_that_changed() -> None:
    screen = Screen(out=None)  # type: ignore[arg-type]
    first = screen.difference(["one", "two", "three"], 80, 24)
    assert first.startswith("\x1b[2J")
    assert screen.difference(["one", "2", "three"], 80, 24) == "\x1b[2;1H2\x1b[K"
    assert screen.difference(["one", "2", "three"], 80, 24) == ""


def test_screen_starts_over_when_its_size_or_the_places_of_lines_change() -> None:
    screen = Screen(out=None)  # type: ignore[arg-type]
    screen.difference(["one", "two"], 80, 24)
    assert screen.difference(["one", "two"], 79, 24).startswith("\x1b[2J")
    assert screen.difference(["one", "more", "two"], 79, 24).startswith("\x1b[2J")


def test_screen_leaves_out_what_has_no_room() -> None:
    screen = Screen(out=None)  # type: ignore[arg-type]
    text = screen.difference(["a", "b" * 25, "c"], 10, 4)
    assert "b" * 25 in text
    assert "c" not in text


def test_lines_that_wrap_take_their_rows() -> None:
    screen = Screen(io.StringIO())
    text = screen.difference(["a", "b" * 25, "c"], 10, 5)
    assert "\x1b[2;1H" + "b" * 25 in text
    assert "\x1b[5;1Hc" in text


def test_what_differs_is_shown_at_once_and_nothing_where_nothing_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    out = io.StringIO()
    screen = Screen(out)
    screen.show(["one"])
    assert out.getvalue() == f"{BEGIN_UPDATE}\x1b[2J\x1b[1;1Hone\x1b[K{END_UPDATE}"
    screen.show(["one"])
    assert out.getvalue().count(BEGIN_UPDATE) == 1


def test_a_terminal_is_given_back() -> None:
    out = io.StringIO()
    with pytest.raises(KeyError), opened_screen(out):
        raise KeyError
    assert out.getvalue() == OPEN + CLOSE
