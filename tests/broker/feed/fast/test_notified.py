"""Rows recognised by their looks become what the careful way makes of them: the same, or it is asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.budgets import cases

from broker.config.feeds import FeedConfig, Fetch, Recovery, Route, Source
from broker.feed.fast.learning import ROWS_MAX, Learner
from broker.feed.fast.notified import RUN_BYTES_MAX, FastRows, Outgoing
from broker.feed.listen.mark import Mark
from broker.feed.routing.routes import Router
from broker.feed.status import FeedStatus

SOURCES = (
    Source("events", ("fill", "cancel")),
    Source("econiaws", ("econiaws",), kind_path=("channel",), row_path=("payload",)),
    Source("typed", ("typed",), kind_path=("type",)),
    Source("deep", ("deep",), kind_path=("meta", "kind"), row_path=("meta", "after")),
)
RECOVERY = Recovery("public.fill", ("version", "index"), (("events", "fill"), ("econiaws", "fill_event")))
ROUTES = (
    Route("events", ("fill/{market}/{maker}", "fill/{market}/{taker}"), kind="fill", once_per=("market", "index")),
    Route("events", ("{$kind}/{market}",), on_null="none", on_unsafe="percent", retain=True, qos=2),
    Route("events", ("{market}@{maker}",), target="exchange", body="envelope"),
    Route("econiaws", ("{$kind}",), target="econia", body="raw", qos=0),
    Route("econiaws", ("{maker}/{index}/{{%s}}",), on_unsafe="_"),
    Route("typed", ("t/{market}",), body="envelope"),
    Route("deep", ("d/{maker}",), body="row"),
)  # fmt: skip


class Way:
    """A feed's routing, careful or by looks, with all that can be told apart from outside."""

    def __init__(self, by_looks: bool, in_runs: bool = False) -> None:
        config = FeedConfig("test", "", sources=SOURCES, routes=ROUTES, recoveries=(RECOVERY,))
        self.status = FeedStatus("test")
        self.published: list[Outgoing] = []
        self.marks = {pair: Mark(RECOVERY, (1700, 20)) for pair in RECOVERY.kinds}
        self.careful = 0
        self._router = Router(config, self.status)
        self.runs: list[int] = []
        self._rows = FastRows(self._publish, self._carefully, self._publish_run if in_runs else None)
        self._learner = Learner(self._rows) if by_looks else None

    def _publish(self, *outgoing: Any) -> None:
        self.published.append(outgoing)

    def _publish_run(self, topic: bytes, payloads: list[bytes], qos: int) -> None:
        self.runs.append(len(payloads))
        self.published += [(topic, payload, qos, False) for payload in payloads]

    def _carefully(self, channel: bytes, text: bytes, now: float) -> bool:
        self.careful += 1
        row = self._router.notification(channel, text, now)
        if row is None:
            return True
        mark = self.marks.get((row.source.config.name, row.kind))
        if self._learner is not None:
            self._learner.learn(channel, row, mark)
        if mark is not None:
            mark.advance(row.columns)
        self.published += [outgoing[:4] for outgoing in self._router.publications(row, now)]
        return True

    def deliver(self, channel: str, texts: list[bytes]) -> None:
        taken, _, repeated = self._rows.deliver([(channel.encode(), text) for text in texts], 0.0)
        assert taken == len(texts)
        self.status.repeated += repeated

    def deliver_mixed(self, notifications: list[tuple[bytes, bytes]]) -> None:
        self._rows.deliver(notifications, 0.0)

    def outcome(self) -> tuple[Any, ...]:
        keys = {pair: mark.key for pair, mark in self.marks.items()}
        return self.published, self.status.dropped, self.status.repeated, keys


