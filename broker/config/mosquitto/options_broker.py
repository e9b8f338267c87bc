"""The table of mosquitto.conf's words, first part: what is set once for the whole broker.  See `options`."""

from __future__ import annotations

from broker.config.mosquitto.option import Kind, Level, Option, Role


def _flag(
    name: str, default: bool, field: str, meaning: str, *, reload: bool = False, note: str = ""
) -> Option:
    text = str(default).lower()
    return Option(name, Level.BROKER, Kind.BOOLEAN, text, meaning, field=field, reload=reload, note=note)


def _number(
    name: str,
    default: str,
    field: str,
    meaning: str,
    *,
    low: int | None = None,
    high: int | None = None,
    clamp: int | None = None,
    range_error: str = "",
    reload: bool = False,
    note: str = "",
) -> Option:
    return Option(
        name, Level.BROKER, Kind.INTEGER, default, meaning, field=field, low=low, high=high, clamp=clamp,
        range_error=range_error, reload=reload, note=note,
    )  # fmt: skip


def _text(
    name: str, default: str, field: str, meaning: str, *, once: bool, reload: bool = False, note: str = ""
) -> Option:
    return Option(
        name, Level.BROKER, Kind.TEXT, default, meaning, field=field, once=once, reload=reload, note=note
    )


def _special(
    name: str,
    default: str,
    meaning: str,
    *,
    field: str = "",
    words: tuple[str, ...] = (),
    reload: bool = False,
    note: str = "",
) -> Option:
    return Option(
        name, Level.BROKER, Kind.SPECIAL, default, meaning, field=field, words=words, reload=reload, note=note
    )


def _idle(name: str, kind: Kind, default: str, meaning: str, note: str) -> Option:
    return Option(name, Level.BROKER, kind, default, meaning, role=Role.WITHOUT_EFFECT, note=note)


LOG_DESTINATIONS = ("stderr", "stdout", "file", "syslog", "topic", "dlt", "none")
LOG_TYPES = (
    "error", "warning", "notice", "information", "subscribe", "unsubscribe", "debug", "websockets", "internal",
    "all", "none",
)  # fmt: skip

_INVALID = "Invalid '{name}' value ({value})."
_BUFFER = "Packet buffer size must be between 0 and 65535 inclusive."

_DELIVERY: tuple[Option, ...] = (
    _flag(
        "allow_duplicate_messages", False, "delivery.allow_duplicate_messages",
        "Whether a client with overlapping subscriptions gets one copy of a message for each of them.",
        reload=True, note="Mosquitto 2.1 defaults to true, 2.0 to false as here.",
    ),
    _flag(
        "check_retain_source", True, "delivery.check_retain_source",
        "Withhold a retained message whose publisher has lost the right to write its topic.",
    ),
    _flag(
        "queue_qos0_messages", False, "delivery.queue_qos0_messages",
        "Queue QoS 0 messages too for a persistent client that is away: of these, too, max_queued_messages and "
        "max_queued_bytes at most, which take no place of the others.", reload=True,
    ),
    _flag("retain_available", True, "delivery.retain_available", "Whether messages may be retained."),
    Option(
        "retain_expiry_interval", Level.BROKER, Kind.INTEGER, "never",
        "Minutes between two searches for retained messages that have outlived their MQTT 5 expiry.", low=1,
        range_error="retain_expiry_interval must be >= 1.", role=Role.WITHOUT_EFFECT,
        note="Rowcast looks every second. Messages of MQTT 3.1 and 3.1.1 have no expiry: in Mosquitto too they are"
        " kept until they are replaced or cleared.",
    ),
    _idle(
        "set_tcp_nodelay", Kind.BOOLEAN, "false",
        "Send small packets at once instead of letting the kernel collect them.",
        "Rowcast always does: all that is owed goes out in one piece anyway.",
    ),
    _flag(
        "upgrade_outgoing_qos", False, "delivery.upgrade_outgoing_qos",
        "Deliver with the QoS of the subscription even where the message came with a lower one.", reload=True,
    ),
)  # fmt: skip

