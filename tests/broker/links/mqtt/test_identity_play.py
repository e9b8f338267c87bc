"""Chance plays with everything that moves rights about, against a naive model of who may say and get what.

Two client ids are used by three users, in both versions of the protocol, through five listeners: with and without a
mount point, with rules of their own, one with passwords.  Rules and passwords change on a reload, the broker is
saved and started again, wills go out at once or after their delay, subscriptions are shared, messages are retained.

Held, of every PUBLISH: its writer was allowed to publish it (at QoS 2 whoever released it, too; of a will at the moment
it goes out; of a retained message when it is sent again), its reader may read it at that moment, has asked for it, and
gets it under the name that it has at the reader's mount point.  And what is due to somebody comes: at once at QoS 0, by
the end at QoS 1 and 2.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from support.identity_world import CLIENT_IDS, World

STEPS = (
    ["connect"] * 6
    + ["publish"] * 6
    + ["outside"] * 6
    + ["subscribe"] * 4
    + ["release", "acknowledge", "acknowledge"] * 3
    + ["drop", "drop", "politely", "reload", "reload", "wait", "wait", "unsubscribe", "restart"]
)


def play(folder: Path, seed: int, steps: int) -> None:
    random = Random(seed)
    world = World(folder, random)
    until, until_slice = Random(seed), 0
    for _ in range(steps):
        kind = random.choice(STEPS)
        client_id = random.choice(CLIENT_IDS)
        if kind == "connect":
            world.connect()
        elif kind == "reload":
            world.reload()
            until_slice = until.randrange(12)
        elif kind == "restart":
            world.restart()
        elif kind in ("wait", "outside"):
            getattr(world, kind)()
        elif client_id not in world.peers:
            continue
        elif kind in ("drop", "politely"):
            world.drop(client_id, politely=kind == "politely")
        else:
            getattr(world, kind)(client_id)
        world.look()
        until_slice -= 1
        if until_slice < 0:
            world.slice()
        for one, peer in world.peers.items():
            assert not peer.closed, (kind, one)
    world.finish()


@pytest.mark.parametrize("seed", range(40))
def test_nobody_gets_or_says_what_their_rules_of_that_moment_forbid(tmp_path: Path, seed: int) -> None:
    play(tmp_path, seed, 150)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 2000, 100))
def test_nor_in_a_thousand_longer_plays(tmp_path: Path, first: int) -> None:
    for seed in range(first, first + 100):
        folder = tmp_path / str(seed)
        folder.mkdir()
        play(folder, seed, 300)