plain = st.integers(0, 10**39) | st.text("abcxyz0189_.-", min_size=1)
anything = st.recursive(
    plain | st.none() | st.booleans() | st.integers(-5, 5) | st.text() | st.text('/+#$%\0\n\x7f\\"☃é'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
values = plain | anything
rows = st.fixed_dictionaries(
    {
        "version": values,
        "index": values,
        "market": values,
        "maker": values,
        "taker": values,
        "note": anything,
    },
    optional={"$kind": plain, "é\n": plain},
)
separators = st.sampled_from([(",", ":"), (", ", " : "), (", ", ": ")])


def notification(channel: str, row: dict[str, Any], how: tuple[str, str], ascii_only: bool) -> bytes:
    whole: dict[str, Any] = row
    if channel == "econiaws":
        whole = {"channel": "fill_event", "payload": row}
    elif channel == "typed":
        whole = {"type": "fill", **row}
    elif channel == "deep":
        whole = {"meta": {"kind": "fill", "after": row}, "and": 1}
    text = json.dumps(whole, separators=how, ensure_ascii=ascii_only)
    return text.encode(errors="surrogatepass")


@settings(max_examples=cases(150))
@given(
    channel=st.sampled_from(["fill", "cancel", "econiaws", "typed", "deep"]),
    some=st.lists(rows, min_size=2, max_size=6),
    how=separators,
    ascii_only=st.booleans(),
    damage=st.none() | st.tuples(st.integers(0), st.integers(0, 255)),
)
def test_looks_never_deceive(
    channel: str,
    some: list[dict[str, Any]],
    how: tuple[str, str],
    ascii_only: bool,
    damage: tuple[int, int] | None,
) -> None:
    texts = [notification(channel, row, how, ascii_only) for row in some]
    if damage is not None:
        last = bytearray(texts[0])
        last[damage[0] % len(last)] = damage[1]
        texts.append(bytes(last))
    careful, by_looks, in_runs = Way(by_looks=False), Way(by_looks=True), Way(by_looks=True, in_runs=True)
    for way in (careful, by_looks, in_runs):
        way.deliver(channel, texts + texts)
    assert by_looks.outcome() == careful.outcome()
    assert in_runs.outcome() == careful.outcome()


def test_neighbours_of_one_topic_go_in_one_run_and_nothing_overtakes() -> None:
    way = Way(by_looks=True, in_runs=True)
    usual = {"version": 1, "index": 1, "market": 3, "maker": "a", "taker": "b"}
    makers = ["a", "a", "a", "a", "b", "b", "a", None, "a", "a"]
    texts = [
        notification("deep", usual | {"maker": maker, "index": index}, (",", ":"), True)
        for index, maker in enumerate(makers)
    ]
    way.deliver("deep", texts)
    assert way.runs == [3, 2, 2]  # the first is learned from, one stands alone, NULL is no topic's level
    assert [json.loads(body)["index"] for _, body, _, _ in way.published] == [0, 1, 2, 3, 4, 5, 6, 8, 9]


def test_a_run_is_no_longer_than_what_a_client_sends_at_a_time() -> None:
    way = Way(by_looks=True, in_runs=True)
    usual = {"version": 1, "index": 1, "market": 3, "maker": "a", "taker": "b", "note": "x" * 7000}
    way.deliver("deep", [notification("deep", usual, (",", ":"), True)] * 100)
    assert sum(way.runs) == 99
    assert max(way.runs) == -(-RUN_BYTES_MAX // len(way.published[0][1]))


def test_what_was_recognised_before_one_that_fails_is_published() -> None:
    way = Way(by_looks=True, in_runs=True)
    usual = {"version": 1, "index": 1, "market": 3, "maker": "a", "taker": "b"}
    text = notification("deep", usual, (",", ":"), True)
    way.deliver("deep", [text])
    with pytest.raises(KeyError):
        way.deliver_mixed([(b"deep", text), (b"deep", text), (b"nobody's", text), (b"deep", text)])
    assert len(way.published) == 3


def test_the_second_row_is_recognised_by_the_first() -> None:
    for channel in ("fill", "cancel", "econiaws", "typed", "deep"):
        way = Way(by_looks=True)
        for number in range(5):
            row = {
                "version": number,
                "index": 1,
                "market": 3,
                "maker": "0xa",
                "taker": "0xb",
                "note": '☃ \\ " [1]',
            }
            way.deliver(channel, [notification(channel, row, (",", ":"), False)])
        assert way.careful == 1, channel
        assert way.published
        assert not way.status.dropped


def test_a_row_that_needs_a_thought_is_asked_about_and_leaves_the_shape_as_it_is() -> None:
    way = Way(by_looks=True)
    usual = {"version": 1, "index": 1, "market": 3, "maker": "0xa", "taker": "0xb"}
    for row in (usual, usual | {"market": None}, usual | {"market": "a/b"}, usual | {"maker": "é"}, usual):
        way.deliver("cancel", [notification("cancel", row, (",", ":"), False)])
    assert way.careful == 4  # the first, and the three
    way.deliver("cancel", [notification("cancel", usual | {"new_column": 1}, (",", ":"), False)] * 2)
    assert way.careful == 5


def test_a_row_that_is_marked_as_cut_does_not_look_like_a_whole_one() -> None:
    """They differ in nothing but the value of one member, inside the row or outside of it."""
    for channel, kind, when in (("cancel", "cancel", ("cut",)), ("deep", "fill", ("meta", "after", "cut"))):
        way = Way(by_looks=True)
        source = "events" if channel == "cancel" else "deep"
        way._learner = Learner(way._rows, [Fetch("t", ("version",), ((source, kind),), when)])
        whole = {"version": 1, "index": 1, "market": 3, "maker": "0xa", "taker": "0xb", "cut": False}
        for number, row in enumerate((whole, whole | {"version": 2}, whole | {"cut": True})):
            way.deliver(channel, [notification(channel, row, (",", ":"), False)])
            assert way.careful == (1, 1, 2)[number]


def test_the_mark_ends_at_the_highest_key_of_a_batch_in_whatever_order() -> None:
    way = Way(by_looks=True)
    others = {"market": 1, "maker": "a", "taker": "b"}
    texts = [
        notification("fill", {"version": version, "index": index, **others}, (",", ":"), True)
        for version, index in ((9, 1), (9, 2), (100, 0), (99, 10**39), (100, 10), (100, 9))
    ]
    way.deliver("fill", texts)
    assert way.careful == 1
    assert way.marks["events", "fill"].key == (100, 10)
    assert way.marks["events", "fill"].texts == ("100", "10")


def test_texts_of_ever_new_looks_are_not_all_remembered() -> None:
    way = Way(by_looks=True)
    for number in range(2 * ROWS_MAX):
        way.deliver(
            "cancel",
            [notification("cancel", {"market": 1, "maker": "a", f"c{number}": 1}, (",", ":"), False)],
        )
    assert len(way._rows.known(b"cancel")) == ROWS_MAX
    assert len(way.published) == 4 * ROWS_MAX