_LIMITS: tuple[Option, ...] = (
    _number(
        "global_max_clients", "-1", "limits.global_max_clients",
        "Sessions, of clients that are here or away, on the whole broker; -1 is no limit.", low=-1, clamp=-1,
    ),
    _number(
        "global_max_connections", "-1", "limits.global_max_connections",
        "Connections on the whole broker; -1 is no limit.", low=-1, clamp=-1,
    ),
    _number(
        "max_inflight_bytes", "0", "limits.max_inflight_bytes",
        "Bytes of QoS 1 and 2 messages in flight to one client; 0 is no limit.", low=0, clamp=0,
    ),
    _number(
        "max_inflight_messages", "20", "limits.max_inflight_messages",
        "QoS 1 and 2 messages in flight to one client; 0 and 65535 are no limit, 1 keeps strict order.",
        low=0, high=65535, clamp=0, range_error="'max_inflight_messages' must be <= 65535.",
    ),
    _number(
        "max_keepalive", "0", "listeners.max_keepalive_s",
        "The longest keep alive, in seconds, that a client may ask for; one of MQTT 5.0 is told to use it if it "
        "asks for more, others are refused.",
        low=0, high=65535, range_error=_INVALID, note="0 is no limit.",
    ),
    _number(
        "max_packet_size", "2000000", "limits.max_packet_size_bytes",
        "Bytes of the largest packet from a client; a larger one closes the connection.",
        low=20, range_error="'max_packet_size' must be >= 20.",
    ),
    _number(
        "max_queued_bytes", "0", "limits.max_queued_bytes",
        "Bytes of messages queued for one client; 0 is no limit.  Where it is set, QoS 0 messages to a client that is "
        "slow may wait up to so many bytes, otherwise up to 16 MiB.", low=0, clamp=0,
    ),
    _number(
        "max_queued_messages", "1000", "limits.max_queued_messages",
        "Messages queued for one client; 0 is no limit.  Where it is set and max_queued_bytes is not, so many QoS 0 "
        "messages to a client that is slow may wait, even if they have more than 16 MiB.", low=0, clamp=0,
    ),
    _number(
        "max_retained_bytes", "0", "limits.max_retained_bytes",
        "Rowcast's own: bytes of topics and payloads that are retained together, `$SYS` apart, and what many levels "
        "take that topics do not share; a message above it is handed on, counted and not retained.  0 is no limit.",
        low=0, range_error=_INVALID, reload=True,
    ),
    _number(
        "max_retained_messages", "0", "limits.max_retained_messages",
        "Rowcast's own: retained messages, `$SYS` apart; one above it is handed on, counted and not retained.  "
        "0 is no limit.", low=0, range_error=_INVALID, reload=True,
    ),
    _number(
        "max_subscriptions", "0", "limits.max_subscriptions",
        "Rowcast's own: subscriptions of one client, one with wildcards counted once for each eight levels; one above "
        "it is refused in SUBACK (0x80, or 0x97 in MQTT 5.0) and counted.  0 is no limit.",
        low=0, range_error=_INVALID, reload=True,
    ),
    Option(
        "memory_limit", Level.BROKER, Kind.INTEGER, "0", "Bytes of memory for the whole broker.", low=0,
        range_error=_INVALID, role=Role.WITHOUT_EFFECT,
        note="Set max_queued_bytes and max_queued_messages, and let the system limit the process (MemoryMax, ulimit).",
    ),
    _number(
        "message_size_limit", "0", "limits.message_size_limit_bytes",
        "Bytes of the largest payload; a larger message is acknowledged and dropped.  0 is no limit.",
        low=0, high=268_435_455, range_error=_INVALID, reload=True,
    ),
    _special(
        "persistent_client_expiration", "never",
        "How long the session of a client that is away is kept: a number and `s`, `h`, `d`, `w`, `m` or `y`.",
        field="limits.persistent_client_expiration_s", reload=True,
        note="A month is 30 days, a year 365. Words are taken, too: `14days`.",
    ),
)  # fmt: skip

_PERSISTENCE: tuple[Option, ...] = (
    _number(
        "autosave_interval", "1800", "persistence.autosave_interval_s",
        "Seconds between two saves; 0 saves at exit and on SIGUSR1 only.", low=0, clamp=0, reload=True,
    ),
    _flag(
        "autosave_on_changes", False, "persistence.autosave_on_changes",
        "Count changes instead of seconds in autosave_interval.", reload=True,
    ),
    _flag(
        "persistence", False, "persistence.persistence",
        "Keep sessions, queues and retained messages over a restart; see docs/persistence.md.",
    ),
    _text(
        "persistence_file", "rowcast.db", "persistence.persistence_file",
        "Name of the file that keeps them.", once=True,
        note="It is an SQLite database: one written by Mosquitto is refused, and left as it is.",
    ),
    _text(
        "persistence_location", ".", "persistence.persistence_location",
        "Folder of that file; the variable MOSQUITTO_PERSISTENCE_LOCATION of the environment wins over it.",
        once=True, note="It must exist.",
    ),
    Option(
        "rowcast_acknowledge", Level.BROKER, Kind.WORD, "received",
        "What PUBACK, PUBREC, PUBCOMP and SUBACK say: received, or saved, which is on disk.",
        field="persistence.acknowledge", words=("received", "saved"), reload=True,
        note="An option of Rowcast's own. `saved` takes `persistence true`; see docs/persistence.md.",
    ),
    Option(
        "retained_persistence", Level.BROKER, Kind.BOOLEAN, "false", "The old name of persistence.",
        field="persistence.persistence", alias_of="persistence",
    ),
)  # fmt: skip

