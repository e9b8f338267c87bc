"""What a configuration says, as values with their defaults.  No behaviour, no file is read here.

Names are mosquitto.conf's where it has one; units stand last.  0 means "no limit" wherever Mosquitto says so.
`broker.config.mosquitto.configuration` and `broker.config.toml.configuration` both produce a `Config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from broker.config.dialects.gateway import GatewayConfig
from broker.config.feeds import FeedConfig
from broker.config.history import HistoryRule
from broker.config.tokens import TokenConfig, one_or_more
from protocol.mistakes import Mistaken

if TYPE_CHECKING:  # of a file that has none of these, nobody waits for their classes
    from broker.config.cluster import ClusterConfig
    from broker.config.ingest import IngestConfig
    from broker.config.market import MarketConfig


class ConfigError(Mistaken):
    """Every mistake of a configuration at once, each as `FILE:LINE: what, and what would be right`.

    Args:
        config: what could be read beside the mistakes, for those that don't show in the text; None is nothing.
        may_open_doors: something that is wrong may have been meant to let clients in.
    """

    def __init__(self, *mistakes: str, config: Config | None = None, may_open_doors: bool = False) -> None:
        super().__init__(*mistakes)
        self.config = config
        self.may_open_doors = may_open_doors


@frozen
class Tls:
    """One listener's TLS.  Present only where `certfile` and `keyfile` are."""

    certfile: Path
    keyfile: Path
    cafile: Path | None = None
    capath: Path | None = None
    crlfile: Path | None = None
    require_certificate: bool = False
    use_identity_as_username: bool = False
    use_subject_as_username: bool = False
    disable_client_cert_date_checks: bool = False
    tls_version: str = ""
    ciphers: str = ""
    ciphers_tls13: str = ""
    dhparamfile: Path | None = None
    keylog_file: Path | None = None
    keyfile_password: str = field(default="", repr=False)
    """What `keyfile` is encrypted with; "" if it is not."""


@frozen
class Security:
    """Who may connect and do what.  One for all listeners, or one each with `per_listener_settings`."""

    allow_anonymous: bool = False
    anonymous_access: str = "readwrite"
    """What a client without a user name may do where no acl_file decides: `readwrite`, or `read`."""
    password_file: Path | None = None
    acl_file: Path | None = None
    acl_patterns_allow_slash: bool = False
    """Whether a name that holds a `/` may be put into a `pattern`, as in Mosquitto 2.0."""
    allow_zero_length_clientid: bool = True
    auto_id_prefix: str = "auto-"
    clientid_prefixes: str = ""
    tokens: bool = False
    """MQTT clients may show a token as their password; its claims are their rights."""
    rowcast_token_secret_file: Path | None = None
    rowcast_token_jwks: str = ""
    """What mosquitto.conf says; a path or an address.  Both are in `token_config`, too."""
    token_config: TokenConfig = field(factory=TokenConfig)
    """The configuration's [tokens], if `tokens` is true."""


@frozen
class Listener:
    """One place where peers connect.

    `protocol` is `mqtt` or `websockets` (which speaks whatever `dialects` allow).  `port` 0 with a
    `unix_path` is a unix-socket listener; port 0 without one asks the kernel for a free port.
    `host` None is every address of the machine.
    """

    port: int
    host: str | None = None
    protocol: str = "mqtt"
    dialects: tuple[str, ...] = ("mqtt",)
    """What a `websockets` listener speaks, routed by path: `mqtt`, `econia`, `exchange`, `canton`."""
    unix_path: str | None = None
    socket_domain: str = ""
    bind_interface: str = ""
    security: Security = field(factory=Security)
    tls: Tls | None = None
    mount_point: str = ""
    max_connections: int = -1
    max_qos: int = 2
    max_keepalive_s: int = 0
    """The longest keep alive; 0 is no limit.  Under a limit a client's 0, for ever, is too long as well."""
    use_username_as_clientid: bool = False
    accept_protocol_versions: tuple[int, ...] = (3, 4, 5)
    max_topic_alias: int = 10
    """Highest topic alias that a client of MQTT 5.0 may use."""
    max_topic_alias_broker: int = 10
    """Highest topic alias that a client of MQTT 5.0 is sent, if it takes any."""
    enable_proxy_protocol: int = 0
    """0 none, 1 or 2: a PROXY header of that version must come first."""
    proxy_protocol_v2_require_tls: bool = False
    proxy_v2_require_certificate: bool = False
    """`require_certificate` where the proxy ends TLS: its header must say that a certificate was verified."""
    proxy_v2_use_identity_as_username: bool = False
    """`use_identity_as_username` there: the common name in the header is the user name."""
    websockets_origins: tuple[str, ...] = ()
    websockets_headers_size_bytes: int = 4096
    reuse_port: bool = False
    """Let another process of the same user listen on the same port, and the kernel share the connections out."""
    local_only: bool = False
    """Bind to loopback, IPv4 and IPv6: the default when no listener is configured."""

    @property
    def is_plain(self) -> bool:
        """Whether what comes is MQTT from its first byte on."""
        return self.protocol == "mqtt" and self.tls is None and not self.enable_proxy_protocol

    def allows_keep_alive(self, seconds: int) -> bool:
        """Whether a client may ask for this keep alive."""
        return not self.max_keepalive_s or 0 < seconds <= self.max_keepalive_s


