"""[[listener]], [security] and the dialects of [websocket] in a TOML configuration."""

from __future__ import annotations

import os
import re
from ipaddress import ip_network
from pathlib import Path as FilePath
from typing import Any

from attrs import evolve, fields

from broker.config.addresses import overlap
from broker.config.dialects.gateway import DIALECT_KINDS, GatewayConfig
from broker.config.feeds import Route
from broker.config.model import Listener, Security, Tls
from broker.config.tokens import JwtConfig
from broker.config.toml.checks import (
    SHARED_SECRET_ALGORITHMS,
    check_algorithms,
    check_choice,
    check_filters,
    check_mount_point,
    check_required_claims,
    check_secret,
)
from broker.config.toml.document import Document, array_of, without_routes
from broker.config.toml.lines import Path
from broker.config.toml.reader import Reader
from broker.config.toml.tables import WebsocketTable
from broker.config.toml.tokens import read_tokens
from protocol.port import PORT_MAX

PROTOCOLS = ("mqtt", "websockets")
MQTT_PATH = "/mqtt"
_NO_HOST = re.compile(r"[\s/@]|\A[^:]*:\d*\Z")
"""In no address and in no name; one colon has a port behind it."""


class ListenerReader:
    """Who may connect where, and what is spoken there.

    Args:
        reader: structures tables and takes mistakes.
        document: as tomllib gave it.
    """

    def __init__(self, reader: Reader, document: Document) -> None:
        self._reader = reader
        self._document = document
        written = without_routes(document, "websocket")
        self.websocket = reader.structure(written, WebsocketTable, ("websocket",)) or WebsocketTable()
        self.dialects = [name for name in DIALECT_KINDS if isinstance(written, dict) and name in written]
        """The names of those that have a table, whether or not its values are right."""
        self._tokens = read_tokens(reader, document)
        self._security = reader.structure(document.get("security", {}), Security, ("security",)) or Security()
        self.has_own_security = False
        """Whether a listener has its own [listener.security]; known after `listeners`."""
        self._check_security(("security",), self._security)
        self._check_secrets()
        self._check_proxies()

    def gateway(self) -> GatewayConfig:
        """The dialects that listeners serve, with their limits."""
        found = GatewayConfig(
            **{field.name: getattr(self.websocket, field.name) for field in fields(GatewayConfig)}
        )
        if found.rowcast is None:
            return found
        path = ("websocket", "rowcast")
        check_filters(self._reader, (*path, "anonymous_subscribe"), found.rowcast.anonymous_subscribe)
        check_filters(self._reader, (*path, "anonymous_publish"), found.rowcast.anonymous_publish)
        return evolve(found, rowcast=evolve(found.rowcast, tokens=self._tokens))

    def listeners(self) -> tuple[Listener, ...]:
        """Every `[[listener]]`; mistakes are noted, and that listener is left out."""
        found: list[tuple[Path, Listener]] = []
        tables = array_of(self._reader, self._document, "listener")
        if "listener" not in self._document:
            self._reader.wrong((), "no listener, so nobody can connect: add [[listener]] with `port = 1883`")
        for index, value in enumerate(tables):
            path: Path = ("listener", index)
            if "unix_path" in value:
                value = {"port": 0, **value}
            listener = self._reader.structure(value, Listener, path)
            if listener is None:
                continue
            if "security" in value:
                self.has_own_security = True
                self._check_security((*path, "security"), listener.security)
            else:
                listener = evolve(listener, security=self._security)
            if listener.security.tokens:
                security = evolve(listener.security, token_config=self._tokens)
                listener = evolve(listener, security=security)
            self._check(path, value, listener, found)
            found.append((path, listener))
        return tuple(listener for _, listener in found)

    def check_routes(self, listeners: tuple[Listener, ...], routes: list[tuple[Path, Route]]) -> None:
        """Whether somebody can receive what is published, and whether every dialect can be reached."""
        spoken = {dialect for one in listeners for dialect in spoken_by(one)}
        if any(not DIALECT_KINDS[name].has_channels for name in spoken & DIALECT_KINDS.keys()):
            spoken.add("mqtt")  # their clients read the same topics
        if len(listeners) < len(array_of(self._reader, self._document, "listener")):
            return  # a broken one may be what is missing
        for path, route in routes:
            if route.target not in spoken:
                self._reader.wrong(path, f"nobody can receive this: no listener speaks {route.target}")
        for name in self.dialects:
            if name not in spoken:
                wanted = f'add "{name}" to the dialects of a websockets listener'
                self._reader.wrong(("websocket", name), f"no listener speaks {name}: {wanted}")

    def _check(
        self, path: Path, written: Document, listener: Listener, others: list[tuple[Path, Listener]]
    ) -> None:
        reader = self._reader
        check_choice(reader, (*path, "protocol"), listener.protocol, PROTOCOLS)
        if not 0 <= listener.port <= PORT_MAX:
            reader.wrong(
                (*path, "port"), f"port: 0 (any free one) to {PORT_MAX} is wanted, not {listener.port}"
            )
        elif listener.port and listener.unix_path is not None:
            reader.wrong((*path, "port"), "port: a unix socket has none: leave it out")
        if listener.host and _NO_HOST.search(listener.host):
            wanted = "an address or a name is wanted; the port stands beside it, as `port = 1883`"
            reader.wrong((*path, "host"), f'host: {wanted}, not "{listener.host}"')
        check_mount_point(reader, (*path, "mount_point"), listener.mount_point)
        if not 0 <= listener.max_qos <= 2:
            reader.wrong((*path, "max_qos"), f"max_qos: 0, 1 or 2 is wanted, not {listener.max_qos}")
        if not 0 <= listener.enable_proxy_protocol <= 2:
            reader.wrong((*path, "enable_proxy_protocol"), "enable_proxy_protocol: 0 (off), 1 or 2 is wanted")
        if not set(listener.accept_protocol_versions) <= {3, 4, 5}:
            reader.wrong((*path, "accept_protocol_versions"), "accept_protocol_versions: of 3, 4 and 5 only")
        for other_path, other in others:
            if listener.unix_path or other.unix_path:
                is_taken = listener.unix_path == other.unix_path
            else:
                is_taken = 0 < listener.port == other.port and overlap(listener.host, other.host)
            if is_taken:
                line = reader.line_of(other_path)
                reader.wrong(
                    (*path, "unix_path" if listener.unix_path else "port"),
                    f"{'unix_path' if listener.unix_path else 'port'}: {listener.unix_path or listener.port}"
                    f" is taken by the listener of line {line}",
                )
        self._check_dialects(path, written, listener)
        if listener.tls is not None:
            self._check_files((*path, "tls"), listener.tls)
            self._check_authorities((*path, "tls"), listener.tls)

    def _check_dialects(self, path: Path, written: Document, listener: Listener) -> None:
        if listener.protocol != "websockets":
            if "dialects" in written:
                self._reader.wrong((*path, "dialects"), 'dialects: only with `protocol = "websockets"`')
            return
        for index, dialect in enumerate(listener.dialects):
            where: Path = (*path, "dialects", index)
            check_choice(self._reader, where, dialect, ("mqtt", *DIALECT_KINDS))
            if dialect in DIALECT_KINDS and dialect not in self.dialects:
                self._reader.wrong(where, f"dialects: {dialect} is not set up: add [websocket.{dialect}]")
        self._check_paths((*path, "dialects"), listener)
        if not listener.dialects:
            self._reader.wrong((*path, "dialects"), "dialects: name at least one, or leave it out for MQTT")

    def _check_paths(self, path: Path, listener: Listener) -> None:
        """What is asked for says which dialect is wanted, so no two may have the same path."""
        taken = {MQTT_PATH: "mqtt"} if "mqtt" in listener.dialects else {}
        for name in dict.fromkeys(listener.dialects):
            kind = getattr(self.websocket, name, None) if name in DIALECT_KINDS else None
            if kind is None:
                continue
            where: Path = ("websocket", name, "path")
            if fault := kind.path_fault():
                self._reader.wrong(where, f"path: {fault}")
            elif kind.path in taken:
                other = taken[kind.path]
                self._reader.wrong(
                    where, f"path: {kind.path} is {other}'s already: a listener can't speak both there"
                )
            taken.setdefault(kind.path, name)

    def _check_authorities(self, path: Path, tls: Tls) -> None:
        if tls.require_certificate and tls.cafile is None and tls.capath is None:
            wanted = "without cafile or capath every client is refused: add `cafile = ...`"
            self._reader.wrong((*path, "require_certificate"), f"require_certificate: {wanted}")
        for name in ("use_identity_as_username", "use_subject_as_username"):
            if getattr(tls, name) and not tls.require_certificate:
                wanted = "needs `require_certificate = true`, or every client is refused"
                self._reader.wrong((*path, name), f"{name}: it {wanted}")

    def _check_security(self, path: Path, security: Security) -> None:
        check_choice(
            self._reader, (*path, "anonymous_access"), security.anonymous_access, ("readwrite", "read")
        )
        self._check_files(path, security)
        if security.tokens and not self._tokens.is_set:
            self._reader.wrong(
                (*path, "tokens"), "tokens: say who signs them: add [tokens] with `secrets = [...]`"
            )

    def _check_files(self, path: Path, table: Any) -> None:
        for field in fields(type(table)):
            value = getattr(table, field.name)
            if isinstance(value, FilePath) and field.name != "keylog_file" and not os.path.exists(value):
                self._reader.wrong((*path, field.name), f"{field.name}: there is no {value}")

    def _check_secrets(self) -> None:
        for name in DIALECT_KINDS:
            jwt: JwtConfig | None = getattr(getattr(self.websocket, name), "jwt", None)
            if jwt is not None:
                path = ("websocket", name, "jwt")
                check_required_claims(self._reader, (*path, "require"), jwt.require)
                check_algorithms(self._reader, (*path, "alg"), jwt.algorithms)
                if set(jwt.algorithms) <= SHARED_SECRET_ALGORITHMS:
                    for secret in jwt.secret:
                        check_secret(self._reader, (*path, "secret"), secret)
                if not jwt.secret:
                    self._reader.wrong((*path, "secret"), "secret: at least one is wanted")

    def _check_proxies(self) -> None:
        for index, network in enumerate(self.websocket.trusted_proxies):
            try:
                ip_network(network, strict=False)
            except ValueError:
                wanted = f'an address or a network is wanted, such as "10.0.0.0/8", not "{network}"'
                self._reader.wrong(("websocket", "trusted_proxies", index), f"trusted_proxies: {wanted}")


def spoken_by(listener: Listener) -> tuple[str, ...]:
    """What peers of a listener may speak."""
    return listener.dialects if listener.protocol == "websockets" else ("mqtt",)
