"""Metrics as text, in the format of Prometheus (0.0.4) and in OpenMetrics (1.0.0).  Pure.

Sources: prometheus.io/docs/instrumenting/exposition_formats, and the OpenMetrics specification.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from attrs import field, frozen

from broker.core.histogram import Histogram

OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


@frozen
class Family:
    """One metric with its samples.

    `name` is without the suffixes `_total` and `_info`, which its kind adds: `counter`, `gauge`, `info`.
    `bare_counter` is a counter whose name must not end in `_total`, because dashboards know it without;
    OpenMetrics can call it `unknown` only.
    """

    name: str
    kind: str
    help: str
    samples: tuple[tuple[Labels, float], ...] = ()
    histograms: tuple[tuple[Labels, Histogram], ...] = field(default=(), eq=False)


def gauge(name: str, help: str, value: float) -> Family:
    """A family of one value that goes up and down."""
    return Family(name, "gauge", help, (((), value),))


def counter(name: str, help: str, value: float) -> Family:
    """A family of one value that only grows."""
    return Family(name, "counter", help, (((), value),))


def by_label(name: str, kind: str, help: str, label: str, values: Mapping[str, float]) -> Family:
    """A family with one sample for each value of one label."""
    return Family(name, kind, help, tuple((((label, key),), value) for key, value in sorted(values.items())))


def prometheus_text(families: Iterable[Family]) -> str:
    """What a scraper gets that did not ask for OpenMetrics."""
    return "".join(_prometheus_lines(families))


def openmetrics_text(families: Iterable[Family]) -> str:
    """The families in OpenMetrics' text format, with its end mark."""
    return "".join(_openmetrics_lines(families))


def _prometheus_lines(families: Iterable[Family]) -> Iterator[str]:
    for family in families:
        name = family.name + _SUFFIXES.get(family.kind, "")
        yield f"# HELP {name} {_escaped(family.help)}\n"
        yield f"# TYPE {name} {_PROMETHEUS_KINDS.get(family.kind, family.kind)}\n"
        yield from _samples(family)


def _openmetrics_lines(families: Iterable[Family]) -> Iterator[str]:
    for family in families:
        yield f"# TYPE {family.name} {'unknown' if family.kind == 'bare_counter' else family.kind}\n"
        yield f"# HELP {family.name} {_escaped(family.help)}\n"
        yield from _samples(family)
    yield "# EOF\n"


_SUFFIXES: Final = {"counter": "_total", "info": "_info"}
_PROMETHEUS_KINDS: Final = {"bare_counter": "counter", "info": "gauge"}


def _samples(family: Family) -> Iterator[str]:
    name = family.name + _SUFFIXES.get(family.kind, "")
    for labels, value in family.samples:
        yield f"{name}{_labels(labels)} {_number(value)}\n"
    for labels, histogram in family.histograms:
        yield from _histogram(family.name, labels, histogram)


def _histogram(name: str, labels: Labels, histogram: Histogram) -> Iterator[str]:
    total = 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        total += count
        le = "+Inf" if bound == float("inf") else repr(float(bound))
        yield f"{name}_bucket{_labels((*labels, ('le', le)))} {total}\n"
    yield f"{name}_sum{_labels(labels)} {_number(histogram.sum)}\n"
    yield f"{name}_count{_labels(labels)} {total}\n"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value, quotes=True)}"' for name, value in labels) + "}"


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
