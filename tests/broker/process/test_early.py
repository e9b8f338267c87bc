"""Signals while the process starts: none ends it, and a reload is remembered."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from broker.process.early import Early

ASKING = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture(autouse=True)
def handlers_put_back() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ASKING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "is_wanted"), list(zip(ASKING, (True, False, False), strict=True)))
def test_only_a_reload_is_remembered(number: int, is_wanted: bool) -> None:
    early = Early()
    early.listen()
    assert not early.wants_reload
    signal.raise_signal(number)
    assert early.wants_reload is is_wanted
