"""The table of mosquitto.conf's words, second part: listeners, who may connect, TLS.  See `options`."""

from __future__ import annotations

from broker.config.mosquitto.option import Kind, Level, Option, Role

_PSK = (
    "TLS with pre-shared keys is not supported.  Give the listener certfile and keyfile, clients a password."
)
_ENGINE = "OpenSSL engines cannot be reached from here.  Give keyfile a PEM file."


def _security(name: str, kind: Kind, default: str, meaning: str) -> Option:
    return Option(name, Level.SECURITY, kind, default, meaning, field=f"security.{name}", reload=True)


def _tls_text(name: str, meaning: str) -> Option:
    return Option(name, Level.LISTENER_OR_DEFAULT, Kind.TEXT, "", meaning, field=f"tls.{name}", reload=True)


def _tls_flag(name: str, meaning: str, *, level: Level = Level.LISTENER_OR_DEFAULT) -> Option:
    return Option(name, level, Kind.BOOLEAN, "false", meaning, field=f"tls.{name}", reload=True)


def _refused(name: str, level: Level, kind: Kind, meaning: str, note: str) -> Option:
    return Option(name, level, kind, "", meaning, role=Role.REFUSED, note=note)


_SECURITY: tuple[Option, ...] = (
    _security(
        "acl_file", Kind.TEXT, "",
        "File that says who may read or write which topic; without it, everybody everything."
    ),
    _security(
        "acl_patterns_allow_slash", Kind.BOOLEAN, "false",
        "Rowcast's own: whether `pattern` lines hold for names with a `/` in them, as in Mosquitto 2.0; not in 2.1.",
    ),
    _security(
        "allow_anonymous", Kind.BOOLEAN, "false; true in local only mode",
        "Whether a client without a user name may connect.",
    ),
    _security(
        "allow_zero_length_clientid", Kind.BOOLEAN, "true",
        "Whether a client with an empty id may connect, and is given one.",
    ),
    Option(
        "auto_id_prefix", Level.SECURITY, Kind.TEXT, "auto-", "How an id that the broker gives begins.",
        field="security.auto_id_prefix", high=50, range_error="auto_id_prefix length must be <= 50.",
        once=True,
        reload=True,
    ),
    _security(
        "password_file", Kind.TEXT, "",
        "File of user names and hashed passwords, as `rowcast passwd` writes it.",
    ),
    _security(
        "rowcast_token_secret_file", Kind.TEXT, "",
        "Rowcast's own: clients may show a token (JWT) as password; a file with a secret for HS256 in each line.",
    ),
    _security(
        "rowcast_token_jwks", Kind.TEXT, "",
        "Rowcast's own: the same, for public keys: the path or the https address of a JWKS.",
    ),
    Option(
        "psk_file", Level.SECURITY, Kind.TEXT, "", "File of identities and pre-shared keys.",
        role=Role.REFUSED, note=_PSK,
    ),
    Option(
        "listener_allow_anonymous", Level.LISTENER, Kind.BOOLEAN, "as allow_anonymous",
        "allow_anonymous for this listener alone; it wins over the broker's.",
        field="listener.allow_anonymous", reload=True,
    ),
    Option(
        "listener_auto_id_prefix", Level.LISTENER, Kind.TEXT, "as auto_id_prefix",
        "auto_id_prefix for this listener alone.", field="listener.auto_id_prefix", high=50,
        range_error="'listener_auto_id_prefix' length must be <= 50.", once=True, reload=True,
    ),
)  # fmt: skip

