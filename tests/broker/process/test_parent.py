"""The line between a parent and a process of several: what each learns of the other."""

from __future__ import annotations

import os
import signal

import pytest

from broker.process.parent import VARIABLE, Line, Parent, parent_of_this


def test_the_parent_learns_when_the_process_obeys_signals_and_does_not_forget() -> None:
    line = Line()
    parent = Parent(os.dup(line.other.fileno()))
    assert not line.obeys()
    parent._line.send(b"1")
    assert line.obeys()
    line.other.close()
    parent._line.close()
    assert line.obeys()
    line.close()


def test_it_learns_when_the_process_listens_also_if_it_looks_late() -> None:
    line = Line()
    parent = Parent(os.dup(line.other.fileno()))
    parent._line.send(b"1")
    assert not line.listens()
    assert line.obeys()
    parent.listens()
    assert line.listens()
    line.other.close()
    parent._line.close()
    assert line.listens()
    line.close()


def test_the_process_ends_when_the_line_does() -> None:
    line = Line()
    parent = Parent(os.dup(line.other.fileno()))
    line.other.close()
    ended: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    try:
        line.close()
        parent._wait()
        assert ended == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
        parent._line.close()


def test_a_process_that_nobody_started_has_no_parent_and_others_take_the_line_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert parent_of_this() is None
    line = Line()
    monkeypatch.setenv(VARIABLE, str(os.dup(line.other.fileno())))
    parent = parent_of_this()
    assert parent is not None
    assert not os.get_inheritable(parent._line.fileno())
    assert parent_of_this() is None
    parent._line.close()
    line.other.close()
    line.close()
