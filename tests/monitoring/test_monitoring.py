"""The dashboard and the alert rules ask for nothing that is not exported, and the scraper takes what is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from broker import Broker, Config, Listener
from broker.config.model import Persistence
from broker.feed.status import FeedStatus
from broker.reports import exposition, metrics

MONITORING = Path(__file__).parent.parent.parent / "monitoring"
WORDS = {
    "histogram_quantile", "rate", "increase", "sum", "by", "le", "unless", "offset", "and", "or", "up",
    "label_values", "instance",
}  # fmt: skip


@pytest.fixture
async def families(tmp_path: Path) -> list[exposition.Family]:
    """Of a broker that has everything: a feed with drops, persistence, refusals."""
    listeners = (Listener(0, "127.0.0.1"), Listener(0, "127.0.0.1", protocol="websockets"))
    config = Config(listeners, persistence=Persistence(True, tmp_path))
    async with Broker(config) as broker:
        status = FeedStatus("main")
        status.drop("null", "somewhere", 0.0)
        status.gap("the slot was lost")
        broker.app.feeds["main"] = status
        broker.app.engine.counters.refuse("bad_credentials")
        await trio.lowlevel.checkpoint()
        return list(metrics.families(broker.app.operation.facts))


def exported(families: list[exposition.Family]) -> set[str]:
    names = set()
    for line in exposition.prometheus_text(families).splitlines():
        if not line.startswith("#"):
            names.add(re.split(r"[{ ]", line)[0])
    return names


def expressions() -> Iterator[str]:
    dashboard = json.loads((MONITORING / "grafana.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from re.findall(r"expr: (.*)", (MONITORING / "alerts.yml").read_text())


def asked_for(expression: str) -> set[str]:
    without_labels = re.sub(r"\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)|\"[^\"]*\"", " ", expression)
    return set(re.findall(r"[a-z_][a-z_0-9]*", without_labels)) - WORDS - {"e9", "m"}


async def test_dashboard_and_alerts_ask_only_for_what_is_exported(families: list[exposition.Family]) -> None:
    names = exported(families)
    wanted = {name for expression in expressions() for name in asked_for(expression)}
    assert len(wanted) > 20
    assert wanted - names == set()


async def test_labels_that_are_asked_for_exist(families: list[exposition.Family]) -> None:
    text = exposition.prometheus_text(families)
    for expression in expressions():
        for name, labels in re.findall(r"([a-z_]+)\{([^}]*)\}", expression):
            for label in re.findall(r"([a-z]+)=", labels):
                if label not in ("instance", "job"):
                    assert re.search(rf"^{name}\{{[^}}]*\b{label}=", text, re.MULTILINE), (name, label)


async def test_every_metric_has_its_type_and_its_help_once(families: list[exposition.Family]) -> None:
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    assert [family.name for family in families if not family.help] == []


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Debian's package prometheus")
async def test_the_scraper_takes_the_text_and_the_rules(families: list[exposition.Family]) -> None:
    text = exposition.prometheus_text(families)
    checked = promtool("metrics", text=text)
    # Status 3 is its taste in names, which are those of the Mosquitto exporters; 1 is text that it can't read.
    said = [line for line in checked.stderr.splitlines() if not line.startswith("broker_")]
    assert checked.returncode in (0, 3), checked.stderr
    assert said == []
    rules = promtool("rules", str(MONITORING / "alerts.yml"))
    assert rules.returncode == 0, rules.stderr


def promtool(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = ["promtool", "check", *words]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=30)
