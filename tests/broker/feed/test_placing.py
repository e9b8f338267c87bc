"""Where a row is, told to an outlet that wants it and to no other."""

from __future__ import annotations

from support.feeds import Collector

from broker.feed.placing import Placing, place_prefix


class PlacedCollector(Collector):
    place = b"before"


def test_a_place_has_its_feed_s_name_in_front_until_there_is_none() -> None:
    outlet = PlacedCollector()
    placing = Placing(outlet, "main")
    placing.at(b"0/1")
    assert outlet.place == b"main\x000/1"
    placing.at(b"")
    assert outlet.place == place_prefix("main") == b"main\0"
    placing.nowhere()
    assert outlet.place == b""


def test_other_outlets_are_left_alone() -> None:
    outlet = Collector()
    placing = Placing(outlet, "main")
    placing.at(b"0/1")
    placing.nowhere()
    assert not hasattr(outlet, "place")


def test_no_feed_s_places_begin_as_another_s() -> None:
    assert not place_prefix("main2").startswith(place_prefix("main"))
