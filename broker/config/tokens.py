"""What a configuration says about tokens and about the `rowcast` dialect with its history, as values."""

from __future__ import annotations

from pathlib import Path

from attrs import field, frozen


@frozen
class TokenConfig:
    """[tokens]: who may have signed a token, whatever protocol it is shown in.

    `secrets` are for HS256, `keys` and the two JWKS for algorithms with a public key.  A token is good if any of
    them verifies it, so that one can be changed while tokens of the other are about.
    """

    secrets: tuple[str, ...] = field(default=(), repr=False)
    keys: tuple[Path, ...] = ()
    """PEM files, a public key each."""
    secret_files: tuple[Path, ...] = ()
    """Files with a secret in each line, as mosquitto.conf names them."""
    jwks_file: Path | None = None
    jwks_url: str = ""
    jwks_refresh_s: float = 300.0
    """How often keys are read again; one that a token names and that is not known, at once."""
    audience: str = ""
    """What `aud` must be or hold; "" does not look at it."""
    issuer: str = ""
    """What `iss` must be; "" does not look at it."""

    @property
    def is_set(self) -> bool:
        return bool(self.secrets or self.secret_files or self.keys or self.jwks_file or self.jwks_url)


@frozen
class RowcastLimits:
    """What one connection of the dialect `rowcast` may ask for.  A reconnect may bring hundreds of requests."""

    messages_per_s_max: int = 1000
    message_bytes_max: int = 64 * 1024
    subscriptions_max: int = 1000


@frozen
class RowcastDialect:
    """[websocket.rowcast]"""

    path: str = "/rowcast"
    ping_interval_s: float = 25.0
    anonymous_subscribe: tuple[str, ...] = ()
    """Topic filters for those who show no token."""
    anonymous_publish: tuple[str, ...] = ()
    limits: RowcastLimits = field(factory=RowcastLimits)
    tokens: TokenConfig = field(factory=TokenConfig)
    """The configuration's [tokens]."""


@frozen
class HistoryRule:
    """[[history]]: a ring of the last messages of each of these filters."""

    topics: tuple[str, ...]
    size_bytes: int = 64 * 1024 * 1024
    count: int = 100_000
    age_s: float = 86400.0
