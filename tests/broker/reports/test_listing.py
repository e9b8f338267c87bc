"""Lists for the page and `rowcast ctl`: searched, in pages, and with nothing in them that is not so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from support.peer import connected, subscribed
from support.peer5 import connected5

from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.feed.status import FeedStatus, Gap
from broker.reports import listing
from broker.reports.facts import Facts
from broker.reports.listing import LIST_DEFAULT, LIST_MAX, PAYLOAD_SHOWN_MAX, BadQuery, page_of
from protocol.mqtt.packets import Publish, Subscribe
from protocol.mqtt.v5.properties import Properties


class Broker:
    """As much of `Facts` as the lists read."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.feeds: dict[str, FeedStatus] = {}

    def dialect_links(self) -> Iterator[Any]:
        return iter(())

    @property
    def facts(self) -> Facts:
        return cast("Facts", self)


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ({}, (0, LIST_DEFAULT)),
        ({"offset": "", "limit": ""}, (0, LIST_DEFAULT)),
        ({"offset": "5", "limit": "7"}, (5, 7)),
        ({"limit": str(LIST_MAX)}, (0, LIST_MAX)),
        ({"offset": "1000000000", "limit": "0"}, (10**9, 0)),
    ],
)
def test_a_page_begins_and_ends_where_it_is_asked_to(query: dict[str, str], page: tuple[int, int]) -> None:
    assert page_of(query) == page


@pytest.mark.parametrize("text", ["-1", "+1", "1.0", " 1", "²", "x", "9" * 5000])
@pytest.mark.parametrize("name", ["offset", "limit"])
def test_what_is_no_number_is_refused_by_its_name(name: str, text: str) -> None:
    with pytest.raises(BadQuery, match=f"^{name}: a whole number up to"):
        page_of({name: text})


def test_a_page_is_not_longer_than_any_may_be() -> None:
    with pytest.raises(BadQuery, match="limit: a whole number up to 1000 is wanted"):
        page_of({"limit": str(LIST_MAX + 1)})


async def test_clients_are_found_by_name_user_and_address() -> None:
    broker = Broker()
    connected(broker.engine, b"Ada")
    connected(broker.engine, b"grace", clean=False).drop()
    broker.engine.sessions[b"grace"].user_name = b"hopper"
    for search, found in (
        ("", ["Ada", "grace"]),
        ("ADA", ["Ada"]),
        ("hopp", ["grace"]),
        ("127.0.0.1", ["Ada"]),
        ("nobody", []),
    ):
        page = await listing.clients(broker.facts, {"search": search})
        assert [entry["client"] for entry in page["clients"]] == found
        assert page["total"] == len(found)


async def test_a_client_is_shown_as_it_is() -> None:
    broker = Broker()
    peer = subscribed(broker.engine, (b"a", 0), (b"b", 1), client_id=b"here")
    connected(broker.engine, b"away", clean=False).send(Subscribe(1, ((b"t", 1),)))
    broker.engine.sessions[b"away"].link.close("gone.")  # type: ignore[union-attr]
    peer.takes = 0
    broker.engine.now += 3.14
    broker.engine.publish(Publication(b"a", b"x" * 100))
    broker.engine.publish(Publication(b"t", b"x", 1))
    broker.engine.flush()
    page = await listing.clients(broker.facts, {"sort": "owed"})
    here, away = page["clients"]
    owed = here.pop("owed_bytes")
    assert owed > 100
    assert here == {
        "client": "here", "user": "", "protocol": "mqtt", "connected": True, "peer": "127.0.0.1:50000",
        "persistent": False, "subscriptions": 2, "queued": 0, "silent_s": 3.1,
    }  # fmt: skip
    assert away == {
        "client": "away", "user": "", "protocol": "mqtt", "connected": False, "peer": "", "persistent": True,
        "subscriptions": 1, "queued": 1, "silent_s": 0.0, "owed_bytes": 0,
    }  # fmt: skip


