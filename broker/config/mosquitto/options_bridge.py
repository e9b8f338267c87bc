"""The table of mosquitto.conf's words, third part: bridges and plugins, refused by name.  See `options`.

They are refused once, where the bridge or plugin is opened; the words below that are checked as Mosquitto
checks them, so that their mistakes are told in the same words.
"""

from __future__ import annotations

from broker.config.mosquitto.option import Kind, Level, Option, Role

BRIDGES = (
    "Rowcast has no bridges.  Run a client beside it that subscribes on one side and publishes on the other,"
    " and delete this block."
)
PLUGINS = (
    "Rowcast loads no plugins.  Use password_file and acl_file, or tokens (rowcast_token_secret_file),"
    " and delete the plugin's lines."
)
PLUGIN_CURES = {
    "dynamic_security": (
        "Dynamic security is not supported: write its clients to password_file and its roles to acl_file."
    ),
    "password_file": "Rowcast reads password files by itself: write `password_file FILE` instead.",
    "acl_file": "Rowcast reads ACL files by itself: write `acl_file FILE` instead.",
    "persist_sqlite": "Rowcast keeps its state in SQLite by itself: write `persistence true` instead.",
}
"""What to do instead of a well-known plugin, by a part of its file name."""


def _in_block(
    name: str,
    kind: Kind,
    meaning: str,
    *,
    default: str = "",
    title: str = "",
    once: bool = False,
    alias_of: str = "",
    words: tuple[str, ...] = (),
    low: int | None = None,
    high: int | None = None,
    range_error: str = "",
) -> Option:
    return Option(
        name, Level.BRIDGE, kind, default, meaning, role=Role.REFUSED, note=BRIDGES, title=title, once=once,
        alias_of=alias_of, words=words, low=low, high=high, range_error=range_error,
    )  # fmt: skip


def _flag(name: str, default: bool, meaning: str) -> Option:
    return _in_block(name, Kind.BOOLEAN, meaning, default=str(default).lower())


def _text(name: str, meaning: str, *, title: str = "", once: bool = True, alias_of: str = "") -> Option:
    return _in_block(name, Kind.TEXT, meaning, title=title, once=once, alias_of=alias_of)


def _number(
    name: str,
    default: str,
    meaning: str,
    *,
    low: int | None = None,
    high: int | None = None,
    range_error: str = "",
) -> Option:
    return _in_block(
        name, Kind.INTEGER, meaning, default=default, low=low, high=high, range_error=range_error
    )


_CONNECTION: tuple[Option, ...] = (
    Option(
        "connection", Level.BROKER, Kind.SPECIAL, "", "Opens a bridge to another broker.",
        role=Role.REFUSED, note=BRIDGES,
    ),
    _in_block("address", Kind.SPECIAL, "The other broker."),
    _in_block("addresses", Kind.SPECIAL, "The other brokers.", alias_of="address"),
    _in_block("topic", Kind.SPECIAL, "What is bridged, in which direction, with which QoS and prefixes."),
    _text("remote_username", "User name there.", title="bridge remote_username"),
    _text(
        "username", "The old name of remote_username.", title="bridge remote_username",
        alias_of="remote_username",
    ),
    _text("remote_password", "Password there.", title="bridge remote_password"),
    _text(
        "password", "The old name of remote_password.", title="bridge remote_password",
        alias_of="remote_password",
    ),
    _text("remote_clientid", "Client id there.", title="bridge remote clientid"),
    _text(
        "clientid", "The old name of remote_clientid.", title="bridge remote clientid",
        alias_of="remote_clientid",
    ),
    _text("local_clientid", "Client id here.", title="bridge local clientid"),
    _text("local_username", "User name here.", title="bridge local_username"),
    _text("local_password", "Password here.", title="bridge local_password"),
    _flag("cleansession", False, "Forget the session there when the bridge ends."),
    _flag("local_cleansession", False, "Forget the session here when the bridge ends."),
    _number(
        "keepalive_interval", "60", "Keep alive in seconds.", high=65535,
        range_error="Bridge keepalive value too high."
    ),
    _number("idle_timeout", "60", "Seconds without messages after which a lazy bridge closes."),
    _in_block("restart_timeout", Kind.SPECIAL, "Seconds until the next attempt.", default="5 30"),
    _in_block(
        "start_type", Kind.WORD, "When the bridge opens.", default="automatic", words=("automatic", "lazy",
        "once"),
        range_error="Invalid 'start_type' value in configuration ({value}).",
    ),
    _number("threshold", "10", "Messages that open a lazy bridge."),
    _flag("round_robin", False, "Take the addresses in turn."),
    _flag("try_private", True, "Say in CONNECT that this is a bridge."),
    _flag("notifications", True, "Publish the bridge's state."),
    _flag("notifications_local_only", False, "Publish it here only."),
    _text("notification_topic", "Where its state is published."),
)  # fmt: skip