@frozen
class Limits:
    """Per-client and broker-wide limits of mosquitto.conf, with its defaults."""

    max_inflight_messages: int = 20
    max_inflight_bytes: int = 0
    max_queued_messages: int = 1000
    max_queued_bytes: int = 0
    max_packet_size_bytes: int = 2_000_000
    message_size_limit_bytes: int = 0
    global_max_clients: int = -1
    global_max_connections: int = -1
    persistent_client_expiration_s: int | None = None
    outbox_bytes_max: int = 16 * 1024 * 1024
    """Bytes owed to one peer that does not read: above it QoS 0 is dropped.  Our own limit."""
    outbox_messages_max: int = 0
    """So many QoS 0 messages may wait for one peer, even above `outbox_bytes_max`: where the file says how many."""
    max_retained_messages: int = 0
    max_retained_bytes: int = 0
    """Of topics and payloads that are retained, without `$SYS`; 0 is no limit.  Our own limits."""
    max_subscriptions: int = 0
    """Of one client; 0 is no limit.  Our own."""


@frozen
class Delivery:
    """How messages are handed on."""

    allow_duplicate_messages: bool = False
    queue_qos0_messages: bool = False
    upgrade_outgoing_qos: bool = False
    retain_available: bool = True
    check_retain_source: bool = True


@frozen
class Persistence:
    """Whether, where and when sessions and retained messages are written to a file."""

    persistence: bool = False
    persistence_location: Path = Path(".")
    persistence_file: str = "rowcast.db"
    autosave_interval_s: int = 1800
    autosave_on_changes: bool = False
    retained_persistence: bool = True
    acknowledge: str = "received"
    """What a PUBACK, PUBREC, PUBCOMP and SUBACK says: `received`, or that what it promises is `saved`, on disk."""


@frozen
class Logging:
    """What is logged, in which form, and where it goes."""

    log_dest: tuple[str, ...] = ("stderr",)
    """Each `stdout`, `stderr`, `syslog`, `topic`, `none`, or `file PATH`."""
    log_type: tuple[str, ...] = ("error", "warning", "notice", "information")
    log_timestamp: bool = True
    log_timestamp_format: str = ""
    log_format: str = "text"
    """`text`, Mosquitto's lines, or `json`, an object per line."""
    log_facility: int | None = None
    """0 to 7 for syslog's local0 to local7; None is daemon."""
    connection_messages: bool = True


@frozen
class AdminHttp:
    """Where this process answers plain HTTP: administration, where without a token only loopback may ask, or the
    metrics, where without one everybody may."""

    port: int
    host: str = "127.0.0.1"
    token: tuple[str, ...] = field(default=(), repr=False, converter=one_or_more)
    """Any of these; () is none."""


@frozen
class Health:
    """From when on `/readyz` is red although everything is connected."""

    lag_s: float = 30.0
    """Rows are so much later than their COMMIT."""
    gap_s: float = 3600.0
    """For so long after rows may have been lost, unless somebody has acknowledged it."""


@frozen
class Config:
    """Everything one Rowcast process is told."""

    listeners: tuple[Listener, ...] = ()
    limits: Limits = field(factory=Limits)
    delivery: Delivery = field(factory=Delivery)
    persistence: Persistence = field(factory=Persistence)
    logging: Logging = field(factory=Logging)
    per_listener_settings: bool = False
    sys_interval_s: int = 10
    shutdown_grace_s: float = 5.0
    drain_s: float = 0.0
    """For how long clients are asked to go, one after the other, before `shutdown_grace_s` begins."""
    drain_to: str = ""
    """The server that clients of MQTT 5.0 are told to use then, `HOST:PORT`; "" tells them that this one stops."""
    control_socket: Path | None = None
    """Where the next process asks for the listening sockets: `rowcast --take-over`."""
    pid_file: Path | None = None
    user: str | None = None
    feeds: tuple[FeedConfig, ...] = ()
    gateway: GatewayConfig = field(factory=GatewayConfig)
    history: tuple[HistoryRule, ...] = ()
    market: MarketConfig | None = None
    ingest: IngestConfig | None = None
    """[[mqtt.sink]]: messages that become rows."""
    cluster: ClusterConfig | None = None
    admin: AdminHttp | None = None
    metrics: AdminHttp | None = None
    health: Health = field(factory=Health)
    source: Path | None = None
    """The file this was read from, so that SIGHUP can read it again."""
    places: Mapping[tuple[str, str], str] = field(factory=dict, eq=False, repr=False)
    """Where a key with a value stands, as FILE:LINE; `listener` with a number from 0 is where that one begins."""
    warnings: tuple[str, ...] = field(default=(), eq=False)
    """What to log as warnings once the log is open: options without effect, and the like."""

    @property
    def all_feeds(self) -> tuple[FeedConfig, ...]:
        """All that rows come from: those of databases, and the sources beside them."""
        intakes = self.market.intakes if self.market is not None else ()
        return self.feeds + tuple(intake.feed for intake in intakes)
