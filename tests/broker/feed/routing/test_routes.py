"""What becomes of a row: topics, bodies, policies, and counters for what fits nowhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config.feeds import FeedConfig, Route, Source
from broker.feed.routing import routes as routes_module
from broker.feed.routing.routes import Outgoing, Router
from broker.feed.status import FeedStatus
from protocol.mqtt.topics import is_valid_topic_name

EVENTS = Source("events", ("fill", "cancel"))
ECONIAWS = Source("econiaws", ("econiaws",), kind_path=("channel",), row_path=("payload",))


class Feed:
    """A router with its status, fed by channel and text; time stands still unless told."""

    def __init__(self, *routes: Route) -> None:
        self.status = FeedStatus("test")
        self.router = Router(FeedConfig("test", "", sources=(EVENTS, ECONIAWS), routes=routes), self.status)

    def notify(self, channel: str, text: str | bytes | dict[str, Any], now: float = 0.0) -> list[Outgoing]:
        if isinstance(text, dict):
            text = json.dumps(text)
        row = self.router.notification(
            channel.encode(), text.encode() if isinstance(text, str) else text, now
        )
        return [] if row is None else self.router.publications(row, now)

    def topics(self, channel: str, text: str | dict[str, Any], now: float = 0.0) -> list[bytes]:
        return [outgoing[0] for outgoing in self.notify(channel, text, now)]


def one(topic: str, **options: Any) -> Feed:
    return Feed(Route("events", (topic,), where="test.toml:1", **options))


def test_a_fill_goes_to_the_maker_and_to_the_taker() -> None:
    feed = Feed(Route("events", ("fill/{market}/{maker}", "fill/{market}/{taker}"), kind="fill"))
    text = b'{"market":3, "maker":"0xa" , "taker":"0xb"}'
    assert feed.notify("fill", text) == [
        (b"fill/3/0xa", text, 1, False),
        (b"fill/3/0xb", text, 1, False),
    ]


def test_two_templates_that_give_one_topic_publish_twice() -> None:
    feed = Feed(Route("events", ("fill/{maker}", "fill/{taker}")))
    assert feed.topics("fill", {"maker": "0xa", "taker": "0xa"}) == [b"fill/0xa", b"fill/0xa"]


def test_39_digits_stand_in_the_topic_digit_for_digit() -> None:
    assert one("o/{id}").topics("fill", '{"id":340282366920938463463374607431768211455}') == [
        b"o/340282366920938463463374607431768211455"
    ]


def test_zero_is_a_value_and_booleans_have_names() -> None:
    assert one("{a}/{b}/{c}").topics("fill", {"a": 0, "b": "0x0", "c": False}) == [b"0/0x0/false"]


def test_a_body_is_the_text_byte_for_byte() -> None:
    text = b'{ "a" :\t1.50,"b":"\\u2603 \xe2\x98\x83 \\"q\\"","c":1e5 }'
    assert one("t", body="row").notify("fill", text) == [(b"t", text, 1, False)]


def test_the_row_of_an_envelope_keeps_its_own_spacing_and_escapes() -> None:
    row = '{"market_id": 3,"name":"\\u2603 ☃ {\\"}"}'
    raw = f'{{"channel" : "fill_event", "payload" : {row}}}'
    feed = Feed(
        Route("econiaws", ("fill/{market_id}",), kind="fill_event", qos=2, retain=True),
        Route("econiaws", ("{$kind}",), target="econia", body="raw", qos=0),
    )
    assert feed.notify("econiaws", raw) == [
        (b"fill/3", row.encode(), 2, True),
        (b"$ws/econia/fill_event", raw.encode(), 0, False),
    ]


def test_an_envelope_is_made_for_a_channel_of_another_name_than_the_kind() -> None:
    feed = Feed(Route("events", ("{$kind}_event",), target="econia", body="envelope", qos=0))
    assert feed.notify("fill", '{"a":1}') == [
        (b"$ws/econia/fill_event", b'{"channel" : "fill_event", "payload" : {"a":1}}', 0, False)
    ]


def test_a_channel_may_hold_what_a_topic_level_may_not() -> None:
    feed = Feed(Route("econiaws", ("{$kind}",), target="econia", body="raw"))
    assert feed.topics("econiaws", {"channel": "a/+#☃", "payload": {}}) == [b"$ws/econia/a%2F%2B%23%E2%98%83"]
    assert feed.topics("econiaws", {"channel": "", "payload": {}}) == []
    assert feed.status.dropped == {"unsafe_value": 1}


def test_a_row_read_from_its_table_is_as_if_it_had_been_notified() -> None:
    feed = Feed(
        Route("econiaws", ("{$kind}",), target="econia", body="raw"),
        Route("events", ("fill/{a}",), kind="fill"),
    )
    for source, kind, topic, body in (
        (
            "econiaws",
            "fill_event",
            b"$ws/econia/fill_event",
            b'{"channel" : "fill_event", "payload" : {"a":1}}',
        ),
        ("events", "fill", b"fill/1", b'{"a":1}'),
    ):
        row = feed.router.row(source, kind, b'{"a":1}', now=0.0)
        assert row is not None
        assert feed.router.publications(row, 0.0) == [(topic, body, 1, False)]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null"),
        ("", "unsafe_value"),
        ("a/b", "unsafe_value"),
        ("+", "unsafe_value"),
        ("a#", "unsafe_value"),
        ("\0", "unsafe_value"),
        ("line\nbreak", "unsafe_value"),
        ("\x7f", "unsafe_value"),
        ("\ud800", "unsafe_value"),
        ("\ufffe", "unsafe_value"),
        (["list"], "unsafe_value"),
        ({"an": "object"}, "unsafe_value"),
        ("x" * 70_000, "topic_too_long"),
    ],
)
def test_a_value_unfit_for_a_level_drops_the_row_by_reason(value: Any, reason: str) -> None:
    feed = one("t/{a}/{b}")
    assert feed.topics("fill", {"a": value, "b": 1}) == []
    assert feed.status.dropped == {reason: 1}
    assert feed.topics("fill", {"a": "fit", "b": 1}) == [b"t/fit/1"]


def test_a_missing_column_drops_the_row() -> None:
    feed = one("t/{a}")
    assert feed.topics("fill", {"b": 1}) == []
    assert feed.status.dropped == {"missing_column": 1}


def test_null_and_unsafe_values_can_be_replaced() -> None:
    feed = one("t/{a}/{b}", on_null="none", on_unsafe="_")
    assert feed.topics("fill", {"a": None, "b": "x/y"}) == [b"t/none/_"]
    assert feed.topics("fill", {"a": "", "b": [1]}) == []
    assert feed.topics("fill", {"a": "", "b": "ok"}) == [b"t/_/ok"]


def test_percent_encoding_is_reversible() -> None:
    feed = one("t/{a}", on_unsafe="percent")
    assert feed.topics("fill", {"a": "x/y+z#50%\n☃"}) == ["t/x%2Fy%2Bz%2350%25%0A☃".encode()]
    assert feed.topics("fill", {"a": "100%"}) == [b"t/100%25"]
    assert feed.topics("fill", {"a": ""}) == []  # nothing stands for nothing


def test_a_row_cannot_reach_topics_that_start_with_a_dollar() -> None:
    feed = one("{a}/{b}")
    assert feed.topics("fill", {"a": "$SYS", "b": "x"}) == []
    assert feed.status.dropped == {"unsafe_value": 1}
    assert one("{a}/x", on_unsafe="percent").topics("fill", {"a": "$SYS"}) == [b"%24SYS/x"]


def test_one_route_that_does_not_fit_leaves_the_others() -> None:
    feed = Feed(
        Route("events", ("bad/{missing}",)), Route("events", ("null/{n}",)), Route("events", ("good/{a}",))
    )
    assert feed.topics("fill", {"a": 1, "n": None}) == [b"good/1"]
    assert feed.status.dropped == {"missing_column": 1, "null": 1}


@pytest.mark.parametrize(
    ("text", "reason"), [(b"not json", "not_json"), (b"[1]", "not_an_object"), (b'{"a":"\xff"}', "not_utf8")]
)
def test_text_without_a_row_is_counted(text: bytes, reason: str) -> None:
    feed = one("t/{a}")
    assert feed.notify("fill", text) == []
    assert feed.status.dropped == {reason: 1}


def test_rows_of_no_route_are_counted() -> None:
    feed = Feed(Route("events", ("t",), kind="fill"))
    assert feed.topics("cancel", {"a": 1}) == []
    assert feed.topics("econiaws", {"channel": "fill", "payload": {}}) == []
    assert feed.status.dropped == {"no_route": 2}


def test_the_log_names_the_place_and_never_the_value(caplog: pytest.LogCaptureFixture) -> None:
    feed = one("t/{address}")
    for _ in range(3):
        feed.topics("fill", {"address": "secret/address"})
    assert [r.getMessage() for r in caplog.records] == [
        "feed test: row not published: unsafe_value: test.toml:1: column 'address'"
    ]
    feed.topics("fill", {"address": "a/b"}, now=61.0)
    assert "2 more since" in caplog.records[-1].getMessage()


def test_the_first_copy_wins_and_a_third_stays_suppressed() -> None:
    feed = one("t/{market}", once_per=("market", "order"), once_for_s=10.0)
    first, second = ({"market": 1, "order": 2, "copy": copy} for copy in (1, 2))
    assert len(feed.notify("fill", first)) == 1
    assert feed.notify("fill", second, now=5.0) == []
    assert feed.notify("fill", second, now=9.0) == []
    assert len(feed.notify("fill", {"market": 1, "order": 3}, now=9.0)) == 1
    assert feed.status.repeated == 2
    assert len(feed.notify("fill", second, now=10.5)) == 1  # forgotten


def test_an_unfit_first_copy_leaves_the_second_its_chance() -> None:
    feed = one("t/{who}", once_per=("order",))
    assert feed.topics("fill", {"order": 1, "who": None}) == []
    assert feed.topics("fill", {"order": 1, "who": "x"}) == [b"t/x"]


def test_the_memory_for_copies_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes_module, "REMEMBERED_MAX", 3)
    feed = one("t", once_per=("order",))
    for order in range(5):
        assert feed.topics("fill", {"order": order})
    assert feed.topics("fill", {"order": 4}) == []
    assert feed.topics("fill", {"order": 0}) == [b"t"]


def test_many_levels() -> None:
    topic = "/".join(f"{{c{i}}}" for i in range(201))
    assert one(topic).topics("fill", {f"c{i}": i for i in range(201)}) == [
        "/".join(str(i) for i in range(201)).encode()
    ]


@given(
    value=st.none() | st.booleans() | st.integers() | st.text() | st.text(alphabet="/+#$%\0\n\ud800a"),
    on_unsafe=st.sampled_from(["drop", "percent", "_"]),
    template=st.sampled_from(["{a}", "{a}/x", "x/{a}", "x{a}y/z"]),
)
def test_whatever_a_row_holds_the_topic_is_valid_and_has_its_levels(
    value: Any, on_unsafe: str, template: str
) -> None:
    feed = one(template, on_unsafe=on_unsafe)
    topics = feed.topics("fill", {"a": value})
    assert len(topics) + sum(feed.status.dropped.values()) == 1
    for topic in topics:
        assert is_valid_topic_name(topic)
        assert topic.count(b"/") == template.count("/")
        assert not topic.startswith(b"$")
