"""The few questions that a configuration answers by itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from broker.config.feeds import FeedConfig
from broker.config.market import Intake, MarketConfig
from broker.config.model import AdminHttp, Config, Listener


@pytest.mark.parametrize(
    ("longest_s", "seconds", "expected"),
    [(0, 0, True), (0, 65535, True), (60, 60, True), (60, 61, False), (60, 1, True), (60, 0, False)],
)
def test_under_a_limit_a_keep_alive_of_0_is_too_long(longest_s: int, seconds: int, expected: bool) -> None:
    assert Listener(1883, max_keepalive_s=longest_s).allows_keep_alive(seconds) == expected


def test_rows_come_from_databases_and_from_the_sources_beside_them() -> None:
    feed, beside = FeedConfig("main", "dsn"), FeedConfig("engine", "", "tcp")
    assert Config().all_feeds == ()
    assert Config(feeds=(feed,)).all_feeds == (feed,)
    market = MarketConfig(intakes=(Intake("tcp", beside),))
    assert Config(feeds=(feed,), market=market).all_feeds == (feed, beside)


@pytest.mark.parametrize(
    ("written", "expected"), [("one", ("one",)), (("one", "two"), ("one", "two")), ((), ())]
)
def test_a_port_has_one_token_or_several_and_shows_none(written: str, expected: tuple[str, ...]) -> None:
    http = AdminHttp(1, token=written)
    assert http.token == expected
    assert "one" not in repr(http)


PLAIN = """
import sys
from broker.config.arguments import Arguments
from broker.config.load import load
from broker.config.reload import reloaded
import broker.cli.main
import broker.links.websocket.server
import broker.process.run

old, new = load(Arguments()), load(Arguments())
assert reloaded(old, new) == old
print([name for name in ("cluster", "ingest", "market", "reload_market") if f"broker.config.{name}" in sys.modules])
print("argparse" in sys.modules)
"""


def test_a_broker_without_them_loads_no_classes_of_market_sinks_and_nodes_also_at_a_reload() -> None:
    done = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]
