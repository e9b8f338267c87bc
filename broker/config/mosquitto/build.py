"""Makes a `Config` of what `reader` has found, and checks what can be said only of the whole.

Which options are about which class is written in the table: `limits.max_queued_messages` is a field of `Limits`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import evolve

from broker.config.arguments import PORT_DEFAULT, Arguments
from broker.config.model import (
    Config,
    Delivery,
    Limits,
    Listener,
    Logging,
    Persistence,
    Security,
    Tls,
)
from broker.config.mosquitto.reader import Reader, Scope
from broker.config.mosquitto.refused import check_bridges
from broker.config.mosquitto.values import Wrong
from broker.config.overrides import logging_as_typed
from broker.config.tokens import TokenConfig


def build(reader: Reader, arguments: Arguments, location: str | None) -> Config:
    """The configuration.  `location` is the environment's folder for persistence, which wins over the file's.

    Mistakes found here are added to the reader's; the result is of no use if there are any.
    """
    check_bridges(reader)
    for scope in reader.listeners:
        _check_tls(reader, scope)
        _check_proxy(reader, scope)
    own = _fields(reader.broker, "config")
    pid_file = own.pop("pid_file", None)
    return Config(
        listeners=_listeners(reader, arguments),
        limits=_limits(reader),
        delivery=Delivery(**_fields(reader.broker, "delivery")),
        persistence=_persistence(reader, location),
        logging=_logging(reader, arguments),
        per_listener_settings=reader.per_listener_settings,
        pid_file=Path(pid_file) if pid_file else None,
        source=arguments.config_file,
        warnings=tuple(reader.warnings),
        places={
            **reader.places,
            **{("listener", str(number)): scope.place for number, scope in enumerate(reader.listeners)},
        },
        **own,
    )


def _fields(scope: Scope, of: str) -> dict[str, Any]:
    """The values of one class, by field."""
    return {
        name.partition(".")[2]: value for name, value in scope.values.items() if name.startswith(of + ".")
    }


def _limits(reader: Reader) -> Limits:
    """As in Mosquitto, what the file says of queues holds for QoS 0 messages to a client that is slow, too."""
    values = _fields(reader.broker, "limits")
    limits = Limits(**values)
    return evolve(
        limits,
        outbox_bytes_max=values.get("max_queued_bytes") or limits.outbox_bytes_max,
        outbox_messages_max=0 if limits.max_queued_bytes else values.get("max_queued_messages", 0),
    )


def _persistence(reader: Reader, location: str | None) -> Persistence:
    values = _fields(reader.broker, "persistence")
    folder = location or values.pop("persistence_location", None) or "."
    values["persistence_location"] = Path(folder)
    persistence = Persistence(**values)
    if persistence.acknowledge == "saved" and not persistence.persistence:
        reader.mistake(
            Wrong("rowcast_acknowledge saved without persistence.", "Add `persistence true`, or delete it."),
            "rowcast_acknowledge saved",
        )
    return persistence


def _logging(reader: Reader, arguments: Arguments) -> Logging:
    logging = Logging(**_fields(reader.broker, "logging"))
    if not logging.log_dest:
        logging = evolve(logging, log_dest=("none",))
    return logging_as_typed(logging, arguments)


def _listeners(reader: Reader, arguments: Arguments) -> tuple[Listener, ...]:
    """Those of the file; without one, loopback on the ports of the command line, open to anonymous clients."""
    shared = _fields(reader.broker, "listeners")
    if not reader.local_only:
        return tuple(_listener(reader, scope, shared, arguments) for scope in reader.listeners)
    if reader.default_listener is not None:
        reader.warn(
            f"Options for a listener have no effect, since none is defined. Found at {reader.default_listener.place}."
            " Put `listener PORT` above them."
        )
    security = _security(reader, Scope())
    if "security.allow_anonymous" not in reader.broker:
        security = evolve(security, allow_anonymous=True)
    ports = arguments.ports or (PORT_DEFAULT,)
    return tuple(Listener(port, security=security, local_only=True, **shared) for port in ports)


def _listener(reader: Reader, scope: Scope, shared: dict[str, Any], arguments: Arguments) -> Listener:
    values = _fields(scope, "listener")
    values.pop("allow_anonymous", None)
    values.pop("auto_id_prefix", None)
    listener = Listener(
        security=_security(reader, scope), tls=_tls(scope, arguments.tls_keylog), **{**shared, **values}
    )
    if listener.enable_proxy_protocol == 2:
        return evolve(
            listener,
            proxy_v2_require_certificate=bool(scope.values.get("tls.require_certificate")),
            proxy_v2_use_identity_as_username=bool(scope.values.get("tls.use_identity_as_username")),
        )
    return listener


def _security(reader: Reader, scope: Scope) -> Security:
    """The broker's, or the listener's own with per_listener_settings; `listener_…` options win over both."""
    values = _fields(scope if reader.per_listener_settings else reader.broker, "security")
    if "security.clientid_prefixes" in reader.broker:
        values["clientid_prefixes"] = reader.broker.values["security.clientid_prefixes"]
    for field in ("allow_anonymous", "auto_id_prefix"):
        if f"listener.{field}" in scope:
            values[field] = scope.values[f"listener.{field}"]
    for field in ("password_file", "acl_file", "rowcast_token_secret_file"):
        if field in values:
            values[field] = Path(values[field])
    return _with_tokens(Security(**values))


def _with_tokens(security: Security) -> Security:
    """Clients may show tokens if an option of ours says who signs them."""
    file, jwks = security.rowcast_token_secret_file, security.rowcast_token_jwks
    if file is None and not jwks:
        return security
    is_address = jwks.startswith(("https://", "http://"))
    config = TokenConfig(
        secret_files=() if file is None else (file,),
        jwks_url=jwks if is_address else "",
        jwks_file=Path(jwks) if jwks and not is_address else None,
    )
    return evolve(security, tokens=True, token_config=config)


def _tls(scope: Scope, keylog: Path | None) -> Tls | None:
    values = _fields(scope, "tls")
    if not ("certfile" in values and "keyfile" in values):
        return None
    for field in ("certfile", "keyfile", "cafile", "capath", "crlfile"):
        if field in values:
            values[field] = Path(values[field])
    return Tls(keylog_file=keylog, **values)


def _check_tls(reader: Reader, scope: Scope) -> None:
    certfile, keyfile = "tls.certfile" in scope, "tls.keyfile" in scope
    cure = "Give the listener certfile and keyfile."
    if certfile != keyfile:
        text = "Both certfile and keyfile must be provided to enable a TLS listener."
        missing = "keyfile" if certfile else "certfile"
        reader.mistake(Wrong(text, f"Add `{missing} FILE` to this listener."), scope.place)
        return
    for option in ("cafile", "capath"):
        if f"tls.{option}" in scope and not certfile:
            reader.mistake(Wrong(f"{option} specified without certfile and keyfile.", cure), scope.place)
    if not certfile:
        return
    required = scope.values.get("tls.require_certificate") is True
    if required and "tls.cafile" not in scope and "tls.capath" not in scope:
        reader.warn(
            "'require_certificate' without cafile or capath refuses every client."
            f" Found at {scope.place}. Add `cafile FILE` to this listener."
        )
    for option in ("use_identity_as_username", "use_subject_as_username"):
        if scope.values.get(f"tls.{option}") is True and not required:
            reader.warn(
                f"'{option}' without 'require_certificate true' refuses every client."
                f" Found at {scope.place}. Add `require_certificate true` to this listener."
            )


def _check_proxy(reader: Reader, scope: Scope) -> None:
    if scope.values.get("listener.enable_proxy_protocol") != 2:
        return
    if scope.values.get("tls.use_subject_as_username") is True:
        text = "use_subject_as_username cannot be used with `enable_proxy_protocol 2`."
        reader.mistake(Wrong(text, "Write `use_identity_as_username true` instead."), scope.place)
    if "tls.certfile" in scope or "tls.keyfile" in scope:
        text = "certfile and keyfile cannot be used with `enable_proxy_protocol 2`."
        reader.mistake(Wrong(text, "Delete both: the proxy ends TLS."), scope.place)