_LOGGING: tuple[Option, ...] = (
    _flag(
        "connection_messages", True, "logging.connection_messages",
        "Log clients that connect and disconnect.", reload=True,
    ),
    _special(
        "log_dest", "stderr",
        "Where the log goes; several lines, several places.  `none` forgets those above it.",
        field="logging.log_dest", words=LOG_DESTINATIONS, reload=True,
        note="`file PATH` once only; stdout is never buffered; `dlt` is accepted, without effect.",
    ),
    _number(
        "log_facility", "3 (daemon)", "logging.log_facility", "The syslog facility local0 to local7.",
        low=0, high=7, range_error=_INVALID, reload=True,
    ),
    _flag("log_timestamp", True, "logging.log_timestamp", "Begin each line with the time.", reload=True),
    _text(
        "log_timestamp_format", "seconds since 1970", "logging.log_timestamp_format",
        "That time's form, as strftime(3) takes it.", once=True, reload=True,
    ),
    _special(
        "log_type", "error warning notice information",
        "What is logged; several lines, several types.  `none` forgets those above it.",
        field="logging.log_type", words=LOG_TYPES, reload=True,
    ),
    _idle(
        "websockets_log_level", Kind.INTEGER, "0", "How much libwebsockets logs.",
        "Rowcast has no libwebsockets; `log_type websockets` and `log_type debug` speak of WebSockets.",
    ),
)  # fmt: skip

_PROCESS: tuple[Option, ...] = (
    _special(
        "include_dir", "", "Reads every file of that folder whose name ends in .conf, in order of name.",
        note="In the main file only.  A listener ends with its file.",
    ),
    _special(
        "per_listener_settings", "false",
        "Give each listener its own acl_file, password_file, allow_anonymous and allow_zero_length_clientid.",
        note="It must stand above all of them, and once true it stays true.",
    ),
    _text("pid_file", "", "config.pid_file", "File for the number of the process.", once=True),
    _number(
        "sys_interval", "10", "config.sys_interval_s", "Seconds between two updates of $SYS; 0 for none.",
        low=0, high=65535, range_error=_INVALID, reload=True,
    ),
    _text(
        "user", "", "config.user", "The account to run as, when started as root.", once=False,
        note="Listeners and files are opened before, and the log file is handed over; what SIGHUP reads again that user"
        " must be able to read, and Python and Rowcast should be, too.  Mosquitto started as root changes to"
        " `mosquitto` without being told; Rowcast only when told.",
    ),
    _idle(
        "enable_control_api", Kind.BOOLEAN, "false", "Lists plugins under $CONTROL.",
        "Rowcast has no plugins to list."
    ),
    _idle(
        "retry_interval", Kind.ANYTHING, "", "Gone from Mosquitto too.",
        "Messages are sent again when a client comes back, as MQTT 3.1.1 says.",
    ),
)  # fmt: skip

_BUFFERS: tuple[Option, ...] = (
    _number(
        "packet_buffer_size", "4096", "listeners.websockets_headers_size_bytes",
        "Bytes of the largest head of a WebSocket request.", low=0, high=65535, range_error=_BUFFER,
    ),
    Option(
        "websockets_headers_size", Level.BROKER, Kind.INTEGER, "4096", "The old name of packet_buffer_size.",
        field="listeners.websockets_headers_size_bytes", low=0, high=65535, range_error=_BUFFER,
        alias_of="packet_buffer_size",
    ),
    Option(
        "clientid_prefixes", Level.BROKER, Kind.TEXT, "", "Only clients whose id begins so may connect.",
        field="security.clientid_prefixes", reload=True,
    ),
)  # fmt: skip

LISTED: tuple[Option, ...] = (*_DELIVERY, *_LIMITS, *_PERSISTENCE, *_LOGGING, *_PROCESS, *_BUFFERS)
