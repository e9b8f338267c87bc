"""Wider draws: the same seed draws the same, in every lane, and what is cut into pieces or frames is whole again."""

from __future__ import annotations

from random import Random

import pytest
from player import frames, hostile5, packets, packets5, wide, wire
from player.manner import GROUPS, NARROW, Manner, prefix
from player.wide import FRAMES, wanderer

TOGETHER = frozenset(GROUPS) - {"root", "restart", "reload", "noretain"}


@pytest.mark.parametrize(
    "manner",
    [
        Manner(groups=TOGETHER),
        Manner(groups=frozenset({"restart", "five"})),
        Manner(True, frozenset({"reload", "noretain"})),
    ],
    ids=lambda manner: "+".join(sorted(manner.groups)),
)
def test_a_seed_draws_the_same_in_every_lane(manner: Manner) -> None:
    for seed in range(30):
        here, there = (wanderer(seed, manner, lane).steps() for lane in ("000", "1A2"))
        assert [step.split()[:2] for step in here] == [step.split()[:2] for step in there]
        assert here == wanderer(seed, manner, "000").steps()


def test_without_groups_nothing_else_is_drawn() -> None:
    assert type(wanderer(1, NARROW, "000")) is type(wanderer(1, Manner(groups=frozenset({"queue0"})), "000"))
    assert isinstance(wanderer(1, Manner(groups=frozenset({"bytes"})), "000"), wide.WideWanderer)


@pytest.mark.parametrize(
    ("with_rules", "groups", "why"),
    [
        (False, {"wider"}, "no group"),
        (False, {"reload"}, "rules"),
        (True, {"reload", "restart"}, "all lanes"),
    ],
)
def test_groups_that_do_not_go_together_are_refused(with_rules: bool, groups: set[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Manner(with_rules, frozenset(groups))


def test_names_at_the_root_have_nothing_in_front() -> None:
    assert (prefix("000"), prefix("")) == ("000/", "")
    steps = [
        step for seed in range(40) for step in wanderer(seed, Manner(groups=frozenset({"root"})), "").steps()
    ]
    assert any(": subscribe '#' " in step for step in steps)
    assert any(": publish '$x' " in step for step in steps)


def test_a_restart_leaves_nobody_who_is_connected() -> None:
    for seed in range(60):
        steps = wanderer(seed, Manner(groups=frozenset({"restart"})), "000").steps()
        here: set[str] = set()
        for step in steps:
            actor, verb = step.split(": ", 1)
            if verb == "restart":
                assert not here, seed
            elif verb.startswith("connect "):
                here.add(actor)
            elif verb.split()[0] in ("drop", "disconnect"):
                here.discard(actor)
        assert steps.count("broker: restart") == 1


def test_what_turns_turns_back() -> None:
    for seed in range(60):
        steps = wanderer(seed, Manner(True, frozenset({"reload"})), "000").steps()
        assert steps.count("broker: turn") % 2 == 0


@pytest.mark.parametrize("style", FRAMES)
@pytest.mark.parametrize("size", [1, 2, 5, 125, 126, 65535, 65536])
def test_frames_of_every_style_hold_the_bytes(style: str, size: int) -> None:
    data = Random(size).randbytes(size)
    assert unmasked(frames.Frames(style).wrapped(data)) == data


def unmasked(data: bytes) -> bytes:
    """The payloads of a client's data frames, one behind the other."""
    found, at = b"", 0
    while at < len(data):
        kind, size, at = data[at] & 15, data[at + 1] & 127, at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        mask, at = data[at : at + 4], at + 4
        if kind != frames.PING:
            found += bytes(byte ^ mask[place % 4] for place, byte in enumerate(data[at : at + size]))
        at += size
    return found


def test_a_brokers_frames_are_read_however_they_come() -> None:
    whole = b"\x82\x02ab" + b"\x89\x00" + b"\x82\x7e\x00\xc8" + b"x" * 200 + b"\x88\x02\x03\xe8"
    reading = frames.Frames("whole")
    assert b"".join(reading.taken(whole[at : at + 1]) for at in range(len(whole))) == b"ab" + b"x" * 200
    assert reading.has_to_close


def test_pieces_make_up_what_was_cut() -> None:
    for size in range(2, 60):
        for cuts in range(1, 10):
            data = Random(size).randbytes(size)
            pieces = wire._cut(data, cuts)
            assert b"".join(pieces) == data
            assert all(pieces)


def test_hostile_packets_are_whole_packets() -> None:
    random = Random(1)
    named = hostile5.Named([b"a"], [b"a/#"], 1, has_will=False, may_subscribe=True)
    for _ in range(2000):
        for packet in (hostile5.packet(random, named), hostile5.connect(random, "000")):
            whole, rest = packets.split(packet)
            assert whole
            assert not rest


def test_an_alias_is_shown_as_its_topic() -> None:
    client = wire.Wire(wire.Poll(), lambda: None)
    first = packets5.publish(b"a/b", b"x", 0, 0, 0, {"topic-alias": "1", "user-property": "a:1"})
    again = packets5.publish(b"", b"y", 0, 0, 0, {"topic-alias": "1"})
    shown = [client._without_alias(packets5.describe(packet)) for packet in (first, again)]
    assert shown == ["PUBLISH 'a/b' 'x' qos=0 user-property='a':'1'", "PUBLISH 'a/b' 'y' qos=0"]
