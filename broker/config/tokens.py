"""What a configuration says about tokens and about the history of topics, as values."""

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
    require: tuple[str, ...] = ()
    """Claims that a token must have, of those that RFC 7519 §4.1 registers."""
    audience: str = ""
    """What `aud` must be or hold; "" does not look at it."""
    issuer: str = ""
    """What `iss` must be; "" does not look at it."""

    @property
    def is_set(self) -> bool:
        """Whether there is a key with which a token could be verified."""
        return bool(self.secrets or self.secret_files or self.keys or self.jwks_file or self.jwks_url)


@frozen
class HistoryRule:
    """[[history]]: a ring of the last messages of each of these filters."""

    topics: tuple[str, ...]
    size_bytes: int = 64 * 1024 * 1024
    count: int = 100_000
    age_s: float = 86400.0
    source_count: int = 100_000
    """How many rows that the ring has dropped can be found in their database again."""
