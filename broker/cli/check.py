"""`rowcast check`: what a configuration would fail at, or would never do, beside what is wrong in its text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import evolve

from broker.config.addresses import overlap
from broker.config.model import Config, Listener, Security
from broker.config.tokens import TokenConfig
from broker.process.system import is_root, refusals
from protocol.mistakes import Mistake, mistake_at

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from broker.gateway.authentication import RulesError

MADE_AT_START: Final = ("/run", "/var/run")
"""Folders in which systemd makes a service's own only when it starts."""


def mistakes_beyond_text(config: Config, may_open_doors: bool = False) -> list[Mistake]:
    """Each once, in words with a cure: files, ports, folders, and doors that nobody can pass.

    Args:
        config: what could be read; mistakes of its text are not repeated.
        may_open_doors: one of those may have been meant to let clients in, so nothing is said of closed doors.
    """
    found: dict[Mistake, None] = {}
    found.update(dict.fromkeys(map(Mistake, refusals(config))))
    found.update(dict.fromkeys(file_mistakes(config)))
    found.update(dict.fromkeys(_outdated(config)))
    if not _is_toml(config):  # whose text has its lines
        found.update(dict.fromkeys(_port_mistakes(config)))
    found.update(dict.fromkeys(_folder_mistakes(config)))
    found.update(dict.fromkeys(_account_mistakes(config)))
    if not may_open_doors:
        found.update(dict.fromkeys(_closed_doors(config)))
    return list(found)


def located(config: Config, text: str, key: str, value: object) -> Mistake:
    """A mistake with the place of the option that it is about, in the manner of the file's other mistakes."""
    place = config.places.get((key, str(value))) or config.places.get((_ELSEWHERE.get(key, key), str(value)))
    if place is None:
        return Mistake(text)
    if _is_toml(config):
        return mistake_at(place, text.removeprefix("Error: "))
    return Mistake(f"{text} Found at {place}.", place)


def _is_toml(config: Config) -> bool:
    return config.source is not None and config.source.suffix == ".toml"


_ELSEWHERE: Final = {"jwks_file": "rowcast_token_jwks", "secret_files": "rowcast_token_secret_file"}
"""What a mosquitto.conf calls an option."""


def file_mistakes(config: Config) -> Iterator[Mistake]:
    """Password, ACL, key and certificate files."""
    from broker.gateway.authentication import RulesError, load_rules

    try:
        load_rules(listener.security for listener in config.listeners)
    except RulesError as error:
        yield from rule_mistakes(config, error)
    yield from key_mistakes(config)


def rule_mistakes(config: Config, error: RulesError) -> Iterator[Mistake]:
    """Those of password and ACL files, each with the place of the option that names the file or the line in it."""
    return (_in_its_file(config, mistake) for mistake in error.mistakes)


def key_mistakes(config: Config) -> Iterator[Mistake]:
    """Key and certificate files."""
    from broker.links.listening.tls import TlsError, server_context

    yield from _login_mistakes(config)
    for listener in config.listeners:
        if listener.tls is not None:
            try:
                server_context(evolve(listener.tls, keylog_file=None))  # which would be made
            except TlsError as error:
                yield located(config, str(error), *error.option)


def _login_mistakes(config: Config) -> Iterator[Mistake]:
    from broker.gateway.tokens import TokenVerifier, UnusableKey

    for kind in config.gateway.dialects:
        if isinstance(kind.login, TokenConfig):
            try:
                TokenVerifier(kind.login)
            except UnusableKey as error:
                yield located(config, f"Error: {error}", *error.option)


def _in_its_file(config: Config, mistake: Mistake) -> Mistake:
    """With the place of the option that names the file, unless the mistake has a line of that file."""
    return mistake if mistake.place else located(config, mistake, *mistake.option)


