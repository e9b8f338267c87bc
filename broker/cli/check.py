"""`rowcast check`: what a configuration would fail at, or would never do, beside what is wrong in its text."""

from __future__ import annotations

import os
from collections.abc import Iterator

from attrs import evolve

from broker.config.model import Config, Listener
from broker.process.system import refusals


def mistakes_beyond_text(config: Config) -> list[str]:
    """Each once, in words with a cure: files, ports, folders, and doors that nobody can pass."""
    found: dict[str, None] = {}
    found.update(dict.fromkeys(refusals(config)))
    found.update(dict.fromkeys(file_mistakes(config)))
    found.update(dict.fromkeys(_port_mistakes(config)))
    found.update(dict.fromkeys(_folder_mistakes(config)))
    found.update(dict.fromkeys(_closed_doors(config)))
    return list(found)


def file_mistakes(config: Config) -> Iterator[str]:
    """Password, ACL and certificate files."""
    from broker.gateway.authentication import RulesError, load_rules
    from broker.links.listening.tls import TlsError, server_context

    try:
        load_rules(listener.security for listener in config.listeners)
    except RulesError as error:
        yield from error.mistakes
    for listener in config.listeners:
        if listener.tls is not None:
            try:
                server_context(evolve(listener.tls, keylog_file=None))  # which would be made
            except TlsError as error:
                yield str(error)


def _port_mistakes(config: Config) -> Iterator[str]:
    taken: list[tuple[str, str | None, int]] = []
    for listener in config.listeners:
        if listener.unix_path is None:
            taken.append((name_of(listener), listener.host, listener.port))
    for name, http in (("[admin]", config.admin), ("[metrics]", config.metrics)):
        if http is not None:
            taken.append((name, http.host, http.port))
    for number, (name, host, port) in enumerate(taken):
        for other, other_host, other_port in taken[:number]:
            if port and port == other_port and overlap(host, other_host):
                yield f"Error: {name} wants port {port}, which {other} has already. Choose another port."


def overlap(one: str | None, other: str | None) -> bool:
    """Whether two addresses to listen on can't have the same port."""
    everywhere = (None, "", "0.0.0.0", "::")
    return one in everywhere or other in everywhere or one == other


def _folder_mistakes(config: Config) -> Iterator[str]:
    settings = config.persistence
    if settings.persistence and not os.path.isdir(settings.persistence_location):
        yield (
            f"Error: persistence_location {settings.persistence_location} is no folder, so nothing could be saved."
            " Make it, for the account that Rowcast runs as."
        )
    for place in config.logging.log_dest:
        if place.startswith("file "):
            from pathlib import Path

            folder = Path(place.removeprefix("file ")).parent
            if not os.path.isdir(folder):
                yield f"Error: log_dest {place}: there is no folder {folder}, so nothing would be logged. Make it."


def _closed_doors(config: Config) -> Iterator[str]:
    if config.listeners and not any(lets_somebody_in(listener) for listener in config.listeners):
        yield (
            "Error: nobody can ever connect: no listener has allow_anonymous, a password_file with users, or another"
            " way in. Add `allow_anonymous true`, or make a file: `rowcast passwd -c FILE USER`."
        )


def lets_somebody_in(listener: Listener) -> bool:
    """Whether any client could pass this listener's door."""
    if listener.protocol == "websockets" and any(dialect != "mqtt" for dialect in listener.dialects):
        return True  # its dialects have tokens of their own, or need none
    security, tls = listener.security, listener.tls
    by_certificate = listener.proxy_v2_use_identity_as_username or (
        tls is not None and (tls.use_identity_as_username or tls.use_subject_as_username)
    )
    return security.allow_anonymous or security.password_file is not None or by_certificate


def name_of(listener: Listener) -> str:
    """What a mistake calls the listener."""
    where = f" {listener.host}" if listener.host else ""
    return f"listener {listener.port}{where}"