_LISTENER: tuple[Option, ...] = (
    Option(
        "listener", Level.BROKER, Kind.SPECIAL, "",
        "Opens a listener: `listener PORT [ADDRESS]` or `listener 0 PATH`.",
        note="What follows is about it.  SIGHUP can neither add nor remove one.",
    ),
    Option(
        "port", Level.BROKER, Kind.INTEGER, "1883", "The default listener's port.", field="listener.port",
        low=1, high=65535, range_error="Invalid 'port' value ({value}).",
        note="Old; `listener PORT` says it better.",
    ),
    Option(
        "bind_address", Level.BROKER, Kind.TEXT, "every address", "The default listener's address.",
        field="listener.host", title="default listener bind_address", once=True,
        note="Old; `listener PORT ADDRESS` says it better.",
    ),
    Option(
        "bind_interface", Level.LISTENER_OR_DEFAULT, Kind.TEXT, "every interface",
        "The network interface whose addresses the listener takes.", field="listener.bind_interface",
        once=True,
    ),
    Option(
        "socket_domain", Level.LISTENER_OR_DEFAULT, Kind.WORD, "both", "Listen on IPv4 or on IPv6 only.",
        field="listener.socket_domain", words=("ipv4", "ipv6"),
        range_error="Invalid 'socket_domain' value '{value}' in configuration.",
    ),
    Option(
        "protocol", Level.LISTENER_OR_DEFAULT, Kind.SPECIAL, "mqtt", "What the listener speaks.",
        field="listener.protocol", words=("mqtt", "websockets"),
        note="`http_api` is refused: Rowcast has an HTTP endpoint of its own, which a .toml configuration opens.",
    ),
    Option(
        "accept_protocol_versions", Level.NAMED_LISTENER, Kind.SPECIAL, "3, 4, 5",
        "Protocol levels that may connect, with commas: 3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0.",
        field="listener.accept_protocol_versions", reload=True,
    ),
    Option(
        "max_connections", Level.LISTENER_OR_DEFAULT, Kind.INTEGER, "-1",
        "Connections to this listener; -1 is no limit.",
        field="listener.max_connections", low=0, clamp=-1, reload=True,
    ),
    Option(
        "max_qos", Level.LISTENER_OR_DEFAULT, Kind.INTEGER, "2",
        "The highest QoS that may be published here.",
        field="listener.max_qos", low=0, high=2, range_error="'max_qos' must be between 0 and 2 inclusive.",
        reload=True,
    ),
    Option(
        "maximum_qos", Level.LISTENER_OR_DEFAULT, Kind.INTEGER, "2", "The old name of max_qos.",
        field="listener.max_qos",
        low=0, high=2, range_error="'max_qos' must be between 0 and 2 inclusive.", alias_of="max_qos",
        reload=True,
    ),
    Option(
        "mount_point", Level.LISTENER, Kind.SPECIAL, "",
        "Put in front of every topic of this listener's clients.",
        field="listener.mount_point", reload=True,
    ),
    Option(
        "use_username_as_clientid", Level.LISTENER_OR_DEFAULT, Kind.BOOLEAN, "false",
        "Take the user name for the client id.", field="listener.use_username_as_clientid", reload=True,
    ),
    Option(
        "enable_proxy_protocol", Level.LISTENER, Kind.INTEGER, "none",
        "The PROXY header, version 1 or 2, that must come first.",
        field="listener.enable_proxy_protocol", low=1, high=2,
        range_error="enable_proxy_protocol must be 1 or 2.",
    ),
    Option(
        "proxy_protocol_v2_require_tls", Level.LISTENER, Kind.BOOLEAN, "false",
        "Refuse connections that did not reach the proxy over TLS.",
        field="listener.proxy_protocol_v2_require_tls",
    ),
    Option(
        "websockets_origin", Level.LISTENER, Kind.TEXT, "any",
        "An Origin that browsers may come from; several lines, several.",
        field="listener.websockets_origins", reload=True,
    ),
    Option(
        "http_dir", Level.LISTENER, Kind.TEXT, "", "Folder of files to serve over HTTP.",
        role=Role.WITHOUT_EFFECT,
        note="Rowcast serves no files; let the web server do it.", once=True,
    ),
    Option(
        "http_api", Level.LISTENER, Kind.ANYTHING, "", "Mosquitto's HTTP API.", role=Role.REFUSED,
        note="Rowcast has an HTTP endpoint of its own, which a .toml configuration opens.  Delete the line.",
    ),
    Option(
        "max_topic_alias", Level.LISTENER, Kind.INTEGER, "10", "Topic aliases that a client may use.",
        field="listener.max_topic_alias", low=0, high=65535,
        range_error="Invalid 'max_topic_alias' value in configuration.",
    ),
    Option(
        "max_topic_alias_broker", Level.LISTENER, Kind.INTEGER, "10",
        "Topic aliases that the broker uses towards a client that takes some.",
        field="listener.max_topic_alias_broker", low=0, high=65535,
        range_error="Invalid 'max_topic_alias_broker' value in configuration.",
    ),
)  # fmt: skip

