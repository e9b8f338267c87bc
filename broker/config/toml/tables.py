"""The tables of a TOML configuration as they are written, before names are looked up and defaults inherited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import field, frozen

from broker.config.cluster import ClusterConfig
from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.rowcast import Rowcast
from broker.config.feeds import Replication
from broker.config.market import (
    DepthConfig,
    KlineConfig,
    MarkPriceConfig,
    TickerConfig,
    TradesConfig,
)
from broker.config.model import Limits, Listener, Security
from broker.config.tokens import JwtConfig, TokenConfig
from broker.config.toml.ingest import SinkTable
from broker.config.toml.reader import Renames

CALCULATOR_TABLES = (DepthConfig, TradesConfig, KlineConfig, TickerConfig, MarkPriceConfig)


@frozen
class DatabaseTable:
    """[database]"""

    dsn: str
    password: str = field(default="", repr=False)
    name: str = "main"
    kind: str = "listen"
    check_interval_s: float = 5.0
    check_timeout_s: float = 5.0
    replication: Replication = field(factory=Replication)


@frozen
class SequenceTable:
    """`sequence = { last = "$.u", first = "$.U", by = "$.s" }` of a source, or the path of `last` alone."""

    last: str
    first: str = ""
    previous: str = ""
    by: str = ""


@frozen
class AddTable:
    """`add = { symbol = { at = "$.channel", match = "book_(.+)" } }` of a source, or the path `at` alone."""

    at: tuple[str, ...] = ()
    value: str = ""
    match: str = ""
    words: dict[str, str] = field(factory=dict)


@frozen
class SourceTable:
    """[source.NAME]"""

    listen: tuple[str, ...] = ()
    kind: str = ""
    row: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    query: str = ""
    key: tuple[str, ...] = ()
    every_s: float = 1.0
    dsn: str = field(default="", repr=False)
    tcp: str = ""
    udp: str = ""
    mqtt: tuple[str, ...] = ()
    sequence: SequenceTable | None = None
    add: dict[str, AddTable] = field(factory=dict)
    columns: tuple[str, ...] = ()
    format: str = "json"


@frozen
class MqttTable:
    """[mqtt]: what its routes inherit."""

    qos: int = 1
    retain: bool = False
    body: str = "row"
    on_null: str = "drop"
    on_unsafe: str = "drop"


@frozen
class MqttRouteTable:
    """[[mqtt.route]]"""

    source: str
    topics: tuple[str, ...]
    kind: str | None = None
    body: str | None = None
    qos: int | None = None
    retain: bool | None = None
    once_per: tuple[str, ...] = ()
    once_for_s: float | None = None
    on_null: str | None = None
    on_unsafe: str | None = None
    operations: tuple[str, ...] | None = None
    snapshot: str = ""
    position: bool = False
    operation: bool = False
    delete_clears: bool = False
    columns: tuple[str, ...] = ()
    condition: str = ""
    expiry: Any = None
    """Text, or a table; this and what follows is read by `broker.config.toml.properties`."""
    expire: Any = None
    """Another name of `expiry`."""
    content_type: str = ""
    response_topic: str = ""
    correlation_data: str = ""
    user_properties: Any = None
    """A table of texts, or of arrays of texts."""


@frozen
class WebsocketTable(GatewayConfig):
    """[websocket]: the dialects and their limits, and what its routes inherit."""

    body: str | None = None
    on_null: str = "drop"
    retain: bool = False


@frozen
class WebsocketRouteTable:
    """[[websocket.route]]"""

    source: str
    channel: tuple[str, ...]
    dialect: str
    """May be left out where only one is set up."""
    kind: str | None = None
    body: str | None = None
    retain: bool | None = None
    once_per: tuple[str, ...] = ()
    once_for_s: float | None = None
    on_null: str | None = None
    operations: tuple[str, ...] | None = None
    snapshot: str = ""
    position: bool = False
    operation: bool = False
    delete_clears: bool = False
    columns: tuple[str, ...] = ()
    condition: str = ""


@frozen
class RecoverTable:
    """[[recover]], but for `kind`, which is text or a table."""

    table: str
    key: tuple[str, ...]


@frozen
class FetchTable(RecoverTable):
    """[[fetch]], but for `kind`."""

    when: str = ""


@frozen
class BrokerTable:
    """[broker]: what concerns the process as a whole."""

    sys_interval_s: int = 10
    shutdown_grace_s: float = 5.0
    drain_s: float = 0.0
    drain_to: str = ""
    control_socket: Path | None = None
    pid_file: Path | None = None
    user: str | None = None


RENAMES: Renames = {
    MqttRouteTable: {"source": "from", "condition": "where"},
    WebsocketRouteTable: {"source": "from", "condition": "where"},
    JwtConfig: {
        "algorithms": "alg",
        "mode_claim": "mode",
        "channels_claims": "channels",
        "account_claim": "account",
        "roles_claim": "roles",
    },
    ClusterConfig: {"keep_bytes": "keep_bytes"},
    SinkTable: {"max_bytes": "max_bytes"},
    Limits: {key: key for key in ("max_inflight_bytes", "max_queued_bytes", "max_retained_bytes")},
    Listener: {"local_only": None},
    Security: {"token_config": None, "rowcast_token_secret_file": None, "rowcast_token_jwks": None},
    TokenConfig: {"secret_files": None},
    Rowcast: {"tokens": None},
    **{cls: {"from_": "from", "where": None} for cls in CALCULATOR_TABLES},
}
"""Where a key is not its attribute's name without the unit."""