_BRIDGE: tuple[Option, ...] = (
    _text("bridge_alpn", "ALPN name for TLS."),
    _flag("bridge_attempt_unsubscribe", True, "Unsubscribe from topics that only go out."),
    _text("bridge_bind_address", "Address to connect from."),
    _text("bridge_cafile", "Authorities for the other broker's certificate."),
    _text("bridge_capath", "Folder of such authorities."),
    _text("bridge_certfile", "The bridge's certificate."),
    _text("bridge_ciphers", "Cipher suites."),
    _text("bridge_ciphers_tls1.3", "Cipher suites of TLS 1.3."),
    _text("bridge_identity", "Identity of the pre-shared key."),
    _flag("bridge_insecure", False, "Do not check the other broker's host name."),
    _text("bridge_keyfile", "The certificate's key.", once=False),
    _number("bridge_max_packet_size", "0", "Bytes of the largest packet."),
    _number(
        "bridge_max_topic_alias", "10", "Topic aliases.", low=0, high=65535,
        range_error="bridge_max_topic_alias must be > 0 and <= 65535.",
    ),
    _flag("bridge_outgoing_retain", True, "Send retained messages as retained."),
    _in_block(
        "bridge_protocol_version", Kind.WORD, "The protocol.", default="mqttv311",
        words=("mqttv31", "mqttv311", "mqttv50"),
    ),
    _text("bridge_psk", "Pre-shared key."),
    _number(
        "bridge_receive_maximum", "0", "Messages in flight.", low=1, high=65535,
        range_error="bridge_receive_maximum must be between 1 and 65535.",
    ),
    _in_block(
        "bridge_reload_type", Kind.WORD, "What SIGHUP does to the bridge.", default="lazy", words=("lazy",
        "immediate"),
        range_error="Invalid 'bridge_reload_type' value in configuration ({value}).",
    ),
    _flag("bridge_require_ocsp", False, "Ask for an OCSP answer."),
    _number(
        "bridge_session_expiry_interval", "0", "Seconds.", low=0,
        range_error="bridge_session_expiry_interval must not be negative.",
    ),
    _in_block("bridge_tcp_keepalive", Kind.SPECIAL, "Idle seconds, interval and count of TCP keep alive."),
    _number("bridge_tcp_keepalive_counter", "0", "Part of bridge_tcp_keepalive."),
    _number("bridge_tcp_keepalive_idle", "0", "Part of bridge_tcp_keepalive."),
    _number("bridge_tcp_keepalive_interval", "0", "Part of bridge_tcp_keepalive."),
    _number(
        "bridge_tcp_user_timeout", "-1", "Milliseconds.", low=0, range_error="invalid TCP user timeout value."
    ),
    _flag("bridge_tls_use_os_certs", False, "Trust what the system trusts."),
    _text("bridge_tls_version", "The TLS version."),
)  # fmt: skip


def _plugin(name: str, level: Level, meaning: str, kind: Kind = Kind.SPECIAL) -> Option:
    return Option(name, level, kind, "", meaning, role=Role.REFUSED, note=PLUGINS)


_PLUGINS: tuple[Option, ...] = (
    _plugin("auth_plugin", Level.SECURITY, "The old name of plugin."),
    _plugin("plugin", Level.SECURITY, "Loads a plugin."),
    _plugin("global_plugin", Level.BROKER, "Loads a plugin for all listeners."),
    _plugin("plugin_load", Level.BROKER, "Loads a plugin under a name."),
    _plugin("plugin_use", Level.NAMED_LISTENER, "Uses a loaded plugin on this listener."),
    _plugin("auth_opt_*", Level.PLUGIN, "The old name of plugin_opt_*."),
    _plugin("plugin_opt_*", Level.PLUGIN, "An option for the plugin above."),
    _plugin(
        "auth_plugin_deny_special_chars", Level.PLUGIN, "Refuse user names with + or # before asking.",
        Kind.BOOLEAN
    ),
)  # fmt: skip

LISTED: tuple[Option, ...] = (*_CONNECTION, *_BRIDGE, *_PLUGINS)