_TLS: tuple[Option, ...] = (
    Option(
        "cafile", Level.LISTENER, Kind.TEXT, "",
        "PEM file of the authorities that sign clients' certificates.",
        field="tls.cafile", reload=True,
    ),
    _tls_text("capath", "Folder of such files, as `openssl rehash` arranges it."),
    _tls_text(
        "certfile", "The listener's certificate, with the chain, as PEM; with keyfile it switches TLS on.",
    ),
    _tls_text("keyfile", "That certificate's key, as PEM without a password."),
    _tls_text("crlfile", "PEM file of revoked certificates."),
    _tls_text("ciphers", "Cipher suites of TLS 1.2, as OpenSSL names them."),
    Option(
        "ciphers_tls1.3", Level.LISTENER_OR_DEFAULT, Kind.TEXT, "", "Cipher suites of TLS 1.3.",
        field="tls.ciphers_tls13", reload=True,
        note="Python before 3.15 cannot choose among them: names are checked, OpenSSL's own suites are used.",
    ),
    Option(
        "tls_version", Level.LISTENER, Kind.TEXT, "tlsv1.2", "The oldest TLS: tlsv1.2 or tlsv1.3.",
        field="tls.tls_version", once=True,
        note="As in Mosquitto an unknown one stops the start with exit status 1.",
    ),
    _tls_flag("require_certificate", "Clients must show a certificate that cafile or capath vouches for."),
    _tls_flag(
        "use_identity_as_username", "The certificate's common name is the user name; no password is asked.",
    ),
    _tls_flag(
        "use_subject_as_username", "The certificate's whole subject is the user name; no password is asked.",
    ),
    _tls_flag(
        "disable_client_cert_date_checks", "Take clients' certificates that are expired or not yet valid.",
        level=Level.LISTENER,
    ),
    Option(
        "dhparamfile", Level.BROKER, Kind.ANYTHING, "", "Diffie-Hellman parameters.",
        role=Role.WITHOUT_EFFECT,
        note="The group ffdhe2048 is used where `ciphers` asks for DHE; Mosquitto 2.1 ignores the file too.",
    ),
    _refused("psk_hint", Level.LISTENER_OR_DEFAULT, Kind.TEXT, "Switches pre-shared keys on.", _PSK),
    _refused(
        "tls_engine", Level.LISTENER_OR_DEFAULT, Kind.TEXT, "An OpenSSL engine that holds the key.", _ENGINE,
    ),
    _refused(
        "tls_engine_kpass_sha1", Level.LISTENER_OR_DEFAULT, Kind.TEXT, "That engine's password.", _ENGINE,
    ),
    Option(
        "tls_keyform", Level.LISTENER_OR_DEFAULT, Kind.SPECIAL, "pem", "The form of keyfile.",
        role=Role.WITHOUT_EFFECT, words=("pem",),
        note="`pem` is the only form; `engine` is refused.  " + _ENGINE,
    ),
)  # fmt: skip

LISTED: tuple[Option, ...] = (*_SECURITY, *_LISTENER, *_TLS)
