"""The page about the configuration file names every table and every key that there is, and its examples hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.config import cluster, feeds, model, tokens
from broker.config.dialects.gateway import DIALECT_KINDS
from broker.config.dialects.limits import DialectLimits
from broker.config.toml import tables
from broker.config.toml.configuration import TABLES, load
from broker.config.toml.reader import keys_of

PAGE = (Path(__file__).parents[4] / "docs/configuration.md").read_text()

CLASSES = [
    tables.DatabaseTable,
    tables.SourceTable,
    tables.MqttTable,
    tables.MqttRouteTable,
    tables.WebsocketTable,
    tables.WebsocketRouteTable,
    tables.RecoverTable,
    tables.FetchTable,
    tables.BrokerTable,
    feeds.Replication,
    *DIALECT_KINDS.values(),
    tokens.JwtConfig,
    tokens.HttpHookConfig,
    DialectLimits,
    model.Listener,
    model.Security,
    model.Tls,
    model.Limits,
    model.Delivery,
    model.Persistence,
    model.Logging,
    model.AdminHttp,
    model.Health,
    cluster.ClusterConfig,
]


def test_every_table_is_on_the_page() -> None:
    assert [table for table in TABLES if f"[{table}" not in PAGE and f"`{table}`" not in PAGE] == []


@pytest.mark.parametrize("cls", CLASSES)
def test_every_key_is_on_the_page(cls: type) -> None:
    assert [key for key in sorted(keys_of(cls, tables.RENAMES)) if not re.search(rf"\b{key}\b", PAGE)] == []


def test_the_examples_together_are_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "page.toml"
    path.write_text("".join(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)))
    text = (
        path.read_text()
        + '[[mqtt.route]]\nfrom = "events"\nkind = "cancel_order"\ntopics = "cancel/{market_id}"\n'
    )
    path.write_text(text)
    config = load(path, {"DATABASE_URL": "postgres://x", "PGWS_JWT_SECRET": "s" * 32})
    assert len(config.feeds[0].routes) == 3
