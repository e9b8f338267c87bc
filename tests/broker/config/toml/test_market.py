"""Mistakes in [[market.*]] are told with their lines; a reload keeps what runs, and names what takes a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.market import TAP_TARGET
from broker.config.model import Config, ConfigError
from broker.config.reload import reloaded
from broker.config.toml.configuration import load
from broker.config.toml.market import can_match

LISTENER = '[[listener]]\nport = 1883\n[security]\nallow_anonymous = true\n[database]\ndsn = "host=x"\n'


def read(folder: Path, text: str) -> Config:
    path = folder / "market.toml"
    path.write_text(LISTENER + text)
    return load(path, {})


FILLS = '[source.fills]\nmqtt = "engine/+/fills"\n'


@pytest.mark.parametrize(
    "text",
    [
        FILLS + '[[mqtt.route]]\nfrom = "fills"\ntopics = "engine/{symbol}/fills"\n',
        FILLS + '[[mqtt.route]]\nfrom = "fills"\ntopics = "engine/x/fills"\n',
        '[source.fills]\nmqtt = "engine/#"\n[[market.trades]]\nfrom = "fills"\n'
        '[[mqtt.route]]\nfrom = "market.trades"\ntopics = "engine/{symbol}/merged"\n',
        '[source.fills]\nmqtt = "engine/#"\n[[market.kline]]\nname = "bars"\nfrom = "fills"\n'
        '[[mqtt.route]]\nfrom = "market.bars"\ntopics = "engine/{symbol}/{interval}"\n',
    ],
)
def test_an_mqtt_source_that_would_take_what_is_made_of_it_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"market.toml:8: mqtt: engine/.*without end"):
        read(tmp_path, text)


def test_an_mqtt_source_may_publish_elsewhere(tmp_path: Path) -> None:
    read(tmp_path, FILLS + '[[mqtt.route]]\nfrom = "fills"\ntopics = "public/{symbol}/fills"\n')


@pytest.mark.parametrize(
    ("template", "topic_filter", "wanted"),
    [
        ("a/{x}", "a/+", True), ("a/{x}", "a/b", True), ("a/b-{x}", "a/b-1", True), ("a/b-{x}", "a/c-1", False),
        ("a/{x}/c", "a/+", False), ("a", "a/#", True), ("a", "b/#", False), ("a.b/{x}", "axb/1", False),
        ("{x}", "#", True), ("a/{x}", "a/+/c", False),
    ],
)  # fmt: skip
def test_whether_a_template_can_match(template: str, topic_filter: str, wanted: bool) -> None:
    assert can_match(template, topic_filter) is wanted


MISTAKES = [
    ('[[market.depth]]\nfrom = "fills"\nshape = "tree"\n', 3, "shape: "),
    ('[[market.depth]]\nfrom = "fills"\nlevels = 0\n', 3, "levels: 1 to 50000"),
    ('[[market.depth]]\nfrom = "nothing"\n', 2, "from: "),
    ('[[market.kline]]\nfrom = "fills"\nintervals = ["7m"]\n', 3, "intervals: "),
    ('[[market.kline]]\nfrom = "fills"\nday_starts = "25:00"\n', 3, "day_starts: "),
    ('[[market.kline]]\nfrom = "fills"\nhistory = "a.b.c"\n', 3, "history: "),
    ('[[market.kline]]\nfrom = "fills"\n', 1, "no route takes kline"),
    ('[[market.ticker]]\nfrom = "fills"\nwindow = "90s"\n', 3, "window: whole minutes"),
    ('[[market.markprice]]\nfrom = "fills"\nfunding = { every = "1s" }\n', 3, "every: "),
    ('[[market.spread]]\nfrom = "fills"\n', 1, "spread"),
    ('[market]\npage = "yes"\n', 2, "page: true or false"),
]


@pytest.mark.parametrize(("text", "line", "words"), MISTAKES)
def test_mistakes_are_told_with_their_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    base = FILLS + '[[mqtt.route]]\nfrom = "fills"\ntopics = "public/fills"\n'
    number = (LISTENER + base).count("\n") + line
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, base + text)
    assert any(f"market.toml:{number}: " in told and words in told for told in caught.value.mistakes), (
        caught.value.mistakes
    )


TABLES = """
[database.replication]
[source.trades]
tables = "public.trades"
[[market.trades]]
from = "trades"
[[mqtt.route]]
from = "market.trades"
topics = "trades/{symbol}"
"""


def test_a_reload_refuses_other_calculators_by_name_and_takes_other_routes(tmp_path: Path) -> None:
    text = TABLES.replace("[database.replication]\n", "")
    kind = 'kind = "wal"\n'
    old = read(tmp_path, kind + text)
    more = '[[market.kline]]\nfrom = "trades"\n[[mqtt.route]]\nfrom = "market.kline"\ntopics = "k/{symbol}"\n'
    assert reloaded(old, read(tmp_path, kind + more + text)).market is not None
    kept = more.replace('"trades"\n', '"trades"\nhistory = "kline"\n', 1)
    with pytest.raises(
        ConfigError, match=r"market.kline: history is read at the start; that takes a restart\."
    ):
        reloaded(old, read(tmp_path, kind + kept + text))
    raw = '[[mqtt.route]]\nfrom = "trades"\ntopics = "raw/{symbol}"\n'
    taken = reloaded(old, read(tmp_path, kind + "\n\n" + raw + text))  # lines that move are no change
    assert [route.topics for feed in taken.feeds for route in feed.routes if route.target == "mqtt"] == [
        ("raw/{symbol}",)
    ]
    assert taken.market is not None
    assert [route.topics for feed in taken.feeds for route in feed.routes if route.target == TAP_TARGET] == [
        (taken.market.taps[0].key,)
    ]
    assert taken.warnings == ()
