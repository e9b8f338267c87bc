"""What `/metrics` shows: each number of the broker under its name, and nothing of what there is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from support.report_app import App, facts_of

from broker.core.histogram import Histogram
from broker.feed.status import FeedStatus
from broker.reports import metrics
from broker.reports.exposition import prometheus_text


def shown(app: App) -> dict[str, float]:
    """Samples by name and labels, as they stand in the text."""
    lines = prometheus_text(metrics.families(facts_of(app)[0])).splitlines()
    found: dict[str, float] = {}
    for line in lines:
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            assert name not in found, f"{name} stands twice"
            found[name] = float(value)
    return found


def test_mosquittos_topics_have_the_names_that_exporters_give_them() -> None:
    app = App()
    app.engine.counters.publishes_sent = 7
    found = shown(app)
    assert found["broker_publish_messages_sent"] == 7
    assert found["broker_clients_connected"] == 0
    assert found["broker_retained_messages_count"] == 0
    assert not any(
        name.startswith(("broker_version", "broker_clients_active", "broker_rowcast")) for name in found
    )


def test_reasons_are_labels() -> None:
    app = App()
    counters = app.engine.counters
    counters.refuse("bad_credentials")
    counters.dropped_acl, counters.dropped_queue_full, counters.dropped_outbox_full = 1, 2, 3
    counters.dropped_too_large, counters.dropped_inbound_full, counters.dropped_retained_full = 4, 5, 6
    counters.messages_expired = 7
    found = shown(app)
    assert found['rowcast_connections_refused_total{reason="bad_credentials"}'] == 1
    for reason, count in (
        ("acl", 1),
        ("queue_full", 2),
        ("outbox_full", 3),
        ("too_large", 4),
        ("inbound_full", 5),
        ("retained_full", 6),
        ("expired", 7),
    ):
        assert found[f'rowcast_messages_dropped_total{{reason="{reason}"}}'] == count


def test_of_what_there_is_not_there_is_no_family() -> None:
    found = shown(App())
    for prefix in (
        "rowcast_feed_",
        "rowcast_sink_",
        "rowcast_market_",
        "rowcast_cluster_",
        "rowcast_persistence_",
    ):
        assert not any(name.startswith(prefix) for name in found), prefix


@pytest.mark.parametrize("state", ["connecting", "live", "standby"])
def test_a_feed_is_in_one_state_also_in_one_that_only_its_kind_has(state: str) -> None:
    app = App()
    app.feeds["f"] = FeedStatus("f")
    app.feeds["f"].state = state
    states = {
        name.partition('state="')[2].rstrip('"}'): value
        for name, value in shown(app).items()
        if name.startswith("rowcast_feed_state{")
    }
    assert states == {**dict.fromkeys(metrics.FEED_STATES, 0), state: 1}


def test_rows_of_a_feed_are_counted_by_what_became_of_them() -> None:
    app = App()
    status = app.feeds["f"] = FeedStatus("f")
    status.received, status.repeated, status.recovered, status.fetched = 10, 1, 2, 3
    status.published, status.lag_s, status.gaps = 20, 1.5, 4
    status.dropped = {"null": 5, "too_long": 6}
    status.troubles["a"] = "one"
    found = shown(app)
    for outcome, count in (
        ("received", 10),
        ("repeated", 1),
        ("recovered", 2),
        ("fetched", 3),
        ("dropped", 11),
    ):
        assert found[f'rowcast_feed_rows_total{{feed="f",outcome="{outcome}"}}'] == count
    assert found['rowcast_feed_dropped_total{feed="f",reason="too_long"}'] == 6
    assert found['rowcast_feed_publications_total{feed="f"}'] == 20
    assert found['rowcast_feed_lag_seconds{feed="f"}'] == 1.5
    assert found['rowcast_feed_troubles{feed="f"}'] == 1


def test_a_sink_shows_what_waits_and_whether_it_writes() -> None:
    app = App()
    sink: Any = SimpleNamespace(
        config=SimpleNamespace(name="rows"), state="live", problem="", waiting=[1, 2], unsettled=3, latency=Histogram(),
        written=1, batches=2, refused=3, dead_letters=4, dropped=5, retried=6, paused_count=7, waiting_bytes=8,
        is_full=lambda: False,
    )  # fmt: skip
    app.ingest = SimpleNamespace(sinks={"rows": sink})
    found = shown(app)
    assert found['rowcast_sink_live{sink="rows"}'] == 1
    assert found['rowcast_sink_waiting{sink="rows"}'] == 5
    for number, name in enumerate(
        (
            "written_total",
            "batches_total",
            "refused_total",
            "dead_letters_total",
            "dropped_total",
            "retried_total",
        ),
        1,
    ):
        assert found[f'rowcast_sink_{name}{{sink="rows"}}'] == number
    sink.state = "waiting"
    found = shown(app)
    assert found['rowcast_sink_live{sink="rows"}'] == 0
    assert found["rowcast_ready"] == 0


def test_a_calculator_shows_what_it_met() -> None:
    app = App()
    counts = SimpleNamespace(**{event: number for number, event in enumerate(metrics.MARKET_EVENTS)})
    one: Any = SimpleNamespace(status=SimpleNamespace(name="btc"), calculator=SimpleNamespace(counts=counts))
    app.market = SimpleNamespace(market=SimpleNamespace(running={"btc": one}))
    found = shown(app)
    for number, event in enumerate(metrics.MARKET_EVENTS):
        assert found[f'rowcast_market_events_total{{calculator="btc",event="{event}"}}'] == number


def test_saves_are_counted_where_anything_is_saved() -> None:
    app = App()
    saves = Histogram()
    saves.observe(0.01)
    app.keeper = SimpleNamespace(saves=saves, failures=2, trouble=lambda: "the disk is full")
    found = shown(app)
    assert found["rowcast_persistence_save_seconds_count"] == 1
    assert found["rowcast_persistence_failures_total"] == 2
    assert found["rowcast_ready"] == 0


@pytest.mark.parametrize("draining", [False, True])
def test_ready_and_draining_are_what_readyz_says(draining: bool) -> None:
    app = App()
    app.is_draining = draining
    found = shown(app)
    assert (found["rowcast_ready"], found["rowcast_draining"]) == (not draining, draining)