def _outdated(config: Config) -> Iterator[Mistake]:
    """Certificates that clients will refuse because of their dates."""
    now = datetime.now(UTC)
    for listener in config.listeners:
        certificate = None if listener.tls is None else _certificate(listener.tls.certfile)
        if listener.tls is None or certificate is None:
            continue
        file, begin, end = (
            listener.tls.certfile,
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )
        if end < now:
            text = f'Error: The certificate "{file}" was good until {end:%Y-%m-%d %H:%M} UTC. Renew it.'
            yield located(config, text, "certfile", file)
        elif begin > now:
            text = f'Error: The certificate "{file}" is good from {begin:%Y-%m-%d %H:%M} UTC on. Look at the clock.'
            yield located(config, text, "certfile", file)


def _certificate(file: Path) -> Certificate | None:
    """The first of a file; None if there is none, which others say."""
    from cryptography.x509 import load_pem_x509_certificate

    try:
        return load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError):
        return None


def _port_mistakes(config: Config) -> Iterator[Mistake]:
    for number, one in enumerate(config.listeners):
        for other in config.listeners[:number]:
            if 0 < one.port == other.port and overlap(one.host, other.host):
                taken = f"wants port {one.port}, which {name_of(other)} has already"
                text = f"Error: {name_of(one)} {taken}. Choose another port."
                yield located(config, text, "listener", number)


def _folder_mistakes(config: Config) -> Iterator[Mistake]:
    settings = config.persistence
    folder = settings.persistence_location
    if settings.persistence and not os.path.isdir(folder):
        text = (
            f"Error: persistence_location {folder} is no folder, so nothing could be saved."
            " Make it, for the account that Rowcast runs as."
        )
        yield located(config, text, "persistence_location", folder)
    for place in config.logging.log_dest:
        if place.startswith("file "):
            log = Path(place.removeprefix("file ")).parent
            if not os.path.isdir(log):
                text = (
                    f"Error: log_dest {place}: there is no folder {log}, so nothing would be logged. Make it."
                )
                yield located(config, text, "log_dest", place)
    files = [("pid_file", config.pid_file), ("control_socket", config.control_socket)]
    files += [("unix_path", Path(one.unix_path)) for one in config.listeners if one.unix_path is not None]
    for key, file in files:
        if file is None or file.parent.is_dir() or any(map(file.absolute().is_relative_to, MADE_AT_START)):
            continue
        text = f"Error: {key} {file}: there is no folder {file.parent}. Make it."
        yield located(config, text, key, file)


def _account_mistakes(config: Config) -> Iterator[Mistake]:
    if config.user in (None, "", "root") or not is_root():
        return
    import pwd

    try:
        pwd.getpwnam(config.user or "")
    except KeyError:
        text = f"Error: user {config.user}: there is no such account. Create it: `useradd --system {config.user}`."
        yield located(config, text, "user", config.user)


def _closed_doors(config: Config) -> Iterator[Mistake]:
    if config.listeners and not any(lets_somebody_in(listener) for listener in config.listeners):
        line = "`allow_anonymous = true` in [security]" if _is_toml(config) else "`allow_anonymous true`"
        text = (
            "Error: nobody can ever connect: no listener has allow_anonymous, a password_file with users, or another"
            f" way in. Add {line}, or make a file: `rowcast passwd -c FILE USER`."
        )
        yield located(config, text, "listener", 0)


def lets_somebody_in(listener: Listener) -> bool:
    """Whether any client could pass this listener's door."""
    if listener.protocol == "websockets" and any(dialect != "mqtt" for dialect in listener.dialects):
        return True  # its dialects have tokens of their own, or need none
    security, tls = listener.security, listener.tls
    by_certificate = listener.proxy_v2_use_identity_as_username or (
        tls is not None and (tls.use_identity_as_username or tls.use_subject_as_username)
    )
    return security.allow_anonymous or security.tokens or by_certificate or _has_users(security)


def _has_users(security: Security) -> bool:
    """Whether there is a password file that names somebody; one that can't be read is another mistake."""
    from broker.gateway.passwords import PasswordFileError, read_passwords

    try:
        return security.password_file is not None and bool(read_passwords(security.password_file))
    except PasswordFileError:
        return True


def name_of(listener: Listener) -> str:
    """What a mistake calls the listener."""
    where = f" {listener.host}" if listener.host else ""
    return f"listener {listener.port}{where}"
