"""What random sequences are made even by, before they are compared."""

from __future__ import annotations

from random import Random

import pytest
from player import evening, packets
from player.drawing import Wanderer
from player.manner import Manner

ONE, OTHER = "  B < PUBLISH 'a' 'x' qos=1 id=…", "  B < PUBLISH 'a' 'y' qos=1 id=…"
AGAIN = "  B < PUBLISH 'a' 'x' dup qos=1 id=…"


def test_a_copy_for_each_filter_is_left_out() -> None:
    assert evening.in_as_many_copies([["-- 1", ONE, ONE, OTHER]], [["-- 1", ONE, OTHER]]) == [
        ["-- 1", ONE, OTHER]
    ]


@pytest.mark.parametrize("copies", [(2, 1, 2), (1, 1, 2), (2, 1, 1)])
def test_what_is_sent_again_keeps_its_order_whichever_copies_were_acknowledged(
    copies: tuple[int, int, int],
) -> None:
    theirs = ["-- B: connect id=x clean=0"] + [ONE] * copies[0] + [OTHER] * copies[1] + [ONE] * copies[2]
    ours = ["-- B: connect id=x clean=0", ONE, OTHER, ONE]
    assert evening.in_as_many_copies([theirs], [ours]) == [ours]


def test_of_what_came_in_copies_one_may_come_again_when_the_other_was_acknowledged() -> None:
    theirs = [["-- A: publish a x", ONE, ONE], ["-- B: connect id=x clean=0", AGAIN]]
    ours = [["-- A: publish a x", ONE], ["-- B: connect id=x clean=0"]]
    assert evening.in_as_many_copies(theirs, ours) == ours
    assert evening.in_as_many_copies(theirs[1:], ours[1:]) == theirs[1:], "there were no copies"


def test_what_is_sent_again_in_another_order_differs() -> None:
    head = "-- B: connect id=x clean=0"
    theirs = [head, ONE, ONE, OTHER]
    assert evening.in_as_many_copies([theirs], [[head, OTHER, ONE]]) == [[head, ONE, OTHER]]


def test_a_copy_that_is_not_directly_behind_its_like_is_a_message_of_its_own() -> None:
    theirs = ["-- 1", ONE, OTHER, ONE]
    assert evening.in_as_many_copies([theirs], [["-- 1", ONE, OTHER]]) == [theirs]


def test_so_is_a_copy_that_is_retained_as_published_but_not_what_a_subscription_asked_for() -> None:
    kept = "  B < PUBLISH 'a' 'x' retain qos=1 id=…"
    for head, copies in (("-- A: publish a x", 1), ("-- B: subscribe a 1", 2)):
        step = [head, kept, kept]
        assert evening.in_as_many_copies([step], [[head, kept]]) == [[head] + [kept] * copies]


def test_the_same_message_published_twice_is_not() -> None:
    theirs = [["-- 1", ONE, ONE]]
    assert evening.in_as_many_copies(theirs, [["-- 1", ONE, ONE]]) == theirs


def test_nor_is_one_that_did_not_come_from_the_other() -> None:
    assert evening.in_as_many_copies([["-- 1", ONE, ONE]], [["-- 1"]]) == [["-- 1", ONE]]


def test_nor_what_the_other_sent_more_often() -> None:
    assert evening.in_as_many_copies([["-- 1", ONE]], [["-- 1", ONE, ONE]]) == [["-- 1", ONE]]


def test_the_mount_point_is_left_out_for_whoever_is_below_it() -> None:
    got = "   {} < PUBLISH '000/m/a' 'x' qos=0"
    assert evening.without_mount_point(
        [
            "-- A: connect id=z clean=1 port=port2",
            got.format("A"),
            got.format("B"),
            "-- A: connect id=x user=alice",
            got.format("A"),
        ]
    )[1:] == [
        got.format("A").replace("000/m/", ""),
        got.format("B"),
        "-- A: connect id=x user=alice",
        got.format("A"),
    ]


@pytest.mark.parametrize(("head", "is_reset"), [("-- B: raw c0 00 c0 00", True), ("-- B: raw c0 00", False)])
def test_what_a_reset_loses_is_what_came_to_who_sent_several_packets(head: str, is_reset: bool) -> None:
    other = ONE.replace("B", "C")
    step = [head, ONE, other, "   B < closed"]
    assert evening.without_what_a_reset_loses(step) == ([head, other, "   B < closed"] if is_reset else step)
    assert evening.without_what_a_reset_loses(step[:3]) == step[:3], "nobody was closed"


def test_it_does_not_matter_when_a_message_was_released() -> None:
    closed, released = "  B < closed", "  B < PUBREL id=…"
    assert evening.with_releases_last(["-- 1", released, ONE, closed, "   C < PUBREL id=…", "-- 2", ONE]) == [
        "-- 1",
        ONE,
        released,
        closed,
        "   C < PUBREL id=…",
        "-- 2",
        ONE,
    ]


@pytest.mark.parametrize("with_rules", [False, True])
def test_whoever_has_a_will_leaves_before_it_comes_again(with_rules: bool) -> None:
    for seed in range(300):
        willing: dict[str, bool] = {}
        for step in Wanderer(Random(seed), Manner(with_rules)).steps():
            actor, words = step.split(": ", 1)
            if words.startswith("connect "):
                assert not willing.get(actor), (seed, step)
                willing[actor] = "will.topic=" in words
            elif words.split()[0] in ("drop", "disconnect"):
                willing[actor] = False


def test_no_lasting_session_is_told_to_replace_a_held_message_by_a_forbidden_one() -> None:
    for seed in range(300):
        names: dict[str, str] = {}
        for step in Wanderer(Random(seed), Manner(with_rules=True)).steps():
            actor, words = step.split(": ", 1)
            if words.startswith("connect "):
                names[actor] = words if " clean=0" in words else ""
            elif words.startswith("publish '000/b' ") and " qos=2" in words:
                assert " id=000x " not in names[actor], (seed, step)


def test_a_broken_subscription_has_the_qos_of_its_client() -> None:
    wanderer = Wanderer(Random(1))
    whole = packets.subscribe(1, [(b"a/b", 1)])
    broken = {wanderer._broken(whole) for _ in range(2000)}
    assert {one[-1] for one in broken if len(one) == len(whole)} == {1}
