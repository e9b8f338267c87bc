"""What SIGHUP changes: the options that the table marks as read again, routes and feeds, dialects, HTTP ports.

All of it or none.  As in Mosquitto: listeners stay open where they are; what they ask of clients may change, their
address may not.  What only a restart can change is a mistake if programs rely on it, and else a warning.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, fields

from broker.config.dialects.gateway import DIALECT_KINDS, GatewayConfig
from broker.config.model import Config, ConfigError, Listener, Tls
from broker.config.mosquitto.options import OPTIONS

if TYPE_CHECKING:
    from broker.config.cluster import ClusterConfig
    from broker.config.market import MarketConfig

_Key = tuple[int, str | None, str | None, int]
"""Port, address, path, and how many with the same stand above: two may ask the kernel for a port."""


def reloaded(old: Config, new: Config) -> Config:
    """The configuration to go on with.

    Args:
        old: what is in force.
        new: the file, read again.

    Raises:
        ConfigError: with what can't be taken over; `old` is to stay in force as a whole.
    """
    listeners = _listeners(old, new)
    mistakes = _gateway(old.gateway, new.gateway) + _other_dialects(old, new)
    mistakes += _feeds(old, new) + _market_mistakes(old, new)
    if mistakes:
        raise ConfigError(*mistakes)
    taken = evolve(
        old,
        listeners=listeners,
        gateway=new.gateway,
        feeds=new.feeds,
        market=_taken_market(old, new),
        cluster=_taken_cluster(old, new),
        **{name: getattr(new, name) for name in _TAKEN_WHOLE},
        limits=evolve(old.limits, **_read_again(new.limits, "limits")),
        delivery=evolve(old.delivery, **_read_again(new.delivery, "delivery")),
        persistence=evolve(old.persistence, **_read_again(new.persistence, "persistence")),
        logging=evolve(old.logging, **_read_again(new.logging, "logging")),
        **_read_again(new, "config"),
    )
    return evolve(taken, places=new.places, warnings=(*new.warnings, *_staying(taken, new)))


_TAKEN_WHOLE = ("admin", "metrics", "ingest", "health", "drain_s", "drain_to", "shutdown_grace_s")


_WAYS_TO_NATS = ("nats", "credentials", "user", "password", "token", "ca_file", "cert_file", "key_file")
"""Of [cluster]: used at the next connection, so that a password may be changed while nodes run."""


def _taken_cluster(old: Config, new: Config) -> ClusterConfig | None:
    before, wanted = old.cluster, new.cluster
    if before is None or wanted is None:
        return before
    return evolve(before, **{name: getattr(wanted, name) for name in _WAYS_TO_NATS})


def _has_market(old: Config, new: Config) -> bool:
    """Where neither has [market], what reads it was not loaded at the start, and need not be now."""
    return old.market is not None or new.market is not None


def _market_mistakes(old: Config, new: Config) -> list[str]:
    if not _has_market(old, new):
        return []
    from broker.config.reload_market import market_mistakes

    return market_mistakes(old.market, new.market)


def _taken_market(old: Config, new: Config) -> MarketConfig | None:
    if not _has_market(old, new):
        return None
    from broker.config.reload_market import taken_market

    return taken_market(old.market, new.market)


def _feeds(old: Config, new: Config) -> list[str]:
    """What of the feeds takes a restart."""
    if [feed.name for feed in old.feeds] != [feed.name for feed in new.feeds]:
        names = ", ".join(feed.name for feed in new.feeds) or "none"
        return [f"[database]: another feed than before ({names}) takes a restart."]
    mistakes = []
    for before, wanted in zip(old.feeds, new.feeds, strict=True):
        if before.kind != wanted.kind:
            mistakes.append(f"[database] kind stays '{before.kind}'; another takes a restart.")
        elif not before.keeps_place:
            changed = before.adopting(wanted)
            mistakes += [
                f"[database] {_FEED_WORDS.get(field.name, field.name)} takes a restart while the kind is listen:"
                " rows notified in between would be lost."
                for field in fields(type(before))
                if getattr(changed, field.name) != getattr(wanted, field.name)
            ]
    return mistakes


_FEED_WORDS = {
    "sources": "another [source]",
    "recoveries": "another [[recover]]",
    "fetches": "another [[fetch]]",
    "dsn": "another dsn",
    "replication": "another [database.replication]",
}


def _staying(taken: Config, new: Config) -> list[str]:
    """What was written anew and only a restart changes."""
    if new.source is None or new.source.suffix != ".toml":
        return []  # as mosquitto, which says nothing of them
    compared = {field.name for field in fields(Config)} - {"warnings", "source", "places", "market"}
    changed = [
        field.name
        for field in fields(Config)
        if field.name in compared and getattr(taken, field.name) != getattr(new, field.name)
    ]
    if _dsn_of(taken.market) != _dsn_of(new.market):
        changed.append("market")
    return [
        f"{_WORDS.get(name, name)} was changed; that takes a restart, and stays as it was."
        for name in changed
    ]


_WORDS = {
    "cluster": "[cluster]",
    "history": "[[history]]",
    "market": "another [database] for [market]",
    "persistence": "[persistence]",
    "limits": "[limits]",
}
"""How a file says it."""


def _dsn_of(market: MarketConfig | None) -> str:
    return "" if market is None or market.database is None else market.database.dsn


def _read_again(values: object, owner: str) -> dict[str, Any]:
    names = {
        option.field.partition(".")[2]
        for option in OPTIONS.values()
        if option.reload and option.field.startswith(owner + ".")
    }
    return {name: getattr(values, name) for name in names if hasattr(values, name)}


def _listeners(old: Config, new: Config) -> tuple[Listener, ...]:
    open_now = _by_key(old.listeners)
    wanted = _by_key(new.listeners)
    if set(open_now) != set(wanted):
        source = new.source or Path("the configuration")
        raise ConfigError(
            "Error: It is not currently possible to add/remove listeners when reloading the config file."
            f" Found at {source}. Restart to open {_names(set(wanted) - set(open_now))}"
            f" and close {_names(set(open_now) - set(wanted))}."
        )
    return tuple(_listener(listener, wanted[key]) for key, listener in open_now.items())


_STAYING = ("path", "publish_prefix")
"""Addresses of dialects: clients know them, and other programs do."""


def _gateway(old: GatewayConfig, new: GatewayConfig) -> list[str]:
    """What of the dialects takes a restart."""
    mistakes: list[str] = []
    for name in DIALECT_KINDS:
        before, wanted = getattr(old, name), getattr(new, name)
        if before is None or wanted is None:
            if before is not wanted:
                done = "removed" if wanted is None else "added"
                mistakes.append(f"[websocket.{name}] was {done}; that takes a restart.")
            continue
        for key in _STAYING:
            kept = getattr(before, key, None)
            if kept != getattr(wanted, key, None):
                mistakes.append(f"[websocket.{name}] {key} stays '{kept}'; another takes a restart.")
    return mistakes


def _other_dialects(old: Config, new: Config) -> list[str]:
    wanted = _by_key(new.listeners)
    return [
        f"The dialects on {_names({key})} stay {', '.join(listener.dialects)}: others take a restart."
        for key, listener in _by_key(old.listeners).items()
        if listener.dialects != wanted[key].dialects
    ]


def _by_key(listeners: tuple[Listener, ...]) -> dict[_Key, Listener]:
    found: dict[_Key, Listener] = {}
    for listener in listeners:
        key = (listener.port, listener.host, listener.unix_path, 0)
        while key in found:
            key = (*key[:3], key[3] + 1)
        found[key] = listener
    return found


def _names(keys: set[_Key]) -> str:
    shown = (path or (f"port {port} on {host}" if host else f"port {port}") for port, host, path, _ in keys)
    return ", ".join(sorted(shown)) or "none"


def _listener(old: Listener, new: Listener) -> Listener:
    return evolve(old, security=new.security, tls=_tls(old.tls, new.tls), **_read_again(new, "listener"))


def _tls(old: Tls | None, new: Tls | None) -> Tls | None:
    """Certificates and what is asked of clients are read again; whether there is TLS at all is not."""
    if old is None or new is None:
        return old
    return evolve(old, keyfile_password=new.keyfile_password, **_read_again(new, "tls"))