async def test_who_is_owed_most_comes_first_if_asked_for_and_pages_follow_each_other() -> None:
    broker = Broker()
    for number in range(5):
        peer = connected(broker.engine, b"c%d" % number)
        peer.takes = 0
        peer.outbox.push(b"x" * (number * 10 % 40))
    whole = await listing.clients(broker.facts, {"sort": "owed"})
    sizes = [entry["owed_bytes"] for entry in whole["clients"]]
    assert sizes == sorted(sizes, reverse=True)
    pieces = [
        await listing.clients(broker.facts, {"sort": "owed", "offset": str(at), "limit": "2"})
        for at in (0, 2, 4)
    ]
    assert [entry for page in pieces for entry in page["clients"]] == whole["clients"]
    assert {page["total"] for page in pieces} == {5}
    plain = await listing.clients(broker.facts, {})
    assert [entry["client"] for entry in plain["clients"]] == ["c0", "c1", "c2", "c3", "c4"]


async def test_subscriptions_are_counted_by_filter_whatever_5_0_adds_to_them() -> None:
    broker = Broker()
    subscribed(broker.engine, (b"a/#", 1), (b"b", 0), client_id=b"one")
    other = connected5(broker.engine, b"two")
    other.send(Subscribe(1, ((b"a/#", 0), (b"c", 2 | 4 | 8)), Properties(subscription_ids=[7])))
    page = await listing.subscriptions(broker.facts, {})
    assert [(one["filter"], one["subscribers"], one["qos"]) for one in page["subscriptions"]] == [
        ("a/#", 2, 1),
        ("b", 1, 0),
        ("c", 1, 2),
    ]
    assert {one["example"] for one in page["subscriptions"][1:]} == {"one", "two"}
    found = await listing.subscriptions(broker.facts, {"search": "A/"})
    assert [one["filter"] for one in found["subscriptions"]] == ["a/#"]


async def test_retained_messages_are_shown_in_order_of_topics_and_our_own_last() -> None:
    broker = Broker()
    for topic in (b"b", b"$SYS/x", b"A"):
        broker.engine.publish(Publication(topic, b"1", 1, True))
    page = await listing.retained(broker.facts, {})
    assert [one["topic"] for one in page["retained"]] == ["A", "b", "$SYS/x"]
    found = await listing.retained(broker.facts, {"search": "a"})
    assert [one["topic"] for one in found["retained"]] == ["A"]


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b"", {"payload": ""}),
        ("grün".encode(), {"payload": "grün"}),
        (b"\xff\x00", {"payload_base64": "/wA="}),
        (b"x" * (PAYLOAD_SHOWN_MAX + 1), {"payload": "x" * PAYLOAD_SHOWN_MAX}),
        # The limit falls into the midst of a letter.
        (b"x" * (PAYLOAD_SHOWN_MAX - 1) + "ü".encode(), {"payload": "x" * (PAYLOAD_SHOWN_MAX - 1)}),
    ],
)
async def test_of_a_payload_the_first_bytes_are_shown_as_what_they_are(
    payload: bytes, shown: dict[str, str]
) -> None:
    broker = Broker()
    peer = connected(broker.engine)
    broker.engine.retained.put(Publication(b"t", payload or b"x", 1, True))
    peer.send(Publish(b"other", b""))
    if not payload:
        broker.engine.retained.all()[0].payload = b""
    (entry,) = (await listing.retained(broker.facts, {}))["retained"]
    assert entry == {"topic": "t", "bytes": len(payload), "qos": 1, **shown}


def test_a_feed_shows_its_gap_until_it_is_acknowledged() -> None:
    broker = Broker()
    status = broker.feeds["f"] = FeedStatus("f")
    status.troubles["a"] = "one"
    status.last_gap = Gap("dropped", 1_800_000_000.0)
    (entry,) = listing.feeds(broker.facts)["feeds"]
    assert (entry["feed"], entry["troubles"]) == ("f", ["one"])
    assert entry["gap"] == {"reason": "dropped", "at": "2027-01-15T08:00:00Z"}
    status.last_gap = None
    assert listing.feeds(broker.facts)["feeds"][0]["gap"] is None
