"""Which channels may lack rows after a gap: all that a route can name, and none that are read again whole."""

from __future__ import annotations

from typing import Any

import pytest

from broker.config.feeds import FeedConfig, Recovery, Route, Source
from broker.core.publication import Publication
from broker.gateway.gaps import Channels, GapWatch, channels_of


def feed(*routes: Route, recoveries: tuple[Recovery, ...] = (), kind: str = "listen") -> FeedConfig:
    return FeedConfig("main", "", kind, (Source("s", ("s",)),), routes, recoveries)


def channel(template: str, kind: str | None = None) -> Route:
    return Route("s", (template,), kind, target="exchange")


@pytest.mark.parametrize(
    ("template", "name", "expected"),
    [
        ("ticker", "ticker", True),
        ("ticker", "tickers", False),
        ("a.b", "axb", False),
        ("{symbol}@depth", "BTC@depth", True),
        ("{symbol}@depth", "@depth", True),
        ("{symbol}@depth", "BTC@trade", False),
        ("{$kind}", "anything", True),
        ("{a}-{b}", "1-\n", True),
        ("x{{", "x{", True),
        ("x{{y}}", "x{y}", True),
        ("x{{y}}", "xz", False),
        ("100%-{a}", "100%-1", True),
    ],
)
def test_a_channel_may_lack_rows_if_a_template_can_give_it(template: str, name: str, expected: bool) -> None:
    assert bool(channels_of(feed(channel(template)))["exchange"].fullmatch(name)) == expected


def test_each_dialect_has_its_own_and_mqtt_s_topics_are_none() -> None:
    other = Route("s", ("b",), target="canton")
    found = channels_of(feed(channel("a"), channel("c"), other, Route("s", ("m",))))
    assert found.keys() == {"exchange", "canton"}
    assert [bool(found["exchange"].fullmatch(name)) for name in "abcm"] == [True, False, True, False]


FILLS = Recovery("fills", ("id",), (("s", "fill"),))


@pytest.mark.parametrize(
    ("route", "name", "expected"),
    [
        (channel("x", "fill"), "x", False),
        (channel("x", "place"), "x", True),
        (channel("x"), "x", True),
        (channel("{$kind}"), "fill", False),
        (channel("{$kind}"), "fills", True),
        (channel("{$kind}"), "place", True),
        (channel("{$kind}-{a}"), "fill-1", False),
        (channel("{$kind}-{a}"), "place-1", True),
        (Route("other", ("{$kind}",), target="exchange"), "fill", True),
    ],
)
def test_what_is_read_again_is_not_missing(route: Route, name: str, expected: bool) -> None:
    pattern = channels_of(feed(route, recoveries=(FILLS,))).get("exchange")
    assert bool(pattern and pattern.fullmatch(name)) == expected
    kept = channels_of(feed(route, recoveries=(FILLS,), kind="wal"))["exchange"]
    assert kept.fullmatch(name), "a feed that keeps its place reads nothing again"


def test_a_kind_stands_for_itself_whatever_is_in_it() -> None:
    recovery = Recovery("t", ("id",), (("s", "a.{b}"),))
    pattern = channels_of(feed(channel("{$kind}"), recoveries=(recovery,)))["exchange"]
    assert not pattern.fullmatch("a.{b}")
    assert pattern.fullmatch("ax{b}")


class Link:
    def __init__(self) -> None:
        self.told: list[Channels] = []

    def rows_missing(self, channels: Channels) -> None:
        self.told.append(channels)


def test_all_that_are_open_are_told_of_a_feed_that_publishes_to_channels() -> None:
    links: list[Link] = [Link(), Link()]
    watch = GapWatch(links)
    gap: Any = Publication(b"$SYS/feed/main/gap", b"{}")
    assert not watch.adopt([feed(Route("s", ("m",)))])
    watch.deliver(gap, 0, False)
    assert [len(link.told) for link in links] == [0, 0]
    assert watch.adopt([feed(channel("a"))])
    watch.deliver(gap, 0, False)
    watch.deliver(Publication(b"$SYS/feed/other/gap", b"{}"), 0, False)
    assert [len(link.told) for link in links] == [1, 1]
