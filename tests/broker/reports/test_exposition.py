"""Metrics as Prometheus and OpenMetrics want them written, line for line."""

from __future__ import annotations

import pytest

from broker.core.histogram import Histogram
from broker.reports.exposition import Family, by_label, counter, gauge, openmetrics_text, prometheus_text

FAMILIES = (
    counter("rowcast_messages", "All messages.", 12),
    gauge("rowcast_load", "A load.", 0.25),
    Family("rowcast_build", "info", "What runs.", (((("version", 'a"b\\c\nd'),), 1),)),
    Family("broker_received", "bare_counter", "As others call it.", (((), 3.0),)),
    by_label("rowcast_drops", "counter", "By reason.", "reason", {"full": 2, "away": 1}),
)


def test_the_text_for_prometheus() -> None:
    assert prometheus_text(FAMILIES).splitlines() == [
        "# HELP rowcast_messages_total All messages.",
        "# TYPE rowcast_messages_total counter",
        "rowcast_messages_total 12",
        "# HELP rowcast_load A load.",
        "# TYPE rowcast_load gauge",
        "rowcast_load 0.25",
        "# HELP rowcast_build_info What runs.",
        "# TYPE rowcast_build_info gauge",
        'rowcast_build_info{version="a\\"b\\\\c\\nd"} 1',
        "# HELP broker_received As others call it.",
        "# TYPE broker_received counter",
        "broker_received 3",
        "# HELP rowcast_drops_total By reason.",
        "# TYPE rowcast_drops_total counter",
        'rowcast_drops_total{reason="away"} 1',
        'rowcast_drops_total{reason="full"} 2',
    ]


def test_openmetrics_names_families_without_suffixes_and_ends_with_a_mark() -> None:
    lines = openmetrics_text(FAMILIES).splitlines()
    assert lines[:3] == [
        "# TYPE rowcast_messages counter",
        "# HELP rowcast_messages All messages.",
        "rowcast_messages_total 12",
    ]
    assert "# TYPE rowcast_build info" in lines
    assert "# TYPE broker_received unknown" in lines  # a counter there must end in _total
    assert lines[-1] == "# EOF"


@pytest.mark.parametrize("write", [prometheus_text, openmetrics_text])
def test_a_histograms_buckets_are_cumulative_and_end_with_all(write: object) -> None:
    histogram = Histogram((0.5, 2.0))
    for value in (0.25, 0.5, 1.0, 9.0):
        histogram.observe(value)
    family = Family("rowcast_wait_seconds", "histogram", "How long.", (), (((("feed", "x"),), histogram),))
    assert callable(write)
    lines = [line for line in write([family]).splitlines() if not line.startswith("#")]
    assert lines == [
        'rowcast_wait_seconds_bucket{feed="x",le="0.5"} 2',
        'rowcast_wait_seconds_bucket{feed="x",le="2.0"} 3',
        'rowcast_wait_seconds_bucket{feed="x",le="+Inf"} 4',
        'rowcast_wait_seconds_sum{feed="x"} 10.75',
        'rowcast_wait_seconds_count{feed="x"} 4',
    ]
