"""The judge of what publishers at QoS 2 did finds every fault."""

from __future__ import annotations

import pytest
from torture.exact_publishers import Exact, judge_exact

SENT = [b"0", b"0", b"1"]
LOG = [(b"q2/0", b"0"), (b"msg/0", b"7"), (b"q2/0", b"0"), (b"q2/0", b"1")]


def exact(**more: object) -> Exact:
    made = Exact(sent={0: SENT})
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_what_is_right_has_no_fault() -> None:
    assert judge_exact(exact(), LOG) == []


@pytest.mark.parametrize(
    ("fault", "log", "word"),
    [
        ({}, LOG[:-1], "3 sent, 2 in the log"),
        ({}, [*LOG, (b"q2/0", b"1")], "3 sent, 4 in the log"),
        ({}, LOG[1:], "from 1 on [b'0', b'1'] became [b'1']"),
        ({}, [LOG[3], *LOG[:3]], "from 0 on"),
        ({"unfinished": [0]}, [], "came to no end"),
        ({"not_present": ["its session was gone"]}, LOG, "was gone"),
    ],
    ids=["lost", "twice", "lost of two", "order", "no end", "no session"],
)
def test_every_fault_is_found(fault: dict[str, object], log: list[tuple[bytes, bytes]], word: str) -> None:
    assert any(word in one for one in judge_exact(exact(**fault), log))
