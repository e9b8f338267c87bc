"""The judge of what moving clients saw finds every fault."""

from __future__ import annotations

from collections import Counter

import pytest
from torture.movers import FREE, MAYBE, ONE, Moved, judge_moved

LOG = [(b"mv/0", b"0"), (b"mv/0", b"1"), (b"sh/x", b"0"), (b"will/dead", b"0"), (b"will/maybe", b"0")]
ACKNOWLEDGED = {(b"mv/0", b"0"), (b"mv/0", b"1"), (b"sh/x", b"0")}


def moved(**more: object) -> Moved:
    made = Moved(
        received={0: [0, 0, 1]},
        shared=Counter([b"0", b"0"]),
        mortals={b"dead": ONE, b"maybe": MAYBE, b"polite": FREE, b"unknown": MAYBE},
        subscribed={0},
    )
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_what_is_right_has_no_fault() -> None:
    assert judge_moved(moved(), LOG, ACKNOWLEDGED) == []


@pytest.mark.parametrize(
    ("fault", "log", "word"),
    [
        ({"received": {0: [0]}}, LOG, "never came: [1]"),
        ({"received": {0: [1, 0]}}, LOG, "out of order"),
        ({"two_owners": ["mover 0: two owners"]}, LOG, "two owners"),
        ({"not_present": ["mover 0: its session was gone"]}, LOG, "was gone"),
        ({"shared": Counter()}, LOG, "never came to anybody"),
        ({}, [one for one in LOG if one[0] != b"will/dead"], "0 wills"),
        ({}, [*LOG, (b"will/dead", b"0")], "2 wills"),
        ({}, [*LOG, (b"will/maybe", b"0")], "2 wills"),
        ({}, [*LOG, (b"will/polite", b"0")], "1 wills"),
    ],
)
def test_every_fault_is_found(fault: dict[str, object], log: list[tuple[bytes, bytes]], word: str) -> None:
    assert any(word in one for one in judge_moved(moved(**fault), log, ACKNOWLEDGED))
